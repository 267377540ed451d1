//! Debug for the messages that carry secrets, because prost's would show them.

use std::fmt;

use super::admin::Credentials;
use super::runtime::{AuthConfig, KeyValue};

/// Stands for a secret, and shows nothing of it.
struct Secret;

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Credentials").field(&Secret).finish()
    }
}

impl fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AuthConfig").field(&Secret).finish()
    }
}

/// What an environment variable is called is no secret, what it holds may be.
impl fmt::Debug for KeyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyValue").field("key", &self.key).field("value", &Secret).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_shown() {
        let credentials = Credentials {
            username: "secret-user".into(),
            password: "secret-password".into(),
            ..Default::default()
        };
        let auth = AuthConfig { auth: "secret-auth".into(), ..Default::default() };
        let variable = KeyValue { key: "TOKEN".into(), value: b"secret".to_vec() };

        let shown = format!("{credentials:?} {auth:?} {variable:?}");

        assert!(shown.contains("TOKEN"), "{shown}");
        assert!(!shown.contains("secret"), "{shown}");
    }
}
