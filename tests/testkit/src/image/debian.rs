//! Debian packages as layers: resolved and fetched by apt from the machine's own sources, unpacked here.
use super::Layer;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// apt with lists and an archive of its own, so that it neither needs root nor sees what this machine has installed.
#[derive(Debug)]
pub struct Apt {
    directory: PathBuf,
}

/// A package as apt would fetch it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    pub name: String,
    pub version: String,
    /// The name of its file.
    pub file: String,
}

/// Parts of packages that no container needs.
const LEFT_OUT: [&str; 11] = [
    "usr/share/doc",
    "usr/share/man",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/lintian",
    "usr/share/bug",
    "usr/share/doc-base",
    "usr/share/bash-completion",
    "usr/share/zoneinfo/right",
    "usr/share/zoneinfo/posix",
    "usr/lib/x86_64-linux-gnu/gconv",
];

impl Apt {
    /// Opens or makes apt's state in a directory and brings its lists up to date.
    pub fn new(directory: &Path) -> Self {
        for part in ["lists/partial", "cache/archives/partial", "packages"] {
            std::fs::create_dir_all(directory.join(part)).unwrap_or_else(|error| panic!("{directory:?} cannot be made: {error}"));
        }
        // Nothing is installed: what a package needs is counted from nothing.
        std::fs::write(directory.join("status"), "").expect("apt's directory can be written");
        let apt = Self { directory: directory.to_owned() };
        apt.run("apt-get", &["update", "-qq"], directory);
        apt
    }

    /// The packages and everything they need, but for `without`, which what is used of them does not.
    pub fn resolve(&self, packages: &[&str], without: &[&str]) -> Vec<Package> {
        let mut arguments = vec!["install", "-qq", "--yes", "--no-install-recommends", "--print-uris"];
        arguments.extend(packages);
        let plan = self.run("apt-get", &arguments, &self.directory);
        plan.lines().filter_map(Package::of_line).filter(|package| !without.iter().any(|pattern| matches(pattern, &package.name))).collect()
    }

    /// The files of packages.
    pub fn layer(&self, packages: &[Package]) -> Layer {
        let folder = self.directory.join("packages");
        let missing: Vec<String> =
            packages.iter().filter(|package| !folder.join(&package.file).exists()).map(|package| format!("{}={}", package.name, package.version)).collect();
        if !missing.is_empty() {
            let mut arguments = vec!["download", "-qq"];
            arguments.extend(missing.iter().map(String::as_str));
            self.run("apt-get", &arguments, &folder);
        }
        let mut layer = Layer::new();
        for package in packages {
            let file = folder.join(&package.file);
            let mut unpack = Command::new("dpkg-deb").arg("--fsys-tarfile").arg(&file).stdout(Stdio::piped()).spawn().expect("dpkg-deb is part of Debian");
            let tar = unpack.stdout.take().expect("its output is piped");
            layer
                .add_tar(tar, |path| !LEFT_OUT.iter().any(|left_out| path.starts_with(left_out)))
                .unwrap_or_else(|error| panic!("{file:?} cannot be read: {error}"));
            assert!(unpack.wait().is_ok_and(|status| status.success()), "{file:?} is no package");
        }
        layer
    }

    fn run(&self, program: &str, arguments: &[&str], folder: &Path) -> String {
        let option = |name: &str, path: &str| format!("{name}={}", self.directory.join(path).display());
        let mut command = Command::new(program);
        for option in [option("Dir::State::lists", "lists"), option("Dir::State::status", "status"), option("Dir::Cache", "cache")] {
            command.args(["-o", &option]);
        }
        // The user that apt fetches as may not see a directory of ours.
        command.args(["-o", "APT::Sandbox::User=", "-o", "Debug::NoLocking=1"]).args(arguments).current_dir(folder).env("LC_ALL", "C").stdin(Stdio::null());
        let output = command.output().unwrap_or_else(|error| panic!("{program} cannot be run: {error}"));
        assert!(output.status.success(), "{program} {} failed: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Package {
    /// Reads `'http://..' name_version_architecture.deb size hash`.
    fn of_line(line: &str) -> Option<Self> {
        let file = line.split_whitespace().nth(1)?;
        let mut parts = file.strip_suffix(".deb")?.split('_');
        let (name, version) = (parts.next()?, parts.next()?);
        Some(Self { name: name.into(), version: version.replace("%3a", ":"), file: file.into() })
    }
}

/// Whether a name is the pattern, in which one `*` stands for anything.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        Some((start, end)) => name.len() >= start.len() + end.len() && name.starts_with(start) && name.ends_with(end),
        None => pattern == name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_read_from_the_plan() {
        let line = "'http://deb.debian.org/debian/pool/main/a/attr/libattr1_2.5.1-4_amd64.deb' libattr1_1%3a2.5.1-4_amd64.deb 22164 MD5Sum:0a";
        let expected = Package { name: "libattr1".into(), version: "1:2.5.1-4".into(), file: "libattr1_1%3a2.5.1-4_amd64.deb".into() };
        assert_eq!(Package::of_line(line), Some(expected));
        assert_eq!(Package::of_line("Reading package lists"), None);
    }

    #[test]
    fn patterns_hold_one_star() {
        assert!(matches("lib*-perl", "libjson-perl") && matches("perl*", "perl") && matches("tar", "tar"));
        assert!(!matches("tar", "tarantula") && !matches("lib*-perl", "libperl"));
    }
}
