//! The kubelet's `CredentialProviderConfig` (kubelet.config.k8s.io/v1): which programs know
//! credentials for which images.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::Url;

use super::Place;

const API: &str = "credentialprovider.kubelet.k8s.io/";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    kind: String,
    #[serde(default)]
    providers: Vec<Provider>,
}

/// A program and the images that it is asked for.
#[derive(Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Provider {
    pub(super) name: String,
    pub(super) match_images: Vec<String>,
    pub(super) default_cache_duration: String,
    pub(super) api_version: String,
    #[serde(default)]
    pub(super) args: Vec<String>,
    #[serde(default)]
    pub(super) env: Vec<Variable>,
    /// It wants a token of the pod's service account, which only the kubelet has.
    #[serde(default)]
    token_attributes: Option<serde_json::Value>,
}

#[derive(Clone, Deserialize, Serialize)]
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) value: String,
}

/// The providers of a file, those that cannot be used left out with a warning. The error names the
/// line where it is known.
pub(super) fn parse(text: &str, path: &Path) -> Result<Vec<Provider>, String> {
    let file: File =
        serde_saphyr::from_str(text).map_err(|error| first_line(&error.to_string()))?;
    if file.kind != "CredentialProviderConfig" {
        return Err(format!("its kind is {:?} and not CredentialProviderConfig", file.kind));
    }
    let mut providers = file.providers;
    providers.retain(|provider| match provider.check() {
        Ok(()) => true,
        Err(reason) => {
            let path = path.display();
            tracing::warn!("credential provider {:?} of {path}: {reason}, ignoring", provider.name);
            false
        }
    });
    Ok(providers)
}

impl Provider {
    fn check(&self) -> Result<(), String> {
        let is_plain = !self.name.is_empty() && !self.name.contains(['/', ' ']);
        if !is_plain || self.name == "." || self.name == ".." {
            return Err("its name is no name of a file".to_owned());
        }
        let version = self.api_version.strip_prefix(API);
        if !matches!(version, Some("v1" | "v1beta1" | "v1alpha1")) {
            return Err(format!("unknown apiVersion {:?}", self.api_version));
        }
        if duration(&self.default_cache_duration).is_none() {
            return Err(format!("defaultCacheDuration {:?}", self.default_cache_duration));
        }
        if self.token_attributes.is_some() {
            return Err(
                "it wants tokens of service accounts, which only the kubelet has".to_owned()
            );
        }
        Ok(())
    }

    pub(super) fn is_for(&self, place: &Place) -> bool {
        self.match_images.iter().any(|pattern| matches_image(pattern, &place.name()))
    }
}

/// Whether `name`, a host and a path, fits a pattern of `matchImages`: each part of the host by
/// itself, the port exactly, the path by its beginning.
pub(super) fn matches_image(pattern: &str, name: &str) -> bool {
    let split = |text: &str| {
        let text = text.split_once("://").map_or(text, |(_, rest)| rest);
        let (host, path) = text.split_once('/').unwrap_or((text, ""));
        let url = Url::parse(&format!("https://{}", host.replace('*', "x"))).ok()?;
        let port = url.port();
        let name = if port.is_some() {
            host.rsplit_once(':').map_or(host, |(name, _)| name)
        } else {
            host
        };
        let parts: Vec<String> = name.split('.').map(str::to_lowercase).collect();
        Some((parts, port, path.to_owned()))
    };
    let (Some(pattern), Some(name)) = (split(pattern), split(name)) else { return false };
    let is_host = pattern.0.len() == name.0.len()
        && pattern.0.iter().zip(&name.0).all(|(glob, part)| matches_part(glob, part));
    is_host && pattern.1 == name.1 && name.2.starts_with(&pattern.2)
}

fn matches_part(glob: &str, part: &str) -> bool {
    let Some((start, rest)) = glob.split_once('*') else { return glob == part };
    let Some(part) = part.strip_prefix(start) else { return false };
    (0..=part.len()).any(|at| part.is_char_boundary(at) && matches_part(rest, &part[at..]))
}

/// Go's notation, as in `12h` or `1h30m0s`; zero is allowed.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let (mut rest, mut sum) = (text, Duration::ZERO);
    if text == "0" {
        return Some(sum);
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            _ => return None,
        };
        rest = &rest[end..];
        sum += Duration::try_from_secs_f64(number * unit).ok()?;
    }
    (!text.is_empty()).then_some(sum)
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}
