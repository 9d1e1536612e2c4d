//! `cargo xtask bench`: the budgets of the design, measured on a release build.
use crate::cargo::cargo;
use anyhow::Result;

pub fn main(arguments: &[String]) -> Result<()> {
    // The bench measures the server that lies beside it.
    cargo(&["build", "--release", "--package", "k8shost", "--package", "bench"], &[])?;
    cargo(&["run", "--release", "--quiet", "--package", "bench", "--"], arguments)
}
