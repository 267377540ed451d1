//! `-e` and `--env-file`: environment variables, byte for byte.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use anyhow::Context;

use crate::api::runtime::KeyValue;

/// `NAME=VALUE`, or `NAME` for the value that it has around us.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Variable(Vec<u8>);

/// A value may be a secret.
impl fmt::Debug for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Variable").finish_non_exhaustive()
    }
}

/// Not parsed while the command line is: its errors would show the argument.
impl From<OsString> for Variable {
    fn from(text: OsString) -> Self {
        Self(text.into_vec())
    }
}

impl Variable {
    /// As the CRI has it. A variable without a value that is not set around us is left out.
    ///
    /// The error does not repeat what was written: who forgets the name has written a value.
    pub(crate) fn key_value(
        &self,
        around: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Option<KeyValue>, String> {
        let mut parts = self.0.splitn(2, |byte| *byte == b'=');
        let name = parts.next().unwrap_or_default().to_vec();
        let key = String::from_utf8(name).map_err(|_| "a variable's name is not UTF-8")?;
        if key.is_empty() {
            return Err("a variable has no name".to_owned());
        }
        let value = match parts.next() {
            Some(value) => Some(value.to_vec()),
            None => around(&key).map(OsString::into_vec),
        };
        Ok(value.map(|value| KeyValue { key, value }))
    }
}

/// Reads a file of variables, one in each line; empty lines and those with `#` are skipped.
pub(crate) fn read_file(path: &Path) -> anyhow::Result<Vec<Variable>> {
    let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    let lines = bytes.split(|byte| *byte == b'\n');
    let lines = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line).trim_ascii_start());
    let variables = lines.filter(|line| !line.is_empty() && !line.starts_with(b"#"));
    Ok(variables.map(|line| Variable(line.to_vec())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around(name: &str) -> Option<OsString> {
        (name == "HOME").then(|| "/root".into())
    }

    fn pair(text: &str) -> Option<(String, Vec<u8>)> {
        let pair = Variable::from(OsString::from(text)).key_value(around).unwrap();
        pair.map(|pair| (pair.key, pair.value))
    }

    #[test]
    fn values_are_given_or_taken_from_around() {
        assert_eq!(pair("A=1=2"), Some(("A".into(), b"1=2".into())));
        assert_eq!(pair("A="), Some(("A".into(), vec![])));
        assert_eq!(pair("HOME"), Some(("HOME".into(), b"/root".into())));
        assert_eq!(pair("UNSET"), None);
    }

    #[test]
    fn values_need_not_be_text_and_are_never_shown() {
        let variable = Variable::from(OsString::from_vec(b"A=\xff secret".to_vec()));
        assert_eq!(variable.key_value(around).unwrap().unwrap().value, b"\xff secret");
        assert!(!format!("{variable:?}").contains("secret"));
        let nameless = Variable::from(OsString::from("=secret"));
        assert_eq!(nameless.key_value(around).unwrap_err(), "a variable has no name");
    }

    #[test]
    fn a_file_has_a_variable_in_each_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("env");
        std::fs::write(&path, "# comment\n\nA=1\r\n  B=x # y\nHOME\n").unwrap();
        let variables = read_file(&path).unwrap();
        let pairs = variables.iter().filter_map(|variable| variable.key_value(around).unwrap());
        let pairs: Vec<_> = pairs.map(|pair| (pair.key, pair.value)).collect();
        let expected = [("A", "1"), ("B", "x # y"), ("HOME", "/root")];
        assert_eq!(pairs, expected.map(|(key, value)| (key.to_owned(), value.into())));
        assert!(read_file(&directory.path().join("missing")).is_err());
    }
}
