//! What a foreign runtime can do, as it says itself (`features`, OCI runtime specification).

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

/// More than that no runtime says of itself.
const OUTPUT_MAX: u64 = 1 << 20;

/// What a foreign runtime can do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// Highest version of the specification that it takes.
    pub oci_version_max: Option<String>,
    /// Whether it can make a mount read-only with all mounts below it.
    pub recursive_read_only: bool,
    /// Whether it can put a container into a user namespace with id-mapped mounts.
    pub user_namespaces: bool,
    /// Whether it can start an exec in a cgroup below the container's.
    pub exec_cgroup: bool,
    /// Why it does not tell; then it is taken to have none of them.
    pub untold: Option<String>,
}

/// Asks the runtime at `path` what it can do. It gets `deadline` for each of two questions.
pub async fn probe(path: &Path, args: &[String], deadline: Duration) -> Features {
    let told = ask(path, args, &["features"], deadline).await;
    let help = ask(path, args, &["exec", "--help"], deadline).await;
    let exec_cgroup = help.is_ok_and(|text| text.contains("--cgroup"));
    let features = told.and_then(|text| parse(&text));
    match features {
        Ok(features) => Features { exec_cgroup, ..features },
        Err(untold) => Features { exec_cgroup, untold: Some(untold), ..Features::default() },
    }
}

async fn ask(
    path: &Path,
    args: &[String],
    question: &[&str],
    deadline: Duration,
) -> Result<String, String> {
    let mut command = Command::new(path);
    command.args(args).args(question).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let asked = async {
        let mut child = command.spawn()?;
        let mut text = String::new();
        if let Some(stdout) = child.stdout.take() {
            stdout.take(OUTPUT_MAX).read_to_string(&mut text).await?;
        }
        Ok::<_, std::io::Error>((child.wait().await?, text))
    };
    let question = question.join(" ");
    match tokio::time::timeout(deadline, asked).await {
        Err(_) => Err(format!("{question}: no answer within {} s", deadline.as_secs())),
        Ok(Err(error)) => Err(format!("{question}: {error}")),
        Ok(Ok((status, _))) if !status.success() => Err(format!("{question}: {status}")),
        Ok(Ok((_, text))) => Ok(text),
    }
}

fn parse(text: &str) -> Result<Features, String> {
    let told: Value = serde_json::from_str(text).map_err(|error| format!("features: {error}"))?;
    let lists = |pointer: &str, word: &str| {
        let list = told.pointer(pointer).and_then(Value::as_array);
        list.is_some_and(|list| list.iter().any(|item| item == word))
    };
    let id_maps = told.pointer("/linux/mountExtensions/idmap/enabled") == Some(&Value::Bool(true));
    Ok(Features {
        oci_version_max: told["ociVersionMax"].as_str().map(str::to_owned),
        recursive_read_only: lists("/mountOptions", "rro"),
        user_namespaces: id_maps && lists("/linux/namespaces", "user"),
        ..Features::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    /// A runtime that is a script: its program is the shell, the script its first option.
    async fn probed(script: &str, option: &str, deadline: Duration) -> Features {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), script).unwrap();
        let args = [file.path().display().to_string(), option.to_owned()];
        probe(Path::new("/bin/sh"), &args, deadline).await
    }

    #[test]
    fn features_are_what_the_runtime_says() {
        let text = r#"{"ociVersionMax": "1.2.0", "mountOptions": ["ro", "rro"], "linux":
            {"namespaces": ["user"], "mountExtensions": {"idmap": {"enabled": true}}}}"#;
        let all = parse(text).unwrap();
        assert_eq!(all.oci_version_max.as_deref(), Some("1.2.0"));
        assert!(all.recursive_read_only && all.user_namespaces);
        let without_maps = parse(&text.replace("true", "false")).unwrap();
        assert!(!without_maps.user_namespaces);
        assert_eq!(parse("{}").unwrap(), Features::default());
        assert!(parse("no JSON").unwrap_err().starts_with("features: "));
    }

    #[tokio::test]
    async fn a_runtime_is_asked_with_its_global_options() {
        let script = r#"case "$*" in
            "--x features") echo '{"mountOptions": ["rro"]}' ;;
            "--x exec --help") echo 'usage: [--cgroup PATH]' ;;
            *) exit 1 ;;
        esac"#;
        let features = probed(script, "--x", SOON).await;
        let expected =
            Features { recursive_read_only: true, exec_cgroup: true, ..Features::default() };
        assert_eq!(features, expected);
    }

    #[tokio::test]
    async fn one_that_does_not_tell_has_none() {
        for (script, words) in [("exit 3", "features: exit status: 3"), ("echo x", "features: ")] {
            let features = probed(script, "", SOON).await;
            assert!(features.untold.as_deref().unwrap().starts_with(words), "{features:?}");
        }
        let hangs = probed("exec sleep 60", "", Duration::from_millis(50)).await;
        assert!(hangs.untold.unwrap().contains("no answer"));
        let missing = probe(Path::new("/no/such/runtime"), &[], SOON).await;
        assert!(missing.untold.unwrap().contains("No such file"));
    }
}
