//! Arrows between crates: which layer may know which.
use anyhow::{Context, Result};
use cargo_metadata::{DependencyKind, MetadataCommand};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A crate of the workspace and those of its dependencies that are crates of the workspace.
#[derive(Clone, Debug)]
pub struct Package {
    pub name: String,
    /// Relative to the root, e.g. `crates/store/store-sqlite`.
    pub folder: String,
    pub manifest: PathBuf,
    pub dependencies: Vec<Dependency>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependency {
    pub name: String,
    /// Only its tests, examples and benches know it.
    pub development: bool,
}

/// A folder below `crates`, or one of those that see everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    Base,
    Store,
    Api,
    Client,
    Control,
    Node,
    Cloud,
    Hosting,
    Front,
    /// `bin`, `tests` and `xtask`.
    Top,
}

/// The crate that any crate's tests may use.
const TESTKIT: &str = "testkit";

impl Layer {
    /// The layer of a crate's folder; `None` for a folder that is no layer.
    pub fn of(folder: &str) -> Option<Self> {
        let mut parts = folder.split('/');
        match (parts.next()?, parts.next()) {
            ("bin" | "tests", Some(_)) | ("xtask", None) => Some(Self::Top),
            ("crates", Some(layer)) => Some(match layer {
                "base" => Self::Base,
                "store" => Self::Store,
                "api" => Self::Api,
                "client" => Self::Client,
                "control" => Self::Control,
                "node" => Self::Node,
                "cloud" => Self::Cloud,
                "hosting" => Self::Hosting,
                "front" => Self::Front,
                _ => return None,
            }),
            _ => None,
        }
    }

    /// Whether a crate of this layer may depend on one of `other`.
    pub fn may_know(self, other: Self) -> bool {
        let below: &[Self] = match self {
            Self::Base => &[],
            Self::Store | Self::Client => &[Self::Base],
            Self::Api => &[Self::Base, Self::Store],
            Self::Control | Self::Node | Self::Front => &[Self::Base, Self::Client],
            // Their controllers run on controller-kit, so that there is one runner.
            Self::Cloud | Self::Hosting => &[Self::Base, Self::Client, Self::Control],
            Self::Top => return true,
        };
        self == other || below.contains(&other)
    }
}

/// The crates of the workspace at `root`.
pub fn packages(root: &Path) -> Result<Vec<Package>> {
    let metadata = MetadataCommand::new().manifest_path(root.join("Cargo.toml")).no_deps().exec().context("reading the workspace")?;
    let packages = metadata.packages.iter().map(|package| {
        let manifest = package.manifest_path.clone().into_std_path_buf();
        let folder = manifest.parent().and_then(|folder| folder.strip_prefix(root).ok()).unwrap_or(Path::new("")).to_string_lossy().into_owned();
        // Only crates of the workspace are depended on by path.
        let dependencies = package
            .dependencies
            .iter()
            .filter(|dependency| dependency.path.is_some())
            .map(|dependency| Dependency { name: dependency.name.clone(), development: dependency.kind == DependencyKind::Development });
        Package { name: package.name.to_string(), folder, dependencies: dependencies.collect(), manifest }
    });
    Ok(packages.collect())
}

/// Every arrow that points the wrong way, and every ring.
pub fn broken(packages: &[Package]) -> Vec<String> {
    let mut broken = Vec::new();
    let by_name: BTreeMap<&str, &Package> = packages.iter().map(|package| (package.name.as_str(), package)).collect();
    for package in packages {
        let Some(layer) = Layer::of(&package.folder) else {
            broken.push(format!("{}: the folder {:?} is no layer", package.name, package.folder));
            continue;
        };
        for dependency in &package.dependencies {
            let Some(other) = by_name.get(dependency.name.as_str()) else {
                broken.push(format!("{}: depends on {:?} outside of the workspace", package.name, dependency.name));
                continue;
            };
            let for_tests = dependency.development && dependency.name == TESTKIT;
            if let Some(below) = Layer::of(&other.folder)
                && !layer.may_know(below)
                && !for_tests
            {
                broken.push(format!("{} ({layer:?}) must not depend on {} ({below:?})", package.name, other.name));
            }
        }
    }
    broken.extend(ring(&by_name).map(|ring| format!("crates depend on each other: {}", ring.join(" -> "))));
    broken
}

/// One ring of dependencies, dependencies of tests included, which cargo itself would allow.
fn ring(packages: &BTreeMap<&str, &Package>) -> Option<Vec<String>> {
    let mut done: Vec<&str> = Vec::new();
    for name in packages.keys() {
        let mut path = Vec::new();
        if let Some(ring) = walk(name, packages, &mut path, &mut done) {
            return Some(ring);
        }
    }
    None
}

fn walk<'a>(name: &'a str, packages: &BTreeMap<&'a str, &'a Package>, path: &mut Vec<&'a str>, done: &mut Vec<&'a str>) -> Option<Vec<String>> {
    if let Some(start) = path.iter().position(|seen| *seen == name) {
        return Some(path[start..].iter().chain([&name]).map(|name| (*name).to_owned()).collect());
    }
    if done.contains(&name) {
        return None;
    }
    path.push(name);
    for dependency in &packages.get(name)?.dependencies {
        if let Some(ring) = walk(&dependency.name, packages, path, done) {
            return Some(ring);
        }
    }
    path.pop();
    done.push(name);
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(folder: &str, dependencies: &[&str]) -> Package {
        let name = folder.rsplit('/').next().unwrap().to_owned();
        // A leading `~` marks a dependency of tests.
        let dependencies = dependencies.iter().map(|name| Dependency { name: name.trim_start_matches('~').into(), development: name.starts_with('~') });
        Package { name, folder: folder.into(), manifest: PathBuf::new(), dependencies: dependencies.collect() }
    }

    fn check(packages: &[Package], expected: &[&str]) {
        assert_eq!(broken(packages), expected);
    }

    #[test]
    fn arrows_lead_down() {
        let house = [
            package("crates/base/names", &[]),
            package("crates/store/rows", &["names"]),
            package("crates/api/server", &["rows", "names"]),
            package("crates/client/cache", &["names"]),
            package("crates/node/agent", &["cache", "names", "runtime"]),
            package("crates/node/runtime", &[]),
            package("bin/all", &["server", "agent"]),
            package("xtask", &["testkit"]),
            package("tests/testkit", &["names"]),
        ];
        check(&house, &[]);
    }

    #[test]
    fn a_controller_must_not_know_the_store() {
        let house = [package("crates/store/rows", &[]), package("crates/control/loops", &["rows"])];
        check(&house, &["loops (Control) must not depend on rows (Store)"]);
    }

    #[test]
    fn tests_keep_the_arrows_but_may_use_the_testkit() {
        let house = [package("crates/api/server", &[]), package("crates/client/cache", &["~server", "~testkit"]), package("tests/testkit", &[])];
        check(&house, &["cache (Client) must not depend on server (Api)"]);
    }

    #[test]
    fn rings_through_tests_are_found() {
        let house = [package("crates/base/a", &["b"]), package("crates/base/b", &["~a"])];
        check(&house, &["crates depend on each other: a -> b -> a"]);
    }

    #[test]
    fn a_folder_that_is_no_layer_is_refused() {
        check(&[package("crates/utils/misc", &[])], &[r#"misc: the folder "crates/utils/misc" is no layer"#]);
    }
}
