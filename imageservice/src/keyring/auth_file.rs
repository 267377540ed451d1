//! Docker's `config.json` and podman's `auth.json` (containers-auth.json(5)), one format.
//!
//! ```json
//! { "auths":       { "registry.test/team": { "auth": "dXNlcjpwYXNz" } },
//!   "credHelpers": { "123.dkr.ecr.us-east-1.amazonaws.com": "ecr-login" },
//!   "credsStore":  "secretservice" }
//! ```

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Place;
use crate::credentials::AuthFields;

/// One file.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct AuthFile {
    auths: BTreeMap<String, Entry>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: String,
}

/// `docker login` spells its keys without capitals.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

/// Who has credentials for a place.
pub(super) enum Source {
    Fields(Box<AuthFields>),
    /// A program, and what it has to be asked for.
    Helper {
        name: String,
        server: String,
    },
}

impl AuthFile {
    /// Reads a file. The error repeats nothing of it.
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(text).map_err(|error| {
            // serde_json quotes values of the wrong kind, which here may be passwords.
            let kind = if error.is_data() { "a value of the wrong kind" } else { "no JSON" };
            format!("line {}, column {}: {kind}", error.line(), error.column())
        })
    }

    /// What the file has for a place, with how much of its name each key names. Helpers of a
    /// registry come before what is written beside them, a store for all registries comes last.
    pub(super) fn sources(self, place: &Place) -> Vec<(usize, Source)> {
        let Self { auths, cred_helpers, creds_store } = self;
        let mut sources = Vec::new();
        for (key, name) in cred_helpers {
            if let Some(length) = place.fits(&key).filter(|_| !name.is_empty()) {
                sources.push((length, Source::Helper { name, server: key }));
            }
        }
        for (key, entry) in auths {
            if let Some(length) = place.fits(&key).filter(|_| !entry.is_empty()) {
                sources.push((length, Source::Fields(Box::new(entry.into_fields(place)))));
            }
        }
        if !creds_store.is_empty() {
            let server = match place.host() {
                "docker.io" => "https://index.docker.io/v1/".to_owned(),
                host => host.to_owned(),
            };
            sources.push((0, Source::Helper { name: creds_store, server }));
        }
        sources
    }
}

impl Entry {
    /// An empty entry says that a store has the credentials.
    fn is_empty(&self) -> bool {
        let Self { auth, username, password, identitytoken, registrytoken } = self;
        [auth, username, password, identitytoken, registrytoken].iter().all(|it| it.is_empty())
    }

    fn into_fields(self, place: &Place) -> AuthFields {
        AuthFields {
            username: self.username,
            password: self.password,
            auth: self.auth,
            server_address: place.origin(),
            identity_token: self.identitytoken,
            registry_token: self.registrytoken,
        }
    }
}
