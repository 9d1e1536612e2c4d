//! What every Rust file keeps: a first line that says what it is for, a bounded length, no holes.
use anyhow::Result;
use std::path::{Path, PathBuf};

const MOST_LINES: usize = 1000;
const AIM: usize = 300;
/// Spelled in two parts, so that this file is none of its own findings.
const HOLES: [&str; 2] = [concat!("to", "do!("), concat!("unimple", "mented!(")];

/// What breaks the rules in `files`.
pub fn broken(root: &Path, files: &[PathBuf]) -> Result<Vec<String>> {
    let mut broken = Vec::new();
    for path in files {
        let name = path.strip_prefix(root).unwrap_or(path).display();
        broken.extend(check(&std::fs::read_to_string(path)?).into_iter().map(|what| format!("{name}: {what}")));
    }
    Ok(broken)
}

/// Files over the length to aim at, longest first.
pub fn long(root: &Path, files: &[PathBuf]) -> Result<Vec<String>> {
    let mut long = Vec::new();
    for path in files {
        let lines = std::fs::read_to_string(path)?.lines().count();
        if lines > AIM {
            long.push((lines, path.strip_prefix(root).unwrap_or(path).display().to_string()));
        }
    }
    long.sort_by(|a, b| b.cmp(a));
    Ok(long.into_iter().map(|(lines, path)| format!("{path} has {lines} lines; aim under {AIM}")).collect())
}

fn check(text: &str) -> Vec<String> {
    let mut broken = Vec::new();
    let first = text.lines().next().unwrap_or_default();
    if first.strip_prefix("//! ").is_none_or(|sentence| sentence.trim().is_empty()) {
        broken.push("its first line must be a `//!` sentence that says what it is for".to_owned());
    }
    let lines = text.lines().count();
    if lines > MOST_LINES {
        broken.push(format!("{lines} lines; {MOST_LINES} is the most"));
    }
    for (at, line) in text.lines().enumerate() {
        if let Some(hole) = HOLES.iter().find(|hole| line.contains(**hole)) {
            broken.push(format!("line {}: {hole}..) leaves a hole", at + 1));
        }
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_what_it_is_for() {
        assert!(check("//! Words: what they mean.\n").is_empty());
        assert_eq!(check("use std::fs;\n").len(), 1);
        assert_eq!(check("//!\n").len(), 1);
        assert_eq!(check("").len(), 1);
    }

    #[test]
    fn a_thousand_lines_are_the_most() {
        let text = |lines: usize| format!("//! Long.\n{}", "x\n".repeat(lines - 1));
        assert!(check(&text(1000)).is_empty());
        assert_eq!(check(&text(1001)), ["1001 lines; 1000 is the most"]);
    }

    #[test]
    fn holes_are_found() {
        let text = format!("//! Holes.\nfn f() {{\n    {}) }}\n", HOLES[0]);
        assert_eq!(check(&text), [format!("line 3: {}..) leaves a hole", HOLES[0])]);
    }
}
