//! Who a new pod is: its name and its uid.

use std::fs::File;
use std::io::Read;

use anyhow::Context;

/// Longest part of a name that comes from an image.
const FROM_IMAGE: usize = 40;

/// Letters that set pods of one image apart.
const LETTERS: usize = 5;

/// A pod's name and uid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// What people call it.
    pub(crate) name: String,
    /// What sets it apart from all other pods, also those of the same name.
    pub(crate) uid: String,
}

impl Identity {
    /// A new one; without a name it is called after its image.
    pub(crate) fn new(name: Option<&str>, image: &str) -> anyhow::Result<Self> {
        let mut random = [0; 16];
        let read = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut random));
        read.context("read /dev/urandom")?;
        Ok(Self::from_random(name, image, random))
    }

    fn from_random(name: Option<&str>, image: &str, random: [u8; 16]) -> Self {
        let hex: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let name = match name {
            Some(name) => name.to_owned(),
            None => format!("{}-{}", after(image), &hex[..LETTERS]),
        };
        let uid = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
        Self { name, uid }
    }
}

/// The last part of an image's name, in the characters of a host name.
fn after(image: &str) -> String {
    let name = image.split('@').next().unwrap_or_default();
    let last = name.rsplit('/').next().unwrap_or_default();
    let last = last.split(':').next().unwrap_or_default().to_ascii_lowercase();
    let usual = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let name: String = last.chars().map(usual).take(FROM_IMAGE).collect();
    match name.trim_matches('-') {
        "" => "image".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_called_after_its_image() {
        for (image, name) in [
            ("busybox", "busybox-abcde"),
            ("docker.io/library/busybox:1.36", "busybox-abcde"),
            ("localhost:5000/Team/My_App@sha256:00", "my-app-abcde"),
            ("???", "image-abcde"),
        ] {
            let random = [0xab, 0xcd, 0xef, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13];
            let identity = Identity::from_random(None, image, random);
            assert_eq!(identity.name, name);
            assert_eq!(identity.uid, "abcdef01-0203-0405-0607-08090a0b0c0d");
        }
    }

    #[test]
    fn two_are_never_the_same() {
        let new = || Identity::new(Some("web"), "x").unwrap();
        assert_eq!(new().name, "web");
        assert_ne!(new().uid, new().uid);
    }
}
