//! Last words: the message a container leaves when it ends, from its file or its log.
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

const MOST_MESSAGE: u64 = 4096;
const MOST_LOG: u64 = 2048;
const MOST_LOG_LINES: usize = 80;

/// The message of an ended container. `from_log` asks for the log's end where the file says nothing.
pub fn termination_message(file: &Path, from_log: Option<&Path>) -> String {
    let mut message = Vec::new();
    if let Ok(file) = File::open(file) {
        // A read error leaves what was read so far.
        let _ = file.take(MOST_MESSAGE).read_to_end(&mut message);
    }
    if message.is_empty()
        && let Some(log) = from_log
    {
        return log_end(log);
    }
    String::from_utf8_lossy(&message).into_owned()
}

/// The last lines of a CRI log, as the container wrote them.
fn log_end(path: &Path) -> String {
    let Ok(mut file) = File::open(path) else { return String::new() };
    let length = file.metadata().map_or(0, |m| m.len());
    // Each line carries its time and stream; twice the text is room enough for those.
    let start = length.saturating_sub(4 * MOST_LOG);
    let mut text = Vec::new();
    if file.seek(SeekFrom::Start(start)).is_err() || file.take(4 * MOST_LOG).read_to_end(&mut text).is_err() {
        return String::new();
    }
    let text = String::from_utf8_lossy(&text);
    let lines = text.lines().skip(usize::from(start > 0)).filter_map(|line| {
        let mut fields = line.splitn(4, ' ');
        let (_, _, tag, content) = (fields.next()?, fields.next()?, fields.next()?, fields.next().unwrap_or_default());
        Some(if tag.starts_with('P') { content.to_owned() } else { format!("{content}\n") })
    });
    let lines: Vec<String> = lines.collect();
    let joined = lines[lines.len().saturating_sub(MOST_LOG_LINES)..].concat();
    let mut start = joined.len().saturating_sub(MOST_LOG as usize);
    while !joined.is_char_boundary(start) {
        start += 1;
    }
    joined[start..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_speaks_where_the_file_is_silent() {
        let dir = tempfile::tempdir().unwrap();
        let (file, log) = (dir.path().join("message"), dir.path().join("0.log"));
        std::fs::write(&file, "").unwrap();
        std::fs::write(&log, "2026-01-01T00:00:00Z stdout F one\n2026-01-01T00:00:00Z stderr P two \n2026-01-01T00:00:00Z stderr F three\n").unwrap();
        assert_eq!(termination_message(&file, Some(&log)), "one\ntwo three\n");
        assert_eq!(termination_message(&file, None), "");
        std::fs::write(&file, "x".repeat(5000)).unwrap();
        assert_eq!(termination_message(&file, Some(&log)).len(), 4096);
    }
}
