//! File watches: the kernel's notes of changes to a file, also when another takes over its name.
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::Path;
use tokio::io::unix::AsyncFd;

/// What happened to the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileChange {
    Written,
    /// Another file has the name now.
    Created,
}

/// The kernel's notes of changes to one file, by its name.
pub struct FileWatch {
    inotify: AsyncFd<Descriptor>,
    name: OsString,
}

struct Descriptor(Inotify);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl FileWatch {
    pub fn start(path: &Path) -> io::Result<Self> {
        let directory = path.parent().unwrap_or(Path::new("/"));
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        // The directory, as the file itself changes with each rotation.
        inotify.add_watch(directory, AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO)?;
        // SAFETY: a Descriptor owns its inotify instance and never gives it away or replaces it, so that its file
        // descriptor stays open and the same while it is registered.
        let inotify = unsafe { AsyncFd::register(Descriptor(inotify))? };
        Ok(Self { inotify, name: path.file_name().unwrap_or(OsStr::new("")).to_owned() })
    }

    /// The next change. Safe to drop halfway.
    pub async fn changed(&mut self) -> io::Result<FileChange> {
        loop {
            let mut ready = self.inotify.readable().await?;
            let Ok(events) = ready.try_io(|inotify| Ok(inotify.get_ref().0.read_events()?)) else { continue };
            let mut change = None;
            for event in events? {
                // Notes were lost: the worst may have happened.
                let lost = event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW);
                if lost || event.name.as_deref() == Some(&self.name) {
                    let created = lost || event.mask.intersects(AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO);
                    change = if created { Some(FileChange::Created) } else { change.or(Some(FileChange::Written)) };
                }
            }
            if let Some(change) = change {
                return Ok(change);
            }
        }
    }
}
