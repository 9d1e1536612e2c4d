//! `cargo xtask fuzz`: every decoder on mutated examples, built with the checks that tests are built with.
use crate::cargo::cargo;
use anyhow::Result;

pub fn main(arguments: &[String]) -> Result<()> {
    cargo(&["run", "--quiet", "--package", "fuzz", "--"], arguments)
}
