//! The CRI log format: `TIME STREAM TAG TEXT`, a line each.
//!
//! `TIME` is RFC 3339 in UTC with nine digits of a second and never goes backwards in a log,
//! `STREAM` is `stdout` or `stderr`, `TAG` is `F` for a full line and `P` for a part of one: a
//! line longer than the limit is cut, and what a stream ends with without a newline stays
//! partial.

use crate::clock::Clock;

/// Which standard stream some output came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    /// Standard output, and all output of a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    fn name(self) -> &'static [u8] {
        match self {
            Self::Stdout => b"stdout",
            Self::Stderr => b"stderr",
        }
    }
}

/// Cuts the output of one stream into log lines.
#[derive(Debug)]
pub(super) struct Lines {
    stream: Stream,
    limit: usize,
    /// Whether a terminal has put a carriage return before each newline.
    terminal: bool,
    /// The beginning of a line whose end has not come yet; shorter than `limit`.
    carry: Vec<u8>,
}

impl Lines {
    /// Cuts lines of `stream` after `limit` bytes.
    pub(super) fn new(stream: Stream, limit: usize, terminal: bool) -> Self {
        Self { stream, limit: limit.max(1), terminal, carry: Vec::new() }
    }

    /// Appends the log lines that `output` completes to `log`.
    pub(super) fn push(&mut self, mut output: &[u8], clock: &mut Clock, log: &mut Vec<u8>) {
        while let Some(end) = output.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = output.split_at(end);
            output = &rest[1..];
            let rest = self.cut(line, clock, log);
            self.finish(rest, clock, log);
        }
        let rest = self.cut(output, clock, log);
        self.carry.extend_from_slice(rest);
    }

    /// Appends what the stream ended with.
    pub(super) fn end(&mut self, clock: &mut Clock, log: &mut Vec<u8>) {
        if !self.carry.is_empty() {
            let carry = std::mem::take(&mut self.carry);
            self.write(b'P', &[&carry], clock, log);
        }
    }

    /// Writes full-length parts until what is left, carry included, is within the limit.
    fn cut<'o>(&mut self, mut text: &'o [u8], clock: &mut Clock, log: &mut Vec<u8>) -> &'o [u8] {
        while self.carry.len() + text.len() > self.limit {
            let (part, rest) = text.split_at(self.limit - self.carry.len());
            let carry = std::mem::take(&mut self.carry);
            self.write(b'P', &[&carry, part], clock, log);
            text = rest;
        }
        text
    }

    fn finish(&mut self, text: &[u8], clock: &mut Clock, log: &mut Vec<u8>) {
        let mut carry = std::mem::take(&mut self.carry);
        let mut text = text;
        if self.terminal {
            match text.split_last() {
                Some((b'\r', rest)) => text = rest,
                None if carry.last() == Some(&b'\r') => drop(carry.pop()),
                _ => {}
            }
        }
        self.write(b'F', &[&carry, text], clock, log);
    }

    fn write(&self, tag: u8, text: &[&[u8]], clock: &mut Clock, log: &mut Vec<u8>) {
        clock.stamp(log);
        log.push(b' ');
        log.extend_from_slice(self.stream.name());
        log.extend_from_slice(&[b' ', tag, b' ']);
        text.iter().for_each(|part| log.extend_from_slice(part));
        log.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logged(limit: usize, terminal: bool, chunks: &[&str]) -> Vec<String> {
        let (mut log, mut clock) = (Vec::new(), Clock::default());
        let mut lines = Lines::new(Stream::Stdout, limit, terminal);
        for chunk in chunks {
            lines.push(chunk.as_bytes(), &mut clock, &mut log);
        }
        lines.end(&mut clock, &mut log);
        let log = String::from_utf8(log).unwrap();
        let lines = log.split_terminator('\n');
        lines.map(|line| line.split_once(" stdout ").unwrap().1.to_owned()).collect()
    }

    #[test]
    fn a_line_is_whole_however_it_arrives() {
        assert_eq!(logged(100, false, &["hel", "lo\nwor", "ld\n"]), ["F hello", "F world"]);
        assert_eq!(logged(100, false, &["\n\n"]), ["F ", "F "]);
    }

    #[test]
    fn a_long_line_is_cut_into_parts() {
        let expected = ["P abcd", "P efgh", "F ij"];
        assert_eq!(logged(4, false, &["abcdefghij\n"]), expected);
        assert_eq!(logged(4, false, &["abc", "defg", "hij\n"]), expected);
        assert_eq!(logged(4, false, &["abcd\n"]), ["F abcd"]);
        assert_eq!(logged(4, false, &["abcd", "\n"]), ["F abcd"]);
    }

    #[test]
    fn what_ends_without_a_newline_is_partial() {
        assert_eq!(logged(100, false, &["a\nb"]), ["F a", "P b"]);
    }

    #[test]
    fn a_terminals_carriage_returns_are_not_logged() {
        assert_eq!(logged(100, true, &["a\r\nb\r", "\n"]), ["F a", "F b"]);
        assert_eq!(logged(100, false, &["a\r\n"]), ["F a\r"]);
    }

    #[test]
    fn times_are_rfc_3339_and_never_go_back() {
        let (mut log, mut clock) = (Vec::new(), Clock::default());
        let mut lines = Lines::new(Stream::Stderr, 10, false);
        for now in [(1_709_164_799, 7), (951_782_400, 0), (1_709_164_800, 123_456_789)] {
            clock.set(now);
            lines.push(b"x\n", &mut clock, &mut log);
        }
        let expected = "2024-02-28T23:59:59.000000007Z stderr F x\n\
                        2024-02-28T23:59:59.000000007Z stderr F x\n\
                        2024-02-29T00:00:00.123456789Z stderr F x\n";
        assert_eq!(String::from_utf8(log).unwrap(), expected);
    }
}
