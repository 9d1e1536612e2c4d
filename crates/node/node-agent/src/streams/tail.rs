//! Tail: where the last lines of a log file start.
use std::io::{self, Read, Seek, SeekFrom};

const BLOCK: u64 = 16 * 1024;

/// The offset at which the last `lines` whole lines start. A last line without a newline does not count.
pub fn start_of_last_lines<File: Read + Seek>(file: &mut File, lines: u64) -> io::Result<u64> {
    let mut right = file.seek(SeekFrom::End(0))?;
    let mut newlines = 0;
    let mut block = vec![0; BLOCK as usize];
    while right > 0 {
        let left = right.saturating_sub(BLOCK);
        let block = &mut block[..(right - left) as usize];
        file.seek(SeekFrom::Start(left))?;
        file.read_exact(block)?;
        for (at, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            newlines += 1;
            // The newline before the first of these lines.
            if newlines > lines {
                return Ok(left + at as u64 + 1);
            }
        }
        right = left;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    #[test]
    fn lines_are_counted_from_the_end() {
        let start = |text: &str, lines| start_of_last_lines(&mut Cursor::new(text.as_bytes()), lines).unwrap();
        assert_eq!(start("a\nbb\nccc\n", 0), 9);
        assert_eq!(start("a\nbb\nccc\n", 1), 5);
        assert_eq!(start("a\nbb\nccc\n", 3), 0);
        assert_eq!(start("a\nbb\nccc\n", 9), 0);
        assert_eq!(start("a\nbb\nincomplete", 1), 2);
        assert_eq!(start("", 1), 0);
        let long = format!("{}\nlast\n", "x".repeat(50_000));
        assert_eq!(start(&long, 1), 50_001);
        assert_eq!(start(&long, 2), 0);
    }
}
