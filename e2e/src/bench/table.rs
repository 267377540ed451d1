//! The table that a benchmark prints: a row for each quantity, columns for each engine, and how
//! many times as much the others need as the first.

use std::fmt;

use super::Samples;

/// In what a quantity is counted. Less is better in all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Milliseconds.
    Milliseconds,
    /// 1024 bytes.
    Kibibytes,
    /// Things.
    Count,
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Milliseconds => "ms",
            Self::Kibibytes => "KiB",
            Self::Count => "",
        })
    }
}

/// One quantity.
#[derive(Debug, Clone)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// In what.
    pub unit: Unit,
    /// For each engine, in the order of the table.
    pub samples: Vec<Samples>,
}

impl Row {
    /// How many times as much engine `other` needs as the first, by medians.
    pub fn ratio(&self, other: usize) -> f64 {
        self.samples[other].median() / self.samples[0].median()
    }
}

/// All that one run has measured.
#[derive(Debug, Clone)]
pub struct Table {
    engines: Vec<String>,
    /// The quantities, in the order in which they were measured.
    pub rows: Vec<Row>,
}

impl Table {
    /// The quantity of that name, if it was measured.
    pub fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.name == name)
    }

    pub(super) fn new<'a>(engines: impl Iterator<Item = &'a str>) -> Self {
        Self { engines: engines.map(str::to_owned).collect(), rows: Vec::new() }
    }

    /// Adds a value of the quantity `name` of the engine `engine`.
    pub(super) fn push(&mut self, name: &str, unit: Unit, engine: usize, value: f64) {
        let row = match self.rows.iter().position(|row| row.name == name) {
            Some(row) => row,
            None => {
                let samples = vec![Samples::default(); self.engines.len()];
                self.rows.push(Row { name: name.to_owned(), unit, samples });
                self.rows.len() - 1
            }
        };
        self.rows[row].samples[engine].push(value);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.rows.iter().map(|row| row.name.len()).max().unwrap_or_default();
        write!(f, "{:width$}     ", "")?;
        for engine in &self.engines {
            write!(f, " | {engine:^21}")?;
        }
        write!(f, "\n{:width$}     ", "")?;
        for engine in 0..self.engines.len() {
            write!(f, " | {:>10} {:>10}", "median", "p90")?;
            if engine > 0 {
                write!(f, " {:>7}", "ratio")?;
            }
        }
        for row in &self.rows {
            write!(f, "\n{:width$}  {:>3}", row.name, row.unit.to_string())?;
            for (engine, samples) in row.samples.iter().enumerate() {
                write!(f, " | {:>10.2} {:>10.2}", samples.median(), samples.p90())?;
                if engine > 0 {
                    write!(f, " {:>6.1}x", row.ratio(engine))?;
                }
            }
        }
        writeln!(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_compares_medians_with_the_first_engine() {
        let mut table = Table::new(["ours", "theirs"].into_iter());
        for (engine, values) in [[1.0, 2.0, 3.0], [10.0, 20.0, 90.0]].into_iter().enumerate() {
            for value in values {
                table.push("ExecSync", Unit::Milliseconds, engine, value);
            }
        }
        assert_eq!(table.rows[0].ratio(1), 10.0);
        let text = table.to_string();
        let last = text.lines().last().unwrap();
        let words: Vec<_> = last.split_whitespace().collect();
        assert_eq!(words, ["ExecSync", "ms", "|", "2.00", "2.80", "|", "20.00", "76.00", "10.0x"]);
    }
}
