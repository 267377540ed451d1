//! `-v`: a path of the node that is seen in the container.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::api::runtime::Mount;

/// `SOURCE:DESTINATION[:ro|rw]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bind {
    source: String,
    destination: String,
    read_only: bool,
}

impl Bind {
    /// As the CRI has it; a relative source is below `directory`.
    pub(crate) fn mount(&self, directory: &Path) -> Mount {
        let source: PathBuf = directory.join(&self.source).components().collect();
        Mount {
            container_path: self.destination.clone(),
            host_path: source.to_string_lossy().into_owned(),
            readonly: self.read_only,
            ..Default::default()
        }
    }
}

impl FromStr for Bind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<_> = text.split(':').collect();
        let (source, destination, mode) = match parts.as_slice() {
            [source, destination] => (source, destination, "rw"),
            [source, destination, mode] => (source, destination, *mode),
            _ => return Err(format!("{text:?} is not of the form SOURCE:DESTINATION[:ro]")),
        };
        let read_only = match mode {
            "ro" => true,
            "rw" => false,
            other => return Err(format!("{other:?} is no mount option: ro or rw")),
        };
        if !source.starts_with(['/', '.']) {
            return Err(format!(
                "{source:?} is no path: write /{source} or ./{source} (there are no named volumes)"
            ));
        }
        if !destination.starts_with('/') {
            return Err(format!("{destination:?} in the container is not absolute"));
        }
        Ok(Self { source: (*source).into(), destination: (*destination).into(), read_only })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(text: &str) -> (String, String, bool) {
        let mount = text.parse::<Bind>().unwrap().mount(Path::new("/home/me"));
        (mount.host_path, mount.container_path, mount.readonly)
    }

    #[test]
    fn sources_are_absolute_or_below_the_working_directory() {
        assert_eq!(mount("/a:/b"), ("/a".into(), "/b".into(), false));
        assert_eq!(mount("./a/:/b:ro"), ("/home/me/a".into(), "/b".into(), true));
        assert_eq!(mount(".:/b:rw"), ("/home/me".into(), "/b".into(), false));
        assert_eq!(mount("../a:/b"), ("/home/me/../a".into(), "/b".into(), false));
    }

    #[test]
    fn what_is_no_mount_is_refused() {
        for text in ["", "/a", "/a:b", "a:/b", "/a:/b:z", "/a:/b:ro:x", ":/b"] {
            assert!(text.parse::<Bind>().is_err(), "{text:?}");
        }
        assert!("data:/b".parse::<Bind>().unwrap_err().contains("named volumes"));
    }
}
