//! Loop devices: block devices over image files.
use crate::{Attributes, Error};
use nix::errno::Errno;
use nix::libc;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const LOOP_CLR_FD: libc::Ioctl = 0x4C01;
const LOOP_SET_CAPACITY: libc::Ioctl = 0x4C07;
const LOOP_CONFIGURE: libc::Ioctl = 0x4C0A;
const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4C82;
const FLAG_READ_ONLY: u32 = 1;
const FLAG_DIRECT_IO: u32 = 16;
/// Others look for free devices, too.
const ATTEMPTS: usize = 64;

/// `struct loop_info64` of `linux/loop.h`.
#[repr(C)]
struct Info {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config` of `linux/loop.h`.
#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

/// The device of an image, found or made.
pub fn ensure(image: &Path, read_only: bool) -> Result<PathBuf, Error> {
    if let Some(device) = find(image)? {
        return Ok(device);
    }
    let backing = OpenOptions::new().read(true).write(!read_only).open(image).map_err(Error::io("opening", image))?;
    let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control").map_err(Error::io("opening", "/dev/loop-control"))?;
    for _ in 0..ATTEMPTS {
        // SAFETY: the request takes no argument and returns a number.
        let number = Errno::result(unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) });
        let number = number.map_err(|errno| Error::io("finding a free loop device for", image)(errno.into()))?;
        let path = node(number.unsigned_abs())?;
        match configure(&path, &backing, image, read_only) {
            Err(error) if error.raw_os_error() == Some(Errno::EBUSY as i32) => {}
            Ok(()) => return Ok(path),
            Err(error) => return Err(Error::io("setting up a loop device for", image)(error)),
        }
    }
    Err(Error::FailedPrecondition(format!("no loop device is free for {}", image.display())))
}

/// Has the device read ahead as its volume's attributes say.
pub fn tune(device: &Path, attributes: &Attributes) -> Result<(), Error> {
    let Some(kib) = attributes.read_ahead else { return Ok(()) };
    let path = Path::new("/sys/block").join(device.file_name().unwrap_or_default()).join("queue/read_ahead_kb");
    fs::write(&path, kib.to_string()).map_err(Error::io("writing", path))
}

/// The device over an image, if there is one.
pub fn find(image: &Path) -> Result<Option<PathBuf>, Error> {
    let image = image.canonicalize().unwrap_or_else(|_| image.to_owned());
    let block = Path::new("/sys/block");
    for entry in fs::read_dir(block).map_err(Error::io("reading", block))? {
        let entry = entry.map_err(Error::io("reading", block))?;
        let name = entry.file_name();
        let Some(number) = name.to_str().and_then(|name| name.strip_prefix("loop")).and_then(|number| number.parse().ok()) else { continue };
        // It may go at any moment, and devices without an image have no such file.
        let Ok(backing) = fs::read(entry.path().join("loop/backing_file")) else { continue };
        if backing.strip_suffix(b"\n").unwrap_or(&backing) == image.as_os_str().as_bytes() {
            return node(number).map(Some);
        }
    }
    Ok(None)
}

/// Takes the device of an image away, if there is one.
pub fn release(image: &Path) -> Result<(), Error> {
    let Some(device) = find(image)? else { return Ok(()) };
    let file = File::open(&device).map_err(Error::io("opening", &device))?;
    // SAFETY: the request takes no argument.
    match Errno::result(unsafe { libc::ioctl(file.as_raw_fd(), LOOP_CLR_FD) }) {
        // Somebody else has released it just now.
        Ok(_) | Err(Errno::ENXIO) => Ok(()),
        Err(errno) => Err(Error::io("releasing", device)(errno.into())),
    }
}

/// Makes the device as large as its image has become.
pub fn grow(device: &Path) -> Result<(), Error> {
    let file = File::open(device).map_err(Error::io("opening", device))?;
    // SAFETY: the request takes no argument.
    Errno::result(unsafe { libc::ioctl(file.as_raw_fd(), LOOP_SET_CAPACITY) }).map_err(|errno| Error::io("growing", device)(errno.into()))?;
    Ok(())
}

fn configure(device: &Path, backing: &File, image: &Path, read_only: bool) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(!read_only).open(device)?;
    let flags = if read_only { FLAG_READ_ONLY } else { 0 };
    let with = |flags| {
        let mut file_name = [0; 64];
        let name = image.as_os_str().as_bytes();
        // Only for people to read; the kernel knows the file itself.
        let tail = &name[name.len().saturating_sub(63)..];
        file_name[..tail.len()].copy_from_slice(tail);
        let info = Info {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            size_limit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags,
            file_name,
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
        };
        let config = Config { fd: backing.as_raw_fd().unsigned_abs(), block_size: 0, info, reserved: [0; 8] };
        // SAFETY: the request reads one `struct loop_config`, which `Config` mirrors and which outlives the call.
        Errno::result(unsafe { libc::ioctl(file.as_raw_fd(), LOOP_CONFIGURE, &raw const config) }).map(drop)
    };
    // Pages of a volume would else be cached twice, and its writes acknowledged before they reach the disk.
    match with(flags | FLAG_DIRECT_IO) {
        // This file system can't.
        Err(Errno::EINVAL) => with(flags).map_err(io::Error::from),
        other => other.map_err(io::Error::from),
    }
}

/// The device file of a number; made where `/dev` does not come from the kernel, as in containers.
fn node(number: u32) -> Result<PathBuf, Error> {
    let path = PathBuf::from(format!("/dev/loop{number}"));
    if !path.exists() {
        use nix::sys::stat::{Mode, SFlag, makedev, mknod};
        match mknod(&path, SFlag::S_IFBLK, Mode::from_bits_truncate(0o600), makedev(7, u64::from(number))) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(Error::io("creating", path)(errno.into())),
        }
    }
    Ok(path)
}
