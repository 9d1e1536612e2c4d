//! The rules of the repository, each a function from its files to what breaks it.
pub mod arrows;
pub mod controllers;
pub mod documents;
pub mod manifests;
pub mod sources;

use anyhow::{Result, bail};
use std::path::{Path, PathBuf};

/// Everything that breaks a rule, a line each.
pub fn broken(root: &Path) -> Result<Vec<String>> {
    let packages = arrows::packages(root)?;
    let sources = files(root, "rs")?;
    let mut broken = arrows::broken(&packages);
    broken.extend(manifests::broken(&packages)?);
    broken.extend(sources::broken(root, &sources)?);
    broken.extend(controllers::broken(root, &sources)?);
    broken.extend(documents::broken(root, &packages)?);
    broken.extend(crate::generate::stale(root)?);
    Ok(broken)
}

/// `cargo xtask tidy`.
pub fn main() -> Result<()> {
    let root = crate::root();
    for line in sources::long(root, &files(root, "rs")?)? {
        println!("note: {line}");
    }
    let broken = broken(root)?;
    for line in &broken {
        eprintln!("{line}");
    }
    if !broken.is_empty() {
        bail!("{} rules are broken", broken.len());
    }
    println!("tidy");
    Ok(())
}

/// The files below a directory with an extension, sorted; build output and hidden directories apart.
pub fn files(directory: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let (mut found, mut left) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(directory) = left.pop() {
        for entry in std::fs::read_dir(&directory)? {
            let entry = entry?;
            let (path, name) = (entry.path(), entry.file_name());
            if entry.file_type()?.is_dir() {
                let hidden = name.to_string_lossy().starts_with('.');
                // A target directory is marked as cache by cargo.
                if !hidden && !path.join("CACHEDIR.TAG").exists() && name != "target" {
                    left.push(path);
                }
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}
