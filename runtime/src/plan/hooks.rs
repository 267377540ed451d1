//! Hooks that the container's own first process runs, and what they are told.

use std::collections::BTreeMap;

use prost::Message;

/// The hooks that run in the container's namespaces.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Hooks {
    /// Once everything is mounted, before the root is changed: paths are those of the host.
    #[prost(message, repeated, tag = "1")]
    pub create_container: Vec<Hook>,
    /// Inside of the container, before its program: paths are those of the container.
    #[prost(message, repeated, tag = "2")]
    pub start_container: Vec<Hook>,
    /// What they are told.
    #[prost(message, required, tag = "3")]
    pub about: About,
}

/// A program that is run at a point of a container's life.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Hook {
    /// Absolute path.
    #[prost(string, tag = "1")]
    pub path: String,
    /// Arguments, the program's name first; the path alone if there are none.
    #[prost(string, repeated, tag = "2")]
    pub args: Vec<String>,
    /// Its whole environment, `NAME=value` each.
    #[prost(bytes = "vec", repeated, tag = "3")]
    pub env: Vec<Vec<u8>>,
    /// Seconds after which it is killed; never if absent.
    #[prost(uint64, optional, tag = "4")]
    pub timeout: Option<u64>,
}

/// What hooks are told of a container, besides its state.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct About {
    /// Version of the OCI specification.
    #[prost(string, tag = "1")]
    pub oci_version: String,
    /// The container's id; who asks for the container fills it in.
    #[prost(string, tag = "2")]
    pub id: String,
    /// Absolute path of the bundle, as for the id.
    #[prost(string, tag = "3")]
    pub bundle: String,
    /// Annotations of the container.
    #[prost(btree_map = "string, string", tag = "4")]
    pub annotations: BTreeMap<String, String>,
}
