//! Which images a person wants to see.

use std::str::FromStr;

use super::View;

/// Something that must be true of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Filter {
    /// Whether it has no tag.
    Dangling(bool),
    /// Whether it is kept when space is needed.
    Pinned(bool),
    /// A repository or a name of it, short or whole.
    Reference(String),
    /// The beginning of its id.
    Id(String),
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        let flag = || match value {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err(format!("{key} is true or false, not {value:?}")),
        };
        match key {
            "dangling" => flag().map(Self::Dangling),
            "pinned" => flag().map(Self::Pinned),
            "reference" if !value.is_empty() => Ok(Self::Reference(value.to_owned())),
            "id" if !value.is_empty() => Ok(Self::Id(value.to_owned())),
            "reference" | "id" => Err(format!("{key} needs a value")),
            _ => Err(format!("{key:?} is no filter: there are dangling, pinned, reference and id")),
        }
    }
}

impl Filter {
    /// Whether it is true of an image.
    pub(super) fn takes(&self, image: &View) -> bool {
        match self {
            Self::Dangling(wanted) => image.tags.is_empty() == *wanted,
            Self::Pinned(wanted) => image.pinned == *wanted,
            Self::Reference(pattern) => {
                image.tags.iter().chain(&image.digests).any(|name| is_called(name, pattern))
            }
            Self::Id(beginning) => {
                let bare = image.id.split_once(':').map_or(image.id.as_str(), |(_, hex)| hex);
                bare.starts_with(beginning) || image.id.starts_with(beginning)
            }
        }
    }
}

/// Whether a name, or its repository, fits a pattern, in full or in one of the short forms that a
/// person may type for it.
fn is_called(name: &str, pattern: &str) -> bool {
    let (repository, _) = match name.split_once('@') {
        Some((repository, digest)) => (repository, digest),
        None => super::split(name, ':'),
    };
    let short = |text: &str| -> [Option<String>; 3] {
        let hub = text.strip_prefix("docker.io/");
        let official = hub.and_then(|text| text.strip_prefix("library/"));
        [Some(text.to_owned()), hub.map(str::to_owned), official.map(str::to_owned)]
    };
    [name, repository].into_iter().flat_map(short).flatten().any(|text| fits(pattern, &text))
}

/// Whether a pattern with stars is the whole of a text.
fn fits(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(text) = text.strip_prefix(start) else { return false };
    if rest.is_empty() {
        return true;
    }
    text.char_indices().any(|(at, _)| fits(rest, &text[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> View {
        View {
            id: "sha256:0123".into(),
            tags: vec!["docker.io/library/app:1".into(), "localhost:5000/team/app:2".into()],
            digests: vec!["docker.io/library/app@sha256:00".into()],
            size: 0,
            user: None,
            pinned: false,
        }
    }

    #[test]
    fn filters_say_what_is_wanted() {
        for (text, expected) in [
            ("dangling=false", true),
            ("dangling=true", false),
            ("dangling=1", false),
            ("pinned=false", true),
            ("id=0123", true),
            ("id=sha256:01", true),
            ("id=123", false),
            ("reference=app", true),
            ("reference=app:1", true),
            ("reference=app:2", false),
            ("reference=library/app", true),
            ("reference=docker.io/library/app", true),
            ("reference=localhost:5000/team/app", true),
            ("reference=localhost:5000/*", true),
            ("reference=*/team/*:2", true),
            ("reference=*", true),
            ("reference=app@sha256:00", true),
            ("reference=ap", false),
            ("reference=*x*", false),
        ] {
            let filter: Filter = text.parse().unwrap();
            assert_eq!(filter.takes(&image()), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        for text in ["", "dangling", "dangling=maybe", "reference=", "id", "before=x", "=true"] {
            assert!(text.parse::<Filter>().is_err(), "{text}");
        }
    }
}
