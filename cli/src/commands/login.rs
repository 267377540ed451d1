//! `berth login` and `berth logout`: who this node is at a registry.

mod auth_file;
mod prompt;

use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use self::auth_file::AuthFile;
use crate::api::admin::{Credentials, Setting};
use crate::exit::Failure;
use crate::node::Node;
use crate::output::print;

/// Where berthd looks for credentials if it does not say.
const AUTH_DIR: &str = "/etc/berth/auth.d";
/// Our file among those of others.
const FILE: &str = "berth-login.json";
/// The longest password that is read from standard input.
const MAX_PASSWORD: u64 = 64 << 10;

/// Log this node in to a registry
///
/// Shows user and password to the registry, and keeps them, if it takes them, where berthd finds
/// them for pulls and pushes of this node: in a file of auth.json's format that only root can read.
#[derive(Debug, Args)]
pub(crate) struct Login {
    /// User name
    #[arg(short, long, value_name = "NAME")]
    username: Option<String>,

    /// Read the password from standard input
    #[arg(long)]
    password_stdin: bool,

    #[command(flatten)]
    place: Place,
}

/// Forget how this node logs in to a registry
#[derive(Debug, Args)]
pub(crate) struct Logout {
    #[command(flatten)]
    place: Place,
}

/// Which credentials are meant.
#[derive(Debug, Args)]
struct Place {
    /// The file to keep credentials in [default: berth-login.json in the first of berthd's
    /// credentials.auth_dirs]
    #[arg(long, value_name = "FILE")]
    auth_file: Option<PathBuf>,

    /// The registry: its host, with its port if it has one
    #[arg(default_value = "docker.io")]
    server: String,
}

/// Checks the credentials, and keeps them.
pub(crate) async fn login(node: &Node, options: Login) -> anyhow::Result<ExitCode> {
    let Login { username, password_stdin, place } = options;
    if password_stdin && username.is_none() {
        return Err(Failure::usage("--password-stdin needs --username").into());
    }
    let admin = node.admin().await?;
    let server = host_of(&place.server);
    let username = username.map_or_else(|| prompt::line("Username: "), Ok)?;
    let password = if password_stdin { piped()? } else { prompt::secret("Password: ")? };
    if username.is_empty() || username.contains(':') || password.is_empty() {
        return Err(Failure::usage("a user name without colon and a password are needed").into());
    }
    let credentials = Credentials {
        username: username.clone(),
        password: password.clone(),
        ..Default::default()
    };
    let server = admin.login(server, credentials).await?;
    let path = path(place.auth_file, &admin.info().await?.settings);
    let mut file = AuthFile::read(&path)?;
    file.set(&server, &username, &password);
    file.write(&path)?;
    print("Login Succeeded\n")?;
    Ok(ExitCode::SUCCESS)
}

/// Forgets credentials; those that are not there are forgotten already.
pub(crate) async fn logout(node: &Node, options: Logout) -> anyhow::Result<ExitCode> {
    let Place { auth_file, server } = options.place;
    let server = host_of(&server);
    let path = match auth_file {
        Some(path) => path,
        None => path(None, &node.admin().await?.info().await?.settings),
    };
    let mut file = AuthFile::read(&path)?;
    if !file.remove(server) {
        print(format!("Not logged in to {server}\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    file.write(&path)?;
    print(format!("Removed login credentials for {server}\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// The host in what a person may have copied from somewhere.
fn host_of(server: &str) -> &str {
    let server = server.split_once("://").map_or(server, |(_, rest)| rest);
    let host = server.split('/').next().unwrap_or(server);
    if host == "index.docker.io" || host == "registry-1.docker.io" { "docker.io" } else { host }
}

fn path(given: Option<PathBuf>, settings: &[Setting]) -> PathBuf {
    let dirs = settings.iter().find(|setting| setting.key == "credentials.auth_dirs");
    // A list of strings in TOML, of which the first is wanted.
    let first = dirs.and_then(|dirs| dirs.value.split('"').nth(1)).filter(|dir| !dir.is_empty());
    given.unwrap_or_else(|| PathBuf::from(first.unwrap_or(AUTH_DIR)).join(FILE))
}

/// A password on standard input, without the end of its line.
fn piped() -> anyhow::Result<String> {
    let mut password = String::new();
    let read = std::io::stdin().lock().take(MAX_PASSWORD).read_to_string(&mut password);
    read.context("read the password")?;
    Ok(password.trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_meant_by_its_host() {
        for (text, host) in [
            ("registry.test", "registry.test"),
            ("https://registry.test:5000/v2/", "registry.test:5000"),
            ("https://index.docker.io/v1/", "docker.io"),
            ("localhost:5000/team", "localhost:5000"),
        ] {
            assert_eq!(host_of(text), host);
        }
    }

    #[test]
    fn credentials_lie_where_berthd_looks_for_them() {
        let setting = |value: &str| Setting {
            key: "credentials.auth_dirs".into(),
            value: value.into(),
            ..Default::default()
        };
        for (settings, expected) in [
            (vec![], "/etc/berth/auth.d/berth-login.json"),
            (vec![setting("[]")], "/etc/berth/auth.d/berth-login.json"),
            (vec![setting("[\"/a\", \"/b\"]")], "/a/berth-login.json"),
        ] {
            assert_eq!(path(None, &settings), PathBuf::from(expected));
        }
        assert_eq!(path(Some("/x".into()), &[setting("[\"/a\"]")]), PathBuf::from("/x"));
    }
}
