//! Names of archive entries, made safe to use: relative, without `.` and `..`, of bounded length.
//!
//! A name is bytes, not text. `..` is resolved in the text and stops at the root, as the tar
//! readers of other container engines do: what tries to climb out lands inside.

/// The longest path inside a layer, as the kernel has it for a path (`PATH_MAX`, with its NUL).
pub(crate) const MAX_PATH: usize = 4096;
/// The longest name of one file (`NAME_MAX`).
const MAX_NAME: usize = 255;

/// The path that a name means, below the layer's root; empty for the root itself.
pub(crate) fn clean(name: &[u8]) -> Result<Vec<u8>, &'static str> {
    if name.contains(&0) {
        return Err("a NUL byte in its name");
    }
    let mut path: Vec<u8> = Vec::with_capacity(name.len());
    for component in name.split(|b| *b == b'/') {
        match component {
            b"" | b"." => {}
            b".." => path.truncate(split(&path).0.len()),
            _ if component.len() > MAX_NAME => return Err("a file name of more than 255 bytes"),
            _ => push(&mut path, component),
        }
    }
    if path.len() >= MAX_PATH { Err("a path of more than 4095 bytes") } else { Ok(path) }
}

/// The directory part and the last component of a clean path.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }
}

/// A clean path one component longer.
pub(crate) fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    let mut joined = Vec::with_capacity(path.len() + 1 + name.len());
    joined.extend_from_slice(path);
    push(&mut joined, name);
    joined
}

/// Whether `path` is `ancestor` or below it.
pub(crate) fn is_within(path: &[u8], ancestor: &[u8]) -> bool {
    path.strip_prefix(ancestor)
        .is_some_and(|rest| rest.is_empty() || ancestor.is_empty() || rest[0] == b'/')
}

fn push(path: &mut Vec<u8>, name: &[u8]) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cleaned() {
        for (name, path) in [
            ("a/b", "a/b"),
            ("./a//b/", "a/b"),
            ("/etc/passwd", "etc/passwd"),
            ("../../etc", "etc"),
            ("a/../../../b", "b"),
            ("a/b/..", "a"),
            ("./", ""),
            ("..", ""),
            ("a/.../b", "a/.../b"),
        ] {
            assert_eq!(clean(name.as_bytes()).unwrap(), path.as_bytes(), "{name}");
        }
    }

    #[test]
    fn names_have_bounds() {
        assert!(clean(b"a\0b").is_err());
        assert!(clean(&[b'a'; 255]).is_ok());
        assert!(clean(&[b'a'; 256]).is_err());
        assert!(clean("a/".repeat(2047).as_bytes()).is_ok());
        assert!(clean("a/".repeat(2049).as_bytes()).is_err());
    }

    #[test]
    fn within() {
        assert!(is_within(b"a/b", b"a"));
        assert!(is_within(b"a", b"a"));
        assert!(is_within(b"a", b""));
        assert!(!is_within(b"ab", b"a"));
    }
}
