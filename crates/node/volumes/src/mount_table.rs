//! The mount table: which mounts lie below a directory, and taking them away.
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::FileStat;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Whether something is mounted right at this directory.
pub fn is_mount_point(directory: &Path) -> io::Result<bool> {
    let parent = directory.parent().unwrap_or(Path::new("/"));
    Ok(fs::symlink_metadata(directory)?.dev() != fs::symlink_metadata(parent)?.dev())
}

/// Whether a path shows this very file or directory, as after a bind mount of it.
pub fn is_same_mount_source(path: &Path, source: &FileStat) -> io::Result<bool> {
    let metadata = fs::symlink_metadata(path)?;
    Ok(metadata.dev() == source.st_dev && metadata.ino() == source.st_ino)
}

/// Unmounts everything at or below a directory, innermost first, also mounts stacked on each other.
pub fn unmount_below(directory: &Path) -> io::Result<()> {
    let mut points = mount_points(&fs::read("/proc/self/mountinfo")?);
    points.retain(|point| point.starts_with(directory));
    // The table is in mount order, so the last one at a place is the one on top.
    for point in points.iter().rev() {
        umount2(point, MntFlags::UMOUNT_NOFOLLOW)?;
    }
    Ok(())
}

/// The fifth field of each line, unescaped.
fn mount_points(table: &[u8]) -> Vec<PathBuf> {
    table.split(|b| *b == b'\n').filter_map(|line| line.split(|b| *b == b' ').nth(4)).map(|field| OsString::from_vec(unescaped(field)).into()).collect()
}

/// The kernel writes blank, tab, newline and backslash as `\ooo`.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        match (first, tail) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_unescaped() {
        let table = b"36 35 98:0 /mnt1 /mnt\\0402/\\134x rw,noatime master:1 - ext3 /dev/root rw\n37 35 0:1 / /b rw - tmpfs t rw\n";
        assert_eq!(mount_points(table), [PathBuf::from("/mnt 2/\\x"), PathBuf::from("/b")]);
    }
}
