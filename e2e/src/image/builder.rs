//! Puts an image together: layers, config, manifest. Any value of the config can be set, also a
//! wrong one.

use std::io::Write;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use super::{Blob, Compression, Format, Image, Layer, architecture, digest};

/// Collects what an image is to be.
#[derive(Debug, Clone)]
pub struct ImageBuilder {
    layers: Vec<Layer>,
    config: Map<String, Value>,
    platform: Value,
    format: Format,
    compression: Compression,
    level: flate2::Compression,
}

impl ImageBuilder {
    pub(super) fn new() -> Self {
        Self {
            layers: Vec::new(),
            config: Map::new(),
            platform: json!({ "os": "linux", "architecture": architecture() }),
            format: Format::Oci,
            compression: Compression::Gzip,
            level: flate2::Compression::fast(),
        }
    }

    /// Puts a layer on top.
    pub fn layer(mut self, layer: Layer) -> Self {
        self.layers.push(layer);
        self
    }

    /// Packs every layer this way. Gzip is the default.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Has gzip take the time that builders of images give it, instead of the least.
    pub fn usual_level(mut self) -> Self {
        self.level = flate2::Compression::default();
        self
    }

    /// Chooses the media types. OCI is the default.
    pub fn format(mut self, format: Format) -> Self {
        self.format = format;
        self
    }

    /// Says for which platform the image is; the machine's own is the default.
    pub fn platform(mut self, os: &str, architecture: &str, variant: Option<&str>) -> Self {
        self.platform = json!({ "os": os, "architecture": architecture });
        if let Some(variant) = variant {
            self.platform["variant"] = variant.into();
        }
        self
    }

    /// Adds an environment variable.
    pub fn env(mut self, key: &str, value: &str) -> Self {
        let env = self.config.entry("Env").or_insert_with(|| json!([]));
        if let Some(list) = env.as_array_mut() {
            list.push(format!("{key}={value}").into());
        }
        self
    }

    /// Sets the entry point.
    pub fn entrypoint<const N: usize>(self, words: [&str; N]) -> Self {
        self.set("Entrypoint", json!(words.as_slice()))
    }

    /// Sets the command.
    pub fn cmd<const N: usize>(self, words: [&str; N]) -> Self {
        self.set("Cmd", json!(words.as_slice()))
    }

    /// Sets the user: `name`, `uid`, or either with `:group`.
    pub fn user(self, user: &str) -> Self {
        self.set("User", user.into())
    }

    /// Sets the working directory.
    pub fn workdir(self, dir: &str) -> Self {
        self.set("WorkingDir", dir.into())
    }

    /// Sets the signal that asks a container to end.
    pub fn stop_signal(self, signal: &str) -> Self {
        self.set("StopSignal", signal.into())
    }

    /// Declares an anonymous volume.
    pub fn volume(mut self, path: &str) -> Self {
        let volumes = self.config.entry("Volumes").or_insert_with(|| json!({}));
        volumes[path] = json!({});
        self
    }

    /// Adds a label.
    pub fn label(mut self, key: &str, value: &str) -> Self {
        let labels = self.config.entry("Labels").or_insert_with(|| json!({}));
        labels[key] = value.into();
        self
    }

    /// Sets any key of the config's `config` object, to any value: also to a wrong one.
    pub fn set(mut self, key: &str, value: Value) -> Self {
        self.config.insert(key.to_owned(), value);
        self
    }

    /// Packs the layers and writes config and manifest.
    pub fn build(self) -> Result<Image> {
        let (diff_ids, layers): (Vec<_>, Vec<_>) = self.blobs()?.into_iter().unzip();
        let mut config = self.platform.clone();
        config["config"] = Value::Object(self.config);
        config["rootfs"] = json!({ "type": "layers", "diff_ids": diff_ids });
        let config = Blob::json(self.format.config(), &config)?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": self.format.manifest(),
            "config": config.descriptor(),
            "layers": layers.iter().map(Blob::descriptor).collect::<Vec<_>>(),
        });
        let manifest = Blob::json(self.format.manifest(), &manifest)?;
        Ok(Image { manifest, config, layers, platform: self.platform })
    }

    /// Each layer's digest as an archive, and the archive packed. At the same time, for those that
    /// are large.
    fn blobs(&self) -> Result<Vec<(String, Blob)>> {
        let blob = |layer: &Layer| -> Result<_> {
            let tar = layer.tar()?;
            let diff_id = digest(&tar);
            let media_type = self.format.layer(self.compression);
            Ok((diff_id, Blob::new(media_type, pack(self.compression, self.level, tar)?)))
        };
        std::thread::scope(|scope| {
            let packing: Vec<_> =
                self.layers.iter().map(|layer| scope.spawn(move || blob(layer))).collect();
            let packed = packing.into_iter().map(|thread| {
                thread.join().map_err(|_| anyhow::anyhow!("packing a layer panicked"))?
            });
            packed.collect()
        })
    }
}

fn pack(compression: Compression, level: flate2::Compression, tar: Vec<u8>) -> Result<Vec<u8>> {
    match compression {
        Compression::None => Ok(tar),
        Compression::Gzip => {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), level);
            gzip.write_all(&tar).and_then(|()| gzip.finish()).context("gzip a layer")
        }
        Compression::Zstd => zstd::encode_all(tar.as_slice(), 3).context("zstd a layer"),
    }
}
