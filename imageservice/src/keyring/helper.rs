//! Docker credential helpers: `docker-credential-NAME get`, the registry on its standard input, the
//! credentials as JSON on its standard output (docker-credential-helpers, "Development").

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{NodeCredentials, Place};
use crate::credentials::{AuthFields, Credentials};
use crate::program::Call;

/// The user whose password is an identity token.
const TOKEN_USER: &str = "<token>";
const MAX_ANSWER: usize = 1 << 20;
/// What a helper says of a registry that it does not know.
const UNKNOWN: &[u8] = b"credentials not found";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// Asks a helper for a registry; `None` if it does not know it.
pub(super) async fn ask(
    config: &NodeCredentials,
    name: &str,
    server: &str,
    place: &Place,
) -> Result<Option<Credentials>, String> {
    let path = find(&config.helper_dirs, name)?;
    let call = Call {
        path: &path,
        arguments: vec!["get".into()],
        environment: Vec::new(),
        stdin: format!("{server}\n").into_bytes(),
        deadline: config.timeout,
        limit: MAX_ANSWER,
    };
    let ended = call.run().await?;
    let told = |what: &str| format!("credential helper {}: {what}", path.display());
    if !ended.status.success() {
        if ended.stdout.starts_with(UNKNOWN) {
            return Ok(None);
        }
        return Err(told(&format!("it failed for {server}: {}", ended.status)));
    }
    let answer: Answer =
        serde_json::from_slice(&ended.stdout).map_err(|_| told("no credentials in its answer"))?;
    if answer.secret.is_empty() {
        return Ok(None);
    }
    let server_address = place.origin();
    let fields = match answer.username.as_str() {
        TOKEN_USER => {
            AuthFields { identity_token: answer.secret, server_address, ..AuthFields::default() }
        }
        _ => AuthFields {
            username: answer.username,
            password: answer.secret,
            server_address,
            ..AuthFields::default()
        },
    };
    Credentials::from_fields(fields).map_err(|error| told(&error.to_string()))
}

/// The program of a helper: an absolute path, or a name in one of the directories.
fn find(dirs: &[PathBuf], name: &str) -> Result<PathBuf, String> {
    if Path::new(name).is_absolute() {
        return Ok(name.into());
    }
    if name.contains('/') {
        return Err(format!("credential helper {name:?}: neither a name nor an absolute path"));
    }
    let file = format!("docker-credential-{name}");
    let found = dirs.iter().map(|dir| dir.join(&file)).find(|path| path.is_file());
    found.ok_or_else(|| format!("there is no {file} in {dirs:?}"))
}
