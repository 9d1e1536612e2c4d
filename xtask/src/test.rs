//! `cargo xtask test`: builds everything, makes the images, runs every test.
use anyhow::{Context, Result, bail};
use std::process::Command;
use std::time::Instant;

pub fn main(arguments: &[String]) -> Result<()> {
    let started = Instant::now();
    step("building the server");
    // End-to-end tests run the binary that lies beside them.
    cargo(&["build", "--package", "k8shost"], &[])?;
    step("making the images");
    for recipe in testkit::images::ALL {
        println!("  {} {}", recipe.name, recipe.archive().display());
    }
    step("running the tests");
    // An earlier run may have been killed.
    testkit::remove_of_the_dead();
    let nextest = Command::new("cargo-nextest").arg("--version").output().is_ok_and(|output| output.status.success());
    let runner: &[&str] = if nextest { &["nextest", "run", "--workspace", "--no-fail-fast"] } else { &["test", "--workspace", "--no-fail-fast"] };
    let result = cargo(runner, arguments);
    // Tests that hung were killed and could not clean up.
    testkit::remove_of_the_dead();
    // The runner's summary is to stand at the end, so a success says nothing more.
    result.with_context(|| format!("the tests failed after {} minutes", started.elapsed().as_secs() / 60))
}

fn step(what: &str) {
    println!("== {what}");
}

fn cargo(fixed: &[&str], more: &[String]) -> Result<()> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(fixed).args(more).current_dir(crate::root());
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
