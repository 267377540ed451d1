//! Printing log lines: the bytes that the container wrote, to the stream that it wrote them to.

use crate::api::admin::LogLine;
use crate::api::admin::log_line;
use crate::output::Stream;
use crate::time::rfc3339;

/// Prints lines as they come, also parts of lines: what belongs together is joined on the way.
#[derive(Debug)]
pub(crate) struct Printer {
    timestamps: bool,
    /// Streams whose last line goes on.
    stdout_goes_on: bool,
    stderr_goes_on: bool,
}

impl Printer {
    /// A printer that puts a time before each line, if it is asked to.
    pub(crate) fn new(timestamps: bool) -> Self {
        Self { timestamps, stdout_goes_on: false, stderr_goes_on: false }
    }

    /// Prints lines. Those of one stream that follow each other are written at once.
    pub(crate) fn print(&mut self, lines: &[LogLine]) -> anyhow::Result<()> {
        for (stream, bytes) in self.render(lines) {
            stream.write(&bytes)?;
        }
        Ok(())
    }

    fn render(&mut self, lines: &[LogLine]) -> Vec<(Stream, Vec<u8>)> {
        let runs = lines.chunk_by(|one, next| one.stream == next.stream);
        runs.map(|run| self.render_run(run)).collect()
    }

    fn render_run(&mut self, run: &[LogLine]) -> (Stream, Vec<u8>) {
        let (stream, goes_on) = match run[0].stream() {
            log_line::Stream::Stdout => (Stream::Stdout, &mut self.stdout_goes_on),
            log_line::Stream::Stderr => (Stream::Stderr, &mut self.stderr_goes_on),
        };
        let mut bytes = Vec::new();
        for line in run {
            if self.timestamps && !*goes_on {
                bytes.extend_from_slice(rfc3339(line.time).unwrap_or_default().as_bytes());
                bytes.push(b' ');
            }
            bytes.extend_from_slice(&line.text);
            if !line.partial {
                bytes.push(b'\n');
            }
            *goes_on = line.partial;
        }
        (stream, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(stream: log_line::Stream, text: &[u8], partial: bool) -> LogLine {
        LogLine { stream: stream.into(), time: 1, text: text.to_vec(), partial }
    }

    fn out(text: &str, partial: bool) -> LogLine {
        line(log_line::Stream::Stdout, text.as_bytes(), partial)
    }

    fn err(text: &str, partial: bool) -> LogLine {
        line(log_line::Stream::Stderr, text.as_bytes(), partial)
    }

    #[test]
    fn bytes_come_out_as_they_went_in_by_stream() {
        let mut printer = Printer::new(false);
        let binary = line(log_line::Stream::Stdout, b"\xff\x00\r", false);
        let lines = [out("one", false), binary, err("two", false), out("", false)];

        let expected = vec![
            (Stream::Stdout, b"one\n\xff\x00\r\n".to_vec()),
            (Stream::Stderr, b"two\n".to_vec()),
            (Stream::Stdout, b"\n".to_vec()),
        ];
        assert_eq!(printer.render(&lines), expected);
    }

    #[test]
    fn parts_of_a_line_are_joined_across_messages_and_what_ends_without_a_newline_stays_so() {
        let mut printer = Printer::new(true);
        let mut shown = Vec::new();
        for lines in [[out("a", true), err("x", true)], [out("b", false), out("c", true)]] {
            shown.extend(printer.render(&lines));
        }
        let time = "1970-01-01T00:00:00.000000001Z";
        let expected = vec![
            (Stream::Stdout, format!("{time} a").into_bytes()),
            (Stream::Stderr, format!("{time} x").into_bytes()),
            (Stream::Stdout, format!("b\n{time} c").into_bytes()),
        ];
        assert_eq!(shown, expected);
    }
}
