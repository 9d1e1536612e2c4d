//! File systems on devices: made, checked, mounted, grown, frozen.
use crate::tool::{run, tool};
use crate::{Error, Filesystem, FilesystemKind, mounts};
use nix::errno::Errno;
use nix::libc;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const FIFREEZE: libc::Ioctl = 0xC004_5877u32 as libc::Ioctl;
const FITHAW: libc::Ioctl = 0xC004_5878u32 as libc::Ioctl;

impl FilesystemKind {
    /// ext4, unless another is asked for.
    pub fn parse(name: &str) -> Result<Self, Error> {
        match name {
            "" | "ext4" => Ok(Self::Ext4),
            "xfs" => Ok(Self::Xfs),
            other => Err(Error::Invalid(format!("file system {other:?} is none of ext4, xfs"))),
        }
    }
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }
    /// What every mount of it needs here, beside what users ask for.
    fn options(self) -> &'static [&'static str] {
        match self {
            // What files free goes back to the thin image.
            Self::Ext4 => &["discard"],
            // A clone has its source's UUID, and both may be mounted.
            Self::Xfs => &["discard", "nouuid"],
        }
    }
}

/// Makes a file system. Whatever was on the device is gone.
pub fn format(device: &Path, kind: FilesystemKind) -> Result<(), Error> {
    let mut command = match kind {
        FilesystemKind::Ext4 => {
            let mut command = tool("mkfs.ext4");
            // The image is all holes: neither discarding it nor zeroing its tables tells it anything new.
            command.args(["-q", "-F", "-m0", "-E", "nodiscard,lazy_itable_init=1,lazy_journal_init=1"]);
            command
        }
        FilesystemKind::Xfs => {
            let mut command = tool("mkfs.xfs");
            command.args(["-q", "-f", "-K"]);
            command
        }
    };
    run(if kind == FilesystemKind::Ext4 { "mkfs.ext4" } else { "mkfs.xfs" }, command.arg(device), 0)?;
    if kind == FilesystemKind::Ext4 {
        // A new volume is empty, as databases want their directory; e2fsck makes it again where it finds something for it.
        run("debugfs", tool("debugfs").args(["-w", "-R", "rmdir lost+found"]).arg(device), 0)?;
    }
    Ok(())
}

/// Mounts a volume's file system where it is not mounted yet, as large as its device. Gives whether it grew.
pub fn mount(device: &Path, point: &Path, filesystem: Filesystem, size_bytes: u64, options: &[String]) -> Result<bool, Error> {
    if mounts::is_mounted_from(device, point)? {
        return Ok(false);
    }
    let grows = filesystem.size_bytes < size_bytes && !options.iter().any(|option| option == "ro");
    if filesystem.kind == FilesystemKind::Ext4 && !options.iter().any(|option| option == "ro") {
        // Replays the journal and mends what is safe to; 1 says that it did.
        run("e2fsck", tool("e2fsck").arg("-p").arg(device), 1)?;
        if grows {
            // Before it is mounted no capability is needed for it, but a full check is.
            run("e2fsck", tool("e2fsck").args(["-f", "-p"]).arg(device), 1)?;
            run("resize2fs", tool("resize2fs").arg(device), 0)?;
        }
    }
    let own = filesystem.kind.options().iter().map(|option| (*option).to_owned());
    let all: Vec<String> = own.chain(options.iter().cloned()).collect();
    mounts::mount_device(device, point, filesystem.kind.name(), &all)?;
    if grows && filesystem.kind == FilesystemKind::Xfs {
        grow(device, point, filesystem.kind)?;
    }
    Ok(grows)
}

/// Whether a file system that is mounted at these points gives back the room of what it frees.
pub fn give_back(points: &[PathBuf], gives: bool) -> Result<(), Error> {
    // Through a mount that is read-only the file system itself would become so.
    let writable =
        |point: &&PathBuf| nix::sys::statvfs::statvfs(point.as_path()).is_ok_and(|facts| !facts.flags().contains(nix::sys::statvfs::FsFlags::ST_RDONLY));
    let Some(point) = points.iter().find(writable) else { return Ok(()) };
    let option = if gives { "remount,discard" } else { "remount,nodiscard" };
    run("mount", tool("mount").args(["-o", option]).arg(point), 0)
}

/// Makes a mounted file system as large as its device.
pub fn grow(device: &Path, point: &Path, kind: FilesystemKind) -> Result<(), Error> {
    match kind {
        FilesystemKind::Ext4 => run("resize2fs", tool("resize2fs").arg(device), 0).map_err(|error| match error {
            Error::Tool { output, .. } if output.contains("Permission denied") => Error::FailedPrecondition(
                "a mounted ext4 can't grow here, as this process lacks CAP_SYS_RESOURCE: it will when its pods have ended and the next one starts".into(),
            ),
            other => other,
        }),
        FilesystemKind::Xfs => run("xfs_growfs", tool("xfs_growfs").arg(point), 0),
    }
}

/// Holds up writes to the file system of a device, with everything written before on the device, until it is dropped.
///
/// None where the device's file system is not mounted at this point (any more).
pub fn freeze(device: &Path, point: &Path) -> Result<Option<Frozen>, Error> {
    let file = match File::open(point) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(Error::io("opening", point))?,
    };
    let mounted = file.metadata().map_err(Error::io("reading", point))?.dev();
    // INVARIANT: nothing but a volume is ever frozen. Below a mount that has just gone lies the machine's own file system; an open one can't go.
    if mounted != fs::metadata(device).map_err(Error::io("reading", device))?.rdev() {
        return Ok(None);
    }
    // SAFETY: the request takes no argument that it would use.
    match Errno::result(unsafe { libc::ioctl(file.as_raw_fd(), FIFREEZE, 0) }) {
        Ok(_) => Ok(Some(Frozen { file, point: point.to_owned() })),
        Err(errno) => Err(Error::io("freezing", point)(errno.into())),
    }
}

/// Lets writes to the file system of a device go on that somebody who has died has held up.
pub fn thaw(device: &Path, point: &Path) -> Result<(), Error> {
    let file = match File::open(point) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened.map_err(Error::io("opening", point))?,
    };
    if file.metadata().map_err(Error::io("reading", point))?.dev() != fs::metadata(device).map_err(Error::io("reading", device))?.rdev() {
        return Ok(());
    }
    // SAFETY: the request takes no argument that it would use.
    match Errno::result(unsafe { libc::ioctl(file.as_raw_fd(), FITHAW, 0) }) {
        // It was not held up.
        Ok(_) | Err(Errno::EINVAL) => Ok(()),
        Err(errno) => Err(Error::io("thawing", point)(errno.into())),
    }
}

pub struct Frozen {
    file: File,
    point: PathBuf,
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // SAFETY: the request takes no argument that it would use.
        if let Err(errno) = Errno::result(unsafe { libc::ioctl(self.file.as_raw_fd(), FITHAW, 0) }) {
            tracing::error!(point = %self.point.display(), %errno, "a file system can't be thawed");
        }
    }
}
