//! The command line of a foreign runtime, and what it says of its failures.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;

use crate::error::Error;

use super::Runtime;

/// How long a runtime may take to forget a container whose processes have been killed.
const DELETE: Duration = Duration::from_secs(10);

impl Runtime {
    /// The words of a call: the program, its global options, `verb` and what follows it.
    pub(super) fn words(&self, log: &str, verb: &[&str]) -> Result<Vec<String>, Error> {
        let mut words = vec![text(&self.path)?];
        words.extend(self.args.iter().cloned());
        let root = text(&self.root)?;
        let global = ["--root", root.as_str(), "--log", log, "--log-format", "json"];
        words.extend(global.iter().chain(verb).map(|word| (*word).to_owned()));
        Ok(words)
    }

    /// Has the runtime forget a container; one that it does not know is fine.
    pub(crate) async fn delete(&self, id: &str, log: &Path) -> Result<(), Error> {
        if !self.knows(id) {
            return Ok(());
        }
        let words = self.words(&text(log)?, &["delete", "--force", id])?;
        let mut command = Command::new(&self.path);
        command.args(&words[1..]).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let ended = tokio::time::timeout(DELETE, command.status()).await;
        let why = match ended {
            Ok(Ok(status)) if status.success() => return Ok(()),
            // Somebody else was faster.
            _ if !self.knows(id) => return Ok(()),
            Ok(Ok(status)) => said(log).unwrap_or_else(|| status.to_string()),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("not done within {} s", DELETE.as_secs()),
        };
        Err(self.failed("delete", why))
    }

    /// What went wrong in a call of `verb`, which logs to `log`.
    pub(crate) fn failed(&self, verb: &'static str, said: String) -> Error {
        Error::Foreign { runtime: self.name.clone(), verb, said }
    }

    /// Whether it keeps a state of the container: runtimes name a directory, or files, by the id.
    fn knows(&self, id: &str) -> bool {
        state_names(&self.root).is_ok_and(|names| names.iter().any(|name| name.starts_with(id)))
    }
}

/// Names of what a runtime keeps in its root directory; none if there is no such directory.
pub(crate) fn state_names(root: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

/// The last error in a runtime's log, in its own words: those of Go's logrus, or of Rust's tracing
/// as youki has it, which may end in a backtrace.
pub(crate) fn said(log: &Path) -> Option<String> {
    let text = fs::read_to_string(log).ok()?;
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let is_error =
        |level: &str| ["error", "fatal"].iter().any(|one| level.eq_ignore_ascii_case(one));
    let mut errors = lines.filter(|line| line["level"].as_str().is_some_and(is_error));
    let last = errors.next_back()?;
    let words = last["msg"].as_str().or_else(|| last["message"].as_str())?;
    let words = words.split("\n\nStack backtrace:").next().unwrap_or(words);
    Some(words.trim().to_owned())
}

/// Paths of ours and of the configuration go into protocols and JSON, which are UTF-8.
pub(super) fn text(path: &Path) -> Result<String, Error> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| Error::Spec(format!("path {} is not UTF-8", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_of_a_log_is_what_was_said() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let log = "{\"level\":\"warning\",\"msg\":\"w\"}\n{\"level\":\"error\",\"msg\":\"a\"}\n\
                   no JSON\n{\"level\":\"error\",\"msg\":\"b\\n\"}\n{\"level\":\"info\",\"msg\":\"c\"}\n";
        fs::write(file.path(), log).unwrap();
        assert_eq!(said(file.path()).as_deref(), Some("b"));
        let log =
            "{\"level\":\"ERROR\",\"message\":\"no such thing\\n\\nStack backtrace:\\n 0: a\"}\n";
        fs::write(file.path(), log).unwrap();
        assert_eq!(said(file.path()).as_deref(), Some("no such thing"), "youki's");
        fs::write(file.path(), "").unwrap();
        assert_eq!(said(file.path()), None);
        assert_eq!(said(Path::new("/no/such/log")), None);
    }

    #[test]
    fn global_options_come_before_the_verb() {
        let args = vec!["--debug".to_owned()];
        let runtime = Runtime::new("r", "/bin/r".into(), args, "/run/r".into());
        let words = runtime.words("/b/log", &["start", "id"]).unwrap().join(" ");
        assert_eq!(words, "/bin/r --debug --root /run/r --log /b/log --log-format json start id");
    }
}
