//! Registry credentials of one pull, and whom they may be shown to.
//!
//! They come from a CRI `AuthConfig`. `Debug` never prints a secret, and where a credential must be
//! a key (coalescing pulls, caching tokens) its [`Fingerprint`] stands in for it.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use url::Url;

use crate::digest::Digest;
use crate::error::{Error, Result};

/// The fields of a CRI `AuthConfig`, as they came. Empty strings mean absent.
#[derive(Clone, Default)]
pub struct AuthFields {
    /// User name of basic authentication.
    pub username: String,
    /// Password of basic authentication.
    pub password: String,
    /// `user:password` in base64.
    pub auth: String,
    /// The registry that the credentials are for; empty for that of the image.
    pub server_address: String,
    /// An OAuth2 refresh token for the registry's token server.
    pub identity_token: String,
    /// A bearer token for the registry itself.
    pub registry_token: String,
}

impl fmt::Debug for AuthFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthFields")
            .field("server_address", &self.server_address)
            .finish_non_exhaustive()
    }
}

/// A secret, and the registry that it is for.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    server: Option<Server>,
    pub(crate) secret: Secret,
}

/// What `server_address` says; a scheme there is binding.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Server {
    scheme: Option<String>,
    host: String,
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Secret {
    Basic { username: String, password: String },
    IdentityToken(String),
    RegistryToken(String),
}

/// Tells credentials apart without being one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Fingerprint(Digest);

impl Credentials {
    /// Takes the most specific secret that is there: registry token, identity token, user and
    /// password, then `auth`. `None` when all are empty: an anonymous pull.
    ///
    /// # Errors
    /// [`Error::InvalidCredentials`] when `auth` is not base64 of `user:password`, or when a field
    /// holds a byte that cannot be in an HTTP header.
    pub fn from_fields(fields: AuthFields) -> Result<Option<Self>> {
        let invalid = |reason| Error::InvalidCredentials { reason };
        let secret = if !fields.registry_token.is_empty() {
            Secret::RegistryToken(fields.registry_token)
        } else if !fields.identity_token.is_empty() {
            Secret::IdentityToken(fields.identity_token)
        } else if !fields.username.is_empty() || !fields.password.is_empty() {
            Secret::Basic { username: fields.username, password: fields.password }
        } else if !fields.auth.is_empty() {
            decode_auth(&fields.auth)
                .ok_or_else(|| invalid("auth is not base64 of user:password"))?
        } else {
            return Ok(None);
        };
        if secret.parts().iter().any(|part| part.contains(char::is_control)) {
            return Err(invalid("a control character in a user name, password or token"));
        }
        Ok(Some(Self { server: Server::parse(&fields.server_address), secret }))
    }

    /// The same; those that name no registry are for `registry` from now on, whatever image is
    /// pulled with them.
    #[must_use]
    pub fn bound_to(mut self, registry: &str) -> Self {
        self.server = self.server.or_else(|| Server::parse(registry));
        self
    }

    /// Whether these credentials may be shown to the origin of `url` on behalf of an image of
    /// `domain`: they are for the registry that `server_address` names, or else for the image's
    /// own, and for no mirror of it.
    pub(crate) fn belong_to(&self, url: &Url, domain: &str) -> bool {
        let (scheme, owner) = match &self.server {
            Some(server) => (server.scheme.as_deref(), server.host.as_str()),
            None => (None, domain),
        };
        if scheme.is_some_and(|scheme| scheme != url.scheme()) {
            return false;
        }
        let Ok(owner) = Url::parse(&format!("{}://{owner}", url.scheme())) else { return false };
        let origin = |url: &Url| (url.host_str().map(registry_host), url.port_or_known_default());
        origin(&owner) == origin(url)
    }

    pub(crate) fn fingerprint(&self) -> Fingerprint {
        let parts = self.secret.parts().map(str::len);
        let text = format!("{:?} {parts:?} {}", self.server, self.secret.parts().concat());
        Fingerprint(Digest::sha256(text.as_bytes()))
    }
}

impl Secret {
    /// Kind and values; what a fingerprint is made of.
    fn parts(&self) -> [&str; 3] {
        match self {
            Self::Basic { username, password } => ["basic", username, password],
            Self::IdentityToken(token) => ["identity", token, ""],
            Self::RegistryToken(token) => ["registry", token, ""],
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("server", &self.server).finish_non_exhaustive()
    }
}

fn decode_auth(auth: &str) -> Option<Secret> {
    let decoded = String::from_utf8(STANDARD.decode(auth).ok()?).ok()?;
    let (username, password) = decoded.split_once(':')?;
    // Docker pads the password with NUL bytes.
    let password = password.trim_end_matches('\0');
    Some(Secret::Basic { username: username.to_owned(), password: password.to_owned() })
}

impl Server {
    /// Takes `https://index.docker.io/v1/`, `registry:5000` and the like.
    fn parse(address: &str) -> Option<Self> {
        let (scheme, rest) = match address.split_once("://") {
            Some((scheme, rest)) => (Some(scheme.to_lowercase()), rest),
            None => (None, address),
        };
        let host = rest.split('/').next().unwrap_or_default();
        (!host.is_empty()).then(|| Self { scheme, host: host.to_owned() })
    }
}

/// Docker's registry goes by several names.
pub(crate) fn registry_host(host: &str) -> String {
    match host {
        "registry-1.docker.io" | "index.docker.io" => "docker.io".to_owned(),
        other => other.to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(username: &str, password: &str) -> AuthFields {
        AuthFields { username: username.into(), password: password.into(), ..Default::default() }
    }

    #[test]
    fn the_most_specific_secret_wins_and_none_is_anonymous() {
        let all = AuthFields {
            registry_token: "rt".into(),
            identity_token: "it".into(),
            ..basic("u", "p")
        };
        let secret = |fields| Credentials::from_fields(fields).unwrap().unwrap().secret;
        assert!(secret(all.clone()) == Secret::RegistryToken("rt".into()));
        let all = AuthFields { registry_token: String::new(), ..all };
        assert!(secret(all) == Secret::IdentityToken("it".into()));
        let encoded = AuthFields { auth: STANDARD.encode("u:p:q\0\0"), ..Default::default() };
        assert!(secret(encoded) == Secret::Basic { username: "u".into(), password: "p:q".into() });
        assert!(Credentials::from_fields(AuthFields::default()).unwrap().is_none());
    }

    #[test]
    fn nonsense_is_refused_without_repeating_it() {
        for fields in [
            AuthFields { auth: "c2VjcmV0".into(), ..Default::default() },
            AuthFields { auth: "%secret%".into(), ..Default::default() },
            basic("user", "secret\r\nX-Evil: 1"),
        ] {
            let error = Credentials::from_fields(fields).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
        }
    }

    #[test]
    fn credentials_are_for_one_registry() {
        for (server, url, domain, expected) in [
            ("", "https://registry.test:5000", "registry.test:5000", true),
            ("", "https://registry.test", "registry.test:5000", false),
            ("", "https://registry.test", "registry.test:443", true),
            ("", "http://registry.test:80", "registry.test:80", true),
            ("", "http://[::1]:5000", "[::1]:5000", true),
            ("", "https://registry-1.docker.io", "docker.io", true),
            ("", "https://mirror.test", "docker.io", false),
            ("https://index.docker.io/v1/", "https://registry-1.docker.io", "docker.io", true),
            ("https://other.test/v2/", "https://registry.test", "registry.test", false),
            ("https://registry.test", "http://registry.test:443", "registry.test", false),
            ("mirror.test:443", "https://mirror.test", "docker.io", true),
            ("mirror.test", "https://docker.io", "docker.io", false),
        ] {
            let fields = AuthFields { server_address: server.into(), ..basic("u", "p") };
            let credentials = Credentials::from_fields(fields).unwrap().unwrap();
            let url = Url::parse(url).unwrap();
            assert_eq!(credentials.belong_to(&url, domain), expected, "{server} {url} {domain}");
        }
    }

    #[test]
    fn debug_shows_no_secret_and_fingerprints_differ() {
        let fields = basic("user-secret", "pass-secret");
        assert!(!format!("{fields:?}").contains("secret"));
        let one = Credentials::from_fields(fields).unwrap().unwrap();
        assert!(!format!("{one:?} {:?}", one.fingerprint()).contains("secret"));
        let two = Credentials::from_fields(basic("user-secretp", "ass-secret")).unwrap().unwrap();
        assert_ne!(one.fingerprint(), two.fingerprint());
    }
}
