//! The way to a file or directory: every directory that the kernel passes on
//! the way, with the entry that it looks up there. Whoever watches them all sees
//! the goal appear, vanish, move, or become another, however deep in the path
//! or behind whichever symbolic link that happens.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// As many links as the kernel follows (`MAXSYMLINKS`).
const MOST_LINKS: usize = 40;

/// How a path resolves at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    /// Directories free of links, with the name that is looked up in each.
    pub(super) steps: Vec<(PathBuf, OsString)>,
    /// The goal, free of links, if it exists and is a directory.
    pub(super) end: Option<PathBuf>,
}

impl Route {
    /// Follows an absolute path as far as it goes.
    pub(super) fn to(path: &Path) -> Self {
        let mut steps = Vec::new();
        let mut here = PathBuf::from("/");
        let mut ahead: VecDeque<OsString> = names(path).collect();
        let mut links = 0;
        while let Some(name) = ahead.pop_front() {
            if name == ".." {
                here.pop();
                continue;
            }
            let next = here.join(&name);
            steps.push((here.clone(), name));
            let Ok(found) = fs::symlink_metadata(&next) else {
                return Self { steps, end: None };
            };
            if !found.is_symlink() {
                here = next;
                continue;
            }
            links += 1;
            let Ok(target) = fs::read_link(&next) else {
                return Self { steps, end: None };
            };
            if links > MOST_LINKS {
                return Self { steps, end: None };
            }
            if target.is_absolute() {
                here = PathBuf::from("/");
            }
            names(&target).rev().for_each(|name| ahead.push_front(name));
        }
        let end = here.is_dir().then_some(here);
        Self { steps, end }
    }
}

fn names(path: &Path) -> impl DoubleEndedIterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// The steps below a directory, written `directory:name`.
    fn steps_below(root: &Path, route: &Route) -> Vec<String> {
        let below = route.steps.iter().filter_map(|(dir, name)| {
            let dir = dir.strip_prefix(root).ok()?;
            Some(format!("{}:{}", dir.display(), name.to_string_lossy()))
        });
        below.collect()
    }

    fn root() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        (dir, root)
    }

    #[test]
    fn a_plain_path_passes_each_of_its_parents() {
        let (_keep, root) = root();
        fs::create_dir_all(root.join("etc/cni")).unwrap();
        let route = Route::to(&root.join("etc/cni"));
        assert_eq!(steps_below(&root, &route), [":etc", "etc:cni"]);
        assert_eq!(route.steps[0].0, Path::new("/"));
        assert_eq!(route.end, Some(root.join("etc/cni")));
    }

    #[test]
    fn a_missing_path_ends_at_its_nearest_parent() {
        let (_keep, root) = root();
        fs::create_dir(root.join("etc")).unwrap();
        let route = Route::to(&root.join("etc/cni/net.d"));
        assert_eq!(steps_below(&root, &route), [":etc", "etc:cni"]);
        assert_eq!(route.end, None);
    }

    #[test]
    fn links_are_followed_step_by_step() {
        let (_keep, root) = root();
        fs::create_dir_all(root.join("opt/real")).unwrap();
        fs::create_dir(root.join("etc")).unwrap();
        symlink("../opt/now", root.join("etc/cni")).unwrap();
        symlink(root.join("opt/real"), root.join("opt/now")).unwrap();
        let route = Route::to(&root.join("etc/cni"));
        let steps = [":etc", "etc:cni", ":opt", "opt:now", ":opt", "opt:real"];
        assert_eq!(steps_below(&root, &route), steps);
        assert_eq!(route.end, Some(root.join("opt/real")));
    }

    #[test]
    fn a_circle_of_links_ends() {
        let (_keep, root) = root();
        symlink("b", root.join("a")).unwrap();
        symlink("a", root.join("b")).unwrap();
        assert_eq!(Route::to(&root.join("a")).end, None);
    }

    #[test]
    fn a_file_is_no_end() {
        let (_keep, root) = root();
        fs::write(root.join("file"), "").unwrap();
        assert_eq!(Route::to(&root.join("file")).end, None);
        assert_eq!(Route::to(&root.join("file/below")).end, None);
    }
}
