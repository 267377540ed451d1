//! Debug for the messages that carry secrets.
//!
//! prost knows no `debug_redact`: a derived Debug would print a registry
//! password into any log line that shows a request.

use std::fmt;

use super::admin::Credentials;
use super::runtime::{AuthConfig, KeyValue};

/// Shows whether a secret is there, and nothing of it, not even its length.
struct Secret<'a>(&'a [u8]);

impl fmt::Debug for Secret<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "\"\"" } else { "[redacted]" })
    }
}

impl fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthConfig")
            .field("username", &Secret(self.username.as_bytes()))
            .field("password", &Secret(self.password.as_bytes()))
            .field("auth", &Secret(self.auth.as_bytes()))
            .field("server_address", &self.server_address)
            .field("identity_token", &Secret(self.identity_token.as_bytes()))
            .field("registry_token", &Secret(self.registry_token.as_bytes()))
            .finish()
    }
}

/// An environment variable: what it is called is no secret, what it holds may be.
impl fmt::Debug for KeyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyValue")
            .field("key", &self.key)
            .field("value", &Secret(&self.value))
            .finish()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("username", &Secret(self.username.as_bytes()))
            .field("password", &Secret(self.password.as_bytes()))
            .field("identity_token", &Secret(self.identity_token.as_bytes()))
            .field("registry_token", &Secret(self.registry_token.as_bytes()))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::super::admin::PullRequest;
    use super::super::runtime::{ContainerConfig, CreateContainerRequest, PullImageRequest};
    use super::*;

    #[test]
    fn a_pull_request_shows_its_image_and_none_of_its_credentials() {
        let request = PullImageRequest {
            image: Some(super::super::runtime::ImageSpec {
                image: "registry.example/app:1".into(),
                ..Default::default()
            }),
            auth: Some(AuthConfig {
                username: "secret-user".into(),
                password: "secret-password".into(),
                auth: "secret-auth".into(),
                server_address: "registry.example".into(),
                identity_token: "secret-identity".into(),
                registry_token: "secret-registry".into(),
            }),
            sandbox_config: None,
        };

        for shown in [format!("{request:?}"), format!("{request:#?}")] {
            assert!(shown.contains("registry.example/app:1"), "{shown}");
            assert!(!shown.contains("secret"), "{shown}");
        }
    }

    #[test]
    fn an_admin_pull_shows_none_of_its_credentials() {
        let request = PullRequest {
            image: "app".into(),
            credentials: Some(Credentials {
                username: "secret-user".into(),
                password: "secret-password".into(),
                identity_token: "secret-identity".into(),
                registry_token: "secret-registry".into(),
            }),
        };

        assert!(!format!("{request:?}").contains("secret"));
    }

    #[test]
    fn an_environment_shows_its_names_and_none_of_its_values() {
        let request = CreateContainerRequest {
            config: Some(ContainerConfig {
                envs: vec![KeyValue { key: "TOKEN".into(), value: "secret".into() }],
                ..Default::default()
            }),
            ..Default::default()
        };

        let shown = format!("{request:?}");
        assert!(shown.contains("TOKEN"), "{shown}");
        assert!(!shown.contains("secret"), "{shown}");
    }
}
