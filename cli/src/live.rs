//! Lines on a terminal that are drawn over and over again in the same place.

use crate::output::Stream;

/// Goes to the start of the line that is this many lines up, and clears all below.
fn rewind(lines: usize) -> String {
    match lines {
        0 => String::new(),
        lines => format!("\x1b[{lines}A\r\x1b[J"),
    }
}

/// A block of lines at the end of a terminal.
#[derive(Debug)]
pub(crate) struct Live {
    stream: Stream,
    drawn: usize,
}

impl Live {
    /// A block on the terminal that `stream` is.
    pub(crate) fn new(stream: Stream) -> Self {
        Self { stream, drawn: 0 }
    }

    /// Draws lines in the place of those drawn before. Lines are cut to the terminal's width,
    /// and at most as many as fit its height are drawn: others could not be drawn over.
    pub(crate) fn draw(&mut self, lines: &[String]) -> anyhow::Result<()> {
        let (columns, rows) = self.stream.terminal_size();
        let fitting = &lines[..lines.len().min(rows.saturating_sub(1))];
        let mut text = rewind(self.drawn);
        for line in fitting {
            text.extend(line.chars().take(columns));
            text.push('\n');
        }
        self.drawn = fitting.len();
        self.stream.write(text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_cleared_before_anything_is_drawn() {
        assert_eq!(rewind(0), "");
        assert_eq!(rewind(3), "\x1b[3A\r\x1b[J");
    }
}
