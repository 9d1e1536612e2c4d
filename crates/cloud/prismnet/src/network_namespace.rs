//! NetworkNamespace: a network namespace by its path, to look into and to act in.
use crate::Error;
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// An open network namespace: it lives at least as long as this.
#[derive(Debug)]
pub struct NetworkNamespace {
    path: PathBuf,
    file: File,
}

impl NetworkNamespace {
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        match File::open(&path) {
            Ok(file) => Ok(Self { path, file }),
            Err(source) => Err(Error::Namespace { path, source }),
        }
    }

    /// Runs `action` inside, on a thread of its own: the caller's threads stay where they are.
    pub fn enter<T: Send>(&self, action: impl FnOnce() -> T + Send) -> Result<T, Error> {
        let entered = std::thread::scope(|scope| {
            let thread = scope.spawn(|| -> io::Result<T> {
                setns(&self.file, CloneFlags::CLONE_NEWNET)?;
                Ok(action())
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        entered.map_err(|source| Error::Namespace { path: self.path.clone(), source })
    }

    /// Device and inode: what tells one namespace from another at the same path.
    pub fn identity(&self) -> Result<(u64, u64), Error> {
        let metadata = self.file.metadata().map_err(Error::file(&self.path))?;
        Ok((metadata.dev(), metadata.ino()))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn descriptor(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

/// Device and inode of what is at `path` now; `None` when nothing is.
pub(crate) fn identity_at(path: &str) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}
