//! A file of credentials in the format that docker, podman and skopeo share
//! (containers-auth.json(5)). What else is in it stays as it is.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

/// The content of the file.
#[derive(Default)]
pub(super) struct AuthFile(Map<String, Value>);

impl AuthFile {
    /// Reads it; one that does not exist is empty.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            text => text.with_context(|| format!("read {}", path.display()))?,
        };
        let whole: Option<Value> = serde_json::from_slice(&text).ok();
        match whole {
            Some(Value::Object(whole)) if whole.get("auths").is_none_or(Value::is_object) => {
                Ok(Self(whole))
            }
            // The parser's message might repeat a secret.
            _ => bail!("{} is no file of credentials: it is left alone", path.display()),
        }
    }

    /// Keeps credentials for a registry, in the place of others.
    pub(super) fn set(&mut self, server: &str, username: &str, password: &str) {
        let auth = STANDARD.encode(format!("{username}:{password}"));
        let auths = self.0.entry("auths").or_insert_with(|| json!({}));
        auths[server] = json!({ "auth": auth });
    }

    /// Forgets those for a registry; `false` if there are none.
    pub(super) fn remove(&mut self, server: &str) -> bool {
        let auths = self.0.get_mut("auths").and_then(Value::as_object_mut);
        auths.is_some_and(|auths| auths.remove(server).is_some())
    }

    /// Writes it, for nobody else to read, whole or not at all.
    pub(super) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let context = || format!("write {}", path.display());
        if let Some(directory) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)
                .with_context(context)?;
        }
        let mut name = path.as_os_str().to_owned();
        name.push(".tmp");
        // A file that somebody has put there may be open to others.
        match fs::remove_file(&name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(context);
            }
            _ => {}
        }
        let mut options = OpenOptions::new();
        let mut file =
            options.write(true).create_new(true).mode(0o600).open(&name).with_context(context)?;
        let text = serde_json::to_string_pretty(&self.0)?;
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
        written.and_then(|()| fs::rename(&name, path)).with_context(context)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_else_is_in_the_file_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/auth.json");
        let mut file = AuthFile::read(&path).unwrap();
        file.set("registry.test:5000", "me", "a:b");
        file.write(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let read =
            |path: &Path| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
        assert_eq!(
            read(&path),
            json!({ "auths": { "registry.test:5000": { "auth": "bWU6YTpi" } } })
        );

        let others = json!({ "auths": { "a": {}, "b": { "auth": "x" } }, "credsStore": "pass" });
        fs::write(&path, others.to_string()).unwrap();
        let mut file = AuthFile::read(&path).unwrap();
        assert!(file.remove("b"));
        assert!(!file.remove("b"));
        file.write(&path).unwrap();
        assert_eq!(read(&path), json!({ "auths": { "a": {} }, "credsStore": "pass" }));
    }

    #[test]
    fn a_file_that_is_something_else_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("auth.json");
        for text in ["", "secret", "[]", "{\"auths\": [\"secret\"]}"] {
            fs::write(&path, text).unwrap();
            let Err(error) = AuthFile::read(&path) else { panic!("{text} was taken") };
            assert!(!format!("{error:#}").contains("secret"));
        }
    }
}
