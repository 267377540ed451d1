//! The versions of the CNI specification that we speak, and the choice among
//! those that a network configuration offers.
//!
//! Nothing older than 0.3.0 is spoken: chains of plugins begin there.

use std::fmt;

/// A version of the CNI specification, 0.3.0 to 1.1.0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SpecVersion {
    /// Plugin chains and results that list interfaces.
    V0_3_0,
    /// A typing error of 0.3.0 put right.
    V0_3_1,
    /// CHECK, and the result of the ADD handed to the DEL.
    V0_4_0,
    /// Addresses in a result carry no `version` any more.
    V1_0_0,
    /// STATUS and GC.
    V1_1_0,
}

use SpecVersion::{V0_3_0, V0_3_1, V0_4_0, V1_0_0, V1_1_0};

const ALL: [(SpecVersion, &str); 5] =
    [(V0_3_0, "0.3.0"), (V0_3_1, "0.3.1"), (V0_4_0, "0.4.0"), (V1_0_0, "1.0.0"), (V1_1_0, "1.1.0")];

impl SpecVersion {
    /// The version as it stands in JSON, for example `1.0.0`.
    pub fn as_str(self) -> &'static str {
        ALL.iter().find(|(version, _)| *version == self).map_or("", |(_, name)| name)
    }

    /// Reads a version as it stands in JSON; `None` if we do not speak it.
    pub fn parse(name: &str) -> Option<Self> {
        ALL.iter().find(|(_, known)| *known == name).map(|(version, _)| *version)
    }

    /// The highest version that we share with a configuration's `cniVersion`
    /// and `cniVersions` (specification 1.1, "Version considerations").
    pub(crate) fn choose<'a>(offered: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        offered.into_iter().filter_map(Self::parse).max()
    }

    /// Whether a DEL is given the result of the ADD as `prevResult`.
    pub(crate) fn del_takes_result(self) -> bool {
        self >= V0_4_0
    }

    /// Whether each address of a result names its family, as it did up to 0.4.0.
    pub(crate) fn addresses_name_family(self) -> bool {
        self <= V0_4_0
    }
}

impl fmt::Display for SpecVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_reads_back() {
        for (version, name) in ALL {
            assert_eq!(SpecVersion::parse(name), Some(version));
            assert_eq!(version.to_string(), name);
        }
    }

    #[test]
    fn the_highest_version_in_common_is_chosen() {
        let table: [(&[&str], Option<SpecVersion>); 5] = [
            (&["0.3.1"], Some(V0_3_1)),
            (&["0.4.0", "1.1.0", "1.0.0"], Some(V1_1_0)),
            (&["1.0.0", "2.0.0"], Some(V1_0_0)),
            (&["0.2.0", "2.0.0"], None),
            (&[], None),
        ];
        for (offered, expected) in table {
            assert_eq!(SpecVersion::choose(offered.iter().copied()), expected, "{offered:?}");
        }
    }
}
