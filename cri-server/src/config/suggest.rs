//! "Did you mean ...?" for keys that nobody knows.

use super::section::{Section, full_name};

/// The known key that `section.key` was probably meant to be: the same name
/// in another table, else the most similar name in its own.
pub(super) fn key(known: &[&dyn Section], section: &str, key: &str) -> Option<String> {
    let elsewhere = known.iter().find(|s| s.keys().iter().any(|k| k.name == key));
    if let Some(found) = elsewhere {
        return Some(full_name(found.name(), key));
    }
    let own = known.iter().find(|s| s.name() == section)?;
    let nearest = nearest(key, own.keys().iter().map(|k| k.name))?;
    Some(full_name(section, nearest))
}

/// The known table that `[name]` was probably meant to be.
pub(super) fn table(known: &[&dyn Section], name: &str) -> Option<&'static str> {
    nearest(name, known.iter().map(|s| s.name()).filter(|name| !name.is_empty()))
}

/// The candidate with the fewest mistakes, if they are no more than a third of
/// the letters.
fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (name.len() / 3).max(1);
    candidates
        .map(|candidate| (mistakes(name, candidate), candidate))
        .filter(|(mistakes, _)| *mistakes <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Letters to add, drop, replace or swap with their neighbour to make one name
/// of the other (optimal string alignment distance).
fn mistakes(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    // `table[i][j]`: from the first i letters of a to the first j of b.
    let mut table = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            table[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replace = table[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let best = replace.min(table[i - 1][j] + 1).min(table[i][j - 1] + 1);
                let swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                if swapped { best.min(table[i - 2][j - 2] + 1) } else { best }
            };
        }
    }
    table[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_slip_is_one_mistake() {
        for (a, b, expected) in
            [("", "abc", 3), ("sokcet", "socket", 1), ("mod", "mode", 1), ("mode", "mode", 0)]
        {
            assert_eq!(mistakes(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn nothing_is_suggested_for_a_name_of_its_own() {
        let known = ["grpc", "cni", "image"];
        assert_eq!(nearest("plugins", known.into_iter()), None);
        assert_eq!(nearest("grcp", known.into_iter()), Some("grpc"));
        assert_eq!(nearest("images", known.into_iter()), Some("image"));
    }
}
