//! The audit log: a JSON line per event, in a file that is set aside when it is large and deleted when it is old.
use super::AuditError;
use clock::Clock;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What the file that is set aside is named by, between the log's stem and its extension.
const STAMP: &str = "%Y-%m-%dT%H-%M-%S%.3f";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFileSettings {
    /// `-` for standard output.
    pub path: PathBuf,
    /// Days that files set aside are kept; 0: for ever.
    pub max_age: u64,
    /// How many of them are kept; 0: all.
    pub max_backups: usize,
    /// Megabytes a file may have before it is set aside; 0: 100.
    pub max_size: u64,
}

pub struct LogFile {
    settings: LogFileSettings,
    clock: Arc<dyn Clock>,
    /// `None`: standard output.
    open: Mutex<Option<Open>>,
}

struct Open {
    file: File,
    size: u64,
}

impl LogFile {
    /// Opens the log, to be continued if it is there.
    pub fn open(settings: LogFileSettings, clock: Arc<dyn Clock>) -> Result<Self, AuditError> {
        let open = if settings.path == Path::new("-") {
            None
        } else {
            let failed = |source| AuditError::Log { path: settings.path.clone(), source };
            if let Some(directory) = settings.path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
                fs::create_dir_all(directory).map_err(failed)?;
            }
            Some(open(&settings.path).map_err(failed)?)
        };
        Ok(Self { settings, clock, open: Mutex::new(open) })
    }

    /// Appends a line. When this returns the line is with the operating system.
    pub fn write(&self, line: &[u8]) {
        let mut open = self.open.lock();
        let result = match &mut *open {
            None => io::stdout().lock().write_all(line),
            Some(open) => self.append(open, line),
        };
        if let Err(error) = result {
            // The request has been carried out or not, whatever the log says.
            tracing::error!(%error, path = %self.settings.path.display(), "an audit event could not be written");
        }
    }

    fn append(&self, current: &mut Open, line: &[u8]) -> io::Result<()> {
        let limit = if self.settings.max_size == 0 { 100 } else { self.settings.max_size } << 20;
        if current.size > 0 && current.size + line.len() as u64 > limit {
            let aside = aside(&self.settings.path, self.clock.now());
            fs::rename(&self.settings.path, aside)?;
            *current = open(&self.settings.path)?;
            self.delete_old()?;
        }
        current.file.write_all(line)?;
        current.size += line.len() as u64;
        Ok(())
    }

    fn delete_old(&self) -> io::Result<()> {
        let directory = self.settings.path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut files = Vec::new();
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if let Some(at) = set_aside_at(&self.settings.path, &path) {
                files.push((at, path));
            }
        }
        files.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        let age = SignedDuration::from_hours(24) * i32::try_from(self.settings.max_age).unwrap_or(i32::MAX);
        let now = self.clock.now();
        for (index, (at, path)) in files.iter().enumerate() {
            let too_many = self.settings.max_backups > 0 && index >= self.settings.max_backups;
            let too_old = self.settings.max_age > 0 && now.duration_since(*at) > age;
            if too_many || too_old {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<Open> {
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    let size = file.metadata()?.len();
    Ok(Open { file, size })
}

/// `audit-2026-01-02T03-04-05.000.log` for `audit.log`.
fn aside(path: &Path, now: Timestamp) -> PathBuf {
    let part = |part: Option<&std::ffi::OsStr>| part.map(|part| part.to_string_lossy().into_owned()).unwrap_or_default();
    let (stem, extension) = (part(path.file_stem()), part(path.extension()));
    let dot = if extension.is_empty() { "" } else { "." };
    path.with_file_name(format!("{stem}-{}{dot}{extension}", now.strftime(STAMP)))
}

/// When a file was set aside that belongs to the log at `path`.
fn set_aside_at(path: &Path, file: &Path) -> Option<Timestamp> {
    if path.extension() != file.extension() {
        return None;
    }
    let name = file.file_name()?.to_str()?;
    let extension = path.extension().map_or(0, |extension| extension.len() + 1);
    let stamp = name[..name.len() - extension].strip_prefix(path.file_stem()?.to_str()?)?.strip_prefix('-')?;
    jiff::civil::DateTime::strptime("%Y-%m-%dT%H-%M-%S%.f", stamp).ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|at| at.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clock::ManualClock;
    use std::time::Duration;

    #[test]
    fn a_large_log_is_set_aside_and_old_ones_go() {
        let directory = tempfile::tempdir().unwrap();
        let clock = ManualClock::at("2026-01-02T03:04:05Z".parse().unwrap());
        let settings = LogFileSettings { path: directory.path().join("audit.log"), max_age: 2, max_backups: 2, max_size: 1 };
        let log = LogFile::open(settings.clone(), Arc::new(clock.clone())).unwrap();
        let line = vec![b'x'; 700 << 10];
        let names = || {
            let mut names: Vec<String> = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        fs::write(directory.path().join("audit-other.log"), "").unwrap();
        for _ in 0..4 {
            log.write(&line);
            clock.advance(Duration::from_secs(3600));
        }
        assert_eq!(names(), ["audit-2026-01-02T05-04-05.000.log", "audit-2026-01-02T06-04-05.000.log", "audit-other.log", "audit.log"]);
        clock.advance(Duration::from_secs(3 * 24 * 3600));
        log.write(&line);
        assert_eq!(names(), ["audit-2026-01-05T07-04-05.000.log", "audit-other.log", "audit.log"]);
        drop(log);
        LogFile::open(settings, Arc::new(clock)).unwrap().write(b"y\n");
        assert_eq!(fs::metadata(directory.path().join("audit.log")).unwrap().len(), line.len() as u64 + 2);
    }
}
