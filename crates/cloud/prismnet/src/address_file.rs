//! AddressFile: a node's leases on disk, changed by one process at a time and never left half-written.
use crate::{AddressPool, Error};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The leases in a directory: `addresses.json`, guarded by a lock on `addresses.lock`.
#[derive(Clone, Debug)]
pub struct AddressFile {
    directory: PathBuf,
}

impl AddressFile {
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// Reads the leases, lets `change` alter them, and writes them back if it did and did not fail.
    ///
    /// Processes wait for each other here. A process that dies in between leaves the old leases and no lock.
    pub fn change<T>(&self, change: impl FnOnce(&mut AddressPool) -> Result<T, Error>) -> Result<T, Error> {
        let _lock = self.lock()?;
        let before = self.read()?;
        let mut pool = before.clone();
        let result = change(&mut pool)?;
        if pool != before {
            self.write(&pool)?;
        }
        Ok(result)
    }

    /// The leases as they are; nothing is locked, since the file is only ever replaced.
    pub fn read(&self) -> Result<AddressPool, Error> {
        let path = self.path();
        let boot = boot_id()?;
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(Error::File { path, source: error }),
        };
        // Empty is what a loss of power leaves of a file that was just replaced; no namespace outlived that.
        if bytes.is_empty() {
            return Ok(AddressPool { boot, ..AddressPool::default() });
        }
        let pool: AddressPool = serde_json::from_slice(&bytes).map_err(|error| Error::AddressFile { path, reason: error.to_string() })?;
        Ok(if pool.boot == boot { pool } else { AddressPool { boot, ..AddressPool::default() } })
    }

    fn lock(&self) -> Result<File, Error> {
        fs::create_dir_all(&self.directory).map_err(Error::file(&self.directory))?;
        let path = self.directory.join("addresses.lock");
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(Error::file(&path))?;
        file.lock().map_err(Error::file(&path))?;
        Ok(file)
    }

    fn write(&self, pool: &AddressPool) -> Result<(), Error> {
        let bytes = serde_json::to_vec(pool).expect("leases always encode");
        replace(&self.path(), &bytes, 0o600)
    }

    fn path(&self) -> PathBuf {
        self.directory.join("addresses.json")
    }
}

/// Puts `bytes` at `path` at once: readers see the old or the new, never a part.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(mode).open(&new).map_err(Error::file(&new))?;
    io::Write::write_all(&mut file, bytes).map_err(Error::file(&new))?;
    drop(file);
    fs::rename(&new, path).map_err(Error::file(path))
}

fn boot_id() -> Result<String, Error> {
    let path = "/proc/sys/kernel/random/boot_id";
    Ok(fs::read_to_string(path).map_err(Error::file(path))?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Lease;
    use std::collections::BTreeSet;

    fn lease(container: usize) -> Lease {
        Lease { container: container.to_string(), interface: "eth0".into(), namespace: String::new(), identity: (0, 0), cluster: 0, pod: None, held: false }
    }

    #[test]
    fn many_at_once_never_share_an_address() {
        let directory = tempfile::tempdir().unwrap();
        let file = AddressFile::new(directory.path());
        let addresses: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..32)
                .map(|n| (n, file.clone()))
                .map(|(n, file)| scope.spawn(move || file.change(|pool| pool.lease("10.0.0.0/24".parse().unwrap(), lease(n))).unwrap()))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(addresses.iter().collect::<BTreeSet<_>>().len(), 32);
        assert_eq!(file.read().unwrap().leases.len(), 32);
    }

    #[test]
    fn a_failed_change_changes_nothing_and_a_boot_ends_all_leases() {
        let directory = tempfile::tempdir().unwrap();
        let file = AddressFile::new(directory.path());
        let range = "10.0.0.0/30".parse().unwrap();
        file.change(|pool| pool.lease(range, lease(1))).unwrap();
        assert!(file.change(|pool| pool.lease(range, lease(2))).is_err());
        assert_eq!(file.read().unwrap().leases.len(), 1);
        file.change(|pool| {
            pool.boot = "another boot".into();
            Ok(())
        })
        .unwrap();
        assert!(file.read().unwrap().leases.is_empty());
        fs::write(directory.path().join("addresses.json"), "{").unwrap();
        assert!(file.read().unwrap_err().to_string().contains("damaged"));
    }
}
