//! The CRI log format: `TIME STREAM TAG CONTENT`, one line each, where the tag's first part is
//! `F` for a full line and `P` for a piece of one (kubernetes: design-proposals/node/
//! kubelet-cri-logging.md).

use anyhow::{Context, Result, bail};

/// One line of a log file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// RFC 3339, with nanoseconds.
    pub time: String,
    /// `stdout` or `stderr`.
    pub stream: String,
    /// False for a piece of a line whose end is still to come.
    pub full: bool,
    /// What the container wrote, without its line end.
    pub text: String,
}

impl LogLine {
    pub(super) fn content(&self) -> String {
        let end = if self.full { "\n" } else { "" };
        format!("{}{end}", self.text)
    }
}

/// Parses a whole log file; a last line that is still being written is left out.
pub fn parse_logs(bytes: &[u8]) -> Result<Vec<LogLine>> {
    let text = String::from_utf8_lossy(bytes);
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let lines = whole.split('\n').filter(|line| !line.is_empty());
    lines.map(|line| parse(line).with_context(|| format!("the log line {line:?}"))).collect()
}

fn parse(line: &str) -> Result<LogLine> {
    let mut parts = line.splitn(4, ' ').map(str::to_owned);
    let mut next = |what: &str| parts.next().with_context(|| format!("has no {what}"));
    let (time, stream, tag, text) = (next("time")?, next("stream")?, next("tag")?, next("text")?);
    if stream != "stdout" && stream != "stderr" {
        bail!("has the stream {stream:?}");
    }
    let full = match tag.split(':').next() {
        Some("F") => true,
        Some("P") => false,
        _ => bail!("has the tag {tag:?}"),
    };
    Ok(LogLine { time, stream, full, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_parsed_up_to_its_last_whole_line() {
        let log = b"2026-11-21T08:00:00.000000001Z stdout F one two\n\
                    2026-11-21T08:00:00.000000002Z stderr P thr\n\
                    2026-11-21T08:00:00.000000003Z stdout F\x20\n\
                    2026-11-21T08:00";
        let lines = parse_logs(log).unwrap();
        let seen: Vec<_> =
            lines.iter().map(|l| (l.stream.as_str(), l.full, l.text.as_str())).collect();
        assert_eq!(
            seen,
            [("stdout", true, "one two"), ("stderr", false, "thr"), ("stdout", true, "")]
        );
    }

    #[test]
    fn what_is_no_log_line_is_refused() {
        for line in ["hello\n", "t stdout X text\n", "t stdin F text\n", "t stdout F\n"] {
            parse_logs(line.as_bytes()).unwrap_err();
        }
    }
}
