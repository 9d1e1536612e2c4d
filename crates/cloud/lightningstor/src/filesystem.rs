//! File systems on devices: made, checked, mounted, grown, frozen.
use crate::{Error, Filesystem, FilesystemKind, mounts};
use nix::errno::Errno;
use nix::libc;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;

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
    run(if kind == FilesystemKind::Ext4 { "mkfs.ext4" } else { "mkfs.xfs" }, command.arg(device), 0)
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

/// Holds up writes to a file system, with everything written before on its device, until it is dropped.
pub fn freeze(point: &Path) -> Result<Frozen, Error> {
    let file = File::open(point).map_err(Error::io("opening", point))?;
    // SAFETY: the request takes no argument that it would use.
    match Errno::result(unsafe { libc::ioctl(file.as_raw_fd(), FIFREEZE, 0) }) {
        Ok(_) => Ok(Frozen { file, point: point.to_owned() }),
        Err(errno) => Err(Error::io("freezing", point)(errno.into())),
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

fn tool(name: &str) -> Command {
    // Services are often started without the directories of administrators in their path.
    let places = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(|place| Path::new(place).join(name));
    Command::new(places.iter().find(|place| place.exists()).map_or(Path::new(name), PathBuf::as_path))
}

fn run(name: &'static str, command: &mut Command, most: i32) -> Result<(), Error> {
    let output = command.output().map_err(|cause| Error::Tool { tool: name, output: cause.to_string() })?;
    if output.status.code().is_some_and(|code| code <= most) {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    Err(Error::Tool { tool: name, output: format!("{}: {}", output.status, String::from_utf8_lossy(&text).trim()) })
}
