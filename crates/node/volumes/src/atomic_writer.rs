//! The atomic writer: puts files into a volume so that readers see all of a change or nothing of it.
//!
//! As the kubelet's: the files lie in a directory named by the time, `..data` is a symlink to it, and
//! each visible name is a symlink through `..data`. One rename of `..data` switches all files at once.
use crate::error::SetUpError;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown, symlink};
use std::path::{Component, Path};

/// One file of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileProjection {
    pub data: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// The owner's uid, where it is not the agent's own.
    pub owner: Option<u32>,
}

/// Files by their path relative to the volume.
pub type Payload = BTreeMap<String, FileProjection>;

const DATA_LINK: &str = "..data";
const NEW_DATA_LINK: &str = "..data_tmp";
const MAX_PATH: usize = 4096;
const MAX_FILE_NAME: usize = 255;

/// Brings `payload` into `target`, if it is not there already. Returns whether anything changed.
///
/// `directory_name` names a new time-stamped directory; `set_ownership` runs on the volume before the switch.
pub fn write(target: &Path, payload: &Payload, directory_name: &str, set_ownership: impl FnOnce() -> Result<(), SetUpError>) -> Result<bool, SetUpError> {
    let payload = normalized(payload)?;
    let data_link = target.join(DATA_LINK);
    let old_directory = match fs::read_link(&data_link) {
        Ok(old) => Some(target.join(old)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(SetUpError::io("reading", data_link)(error)),
    };
    if let Some(old) = &old_directory
        && holds_exactly(old, &payload).map_err(SetUpError::io("reading", old))?
    {
        // A crash may have come between the switch and the links.
        link_visible_names(target, &payload)?;
        remove_stale_names(target, &payload)?;
        remove_other_directories(target, old)?;
        return Ok(false);
    }
    let new_directory = target.join(directory_name);
    fs::create_dir(&new_directory).map_err(SetUpError::io("creating", &new_directory))?;
    // Whatever the umask made of it.
    fs::set_permissions(&new_directory, fs::Permissions::from_mode(0o755)).map_err(SetUpError::io("setting the mode of", &new_directory))?;
    write_files(&new_directory, &payload)?;
    set_ownership()?;
    let new_link = target.join(NEW_DATA_LINK);
    match fs::remove_file(&new_link) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(SetUpError::io("removing", new_link)(error)),
        _ => {}
    }
    symlink(directory_name, &new_link).map_err(SetUpError::io("linking", &new_link))?;
    fs::rename(&new_link, &data_link).map_err(SetUpError::io("switching", &data_link))?;
    link_visible_names(target, &payload)?;
    remove_stale_names(target, &payload)?;
    remove_other_directories(target, &new_directory)?;
    Ok(true)
}

/// The payload with clean paths, or why one of them can't be in a volume.
fn normalized(payload: &Payload) -> Result<Payload, SetUpError> {
    payload
        .iter()
        .map(|(path, file)| {
            let refuse = |reason| SetUpError::InvalidPath { path: path.clone(), reason };
            if path.is_empty() {
                return Err(refuse("must not be empty"));
            }
            if path.len() > MAX_PATH {
                return Err(refuse("must be no more than 4096 bytes"));
            }
            let mut names = Vec::new();
            for component in Path::new(path).components() {
                match component {
                    Component::Normal(name) => names.push(name.to_str().expect("a part of a str is one")),
                    Component::CurDir => {}
                    Component::ParentDir => return Err(refuse("must not contain \"..\"")),
                    Component::RootDir | Component::Prefix(_) => return Err(refuse("must be relative path")),
                }
            }
            let Some(first) = names.first() else { return Err(refuse("must name a file")) };
            if first.starts_with("..") {
                return Err(refuse("must not start with \"..\""));
            }
            if names.iter().any(|name| name.len() > MAX_FILE_NAME) {
                return Err(refuse("must have file names of no more than 255 bytes"));
            }
            Ok((names.join("/"), file.clone()))
        })
        .collect()
}

fn holds_exactly(directory: &Path, payload: &Payload) -> io::Result<bool> {
    let mut present = BTreeSet::new();
    if let Err(error) = list_files(directory, "", &mut present) {
        return if error.kind() == io::ErrorKind::NotFound { Ok(false) } else { Err(error) };
    }
    if !present.iter().eq(payload.keys()) {
        return Ok(false);
    }
    for (path, file) in payload {
        if fs::read(directory.join(path))? != file.data {
            return Ok(false);
        }
    }
    Ok(true)
}

fn list_files(directory: &Path, prefix: &str, found: &mut BTreeSet<String>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            list_files(&entry.path(), &format!("{path}/"), found)?;
        } else {
            found.insert(path);
        }
    }
    Ok(())
}

fn write_files(directory: &Path, payload: &Payload) -> Result<(), SetUpError> {
    for (path, file) in payload {
        let path = directory.join(path);
        let parent = path.parent().expect("a file in a directory has a parent");
        fs::create_dir_all(parent).map_err(SetUpError::io("creating", parent))?;
        let mut created = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(SetUpError::io("creating", &path))?;
        created.write_all(&file.data).map_err(SetUpError::io("writing", &path))?;
        if file.owner.is_some() {
            chown(&path, file.owner, None).map_err(SetUpError::io("setting the owner of", &path))?;
        }
        // Last, since a change of owner clears bits.
        fs::set_permissions(&path, fs::Permissions::from_mode(file.mode)).map_err(SetUpError::io("setting the mode of", &path))?;
    }
    Ok(())
}

fn visible_names(payload: &Payload) -> BTreeSet<&str> {
    payload.keys().map(|path| path.split_once('/').map_or(path.as_str(), |(first, _)| first)).collect()
}

fn link_visible_names(target: &Path, payload: &Payload) -> Result<(), SetUpError> {
    for name in visible_names(payload) {
        let link = target.join(name);
        match symlink(Path::new(DATA_LINK).join(name), &link) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(SetUpError::io("linking", link)(error)),
            _ => {}
        }
    }
    Ok(())
}

/// Removes visible symlinks that lead to nothing any more.
fn remove_stale_names(target: &Path, payload: &Payload) -> Result<(), SetUpError> {
    let wanted = visible_names(payload);
    for entry in entries(target)? {
        let name = entry.file_name();
        let stale = name.to_str().is_none_or(|name| !name.starts_with("..") && !wanted.contains(name));
        if stale && entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
            fs::remove_file(entry.path()).map_err(SetUpError::io("removing", entry.path()))?;
        }
    }
    Ok(())
}

/// Removes time-stamped directories other than the current one: the last one's, and those of interrupted writes.
fn remove_other_directories(target: &Path, current: &Path) -> Result<(), SetUpError> {
    for entry in entries(target)? {
        let hidden = entry.file_name().to_string_lossy().starts_with("..");
        if hidden && entry.path() != current && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            fs::remove_dir_all(entry.path()).map_err(SetUpError::io("removing", entry.path()))?;
        }
    }
    Ok(())
}

fn entries(directory: &Path) -> Result<Vec<fs::DirEntry>, SetUpError> {
    fs::read_dir(directory).and_then(Iterator::collect).map_err(SetUpError::io("reading", directory))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(files: &[(&str, &str)]) -> Payload {
        files.iter().map(|(path, data)| (path.to_string(), FileProjection { data: data.as_bytes().to_vec(), mode: 0o640, owner: None })).collect()
    }

    fn write_named(target: &Path, name: &str, files: &[(&str, &str)]) -> Result<bool, SetUpError> {
        write(target, &payload(files), name, || Ok(()))
    }

    #[test]
    fn a_change_switches_all_files_and_drops_stale_ones() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path();
        assert!(write_named(target, "..one", &[("a", "1"), ("d/e/f", "2"), ("d/g", "3")]).unwrap());
        assert_eq!(fs::read_link(target.join("a")).unwrap(), Path::new("..data/a"));
        assert_eq!(fs::read_link(target.join("..data")).unwrap(), Path::new("..one"));
        assert_eq!(fs::metadata(target.join("a")).unwrap().permissions().mode() & 0o7777, 0o640);
        assert!(write_named(target, "..two", &[("a", "9"), ("h", "4")]).unwrap());
        assert_eq!(fs::read_to_string(target.join("a")).unwrap(), "9");
        assert_eq!(fs::read_to_string(target.join("h")).unwrap(), "4");
        let mut names: Vec<_> = entries(target).unwrap().iter().map(|e| e.file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, ["..data", "..two", "a", "h"]);
    }

    #[test]
    fn the_same_payload_is_not_written_again() {
        let root = tempfile::tempdir().unwrap();
        assert!(write_named(root.path(), "..one", &[("a", "1")]).unwrap());
        assert!(!write_named(root.path(), "..two", &[("./a", "1")]).unwrap());
        assert!(root.path().join("..one/a").exists());
        fs::create_dir(root.path().join("..interrupted")).unwrap();
        fs::remove_file(root.path().join("a")).unwrap();
        assert!(!write_named(root.path(), "..three", &[("a", "1")]).unwrap());
        assert!(root.path().join("a").exists() && !root.path().join("..interrupted").exists());
    }

    #[test]
    fn paths_can_not_leave_the_volume() {
        let root = tempfile::tempdir().unwrap();
        for bad in ["", "/a", "../a", "a/../../b", "..a", "..data/x", ".", &"x".repeat(256)] {
            assert!(matches!(write_named(root.path(), "..one", &[(bad, "")]), Err(SetUpError::InvalidPath { .. })), "{bad}");
        }
        assert_eq!(entries(root.path()).unwrap().len(), 0);
    }
}
