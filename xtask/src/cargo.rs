//! Running cargo from a program that cargo runs.
use anyhow::{Context, Result, bail};
use std::process::Command;

pub fn cargo(fixed: &[&str], more: &[String]) -> Result<()> {
    cargo_with(fixed, more, &[])
}

/// As [`cargo`], with variables in its environment.
pub fn cargo_with(fixed: &[&str], more: &[String], variables: &[(&str, &str)]) -> Result<()> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(fixed).args(more).envs(variables.iter().copied()).current_dir(crate::root());
    // `cargo run` sets these for this program; a build that sees them again would differ from a plain one.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") || name == "CARGO" {
            command.env_remove(&name);
        }
    }
    let status = command.status().with_context(|| format!("running cargo {}", fixed.join(" ")))?;
    if !status.success() {
        bail!("cargo {} failed", fixed.join(" "));
    }
    Ok(())
}
