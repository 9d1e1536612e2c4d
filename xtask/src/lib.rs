//! The repository's own tools: its rules, its generated pages, its test run, its example cluster.
pub mod bench;
mod cargo;
mod definitions;
pub mod fuzz;
pub mod generate;
pub mod images;
pub mod kinds;
pub mod run;
pub mod test;
pub mod tidy;

use std::path::{Path, PathBuf};

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the repository's root")
}

/// Where cargo builds to: this program lies in one of its profiles.
pub fn target_directory() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let target = own.ancestors().find(|directory| directory.join("CACHEDIR.TAG").is_file());
    target.map(Path::to_owned).ok_or_else(|| anyhow::anyhow!("{own:?} lies in no target directory of cargo's"))
}
