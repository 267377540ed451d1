//! Images made of literals, a registry that follows a script, and trees as text.

pub(crate) mod image;
pub(crate) mod place;
pub(crate) mod server;
pub(crate) mod tarball;
pub(crate) mod tree;

pub(crate) use self::image::TestImage;
pub(crate) use self::place::Place;
pub(crate) use self::server::{Quirk, Reply, Request, Server};
pub(crate) use self::tarball::Tarball;
pub(crate) use self::tree::{show, show_stack};

/// Whiteouts, owners and overlay marks need privileges that an ordinary user does not have.
pub(crate) fn require_root() {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test needs root: run `sudo -E cargo nextest run -p berth-imageservice`"
    );
}
