//! From CRI to the values of the libraries, and back.
//!
//! All validation of a request happens here and in what is called from here, before anything
//! exists: what comes out is a specification that can be carried out, or `INVALID_ARGUMENT` with
//! the field and what is wrong with it. What this version cannot do is refused by name
//! (`UNIMPLEMENTED`), never left out.

pub mod container;
mod devices;
mod identity;
pub mod mounts;
mod network;
mod process;
mod resources;
pub mod sandbox;
mod seccomp;
pub mod security;
pub mod signal;
mod sysctls;
mod users;

use tonic::Status;

pub use resources::{
    merge as merge_resources, to_oci as resources_to_oci, update_to_oci as updated_resources_to_oci,
};

/// Longest name that a client may give an object: that of a DNS subdomain, which Kubernetes'
/// own names keep to.
const NAME_MAX: usize = 253;

/// A field that makes no sense.
fn invalid(field: &str, why: impl std::fmt::Display) -> Status {
    Status::invalid_argument(format!("{field} {why}"))
}

/// A field that asks for what this version cannot do.
fn unsupported(what: impl std::fmt::Display) -> Status {
    Status::unimplemented(format!("{what} is not supported by this version of berth"))
}

/// Checks a name that goes into records, plugins' arguments and environments.
fn check_name(field: &str, name: &str) -> Result<(), Status> {
    if name.is_empty() {
        return Err(invalid(field, "is missing"));
    }
    if name.len() > NAME_MAX {
        let length = name.len();
        return Err(invalid(field, format!("has {length} bytes, more than {NAME_MAX}")));
    }
    match name.chars().find(|c| c.is_control()) {
        Some(c) => Err(invalid(field, format!("{name:?} has the control character {c:?} in it"))),
        None => Ok(()),
    }
}
