//! Files that are either wholly written or not there, with the mode asked for from their first byte.
use crate::PkiError;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

pub(crate) const PUBLIC: u32 = 0o644;
pub(crate) const SECRET: u32 = 0o600;

/// Writes `contents` to `path` with `mode`: a crash leaves the old file or the new one, never a part.
pub fn write_atomically(path: &Path, contents: &[u8], mode: u32) -> Result<(), PkiError> {
    let failed = |source: io::Error| PkiError::Io { action: "writing", path: path.to_owned(), source };
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or_else(|| failed(io::Error::from(io::ErrorKind::InvalidInput)))?.to_string_lossy();
    let temporary = directory.join(format!(".{name}.{}.new", clock::random_suffix(8)));
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(contents)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(directory)?.sync_all()
    };
    write().map_err(|error| {
        // The half-written file is of no use; that it can't be removed adds nothing to the first error.
        let _ = fs::remove_file(&temporary);
        failed(error)
    })
}

/// The text of a file, `None` when there is none.
pub(crate) fn read(path: &Path) -> Result<Option<String>, PkiError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(PkiError::Io { action: "reading", path: path.to_owned(), source }),
    }
}

pub(crate) fn create_directory(path: &Path) -> Result<(), PkiError> {
    fs::create_dir_all(path).map_err(|source| PkiError::Io { action: "creating directory", path: path.to_owned(), source })
}
