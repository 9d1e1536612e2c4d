//! The documents: their links lead somewhere, and ARCHITECTURE.md knows every crate.
use super::arrows::Package;
use anyhow::{Context, Result};
use std::path::Path;

/// What breaks the rules in the repository's documents.
pub fn broken(root: &Path, packages: &[Package]) -> Result<Vec<String>> {
    let architecture = std::fs::read_to_string(root.join("ARCHITECTURE.md")).context("reading ARCHITECTURE.md")?;
    let mut broken: Vec<String> = packages
        .iter()
        .filter(|package| !names(&architecture, &package.name))
        .map(|package| format!("ARCHITECTURE.md does not mention the crate {}", package.name))
        .collect();
    for path in super::files(root, "md")? {
        let text = std::fs::read_to_string(&path)?;
        let folder = path.parent().unwrap_or(root);
        for link in links(&text).into_iter().filter(|link| !folder.join(link).exists()) {
            broken.push(format!("{}: the link to {link:?} leads nowhere", path.strip_prefix(root).unwrap_or(&path).display()));
        }
    }
    Ok(broken)
}

/// Whether a text has a crate's name in backticks, alone or at the end of a path.
fn names(text: &str, name: &str) -> bool {
    text.split('`').skip(1).step_by(2).any(|code| code.trim_end_matches('/').rsplit('/').next() == Some(name))
}

/// The files a Markdown text links to: addresses, anchors and code blocks apart.
fn links(text: &str) -> Vec<&str> {
    let mut links = Vec::new();
    let mut code = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            code = !code;
        }
        if code {
            continue;
        }
        for part in line.split("](").skip(1) {
            let target = part.split([')', '#', ' ']).next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:") {
                links.push(target);
            }
        }
    }
    links
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_files_are_found() {
        let text = "See [a](docs/a.md), [b](b.rs#L3) and [c](https://example.org) or [d](#here).\n```\n[e](e)\n```\n";
        assert_eq!(links(text), ["docs/a.md", "b.rs"]);
    }

    #[test]
    fn a_crate_is_mentioned_by_name_or_path() {
        assert!(names("the `store` trait", "store"));
        assert!(names("in `crates/store/store-sqlite`", "store-sqlite"));
        assert!(!names("the `store-sqlite` engine and a store", "store"));
    }
}
