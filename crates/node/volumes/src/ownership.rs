//! fsGroup: gives a volume's files to the pod's group, as upstream's `SetVolumeOwnership`.
use crate::error::SetUpError;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::Path;

const READ_WRITE: u32 = 0o660;
const READ_ONLY: u32 = 0o440;
const EXECUTE: u32 = 0o110;
const SET_GID: u32 = 0o2000;

/// What a pod asks of its volumes' ownership.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FsGroup {
    pub gid: Option<u32>,
    /// Whether a volume whose root is right already is left alone.
    pub only_on_root_mismatch: bool,
}

/// Applies the group to everything in the volume.
///
/// `read_only` is the volume's nature (ConfigMaps, Secrets, ..), not that of one mount of it.
pub fn apply(root: &Path, fs_group: FsGroup, read_only: bool) -> Result<(), SetUpError> {
    let Some(gid) = fs_group.gid else { return Ok(()) };
    let mask = if read_only { READ_ONLY } else { READ_WRITE };
    if fs_group.only_on_root_mismatch {
        let metadata = fs::symlink_metadata(root).map_err(SetUpError::io("reading", root))?;
        let wanted = mask | SET_GID | EXECUTE;
        if metadata.gid() == gid && metadata.mode() & wanted == wanted {
            return Ok(());
        }
    }
    apply_to(root, gid, mask)
}

fn apply_to(path: &Path, gid: u32, mask: u32) -> Result<(), SetUpError> {
    let metadata = fs::symlink_metadata(path).map_err(SetUpError::io("reading", path))?;
    if metadata.is_dir() {
        // Children first, as a volume whose root is right counts as done.
        for entry in fs::read_dir(path).map_err(SetUpError::io("reading", path))? {
            let entry = entry.map_err(SetUpError::io("reading", path))?;
            match apply_to(&entry.path(), gid, mask) {
                // Containers of the pod may be deleting files meanwhile.
                Err(SetUpError::Io { cause, .. }) if cause.kind() == std::io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
    }
    lchown(path, None, Some(gid)).map_err(SetUpError::io("setting the group of", path))?;
    // Setting a symlink's mode would change its target's.
    if metadata.is_symlink() {
        return Ok(());
    }
    let extra = if metadata.is_dir() { mask | EXECUTE | SET_GID } else { mask };
    fs::set_permissions(path, fs::Permissions::from_mode((metadata.mode() & 0o7777) | extra)).map_err(SetUpError::io("setting the mode of", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_gets_what_the_volume_allows() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("d/f");
        fs::create_dir(root.path().join("d")).unwrap();
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", root.path().join("link")).unwrap();
        let before = fs::metadata("/etc/passwd").unwrap();
        apply(root.path(), FsGroup { gid: Some(4321), only_on_root_mismatch: false }, true).unwrap();
        let metadata = fs::metadata(&file).unwrap();
        assert_eq!((metadata.gid(), metadata.mode() & 0o7777), (4321, 0o640));
        apply(root.path(), FsGroup { gid: Some(4321), only_on_root_mismatch: false }, false).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o660);
        assert_eq!(fs::metadata(root.path().join("d")).unwrap().mode() & 0o2770, 0o2770);
        let after = fs::metadata("/etc/passwd").unwrap();
        assert_eq!((before.mode(), before.gid()), (after.mode(), after.gid()));
    }

    #[test]
    fn on_root_mismatch_leaves_a_right_root_alone() {
        let root = tempfile::tempdir().unwrap();
        let policy = FsGroup { gid: Some(4321), only_on_root_mismatch: true };
        apply(root.path(), policy, false).unwrap();
        fs::write(root.path().join("new"), "").unwrap();
        lchown(root.path().join("new"), None, Some(0)).unwrap();
        apply(root.path(), policy, false).unwrap();
        assert_eq!(fs::metadata(root.path().join("new")).unwrap().gid(), 0);
    }
}
