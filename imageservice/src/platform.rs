//! Which of an index's images runs here.
//!
//! Names are the Go toolchain's (`amd64`, `arm64`), as in the OCI image index. A machine of a
//! higher variant runs images of a lower one, so a match has a rank and the highest rank wins.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Operating system, CPU architecture and variant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// Such as `linux`.
    #[serde(default)]
    pub os: String,
    /// Such as `amd64`.
    #[serde(default)]
    pub architecture: String,
    /// Such as `v7` of `arm`; empty for the architecture's baseline.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

impl Platform {
    /// The platform that this program was built for.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", ""),
            "aarch64" => ("arm64", ""),
            "arm" => ("arm", "v7"),
            "x86" => ("386", ""),
            "powerpc64" if cfg!(target_endian = "little") => ("ppc64le", ""),
            other => (other, ""),
        };
        Self {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.to_owned(),
        }
    }

    /// How well an image made for `offered` runs here: `None` for not at all, else the higher the
    /// better.
    pub(crate) fn rank(&self, offered: &Self) -> Option<u32> {
        let here = self.normal();
        let offered = offered.normal();
        if here.os != offered.os || here.architecture != offered.architecture {
            return None;
        }
        match (version(&here.variant), version(&offered.variant)) {
            (Some(here), Some(offered)) => (offered <= here).then_some(offered),
            _ => (here.variant == offered.variant).then_some(0),
        }
    }

    /// Writes the same platform in one way: the baseline variant has its name, and the names that
    /// other tools use for an architecture give way to Go's.
    fn normal(&self) -> Self {
        let architecture = match self.architecture.as_str() {
            "x86_64" | "x86-64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let variant = match (architecture, self.variant.as_str()) {
            ("amd64", "") => "v1",
            ("arm64", "" | "8") => "v8",
            ("arm", "") => "v7",
            (_, other) => other,
        };
        Self {
            os: self.os.to_lowercase(),
            architecture: architecture.to_owned(),
            variant: variant.to_owned(),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if self.variant.is_empty() { Ok(()) } else { write!(f, "/{}", self.variant) }
    }
}

fn version(variant: &str) -> Option<u32> {
    variant.strip_prefix('v')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        let mut parts = text.split('/').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        Platform { os: next(), architecture: next(), variant: next() }
    }

    #[test]
    fn ranks() {
        for (here, offered, rank) in [
            ("linux/amd64", "linux/amd64", Some(1)),
            ("linux/amd64", "linux/x86_64", Some(1)),
            ("linux/amd64", "Linux/amd64/v1", Some(1)),
            ("linux/amd64", "linux/amd64/v3", None),
            ("linux/amd64/v3", "linux/amd64/v2", Some(2)),
            ("linux/amd64", "windows/amd64", None),
            ("linux/amd64", "linux/arm64", None),
            ("linux/amd64", "unknown/unknown", None),
            ("linux/arm64", "linux/arm64/v8", Some(8)),
            ("linux/arm/v7", "linux/arm/v6", Some(6)),
            ("linux/arm/v6", "linux/arm", None),
            ("linux/mips", "linux/mips/softfloat", None),
            ("linux/s390x", "linux/s390x", Some(0)),
        ] {
            assert_eq!(platform(here).rank(&platform(offered)), rank, "{offered} on {here}");
        }
    }

    #[test]
    fn the_host_runs_its_own_images() {
        assert!(Platform::host().rank(&Platform::host()).is_some());
    }
}
