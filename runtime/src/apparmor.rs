//! AppArmor, as a node sees it: whether the kernel confines, which profiles it knows, and the one
//! that containers get by default.
//!
//! Profiles are the kernel's: they are compiled and loaded by AppArmor's own program, and outlive
//! everybody here. What a process does to come under one is in `init`.

use std::fs;
use std::io;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::sync::Mutex;

/// Name of the profile of containers that bring none of their own.
pub const DEFAULT: &str = "berth-default";

/// The name that stands for no profile.
pub const UNCONFINED: &str = "unconfined";

/// Its text, with names still to be filled in.
const TEXT: &str = include_str!("apparmor/default.profile");

/// What compiles and loads profiles.
const PARSER: &str = "apparmor_parser";

/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whether the kernel confines programs by AppArmor.
pub fn is_enabled() -> bool {
    let enabled = fs::read("/sys/module/apparmor/parameters/enabled");
    enabled.is_ok_and(|says| says.starts_with(b"Y"))
}

/// Whether a profile of this name is loaded.
///
/// # Errors
/// If the kernel does not tell.
pub fn is_loaded(profile: &str) -> io::Result<bool> {
    let path = "/sys/kernel/security/apparmor/profiles";
    let loaded = fs::read_to_string(path)
        .map_err(|error| io::Error::new(error.kind(), format!("read {path}: {error}")))?;
    Ok(is_listed(profile, &loaded))
}

/// Every line is a name and, in parentheses, a mode.
fn is_listed(profile: &str, list: &str) -> bool {
    list.lines().any(|line| line.rsplit_once(" (").is_some_and(|(name, _)| name == profile))
}

/// The default profile, which is loaded when it is first needed.
#[derive(Debug, Default)]
pub struct Default {
    /// Whether it has been: what an earlier version has loaded may be another text.
    loaded: Mutex<bool>,
}

impl Default {
    /// Sees to it that the profile is loaded, also after somebody has removed it.
    ///
    /// # Errors
    /// In words, if it cannot be.
    pub async fn provide(&self) -> Result<(), String> {
        let mut loaded = self.loaded.lock().await;
        if !*loaded || !is_loaded(DEFAULT).map_err(|error| error.to_string())? {
            let own = fs::read_to_string("/proc/self/attr/current").unwrap_or_default();
            load(&text(label_of(&own))).await?;
            *loaded = true;
        }
        Ok(())
    }
}

/// The text of the default profile, for a host whose runtime runs under the label `own`.
fn text(own: &str) -> String {
    // These come with profiles on some distributions; they end containers of RuntimeClasses.
    let mut runtimes = vec!["crun", "runc"];
    if !matches!(own, "" | UNCONFINED | DEFAULT) {
        runtimes.push(own);
    }
    let rules = runtimes.iter().map(|label| format!("  signal (receive) peer=\"{label}\",\n"));
    TEXT.replace("NAME", DEFAULT).replace("RUNTIMES\n", &rules.collect::<String>())
}

/// The label without its mode.
fn label_of(current: &str) -> &str {
    let current = current.trim_end_matches(['\0', '\n']);
    current.rsplit_once(" (").map_or(current, |(label, _)| label)
}

async fn load(text: &str) -> Result<(), String> {
    let mut command = Command::new(PARSER);
    // Nothing is to be left of it, and no file of an administrator's to change it.
    command.args(["--replace", "--skip-cache"]).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let loading = async {
        let mut child = command.spawn()?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all(text.as_bytes()).await?;
        }
        child.wait_with_output().await
    };
    let failed = |why: String| format!("load the AppArmor profile {DEFAULT} by {PARSER}: {why}");
    match tokio::time::timeout(PATIENCE, loading).await {
        Err(_) => Err(failed(format!("not done within {} s", PATIENCE.as_secs()))),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Ok(Ok(output)) if output.status.success() => Ok(()),
        Ok(Ok(output)) => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(failed(format!("{}: {}", output.status, said.trim())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_loaded_under_its_whole_name() {
        let list = "berth-default (enforce)\n/usr/bin/a b//c (complain)\n";
        for name in ["berth-default", "/usr/bin/a b//c"] {
            assert!(is_listed(name, list), "{name}");
        }
        for name in ["", "berth", "berth-default (enforce)", "/usr/bin/a b"] {
            assert!(!is_listed(name, list), "{name}");
        }
    }

    #[test]
    fn the_profile_lets_its_runtime_in() {
        assert_eq!(label_of("unconfined\n"), "unconfined");
        assert_eq!(label_of("/usr/bin/berthd (enforce)\n"), "/usr/bin/berthd");
        let usual = text("unconfined");
        assert!(usual.contains("profile berth-default flags"), "{usual}");
        assert!(!usual.contains("NAME") && !usual.contains("RUNTIMES"), "{usual}");
        assert_eq!(usual.matches("signal (receive) peer=\"").count(), 2);
        assert!(text("/usr/bin/berthd").contains("signal (receive) peer=\"/usr/bin/berthd\",\n"));
    }
}
