//! `cargo xtask test`: builds everything, makes the images, runs every test.
use crate::cargo::{cargo, cargo_with};
use anyhow::{Context, Result};
use std::process::Command;
use std::time::Instant;

pub fn main(arguments: &[String]) -> Result<()> {
    let started = Instant::now();
    step("building everything");
    // End-to-end tests run the binary that lies beside them. All at once: a package alone would be built with other features, and again.
    cargo(&["build", "--workspace", "--all-targets"], &[])?;
    step("making the images");
    for recipe in testkit::images::ALL {
        println!("  {} {}", recipe.name, recipe.archive().display());
    }
    step("running the tests");
    // An earlier run may have been killed.
    testkit::remove_of_the_dead();
    let nextest = Command::new("cargo-nextest").arg("--version").output().is_ok_and(|output| output.status.success());
    let runner: &[&str] = if nextest { &["nextest", "run", "--workspace", "--no-fail-fast"] } else { &["test", "--workspace", "--no-fail-fast"] };
    let mut result = cargo(runner, arguments);
    // Whoever asks for certain tests means those.
    if result.is_ok() && nextest && arguments.is_empty() {
        step("running the tests once more, inside a virtual cluster");
        result = cargo_with(&["nextest", "run", "--workspace", "--profile", "inside", "--no-fail-fast"], &[], &[("K8SHOST_TEST_INSIDE", "1")]);
    }
    // Tests that hung were killed and could not clean up.
    testkit::remove_of_the_dead();
    // The runner's summary is to stand at the end, so a success says nothing more.
    result.with_context(|| format!("the tests failed after {} minutes", started.elapsed().as_secs() / 60))
}

fn step(what: &str) {
    println!("== {what}");
}
