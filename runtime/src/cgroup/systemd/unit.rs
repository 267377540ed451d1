//! Names of units, and the cgroups that they stand for.

use crate::cgroup::CgroupPath;
use crate::error::Error;

/// Slice of containers that name none.
const DEFAULT_SLICE: &str = "system.slice";

/// A scope: a unit for processes that systemd did not start.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Unit {
    /// The slice that it is in, by its own name, as in `kubepods-burstable.slice`.
    pub slice: String,
    /// Its name, as in `cri-berth-0123.scope`.
    pub name: String,
}

impl Unit {
    /// The scope of `name` in a slice.
    ///
    /// # Errors
    /// [`Error::Spec`] if the slice is none.
    pub fn new(slice: &str, prefix: &str, name: &str) -> Result<Self, Error> {
        slice_path(slice)?;
        let name =
            if prefix.is_empty() { escape(name) } else { escape(&format!("{prefix}-{name}")) };
        let name = format!("{name}.scope");
        // What systemd would store under another name (`cg_escape`), or not at all.
        if name.starts_with(['.', '_', '\\']) || name.len() > 255 {
            return Err(Error::Spec(format!("{name:?} is no name of a scope")));
        }
        Ok(Self { slice: slice.to_owned(), name })
    }

    /// Takes `SLICE:PREFIX:NAME`, as `linux.cgroupsPath` has it for systemd; without it, the
    /// container `id` gets a scope in `system.slice`.
    ///
    /// # Errors
    /// [`Error::Spec`] with the field.
    pub fn parse(path: &str, id: &str) -> Result<Self, Error> {
        if path.is_empty() {
            return Self::new(DEFAULT_SLICE, "berth", id);
        }
        let wrong = |why: &str| Error::Spec(format!("linux.cgroupsPath: {path:?} {why}"));
        let parts: Vec<_> = path.split(':').collect();
        let &[slice, prefix, name] = parts.as_slice() else {
            return Err(wrong("is not as in \"system.slice:berth:name\", which systemd needs"));
        };
        if name.is_empty() || name.ends_with(".slice") {
            return Err(wrong("names no scope"));
        }
        let slice = if slice.is_empty() { DEFAULT_SLICE } else { slice };
        Self::new(slice, prefix, name).map_err(|error| wrong(&error.to_string()))
    }

    /// The scope that `cgroup` is directly in, if it is in one.
    pub fn around(cgroup: &CgroupPath) -> Option<Self> {
        let scope = cgroup.parent().ok()?;
        let mut names = scope.as_str().rsplit('/');
        let (name, slice) = (names.next()?, names.next()?);
        let known = name.ends_with(".scope") && slice.ends_with(".slice");
        known.then(|| Self { slice: slice.to_owned(), name: name.to_owned() })
    }

    /// Its cgroup.
    ///
    /// # Errors
    /// As [`Unit::new`].
    pub fn cgroup(&self) -> Result<CgroupPath, Error> {
        CgroupPath::parse(&format!("{}/{}", slice_path(&self.slice)?, self.name))
    }
}

/// Where a slice is: `a-b.slice` is in `a.slice`.
///
/// # Errors
/// [`Error::Spec`] if it is no name of a slice.
pub fn slice_path(slice: &str) -> Result<String, Error> {
    let wrong = || Error::Spec(format!("{slice:?} is no name of a slice"));
    let inner = slice.strip_suffix(".slice").ok_or_else(wrong)?;
    if inner == "-" {
        return Ok(String::new());
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.:\\".contains(c);
    let good = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric()) && part.chars().all(plain)
    };
    if slice.len() > 255 || !inner.split('-').all(good) {
        return Err(wrong());
    }
    let ends = inner.match_indices('-').map(|(index, _)| index).chain([inner.len()]);
    Ok(ends.map(|end| format!("/{}.slice", &inner[..end])).collect())
}

/// What a unit's name may not have is written as `\x2b` (`systemd-escape(1)`). The hyphen stays:
/// only in a slice's name it has a meaning.
fn escape(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b':' | b'_' | b'.' | b'-' => {
                escaped.push(char::from(byte));
            }
            _ => escaped.push_str(&format!("\\x{byte:02x}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_in_those_that_its_name_begins_with() {
        let table = [
            ("system.slice", "/system.slice"),
            ("a-b-c.slice", "/a.slice/a-b.slice/a-b-c.slice"),
            (
                "kubepods-burstable-pod1_2.slice",
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice",
            ),
            ("-.slice", ""),
        ];
        for (slice, path) in table {
            assert_eq!(slice_path(slice).unwrap(), path);
        }
        for bad in [
            "",
            ".slice",
            "a",
            "a--b.slice",
            "-a.slice",
            "a-.slice",
            "a/b.slice",
            "..slice",
            "a-.b.slice",
            "a b.slice",
            "_a.slice",
            "a\0.slice",
        ] {
            assert!(slice_path(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_scope_is_named_by_three_parts() {
        let unit = |path: &str| Unit::parse(path, "id1").unwrap();
        assert_eq!(unit("").name, "berth-id1.scope");
        assert_eq!(unit("").cgroup().unwrap().as_str(), "/system.slice/berth-id1.scope");
        let own = unit("a-b.slice:cri:x+y");
        assert_eq!(own.name, "cri-x\\x2by.scope");
        assert_eq!(own.cgroup().unwrap().as_str(), "/a.slice/a-b.slice/cri-x\\x2by.scope");
        assert_eq!(unit(":cri:x").slice, "system.slice");
        assert_eq!(unit("-.slice::x").cgroup().unwrap().as_str(), "/x.scope");
        for bad in
            ["/a/b", "a.slice:b", "a.slice:b:", "a.slice:b:c:d", "a:b:c", "a.slice:b:c.slice"]
        {
            let error = Unit::parse(bad, "id1").unwrap_err().to_string();
            assert!(error.contains("linux.cgroupsPath"), "{error}");
        }
        assert!(Unit::new("a.slice", "", "_x").is_err());
        assert!(Unit::new("a.slice", "", &"x".repeat(250)).is_err());
        assert!(Unit::new("a.slice", "", "../x").is_err());
    }

    #[test]
    fn a_cgroup_knows_its_scope() {
        let around = |path| Unit::around(&CgroupPath::parse(path).unwrap());
        let unit = around("/a.slice/a-b.slice/cri-berth-1.scope/c1").unwrap();
        assert_eq!((unit.slice.as_str(), unit.name.as_str()), ("a-b.slice", "cri-berth-1.scope"));
        assert_eq!(around("/a.slice/a-b.slice/c1"), None);
        assert_eq!(around("/berth/1/1"), None);
        assert_eq!(around("/x.scope/1"), None);
    }
}
