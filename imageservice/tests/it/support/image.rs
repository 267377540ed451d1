//! Images: a configuration, layers, a manifest, and the archives that carry them.

use std::io::Write;

use berth_imageservice::{Digest, Platform};
use serde_json::{Value, json};

use super::Tarball;

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Packing {
    Plain,
    Gzip,
    Zstd,
}

/// A layer as it goes over the network, and as it is inside.
#[derive(Clone)]
pub(crate) struct TestLayer {
    pub(crate) packed: Vec<u8>,
    pub(crate) media_type: String,
    pub(crate) diff_id: Digest,
}

/// An image of the platform that runs the test.
#[derive(Clone)]
pub(crate) struct TestImage {
    pub(crate) layers: Vec<TestLayer>,
    pub(crate) config: Value,
    pub(crate) manifest_type: &'static str,
}

impl TestLayer {
    pub(crate) fn new(tar: &[u8], packing: Packing) -> Self {
        let (packed, suffix) = match packing {
            Packing::Plain => (tar.to_vec(), ""),
            Packing::Gzip => {
                let fast = flate2::Compression::fast();
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), fast);
                encoder.write_all(tar).unwrap();
                (encoder.finish().unwrap(), "+gzip")
            }
            Packing::Zstd => (zstd::encode_all(tar, 1).unwrap(), "+zstd"),
        };
        let media_type = format!("{OCI_LAYER}{suffix}");
        Self { packed, media_type, diff_id: Digest::sha256(tar) }
    }

    pub(crate) fn digest(&self) -> Digest {
        Digest::sha256(&self.packed)
    }
}

impl TestImage {
    /// An image of these archives, bottom first, each compressed.
    pub(crate) fn of(tarballs: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let layers = tarballs.into_iter().map(|tar| TestLayer::new(&tar, Packing::Gzip)).collect();
        Self::of_layers(layers)
    }

    pub(crate) fn of_layers(layers: Vec<TestLayer>) -> Self {
        let host = Platform::host();
        let diff_ids: Vec<_> = layers.iter().map(|layer| layer.diff_id.clone()).collect();
        let config = json!({
            "architecture": host.architecture, "os": host.os,
            "config": { "Cmd": ["/bin/sh"] },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        Self { layers, config, manifest_type: OCI_MANIFEST }
    }

    /// A small image with one file.
    pub(crate) fn small(content: &str) -> Self {
        Self::of([Tarball::new().dir("etc").file("etc/content", content).build()])
    }

    pub(crate) fn config_bytes(&self) -> Vec<u8> {
        self.config.to_string().into_bytes()
    }

    pub(crate) fn id(&self) -> String {
        Digest::sha256(&self.config_bytes()).to_string()
    }

    pub(crate) fn manifest_value(&self) -> Value {
        let config = self.config_bytes();
        let layer = |layer: &TestLayer| {
            json!({
                "mediaType": layer.media_type, "digest": layer.digest(), "size": layer.packed.len(),
            })
        };
        json!({
            "schemaVersion": 2,
            "mediaType": self.manifest_type,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": Digest::sha256(&config), "size": config.len(),
            },
            "layers": self.layers.iter().map(layer).collect::<Vec<_>>(),
        })
    }

    pub(crate) fn manifest(&self) -> Vec<u8> {
        self.manifest_value().to_string().into_bytes()
    }

    pub(crate) fn digest(&self) -> Digest {
        Digest::sha256(&self.manifest())
    }

    /// Everything that lies by digest.
    pub(crate) fn blobs(&self) -> Vec<Vec<u8>> {
        let layers = self.layers.iter().map(|layer| layer.packed.clone());
        layers.chain([self.config_bytes()]).collect()
    }

    /// As `docker save` would write it.
    pub(crate) fn docker_archive(&self, tags: &[&str]) -> Vec<u8> {
        let names: Vec<String> = (0..self.layers.len()).map(|n| format!("{n}/layer.tar")).collect();
        let manifest = json!([{ "Config": "config.json", "RepoTags": tags, "Layers": names }]);
        let mut tar = tar::Builder::new(Vec::new());
        let mut add = |name: &str, bytes: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            tar.append_data(&mut header, name, bytes).unwrap();
        };
        add("config.json", &self.config_bytes());
        for (name, layer) in names.iter().zip(&self.layers) {
            add(name, &layer.packed);
        }
        add("manifest.json", manifest.to_string().as_bytes());
        tar.into_inner().unwrap()
    }
}
