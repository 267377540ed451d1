//! Layers of random entries, compared with a model of what they mean, and watched for what they do
//! outside. Needs root.

use std::collections::BTreeMap;

use berth_imageservice::ImportRequest;
use proptest::prelude::*;
use tar::EntryType;
use tokio::runtime::Runtime;

use crate::layers::stack;
use crate::support::place::{assert_clean, rootfs};
use crate::support::tarball::Meta;
use crate::support::{Place, Tarball, TestImage, require_root, show};

#[derive(Debug, Clone)]
pub(crate) enum Op {
    File(String),
    Dir(String),
    Whiteout(String, &'static str),
    Opaque(String),
    Symlink(String, String),
    Hardlink(String, String),
    Fifo(String),
}

fn name() -> impl Strategy<Value = String> {
    let component =
        prop_oneof![5 => "[abc]", 1 => Just("..".to_owned()), 1 => Just(".".to_owned())];
    let joined = prop::collection::vec(component, 1..4).prop_map(|parts| parts.join("/"));
    (joined, prop::bool::weighted(0.1))
        .prop_map(|(path, absolute)| if absolute { format!("/{path}") } else { path })
}

fn plain_op() -> impl Strategy<Value = Op> {
    let one = prop::sample::select(vec!["a", "b", "c"]);
    prop_oneof![
        4 => name().prop_map(Op::File),
        3 => name().prop_map(Op::Dir),
        2 => (name(), one).prop_map(|(directory, name)| Op::Whiteout(directory, name)),
        1 => name().prop_map(Op::Opaque),
    ]
}

pub(crate) fn any_op() -> impl Strategy<Value = Op> {
    let target =
        prop_oneof![name(), Just("../../../../../../canary".to_owned()), Just("/".to_owned())];
    prop_oneof![
        3 => plain_op(),
        3 => (name(), target.clone()).prop_map(|(name, target)| Op::Symlink(name, target)),
        1 => (name(), target).prop_map(|(name, target)| Op::Hardlink(name, target)),
        1 => name().prop_map(Op::Fifo),
    ]
}

pub(crate) fn tarball(ops: &[Op]) -> Tarball {
    ops.iter().fold(Tarball::new(), |tar, op| match op {
        Op::File(name) => tar.file(name, name),
        Op::Dir(name) => tar.dir(name),
        Op::Whiteout(directory, name) => tar.file(&format!("{directory}/.wh.{name}"), ""),
        Op::Opaque(directory) => tar.file(&format!("{directory}/.wh..wh..opq"), ""),
        Op::Symlink(name, target) => tar.symlink(name, target),
        Op::Hardlink(name, target) => tar.hardlink(name, target),
        Op::Fifo(name) => tar.with(EntryType::Fifo, name, &Meta::default()),
    })
}

/// What a layer without links is: a map from paths to what is there.
#[derive(Default)]
struct Model(BTreeMap<Vec<String>, Node>);

enum Node {
    File(String),
    Dir { opaque: bool },
    Whiteout,
}

impl Model {
    fn of(ops: &[Op]) -> Self {
        let mut model = Self::default();
        for op in ops {
            match op {
                Op::File(name) => {
                    let path = clean(name);
                    if !path.is_empty() {
                        model.parents(&path);
                        model.0.retain(|other, _| !other.starts_with(&path));
                        model.0.insert(path, Node::File(name.clone()));
                    }
                }
                Op::Dir(name) => {
                    let path = clean(name);
                    model.parents(&path);
                    model.dir(&path);
                }
                Op::Whiteout(directory, name) => {
                    let path = [clean(directory), vec![(*name).to_owned()]].concat();
                    model.parents(&path);
                    match model.0.get_mut(&path) {
                        None => drop(model.0.insert(path, Node::Whiteout)),
                        Some(Node::Dir { opaque }) => *opaque = true,
                        Some(_) => {}
                    }
                }
                Op::Opaque(name) => {
                    let path = clean(name);
                    model.parents(&path);
                    model.dir(&path);
                    if let Some(Node::Dir { opaque }) = model.0.get_mut(&path) {
                        *opaque = true;
                    }
                }
                Op::Symlink(..) | Op::Hardlink(..) | Op::Fifo(_) => {
                    unreachable!("not in this model")
                }
            }
        }
        model
    }

    fn parents(&mut self, path: &[String]) {
        (1..path.len()).for_each(|length| self.dir(&path[..length]));
    }

    fn dir(&mut self, path: &[String]) {
        if !path.is_empty() && !matches!(self.0.get(path), Some(Node::Dir { .. })) {
            let opaque = self.0.remove(path).is_some();
            self.0.insert(path.to_vec(), Node::Dir { opaque });
        }
    }

    fn show(&self) -> Vec<String> {
        let line = |(path, node): (&Vec<String>, &Node)| {
            let path = path.join("/");
            match node {
                Node::File(content) => format!("{path} 644 {content:?}"),
                Node::Dir { opaque: true } => format!("{path}/ 755 OPAQUE"),
                Node::Dir { opaque: false } => format!("{path}/ 755"),
                Node::Whiteout => format!("{path} WHITEOUT"),
            }
        };
        self.0.iter().map(line).collect()
    }
}

fn clean(name: &str) -> Vec<String> {
    let mut path = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(path.pop()),
            part => path.push(part.to_owned()),
        }
    }
    path
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn layers_are_what_the_model_says(ops in prop::collection::vec(plain_op(), 0..20)) {
        require_root();
        Runtime::new().unwrap().block_on(async {
            let place = Place::new();
            let images = place.open().await;
            let lowers = stack(&images, vec![tarball(&ops)]).await;
            assert_eq!(show(&lowers[0]), Model::of(&ops).show());
        });
    }

    #[test]
    fn nothing_happens_outside(
        below in prop::collection::vec(any_op(), 0..12),
        above in prop::collection::vec(any_op(), 0..12),
    ) {
        require_root();
        Runtime::new().unwrap().block_on(async {
            let place = Place::new();
            let canary = place.path().join("canary");
            std::fs::create_dir(&canary).unwrap();
            for name in ["a", "b"] {
                std::fs::write(canary.join(name), "unharmed").unwrap();
            }
            let before = show(&canary);
            let images = place.open().await;
            let image = TestImage::of([tarball(&below).build(), tarball(&above).build()]);
            let archive = std::io::Cursor::new(image.docker_archive(&["test:latest"]));
            if images.import(archive, ImportRequest::default()).await.is_ok() {
                rootfs(&images, "test:latest").await.lowers.iter().for_each(|lower| drop(show(lower)));
            }
            assert_eq!(show(&canary), before);
            let outside = std::fs::read_dir(place.path()).unwrap().count();
            assert_eq!(outside, 2, "the canary and the images");
            assert_clean(&images).await;
        });
    }
}
