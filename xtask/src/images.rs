//! `cargo xtask images`: makes every image that tests and the example run.
use anyhow::Result;

/// Makes what is missing and prints where it is.
pub fn main() -> Result<()> {
    for recipe in testkit::images::ALL {
        let archive = recipe.archive();
        let size = std::fs::metadata(&archive)?.len();
        println!("{:<52} {:>4} MB  {}", recipe.name, size.div_ceil(1_000_000), archive.display());
    }
    Ok(())
}
