//! Log lines: CRI's log format, and the choice of what of it is shown. Pure.
//!
//! A line is `<RFC 3339 time> <stdout|stderr> <tags> <text>`; the tag `P` marks a part of a longer line.
//! Source: KEP "CRI log" and the kubelet's reader.
use super::log_options::{LogOptions, LogStreams};
use jiff::Timestamp;

/// One line of a log file.
#[derive(Debug, PartialEq, Eq)]
pub struct LogLine<'a> {
    pub timestamp: Timestamp,
    /// The time as it is written.
    timestamp_text: &'a str,
    pub stderr: bool,
    /// With its newline, except for a part of a longer line.
    pub text: &'a [u8],
}

impl<'a> LogLine<'a> {
    /// `None` for what is no line of CRI's format.
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let split = |bytes: &'a [u8]| bytes.iter().position(|b| *b == b' ').map(|at| (&bytes[..at], &bytes[at + 1..]));
        let (timestamp, rest) = split(line)?;
        let timestamp_text = std::str::from_utf8(timestamp).ok()?;
        let timestamp = timestamp_text.parse().ok()?;
        let (stream, rest) = split(rest)?;
        let stderr = match stream {
            b"stdout" => false,
            b"stderr" => true,
            _ => return None,
        };
        let (tags, text) = split(rest)?;
        let partial = tags.split(|b| *b == b':').next() == Some(b"P");
        let text = if partial { text.strip_suffix(b"\n").unwrap_or(text) } else { text };
        Some(Self { timestamp, timestamp_text, stderr, text })
    }

    /// The time with exactly nine digits of the second, in the zone it was written in.
    fn fixed_timestamp(&self) -> String {
        let text = self.timestamp_text;
        let seconds_end = text.find('T').and_then(|t| text[t..].find(['.', 'Z', '+', '-']).map(|at| t + at)).unwrap_or(text.len());
        let (seconds, rest) = text.split_at(seconds_end);
        let (fraction, zone) = match rest.strip_prefix('.') {
            Some(fraction) => fraction.split_at(fraction.find(|c: char| !c.is_ascii_digit()).unwrap_or(fraction.len())),
            None => ("", rest),
        };
        format!("{seconds}.{fraction:0<9.9}{}", if zone == "+00:00" { "Z" } else { zone })
    }
}

/// Shows those parts of a log that the options ask for.
pub struct LogFilter {
    since: Option<Timestamp>,
    timestamps: bool,
    stream: LogStreams,
    remaining_bytes: Option<u64>,
    /// Counted only when the end of the file is the end of the output.
    remaining_lines: Option<u64>,
    at_line_start: bool,
}

impl LogFilter {
    pub fn new(options: &LogOptions) -> Self {
        Self {
            since: options.since,
            timestamps: options.timestamps,
            stream: options.stream,
            remaining_bytes: options.limit_bytes,
            remaining_lines: options.tail_lines.filter(|_| !options.follow),
            at_line_start: true,
        }
    }

    /// Whether everything asked for has been shown.
    pub fn is_done(&self) -> bool {
        self.remaining_bytes == Some(0) || self.remaining_lines == Some(0)
    }

    /// Appends what is to be shown of one line of the file.
    pub fn show(&mut self, line: &[u8], out: &mut Vec<u8>) {
        if self.is_done() {
            return;
        }
        let Some(line) = LogLine::parse(line) else {
            tracing::debug!("a line of a container's log is not in CRI's format and is left out");
            return;
        };
        let before = self.since.is_some_and(|since| line.timestamp < since);
        let other = matches!((self.stream, line.stderr), (LogStreams::Stdout, true) | (LogStreams::Stderr, false));
        if !before && !other {
            let start = out.len();
            if self.timestamps && self.at_line_start {
                out.extend_from_slice(line.fixed_timestamp().as_bytes());
                out.push(b' ');
            }
            out.extend_from_slice(line.text);
            if let Some(remaining) = &mut self.remaining_bytes {
                let shown = ((out.len() - start) as u64).min(*remaining);
                out.truncate(start + shown as usize);
                *remaining -= shown;
            }
        }
        if let Some(remaining) = &mut self.remaining_lines {
            *remaining -= 1;
        }
        self.at_line_start = line.text.last().is_none_or(|last| *last == b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "2026-01-01T00:00:00.1Z stdout F one\n2026-01-01T00:00:01.000000001+02:00 stderr P two, \n2026-01-01T00:00:02Z stderr F and more\nnoise\n2026-01-01T00:00:03Z stdout F:tag \n";

    fn show(options: LogOptions) -> String {
        let (mut filter, mut out) = (LogFilter::new(&options), Vec::new());
        LOG.split_inclusive('\n').for_each(|line| filter.show(line.as_bytes(), &mut out));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn parts_join_to_lines_and_noise_is_left_out() {
        assert_eq!(show(LogOptions::default()), "one\ntwo, and more\n\n");
    }

    #[test]
    fn timestamps_have_nine_digits_and_stand_once_a_line() {
        let shown = show(LogOptions { timestamps: true, ..LogOptions::default() });
        assert_eq!(shown, "2026-01-01T00:00:00.100000000Z one\n2026-01-01T00:00:01.000000001+02:00 two, and more\n2026-01-01T00:00:03.000000000Z \n");
    }

    #[test]
    fn limits_cut_to_the_byte_and_times_to_the_line() {
        assert_eq!(show(LogOptions { limit_bytes: Some(6), ..LogOptions::default() }), "one\ntw");
        assert_eq!(show(LogOptions { since: Some("2026-01-01T00:00:02Z".parse().unwrap()), ..LogOptions::default() }), "and more\n\n");
        assert_eq!(show(LogOptions { stream: LogStreams::Stdout, ..LogOptions::default() }), "one\n\n");
        assert_eq!(show(LogOptions { tail_lines: Some(1), ..LogOptions::default() }), "one\n");
    }
}
