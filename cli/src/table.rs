//! Tables for people: a header, then a row for each thing, in aligned columns.
//!
//! Nothing is cut to fit a terminal, so that a pipe sees what a person sees.

use crate::output::one_line;

/// Characters of an id in a table, as crictl shows them.
const SHORT: usize = 13;

/// Space between two columns.
const GAP: usize = 3;

/// Rows under a header.
#[derive(Debug)]
pub(crate) struct Table<const N: usize> {
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    /// A table without rows.
    pub(crate) fn new(header: [&str; N]) -> Self {
        Self { rows: vec![header.map(str::to_owned)] }
    }

    /// Adds a row. What is empty is shown as `-`.
    pub(crate) fn row(&mut self, cells: [String; N]) {
        let shown = |cell: String| if cell.is_empty() { "-".to_owned() } else { one_line(&cell) };
        self.rows.push(cells.map(shown));
    }

    /// The table's lines.
    pub(crate) fn lines(&self) -> Vec<String> {
        let width = |column: usize| {
            self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)
        };
        let widths: [usize; N] = std::array::from_fn(width);
        self.rows.iter().map(|row| line(row, &widths)).collect()
    }
}

impl<const N: usize> std::fmt::Display for Table<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.lines().iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

fn line<const N: usize>(row: &[String; N], widths: &[usize; N]) -> String {
    let cells = row.iter().zip(widths).map(|(cell, width)| {
        let missing = width - cell.chars().count() + GAP;
        format!("{cell}{}", " ".repeat(missing))
    });
    cells.collect::<String>().trim_end().to_owned()
}

/// An id as tables show it: without its algorithm, and short unless all of it is wanted.
pub(crate) fn id(id: &str, whole: bool) -> String {
    let bare = id.split_once(':').map_or(id, |(_, bare)| bare);
    if whole { id.to_owned() } else { bare.chars().take(SHORT).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_the_last_one_is_not_filled() {
        let mut table = Table::new(["ID", "NAME", "STATE"]);
        table.row(["1".into(), "web".into(), "ready".into()]);
        table.row(["22".into(), "grüße-an-alle".into(), String::new()]);

        let expected = "\
ID   NAME            STATE
1    web             ready
22   grüße-an-alle   -
";
        assert_eq!(table.to_string(), expected);
    }

    #[test]
    fn a_cell_stays_in_its_line() {
        let mut table = Table::new(["NAME"]);
        table.row(["a\nb\u{1b}".into()]);
        assert_eq!(table.lines(), ["NAME", "a b\u{fffd}"]);
    }

    #[test]
    fn ids_are_short_unless_asked_for() {
        let digest = "sha256:0123456789abcdef0123456789abcdef";
        assert_eq!(id(digest, false), "0123456789abc");
        assert_eq!(id(digest, true), digest);
        assert_eq!(id("0123456789abcdef", false), "0123456789abc");
        assert_eq!(id("short", false), "short");
    }
}
