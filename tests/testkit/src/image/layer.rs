//! Layer: a tree of files with owners and modes, written as a tar that is the same each time.
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    Directory,
    File(Vec<u8>),
    Link(PathBuf),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    node: Node,
    mode: u32,
    user: u32,
    group: u32,
}

/// Files by their path without a leading slash.
#[derive(Clone, Debug, Default)]
pub struct Layer {
    entries: BTreeMap<PathBuf, Entry>,
}

/// The directories that Debian joined with those below /usr.
const JOINED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];

impl Layer {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn directory(self, path: &str, mode: u32) -> Self {
        self.with(path, Node::Directory, mode)
    }
    pub fn file(self, path: &str, mode: u32, content: impl AsRef<[u8]>) -> Self {
        self.with(path, Node::File(content.as_ref().to_vec()), mode)
    }
    pub fn link(self, path: &str, target: &str) -> Self {
        self.with(path, Node::Link(target.into()), 0o777)
    }
    /// Gives a path to a user and a group.
    pub fn owned(mut self, path: &str, user: u32, group: u32) -> Self {
        let entry = self.entries.get_mut(&normal(Path::new(path))).unwrap_or_else(|| panic!("the layer has no {path:?}"));
        (entry.user, entry.group) = (user, group);
        self
    }
    fn with(mut self, path: &str, node: Node, mode: u32) -> Self {
        self.insert(Path::new(path), Entry { node, mode, user: 0, group: 0 });
        self
    }

    /// What a directory holds, links and modes as they are, owned by root.
    pub fn from_directory(directory: &Path) -> std::io::Result<Self> {
        let mut layer = Self::new();
        let mut left = vec![directory.to_owned()];
        while let Some(folder) = left.pop() {
            for entry in fs::read_dir(&folder)? {
                let path = entry?.path();
                let metadata = fs::symlink_metadata(&path)?;
                let node = if metadata.is_dir() {
                    left.push(path.clone());
                    Node::Directory
                } else if metadata.is_symlink() {
                    Node::Link(fs::read_link(&path)?)
                } else {
                    Node::File(fs::read(&path)?)
                };
                let inside = path.strip_prefix(directory).expect("it was found below the directory");
                layer.insert(inside, Entry { node, mode: metadata.permissions().mode() & 0o7777, user: 0, group: 0 });
            }
        }
        Ok(layer)
    }

    /// Adds the files of a tar, as a Debian package holds them, that `keep` wants.
    pub fn add_tar(&mut self, tar: impl std::io::Read, keep: impl Fn(&Path) -> bool) -> std::io::Result<()> {
        let mut archive = tar::Archive::new(tar);
        for entry in archive.entries()? {
            let mut entry = entry?;
            let path = normal(&entry.path()?);
            // A layer above must not put a directory where the base has the link to the joined one.
            let joined = JOINED.iter().any(|joined| path == Path::new(joined));
            if path.as_os_str().is_empty() || joined || !keep(&path) {
                continue;
            }
            let header = entry.header();
            let (mode, user, group) = (header.mode()? & 0o7777, u32::try_from(header.uid()?).unwrap_or(0), u32::try_from(header.gid()?).unwrap_or(0));
            let target = entry.link_name()?.map(|target| target.into_owned());
            let node = match (header.entry_type(), target) {
                (tar::EntryType::Directory, _) => Node::Directory,
                (tar::EntryType::Symlink, Some(target)) => Node::Link(target),
                // Few files are linked hard; a copy serves as well.
                (tar::EntryType::Link, Some(target)) => match self.entries.get(&normal(&target)) {
                    Some(entry) => entry.node.clone(),
                    None => continue,
                },
                _ => {
                    let mut content = Vec::new();
                    std::io::Read::read_to_end(&mut entry, &mut content)?;
                    Node::File(content)
                }
            };
            self.insert(&path, Entry { node, mode, user, group });
        }
        Ok(())
    }

    /// Leaves out what `keep` does not want.
    pub fn retain(&mut self, keep: impl Fn(&Path) -> bool) {
        self.entries.retain(|path, _| keep(path));
    }

    /// What is at a path.
    pub fn get(&self, path: &str) -> Option<&Node> {
        self.entries.get(&normal(Path::new(path))).map(|entry| &entry.node)
    }

    fn insert(&mut self, path: &Path, entry: Entry) {
        let path = normal(path);
        for parent in path.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()) {
            let directory = Entry { node: Node::Directory, mode: 0o755, user: 0, group: 0 };
            self.entries.entry(parent.to_owned()).or_insert(directory);
        }
        // A directory that several packages bring stays as the first made it.
        if entry.node == Node::Directory && self.entries.get(&path).is_some_and(|there| there.node == Node::Directory && there.mode != 0o755) {
            return;
        }
        self.entries.insert(path, entry);
    }

    /// The layer as a tar: sorted, without times, so that equal layers have equal digests.
    pub fn tar(&self) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, entry) in &self.entries {
            let mut header = tar::Header::new_gnu();
            header.set_mode(entry.mode);
            header.set_uid(entry.user.into());
            header.set_gid(entry.group.into());
            header.set_mtime(0);
            header.set_size(0);
            let written = match &entry.node {
                Node::Directory => {
                    header.set_entry_type(tar::EntryType::Directory);
                    tar.append_data(&mut header, path, std::io::empty())
                }
                Node::File(content) => {
                    header.set_entry_type(tar::EntryType::Regular);
                    header.set_size(content.len() as u64);
                    tar.append_data(&mut header, path, content.as_slice())
                }
                Node::Link(target) => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    tar.append_link(&mut header, path, target)
                }
            };
            written.expect("a tar in memory takes everything");
        }
        tar.into_inner().expect("a tar in memory takes everything")
    }
}

/// The path without `/`, `.` and `..`, in Debian's joined tree.
fn normal(path: &Path) -> PathBuf {
    let plain: PathBuf = path.components().filter(|part| matches!(part, Component::Normal(_))).collect();
    let mut parts = plain.components();
    match parts.next() {
        Some(Component::Normal(first)) if JOINED.iter().any(|joined| first == *joined) && parts.next().is_some() => Path::new("usr").join(plain),
        _ => plain,
    }
}

impl Layer {
    /// The links that lead from Debian's old places to the joined ones.
    pub fn joined_directories(mut self) -> Self {
        for name in JOINED {
            self = self.link(name, &format!("usr/{name}"));
        }
        self
    }
    /// How many bytes its files have.
    pub fn size(&self) -> u64 {
        self.entries.values().map(|entry| if let Node::File(content) = &entry.node { content.len() as u64 } else { 0 }).sum()
    }
    /// A file of this machine, with its mode.
    pub fn copy_of(self, path: &str, from: &Path) -> std::io::Result<Self> {
        let mode = fs::metadata(from)?.mode() & 0o7777;
        Ok(self.file(path, mode, fs::read(from)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_layer_is_the_same_tar() {
        let one = Layer::new().file("/etc/a", 0o644, "a").directory("/tmp", 0o1777).link("/sh", "dash");
        let other = Layer::new().link("sh", "dash").directory("tmp", 0o1777).file("etc/a", 0o644, "a");
        assert_eq!(one.tar(), other.tar());
    }

    #[test]
    fn old_and_joined_places_are_one() {
        let layer = Layer::new().joined_directories().file("/bin/cat", 0o755, "cat");
        assert_eq!(layer.get("/usr/bin/cat"), Some(&Node::File(b"cat".to_vec())));
        assert_eq!(layer.get("bin"), Some(&Node::Link("usr/bin".into())));
    }

    #[test]
    fn a_tar_read_back_is_the_same_layer() {
        let layer = Layer::new().file("usr/bin/su", 0o4755, "su").directory("data", 0o700).owned("data", 999, 999).link("l", "usr/bin/su");
        let mut again = Layer::new();
        again.add_tar(layer.tar().as_slice(), |_| true).unwrap();
        assert_eq!(again.tar(), layer.tar());
    }
}
