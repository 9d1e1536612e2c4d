//! What every crate's Cargo.toml says.
use super::arrows::Package;
use anyhow::Result;

/// Crates that don't take the workspace's lints.
pub fn broken(packages: &[Package]) -> Result<Vec<String>> {
    let mut broken = Vec::new();
    for package in packages {
        if !takes_lints(&std::fs::read_to_string(&package.manifest)?) {
            broken.push(format!("{}: its Cargo.toml lacks `[lints] workspace = true`", package.name));
        }
    }
    Ok(broken)
}

fn takes_lints(manifest: &str) -> bool {
    let mut lines = manifest.lines().map(str::trim).skip_while(|line| *line != "[lints]").skip(1);
    lines.any(|line| line == "workspace = true")
}

#[cfg(test)]
mod tests {
    use super::takes_lints;

    #[test]
    fn lints_come_from_the_workspace() {
        assert!(takes_lints("[package]\nname = \"a\"\n\n[lints]\nworkspace = true\n"));
        assert!(!takes_lints("[package]\nworkspace = true\n"));
    }
}
