//! Log files: reads a container's log to its end, and on from there, across rotation, until the container stops.
use super::file_watch::{FileChange, FileWatch};
use super::log_lines::LogFilter;
use super::log_options::LogOptions;
use super::tail::start_of_last_lines;
use bytes::Bytes;
use std::io::{self, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::mpsc;

/// An opened log, at the place where reading starts.
pub struct LogFile {
    path: PathBuf,
    reader: BufReader<File>,
}

/// Output is passed on in pieces of about this many bytes, and whenever the end of the file is reached.
const PIECE: usize = 32 * 1024;
const READ_SIZE: usize = 64 * 1024;

impl LogFile {
    /// # Errors
    /// With upstream's text, when the file is not there.
    pub async fn open(path: &Path, options: &LogOptions) -> Result<Self, String> {
        let (given, lines) = (path.to_owned(), options.tail_lines);
        let opened: Result<_, String> = tokio::task::spawn_blocking(move || {
            let shown = given.display();
            let path = given.canonicalize().map_err(|error| format!("failed to try resolving symlinks in path \"{shown}\": {error}"))?;
            let mut file = std::fs::File::open(&path).map_err(|error| format!("failed to open log file \"{shown}\": {error}"))?;
            if let Some(lines) = lines {
                let tail = |file: &mut std::fs::File| -> io::Result<u64> {
                    let start = start_of_last_lines(file, lines)?;
                    file.seek(SeekFrom::Start(start))
                };
                tail(&mut file).map_err(|error| format!("failed to tail {lines} lines of log file \"{shown}\": {error}"))?;
            }
            Ok((path, file))
        })
        .await
        .map_err(|error| error.to_string())?;
        let (path, file) = opened?;
        Ok(Self { path, reader: BufReader::with_capacity(READ_SIZE, File::from_std(file)) })
    }

    /// Passes on what the options ask for. When following, goes on until `stopped` resolves and the rest is read,
    /// or until nobody receives any more.
    pub async fn copy(mut self, options: &LogOptions, stopped: impl Future<Output = ()>, output: mpsc::Sender<Bytes>) -> io::Result<()> {
        let mut filter = LogFilter::new(options);
        let (mut line, mut piece) = (Vec::new(), Vec::new());
        let (mut watch, mut rotated, mut finished) = (None, false, false);
        let mut stopped = std::pin::pin!(stopped);
        while !filter.is_done() {
            // A line cut off by the end of the file stays in `line` and is completed by the next read.
            self.reader.read_until(b'\n', &mut line).await?;
            let whole = line.ends_with(b"\n");
            if whole || (!options.follow && !line.is_empty()) {
                filter.show(&line, &mut piece);
                line.clear();
            }
            if whole && piece.len() < PIECE {
                continue;
            }
            if !piece.is_empty() && output.send(std::mem::take(&mut piece).into()).await.is_err() {
                return Ok(());
            }
            if whole {
                continue;
            }
            // The end of the file. Whatever came into it before it was rotated or finished has been read.
            if !options.follow {
                return Ok(());
            }
            if rotated && self.reopen().await? {
                (rotated, line) = (false, Vec::new());
                continue;
            }
            if finished {
                return Ok(());
            }
            let Some(watch) = &mut watch else {
                // Read once more, as lines may have come before the watch did.
                watch = Some(FileWatch::start(&self.path)?);
                continue;
            };
            tokio::select! {
                change = watch.changed() => rotated |= change? == FileChange::Created,
                () = &mut stopped, if !finished => finished = true,
                () = output.closed() => return Ok(()),
            }
        }
        if !piece.is_empty() {
            // An error only says that nobody receives any more.
            let _ = output.send(piece.into()).await;
        }
        Ok(())
    }

    /// Goes over to the file that has the name now; false when there is none yet.
    async fn reopen(&mut self) -> io::Result<bool> {
        match File::open(&self.path).await {
            Ok(file) => self.reader = BufReader::with_capacity(READ_SIZE, file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;
    use std::time::Duration;
    use tokio::sync::oneshot;

    fn append(path: &Path, text: &str) {
        let mut file = fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(format!("2026-01-01T00:00:00Z stdout F {text}\n").as_bytes()).unwrap();
    }

    async fn receive(receiver: &mut mpsc::Receiver<Bytes>, expected: &str) {
        let mut seen = Vec::new();
        while seen.len() < expected.len() {
            seen.extend(tokio::time::timeout(Duration::from_secs(5), receiver.recv()).await.expect("in time").expect("output goes on"));
        }
        assert_eq!(String::from_utf8(seen).unwrap(), expected);
    }

    #[tokio::test]
    async fn following_goes_over_rotation_and_ends_with_the_container() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log");
        append(&path, "one");
        append(&path, "two");
        let options = LogOptions { follow: true, tail_lines: Some(1), ..LogOptions::default() };
        let log = LogFile::open(&path, &options).await.unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let (sender, mut receiver) = mpsc::channel(4);
        let task = tokio::spawn(async move { log.copy(&options, async { stopped.await.unwrap() }, sender).await });
        receive(&mut receiver, "two\n").await;
        append(&path, "three");
        receive(&mut receiver, "three\n").await;
        let rotated = directory.path().join("0.log.20260101");
        fs::rename(&path, &rotated).unwrap();
        append(&rotated, "late");
        append(&path, "four");
        receive(&mut receiver, "late\nfour\n").await;
        append(&path, "last");
        stop.send(()).unwrap();
        receive(&mut receiver, "last\n").await;
        assert!(receiver.recv().await.is_none());
        task.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_follower_that_left_ends_the_reading() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log");
        append(&path, "one");
        let options = LogOptions { follow: true, ..LogOptions::default() };
        let log = LogFile::open(&path, &options).await.unwrap();
        let (sender, mut receiver) = mpsc::channel(4);
        let task = tokio::spawn(async move { log.copy(&options, std::future::pending(), sender).await });
        receive(&mut receiver, "one\n").await;
        drop(receiver);
        tokio::time::timeout(Duration::from_secs(5), task).await.unwrap().unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_missing_log_says_so() {
        let error = LogFile::open(Path::new("/nowhere/0.log"), &LogOptions::default()).await.err().unwrap();
        assert!(error.starts_with("failed to try resolving symlinks in path \"/nowhere/0.log\""), "{error}");
    }
}
