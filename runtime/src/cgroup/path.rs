//! Names of cgroups.

use std::io;

use crate::error::Error;

/// Where a cgroup is, from the root of the hierarchy: `/a/b`.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct CgroupPath(String);

impl CgroupPath {
    /// Takes a path that begins at the root, with or without a slash.
    ///
    /// # Errors
    /// If it is the root itself, is longer than a path may be, or has `.`, `..` or an empty name.
    pub fn parse(path: &str) -> Result<Self, Error> {
        let inner = path.strip_prefix('/').unwrap_or(path);
        let good = |name: &str| !matches!(name, "" | "." | "..") && name.len() <= 255;
        if inner.len() > 4000 || inner.contains('\0') || !inner.split('/').all(good) {
            return Err(Error::Spec(format!("{path:?} is no path of a cgroup")));
        }
        Ok(Self(format!("/{inner}")))
    }

    /// The cgroup `name` in this one.
    ///
    /// # Errors
    /// As [`CgroupPath::parse`].
    pub fn child(&self, name: &str) -> Result<Self, Error> {
        if name.contains('/') {
            return Err(Error::Spec(format!("{name:?} is no name of a cgroup")));
        }
        Self::parse(&format!("{}/{name}", self.0))
    }

    /// The cgroup that this one is in.
    ///
    /// # Errors
    /// If that is the root.
    pub fn parent(&self) -> Result<Self, Error> {
        Self::parse(self.0.rsplit_once('/').map_or("", |(parent, _)| parent))
    }

    /// Whether `other` is this cgroup or below it.
    pub fn contains(&self, other: &Self) -> bool {
        other.0.strip_prefix(&self.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Itself and all above it but the root, the topmost first.
    pub(super) fn ancestry(&self) -> impl Iterator<Item = Self> {
        let ends = self.0.match_indices('/').skip(1).map(|(index, _)| index);
        ends.chain([self.0.len()]).map(|end| Self(self.0[..end].to_owned()))
    }

    /// Wraps what the kernel answered to an attempt on it.
    pub(super) fn failed(&self, attempt: &'static str) -> impl Fn(io::Error) -> Error + use<> {
        let cgroup = self.0.clone();
        move |source| Error::Cgroup { attempt, cgroup: cgroup.clone(), source }
    }
}

impl std::fmt::Display for CgroupPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for CgroupPath {
    type Error = Error;

    fn try_from(path: String) -> Result<Self, Error> {
        Self::parse(&path)
    }
}

impl From<CgroupPath> for String {
    fn from(path: CgroupPath) -> Self {
        path.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below_the_root() {
        for bad in ["", "/", "a//b", "../a", "/a/../b", "a/.", "a\0b"] {
            assert!(CgroupPath::parse(bad).is_err(), "{bad:?}");
        }
        let path = CgroupPath::parse("kubepods/pod1").unwrap();
        assert_eq!(path.child("c").unwrap().as_str(), "/kubepods/pod1/c");
        assert!(path.child("c/d").is_err());
        assert!(path.child("..").is_err());
    }

    #[test]
    fn a_cgroup_contains_itself_and_what_is_below() {
        let path = |path| CgroupPath::parse(path).unwrap();
        assert!(path("/a/b").contains(&path("/a/b")));
        assert!(path("/a/b").contains(&path("/a/b/c")));
        assert!(!path("/a/b").contains(&path("/a/bc")));
        assert!(!path("/a/b").contains(&path("/a")));
    }

    #[test]
    fn ancestry_is_from_the_top() {
        let path = CgroupPath::parse("/a/b/c").unwrap();
        let ancestry: Vec<_> = path.ancestry().map(String::from).collect();
        assert_eq!(ancestry, ["/a", "/a/b", "/a/b/c"]);
    }
}
