//! Images: sparse files, made, and copied without their holes or, where the file system can, without their data.
use crate::Error;
use nix::errno::Errno;
use nix::libc;
use nix::unistd::{Whence, lseek};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

const FICLONE: libc::Ioctl = 0x4004_9409u32 as libc::Ioctl;

/// A new file of this size that takes no space.
pub fn create(path: &Path, size: u64) -> Result<(), Error> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(Error::io("creating", path))?;
    file.set_len(size).map_err(Error::io("sizing", path))?;
    file.sync_all().map_err(Error::io("writing", path))
}

/// Makes it this large, with a hole at its end.
pub fn grow(path: &Path, size: u64) -> Result<(), Error> {
    let file = OpenOptions::new().write(true).open(path).map_err(Error::io("opening", path))?;
    file.set_len(size).and_then(|()| file.sync_all()).map_err(Error::io("sizing", path))
}

/// Fills its holes, and what it lacks to this size, with room on the disk that reads as zeros.
pub fn allocate(path: &Path, size: u64) -> Result<(), Error> {
    let file = OpenOptions::new().write(true).open(path).map_err(Error::io("opening", path))?;
    let size = libc::off_t::try_from(size).map_err(|_| Error::OutOfRange(format!("{size} bytes are more than a file can have")))?;
    loop {
        match nix::fcntl::fallocate(&file, nix::fcntl::FallocateFlags::empty(), 0, size) {
            Err(Errno::EINTR) => {}
            Err(Errno::EOPNOTSUPP) => return Err(Error::Invalid(format!("the file system of {} can't take room in advance", path.display()))),
            other => {
                return other.map_err(|errno| Error::io("allocating", path)(errno.into())).and_then(|()| file.sync_all().map_err(Error::io("writing", path)));
            }
        }
    }
}

/// Whether `to` shares its blocks with `from` now; if it can't, it is left empty.
pub fn share(from: &Path, to: &Path) -> Result<bool, Error> {
    let source = File::open(from).map_err(Error::io("opening", from))?;
    let target = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(to).map_err(Error::io("creating", to))?;
    // SAFETY: the request's argument is a file descriptor, which is open.
    match Errno::result(unsafe { libc::ioctl(target.as_raw_fd(), FICLONE, source.as_raw_fd()) }) {
        Ok(_) => target.sync_all().map(|()| true).map_err(Error::io("writing", to)),
        Err(Errno::EOPNOTSUPP | Errno::ENOTTY | Errno::EXDEV | Errno::EINVAL | Errno::ENOSYS) => Ok(false),
        Err(errno) => Err(Error::io("cloning to", to)(errno.into())),
    }
}

/// Copies the data; holes stay holes.
pub fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    let source = File::open(from).map_err(Error::io("opening", from))?;
    let target = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(to).map_err(Error::io("creating", to))?;
    copy_data(&source, &target).map_err(Error::io("copying to", to))
}

fn copy_data(source: &File, target: &File) -> io::Result<()> {
    let size = source.metadata()?.len();
    target.set_len(size)?;
    let mut at = 0;
    loop {
        at = match lseek(source, at, Whence::SeekData) {
            Ok(at) => at,
            // No data from here on.
            Err(Errno::ENXIO) => break,
            Err(errno) => return Err(errno.into()),
        };
        let end = lseek(source, at, Whence::SeekHole).map_err(io::Error::from)?;
        let (mut from, mut to) = (at, at);
        while from < end {
            let left = usize::try_from((end - from).min(1 << 30)).expect("at most a GiB");
            if nix::fcntl::copy_file_range(source, Some(&mut from), target, Some(&mut to), left).map_err(io::Error::from)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        at = end;
    }
    target.sync_all()
}

/// Replaces a file as a whole: readers see the old one or the new one, also after a crash.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let new = path.with_extension("new");
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().map_err(Error::io("writing", path))?;
    path.parent().map_or(Ok(()), sync_directory)
}

/// What was made or renamed in a directory is there after a crash.
pub fn sync_directory(path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(Error::io("syncing", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{FileExt, MetadataExt};

    #[test]
    fn a_copy_has_the_same_data_and_the_same_holes() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("a"), directory.path().join("b"));
        create(&from, 1 << 30).unwrap();
        let file = OpenOptions::new().write(true).open(&from).unwrap();
        file.write_all_at(b"begin", 0).unwrap();
        file.write_all_at(b"middle", 500 << 20).unwrap();
        copy(&from, &to).unwrap();
        let copied = File::open(&to).unwrap();
        let mut text = [0; 6];
        copied.read_exact_at(&mut text, 500 << 20).unwrap();
        assert_eq!(&text, b"middle");
        assert_eq!(copied.metadata().unwrap().len(), 1 << 30);
        assert!(copied.metadata().unwrap().blocks() * 512 < 1 << 20, "holes were filled");
        allocate(&to, 1 << 20).unwrap();
        copied.read_exact_at(&mut text, 500 << 20).unwrap();
        assert_eq!(&text, b"middle");
        assert!(copied.metadata().unwrap().len() == 1 << 30 && copied.metadata().unwrap().blocks() * 512 >= 1 << 20);
    }
}
