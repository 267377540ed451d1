//! Namespaces to enter and to make.

use prost::{Message, Oneof};

use super::Handle;

/// Namespaces of a process, or one namespace, to enter with `setns(2)`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Enter {
    /// A pidfd or an open namespace file.
    #[prost(uint32, tag = "1")]
    pub of: Handle,
    /// `CLONE_NEW*` of those to enter.
    #[prost(uint64, tag = "2")]
    pub kinds: u64,
}

/// A user namespace.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct UserNamespace {
    /// A new one, or another's.
    #[prost(oneof = "Users", tags = "1, 2")]
    pub users: Option<Users>,
}

/// A new user namespace, or another's.
#[derive(Clone, PartialEq, Eq, Oneof)]
pub enum Users {
    /// A new one, with these mappings.
    #[prost(message, tag = "1")]
    New(IdMaps),
    /// That of a process (its pidfd), or a namespace file.
    #[prost(uint32, tag = "2")]
    Of(Handle),
}

/// How the ids of a user namespace, or of an id-mapped mount, are those of the host.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct IdMaps {
    /// User ids.
    #[prost(message, repeated, tag = "1")]
    pub users: Vec<IdRange>,
    /// Group ids.
    #[prost(message, repeated, tag = "2")]
    pub groups: Vec<IdRange>,
}

/// A range of ids.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct IdRange {
    /// The first, inside.
    #[prost(uint32, tag = "1")]
    pub inside: u32,
    /// The first, on the host.
    #[prost(uint32, tag = "2")]
    pub host: u32,
    /// How many.
    #[prost(uint32, tag = "3")]
    pub size: u32,
}

/// What a clock of a time namespace is ahead of the host's.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct TimeOffset {
    /// `monotonic` or `boottime`.
    #[prost(string, tag = "1")]
    pub clock: String,
    /// Seconds; negative is behind.
    #[prost(sint64, tag = "2")]
    pub seconds: i64,
    /// Nanoseconds on top of them.
    #[prost(uint32, tag = "3")]
    pub nanoseconds: u32,
}
