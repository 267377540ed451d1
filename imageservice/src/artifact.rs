//! OCI artifacts: manifests of something else than an image (a model, a policy, a bundle of files),
//! to be mounted as a volume.
//!
//! An artifact has no configuration that could name it or its layers, so its manifest names it. A
//! layer becomes one file, called as its title says (image specification, `annotations.md`); an
//! archive without a title, or with the mark that `oras` sets on packed directories, becomes what is
//! in it.

use crate::digest::Digest;
use crate::image::ImageId;
use crate::layer;
use crate::manifest::{Configuration, Descriptor, Manifest, is_layer};

const TITLE: &str = "org.opencontainers.image.title";
const UNPACK: &str = "io.deis.oras.content.unpack";
/// Stands for a configuration or a layer where there is none (image specification, "Guidance for
/// an Empty Descriptor").
pub(crate) const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// What the bytes of a layer are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Form {
    /// An archive, whose uncompressed bytes have this digest.
    Layer(Digest),
    /// An archive of which nobody has said more than the digest of its compressed bytes.
    Archive,
    /// The content of one file, at this clean path.
    File(Vec<u8>),
}

impl Manifest {
    /// What names the image: its configuration, or, of an artifact, the manifest itself.
    pub(crate) fn id(&self) -> ImageId {
        match &self.artifact {
            Some(raw) => Digest::sha256(raw.as_bytes()).into(),
            None => self.config.digest.clone().into(),
        }
    }

    /// What stands for the configuration of an artifact; `None` for an image, whose own has to be
    /// fetched.
    pub(crate) fn stand_in(&self) -> Option<Configuration> {
        let raw = self.artifact.clone()?;
        let identity = |layer: &Descriptor| match form_of(layer) {
            Ok(Form::File(path)) => identity(&[b"file", &path], layer),
            _ => identity(&[b"archive"], layer),
        };
        Some(Configuration { raw, diff_ids: self.layers.iter().map(identity).collect() })
    }

    /// What a layer is, of the digest that its configuration has for it.
    ///
    /// # Errors
    /// Why the title cannot be the name of a file.
    pub(crate) fn form(&self, index: usize, diff_id: &Digest) -> Result<Form, &'static str> {
        match self.artifact {
            None => Ok(Form::Layer(diff_id.clone())),
            Some(_) => form_of(&self.layers[index]),
        }
    }
}

fn form_of(layer: &Descriptor) -> Result<Form, &'static str> {
    let title = layer.annotations.get(TITLE).map(String::as_str).unwrap_or_default();
    let is_packed = layer.annotations.get(UNPACK).is_some_and(|value| value == "true");
    if is_packed || (title.is_empty() && is_layer(&layer.media_type)) {
        return Ok(Form::Archive);
    }
    if title.is_empty() {
        return Ok(Form::File(layer.digest.as_str().replace(':', "-").into_bytes()));
    }
    if title.split('/').any(|name| name == "..") {
        return Err("\"..\" in its title");
    }
    match layer::clean(title.as_bytes())? {
        path if path.is_empty() => Err("a title that names no file"),
        path => Ok(Form::File(path)),
    }
}

/// Stands for a diff id where there is none: other content, or another form, has another one.
fn identity(form: &[&[u8]], layer: &Descriptor) -> Digest {
    let parts = [&[&b"artifact"[..]], form, &[layer.digest.as_str().as_bytes()]].concat();
    Digest::sha256(&parts.join(&b"\0"[..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(media_type: &str, annotations: &[(&str, &str)]) -> Descriptor {
        let annotations = annotations.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Descriptor {
            media_type: media_type.to_owned(),
            digest: Digest::sha256(b"x"),
            size: 1,
            platform: None,
            annotations: annotations.collect(),
        }
    }

    #[test]
    fn titles_name_files_and_archives_are_unpacked() {
        let tar = "application/vnd.oci.image.layer.v1.tar+gzip";
        let file = |name: &str| Ok(Form::File(name.into()));
        let digest = Digest::sha256(b"x").to_string().replace(':', "-");
        for (media_type, annotations, expected) in [
            (tar, &[][..], Ok(Form::Archive)),
            // What `oras` says of files that are no archives, too.
            (tar, &[(TITLE, "a.txt")], file("a.txt")),
            (tar, &[(TITLE, "dir"), (UNPACK, "true")], Ok(Form::Archive)),
            ("text/plain", &[(TITLE, "/b//./c")], file("b/c")),
            ("text/plain", &[], file(&digest)),
            ("text/plain", &[(TITLE, "a/../../b")], Err("\"..\" in its title")),
            ("text/plain", &[(TITLE, "/")], Err("a title that names no file")),
            ("text/plain", &[(TITLE, "a\0b")], Err("a NUL byte in its name")),
        ] {
            let layer = layer(media_type, annotations);
            assert_eq!(form_of(&layer), expected, "{media_type} {annotations:?}");
        }
    }

    #[test]
    fn the_same_bytes_under_another_name_are_another_layer() {
        let id = |layers| {
            let config = layer(EMPTY, &[]);
            let manifest = Manifest { config, layers, artifact: Some("{}".to_owned()) };
            manifest.stand_in().unwrap().diff_ids
        };
        let (a, b) = (layer("t", &[(TITLE, "a")]), layer("t", &[(TITLE, "b")]));
        let packed = layer("t", &[(TITLE, "a"), (UNPACK, "true")]);
        let ids = id(vec![a.clone(), b, packed, a]);
        assert_eq!(ids[0], ids[3]);
        assert!(ids[0] != ids[1] && ids[0] != ids[2] && ids[1] != ids[2]);
    }
}
