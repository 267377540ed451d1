//! Where a socket is.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The path of a unix socket, written `unix:///path` or just `/path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address(PathBuf);

impl Address {
    /// The socket's path.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let path = text.strip_prefix("unix://").or_else(|| text.strip_prefix("unix:"));
        let path = path.unwrap_or(text);
        if path.starts_with('/') {
            Ok(Self(path.into()))
        } else {
            Err(format!("{text:?} is no unix socket: write unix:///run/berth/berth.sock"))
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unix://{}", self.0.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_named_with_or_without_a_scheme() {
        for text in ["unix:///run/x.sock", "unix:/run/x.sock", "/run/x.sock"] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), "unix:///run/x.sock");
        }
    }

    #[test]
    fn other_addresses_are_refused() {
        for text in ["", "http://127.0.0.1:80", "unix://run/x.sock", "x.sock"] {
            assert!(text.parse::<Address>().is_err(), "{text:?}");
        }
    }
}
