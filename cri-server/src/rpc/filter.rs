//! What the filters of lists have in common.

use std::collections::BTreeMap;

/// Whether all wanted labels are there with their values.
pub(crate) fn has_labels(
    labels: &BTreeMap<String, String>,
    wanted: &BTreeMap<String, String>,
) -> bool {
    wanted.iter().all(|(name, value)| labels.get(name) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_of_a_selector_must_fit() {
        let labels = |list: &[(&str, &str)]| -> BTreeMap<String, String> {
            list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let has = labels(&[("app", "web"), ("tier", "front")]);
        assert!(has_labels(&has, &labels(&[])));
        assert!(has_labels(&has, &labels(&[("app", "web")])));
        assert!(!has_labels(&has, &labels(&[("app", "web"), ("tier", "back")])));
        assert!(!has_labels(&has, &labels(&[("zone", "")])));
    }
}
