//! Every controller is tested to converge: when what it asked for is done, it asks for nothing.
use anyhow::Result;
use std::path::{Path, PathBuf};

/// The controllers among `files` that no test beside them has converge.
pub fn broken(root: &Path, files: &[PathBuf]) -> Result<Vec<String>> {
    let mut sources = Vec::new();
    for path in files.iter().filter(|path| path.starts_with(root.join("crates"))) {
        sources.push((path.strip_prefix(root)?, std::fs::read_to_string(path)?));
    }
    Ok(untested(&sources))
}

fn untested<T: AsRef<str>>(sources: &[(&Path, T)]) -> Vec<String> {
    let settles: Vec<_> = sources.iter().filter(|(_, text)| text.as_ref().contains("converges(")).collect();
    let is_controller = |text: &str| [" Controller for ", "fn observe(", "fn reconcile("].iter().all(|part| text.contains(part));
    let mut broken = Vec::new();
    for (path, _) in sources.iter().filter(|(_, text)| is_controller(text.as_ref())) {
        let (Some(directory), Some(module)) = (path.parent(), path.file_stem()) else { continue };
        let module = module.to_string_lossy();
        // What is in the folder of a `mod.rs` is about it; other files beside a controller are if they name it.
        let about = |test: &Path, text: &str| test == *path || (test.starts_with(directory) && (module == "mod" || text.contains(&format!("{module}::"))));
        if !settles.iter().any(|(test, text)| about(test, text.as_ref())) {
            broken.push(format!("{}: no test has this controller pass `converges`", path.display()));
        }
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_controller_is_tested_where_it_is_or_beside() {
        let controller = "impl Controller for Things {\n fn observe() {}\n fn reconcile() {}\n}";
        let tested = format!("{controller}\n converges(world)");
        let check = |sources: &[(&str, &str)]| {
            let sources: Vec<_> = sources.iter().map(|(path, text)| (Path::new(*path), *text)).collect();
            untested(&sources).len()
        };
        assert_eq!(check(&[("a/thing.rs", controller)]), 1);
        assert_eq!(check(&[("a/thing.rs", &tested)]), 0);
        assert_eq!(check(&[("a/thing.rs", controller), ("a/tests.rs", "converges(other)")]), 1);
        assert_eq!(check(&[("a/thing.rs", controller), ("a/tests/one.rs", "converges(thing::reconcile)")]), 0);
        assert_eq!(check(&[("a/mod.rs", controller), ("a/tests.rs", "converges(reconcile)")]), 0);
        assert_eq!(check(&[("a/mod.rs", controller), ("b/tests.rs", "converges(reconcile)")]), 1);
        assert_eq!(check(&[("a/driver.rs", "impl Controller for Things {}")]), 0, "another kind of controller");
    }
}
