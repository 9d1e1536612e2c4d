//! Mounts: which there are, and how they are made and taken away; each call may be repeated.
use crate::Error;
use clock::{Clock, SystemClock};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const TABLE: &str = "/proc/self/mountinfo";

/// How long a mount may stay in use after it is asked to go.
const BUSY: Duration = Duration::from_secs(5);
const BUSY_STEP: Duration = Duration::from_millis(10);

/// A line of the mount table.
struct Entry {
    /// `major:minor`.
    device: String,
    /// What of the file system is mounted.
    root: PathBuf,
    point: PathBuf,
}

fn table() -> Result<Vec<Entry>, Error> {
    let text = fs::read(TABLE).map_err(Error::io("reading", TABLE))?;
    let lines = text.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ').skip(2);
        let device = String::from_utf8_lossy(fields.next()?).into_owned();
        Some(Entry { device, root: path(fields.next()?), point: path(fields.next()?) })
    });
    Ok(lines.collect())
}

fn path(field: &[u8]) -> PathBuf {
    let mut out = Vec::with_capacity(field.len());
    let mut at = 0;
    while at < field.len() {
        // The kernel writes blank, tab, newline and backslash in octal.
        let octal = field.get(at + 1..at + 4).and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match (field[at], octal) {
            (b'\\', Some(byte)) => {
                out.push(byte);
                at += 4;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    OsString::from_vec(out).into()
}

fn number(device: &Path) -> Result<String, Error> {
    let number = fs::metadata(device).map_err(Error::io("reading", device))?.rdev();
    Ok(format!("{}:{}", nix::sys::stat::major(number), nix::sys::stat::minor(number)))
}

/// Where a device is in use: its file system's mounts, and the binds of the device itself.
pub fn of_device(device: &Path) -> Result<Vec<PathBuf>, Error> {
    let number = number(device)?;
    let name = device.file_name().map(|name| Path::new("/").join(name));
    let binds = |entry: &Entry| Some(&entry.root) == name.as_ref() && fs::metadata(&entry.point).is_ok_and(|of| of.rdev() != 0 && same(of.rdev(), &number));
    Ok(table()?.into_iter().filter(|entry| entry.device == number || binds(entry)).map(|entry| entry.point).collect())
}

fn same(number: u64, as_text: &str) -> bool {
    format!("{}:{}", nix::sys::stat::major(number), nix::sys::stat::minor(number)) == as_text
}

/// Whether something is mounted right here.
pub fn is_mounted(point: &Path) -> Result<bool, Error> {
    let point = point.canonicalize().unwrap_or_else(|_| point.to_owned());
    Ok(table()?.iter().any(|entry| entry.point == point))
}

/// Whether this device's file system is mounted right here.
pub fn is_mounted_from(device: &Path, point: &Path) -> Result<bool, Error> {
    let (number, point) = (number(device)?, point.canonicalize().unwrap_or_else(|_| point.to_owned()));
    // The last one lies on top.
    Ok(table()?.iter().rfind(|entry| entry.point == point).is_some_and(|entry| entry.device == number))
}

/// Mounts a device's file system, with options as `mount -o` takes them.
pub fn mount_device(device: &Path, point: &Path, kind: &str, options: &[String]) -> Result<(), Error> {
    let (mut flags, mut data) = (MsFlags::empty(), Vec::new());
    for option in options.iter().flat_map(|option| option.split(',')).filter(|option| !option.is_empty()) {
        match option {
            "ro" => flags |= MsFlags::MS_RDONLY,
            "rw" | "defaults" => {}
            "noatime" => flags |= MsFlags::MS_NOATIME,
            "nodiratime" => flags |= MsFlags::MS_NODIRATIME,
            "relatime" => flags |= MsFlags::MS_RELATIME,
            "strictatime" => flags |= MsFlags::MS_STRICTATIME,
            "lazytime" => flags |= MsFlags::MS_LAZYTIME,
            "nosuid" => flags |= MsFlags::MS_NOSUID,
            "nodev" => flags |= MsFlags::MS_NODEV,
            "noexec" => flags |= MsFlags::MS_NOEXEC,
            "sync" => flags |= MsFlags::MS_SYNCHRONOUS,
            "dirsync" => flags |= MsFlags::MS_DIRSYNC,
            other => data.push(other),
        }
    }
    let data = data.join(",");
    mount(Some(device), point, Some(kind), flags, Some(data.as_str())).map_err(|errno| match errno {
        Errno::EINVAL if !data.is_empty() => Error::Invalid(format!("mounting {kind} at {} with options {data:?}: {}", point.display(), errno.desc())),
        _ => Error::io("mounting at", point)(errno.into()),
    })
}

/// Shows `from` at `to`, which exists.
pub fn bind(from: &Path, to: &Path, read_only: bool) -> Result<(), Error> {
    let failed = |errno: Errno| Error::io("mounting at", to)(errno.into());
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(failed)?;
    if read_only {
        // A bind takes its own flags only when it is mounted again.
        remount_read_only(to)?;
    }
    Ok(())
}

/// Makes one mount read-only. May be repeated.
pub fn remount_read_only(point: &Path) -> Result<(), Error> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(None::<&str>, point, None::<&str>, flags, None::<&str>).map_err(|errno| Error::io("mounting read-only at", point)(errno.into()))
}

/// Unmounts whatever is mounted right here, also several on top of each other.
///
/// Whoever has a file open there gets a moment to close it: a snapshot that holds writes up, or a tool that an earlier process left behind.
pub fn unmount(point: &Path) -> Result<(), Error> {
    let clock = SystemClock;
    let until = clock.instant() + BUSY;
    while is_mounted(point)? {
        match umount2(point, MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            // The kernel tells nobody when the last file is closed.
            Err(Errno::EBUSY) if clock.instant() < until => std::thread::sleep(BUSY_STEP),
            Err(Errno::EBUSY) => return Err(Error::FailedPrecondition(format!("{} is in use: a process has files of it open", point.display()))),
            Err(errno) => return Err(Error::io("unmounting", point)(errno.into())),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_that_is_in_use_goes_once_it_is_let_go() {
        let directory = tempfile::tempdir().unwrap();
        mount(Some("none"), directory.path(), Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        let held = fs::File::create(directory.path().join("held")).unwrap();
        let holder = std::thread::spawn(move || {
            std::thread::sleep(BUSY_STEP * 10);
            drop(held);
        });
        let gone = unmount(directory.path());
        holder.join().unwrap();
        if gone.is_err() {
            umount2(directory.path(), MntFlags::MNT_DETACH).unwrap();
        }
        gone.unwrap();
        assert!(!is_mounted(directory.path()).unwrap());
    }

    #[test]
    fn points_are_unescaped() {
        assert_eq!(path(b"/mnt\\0402/\\134x\\"), PathBuf::from("/mnt 2/\\x\\"));
    }
}
