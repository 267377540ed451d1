//! Credential providers: programs that the kubelet's protocol (CredentialProviderRequest and
//! -Response, v1) asks for the credentials of an image, and what they let be remembered.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::json;
use tokio_util::task::TaskTracker;

use super::provider_config::{self, Provider, duration, matches_image};
use super::{NodeCredentials, Place};
use crate::blocking::blocking;
use crate::credentials::{AuthFields, Credentials};
use crate::digest::Digest;
use crate::program::Call;

const MAX_ANSWER: usize = 1 << 20;

/// Answers that may still be used.
#[derive(Debug, Default)]
pub(super) struct Providers(Mutex<HashMap<CacheKey, Remembered>>);

/// The provider as it is configured, and what its answer is for.
type CacheKey = (Digest, Scope);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Scope {
    Image(String),
    Registry(String),
    Global,
}

#[derive(Clone)]
struct Remembered {
    auth: BTreeMap<String, Login>,
    until: Instant,
}

impl std::fmt::Debug for Remembered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.auth.keys()).finish()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    kind: String,
    api_version: String,
    cache_key_type: String,
    cache_duration: Option<String>,
    #[serde(default)]
    auth: Option<BTreeMap<String, Login>>,
}

#[derive(Clone, Deserialize)]
struct Login {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
}

impl Providers {
    /// What the first provider that knows a place has for it.
    pub(super) async fn find(
        &self,
        config: &NodeCredentials,
        place: &Place,
        tasks: &TaskTracker,
    ) -> Option<Credentials> {
        let file = config.provider_config.clone()?;
        let read = blocking(tasks, move || Ok(read(&file))).await.unwrap_or_default();
        for provider in read.iter().filter(|provider| provider.is_for(place)) {
            match self.ask(config, provider, place).await {
                Ok(Some(credentials)) => return Some(credentials),
                Ok(None) => {}
                Err(reason) => {
                    let name = &provider.name;
                    tracing::warn!(
                        host = place.host(),
                        "credential provider {name}: {reason}, ignoring"
                    );
                }
            }
        }
        None
    }

    async fn ask(
        &self,
        config: &NodeCredentials,
        provider: &Provider,
        place: &Place,
    ) -> Result<Option<Credentials>, String> {
        let identity = serde_json::to_vec(provider).map_err(|error| error.to_string())?;
        let identity = Digest::sha256(&identity);
        let scopes =
            [Scope::Image(place.name()), Scope::Registry(place.host().to_owned()), Scope::Global];
        let known =
            scopes.into_iter().find_map(|scope| self.remembered(&(identity.clone(), scope)));
        if let Some(auth) = known {
            return best(auth, place);
        }
        let response = provider.run(config, place).await?;
        let lasts = response.cache_duration.as_ref().unwrap_or(&provider.default_cache_duration);
        let lasts = duration(lasts).ok_or("its cacheDuration is none")?;
        let scope = match response.cache_key_type.as_str() {
            "Image" => Scope::Image(place.name()),
            "Registry" => Scope::Registry(place.host().to_owned()),
            "Global" => Scope::Global,
            other => return Err(format!("its cacheKeyType is {other:?}")),
        };
        let auth = response.auth.unwrap_or_default();
        self.remember((identity, scope), &auth, lasts);
        best(auth, place)
    }

    fn remembered(&self, key: &CacheKey) -> Option<BTreeMap<String, Login>> {
        let now = Instant::now();
        let mut known = self.locked();
        known.retain(|_, remembered| remembered.until > now);
        known.get(key).map(|remembered| remembered.auth.clone())
    }

    fn remember(&self, key: CacheKey, auth: &BTreeMap<String, Login>, lasts: Duration) {
        if let Some(until) = Instant::now().checked_add(lasts).filter(|_| !lasts.is_zero()) {
            self.locked().insert(key, Remembered { auth: auth.clone(), until });
        }
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<CacheKey, Remembered>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(path: &PathBuf) -> Vec<Provider> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            if error.kind() != std::io::ErrorKind::NotFound {
                tracing::warn!("credential providers of {}: {error}, ignoring", path.display());
            }
            return Vec::new();
        }
    };
    provider_config::parse(&text, path).unwrap_or_else(|reason| {
        tracing::warn!("credential providers of {}: {reason}, ignoring", path.display());
        Vec::new()
    })
}

/// The login whose key names most of the place.
fn best(auth: BTreeMap<String, Login>, place: &Place) -> Result<Option<Credentials>, String> {
    let name = place.name();
    // In reverse order a longer path comes before a shorter one of the same host.
    let found = auth.into_iter().rev().find(|(key, _)| matches_image(key, &name));
    let Some((_, login)) = found else { return Ok(None) };
    let (username, password) = (login.username, login.password);
    let fields =
        AuthFields { username, password, server_address: place.origin(), ..AuthFields::default() };
    Credentials::from_fields(fields).map_err(|error| error.to_string())
}

impl Provider {
    async fn run(&self, config: &NodeCredentials, place: &Place) -> Result<Response, String> {
        let mut candidates = config.provider_dirs.iter().map(|dir| dir.join(&self.name));
        let path = candidates
            .find(|path| path.is_file())
            .ok_or_else(|| format!("it is not in {:?}", config.provider_dirs))?;
        let request = json!({
            "kind": "CredentialProviderRequest",
            "apiVersion": self.api_version,
            "image": place.name(),
        });
        let call = Call {
            path: &path,
            arguments: self.args.iter().map(Into::into).collect(),
            environment: self.env.iter().map(|it| (it.name.clone(), it.value.clone())).collect(),
            stdin: request.to_string().into_bytes(),
            deadline: config.timeout,
            limit: MAX_ANSWER,
        };
        let ended = call.run().await?;
        if !ended.status.success() {
            return Err(format!("it failed: {}", ended.status));
        }
        // Nothing of an answer is repeated: it is made of secrets.
        let response: Response = serde_json::from_slice(&ended.stdout)
            .map_err(|_| "its answer is no CredentialProviderResponse".to_owned())?;
        if response.kind != "CredentialProviderResponse" || response.api_version != self.api_version
        {
            return Err("its answer is of another kind or version".to_owned());
        }
        Ok(response)
    }
}
