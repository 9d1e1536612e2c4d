//! Log rotation: a running container's log is cut when it grows large, as the kubelet's is (10 MiB, 5 files).
use cri::v1::{ContainerFilter, ContainerState, ContainerStateValue};
use cri::{CriError, Runtime};
use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

const MOST_BYTES: u64 = 10 << 20;
/// With the one being written.
const MOST_FILES: usize = 5;

/// Rotates the logs of this runtime's running containers that are too long.
pub async fn rotate_logs(runtime: &Runtime, logs_root: &Path, now: Timestamp) -> Result<(), CriError> {
    // The disk tells which logs are long without asking the runtime of each container.
    let root = logs_root.to_owned();
    let long = tokio::task::spawn_blocking(move || long_logs(&root)).await.unwrap_or_default();
    if long.is_empty() {
        return Ok(());
    }
    let running = Some(ContainerStateValue { state: ContainerState::ContainerRunning.into() });
    for container in runtime.list_containers(ContainerFilter { state: running, ..Default::default() }).await? {
        let status = runtime.container_status(&container.id).await?;
        let path = PathBuf::from(&status.log_path);
        if !long.contains(&path) {
            continue;
        }
        if let Err(error) = rotate(runtime, &container.id, &path, now).await {
            tracing::warn!(log = %path.display(), %error, "a container's log can't be rotated");
        }
    }
    Ok(())
}

/// `{root}/{pod}/{container}/{n}.log` over the limit.
fn long_logs(root: &Path) -> Vec<PathBuf> {
    let entries = |dir: PathBuf| std::fs::read_dir(dir).into_iter().flatten().flatten();
    let containers = entries(root.to_owned()).flat_map(|pod| entries(pod.path()));
    let files = containers.flat_map(|container| entries(container.path()));
    let long = files.filter(|file| file.metadata().is_ok_and(|m| m.len() > MOST_BYTES)).map(|file| file.path());
    long.filter(|path| path.extension().is_some_and(|extension| extension == "log")).collect()
}

async fn rotate(runtime: &Runtime, container: &str, log: &Path, now: Timestamp) -> io::Result<()> {
    let directory = log.to_owned();
    tokio::task::spawn_blocking(move || make_room(&directory)).await.map_err(io::Error::other)??;
    let rotated = PathBuf::from(format!("{}.{}", log.display(), now.strftime("%Y%m%d-%H%M%S")));
    std::fs::rename(log, &rotated)?;
    if let Err(error) = runtime.reopen_container_log(container).await {
        // The container goes on writing to the file it has: give that its name back.
        std::fs::rename(&rotated, log)?;
        return Err(io::Error::other(error));
    }
    Ok(())
}

/// Packs the rotated files of a log and removes the oldest, so that one more may come.
fn make_room(log: &Path) -> io::Result<()> {
    let (Some(directory), Some(name)) = (log.parent(), log.file_name().map(|name| name.to_string_lossy().into_owned())) else { return Ok(()) };
    let mut rotated: Vec<PathBuf> = std::fs::read_dir(directory)?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.file_name().is_some_and(|file| file.to_string_lossy().strip_prefix(&name).is_some_and(|rest| rest.starts_with('.'))))
        .collect();
    // Their names hold their times.
    rotated.sort();
    let surplus = rotated.len().saturating_sub(MOST_FILES - 2);
    for old in rotated.drain(..surplus) {
        std::fs::remove_file(old)?;
    }
    for path in rotated.iter().filter(|path| path.extension().is_none_or(|extension| extension != "gz")) {
        let packed = PathBuf::from(format!("{}.tmp", path.display()));
        let mut out = GzEncoder::new(File::create(&packed)?, Compression::default());
        io::copy(&mut File::open(path)?, &mut out)?;
        out.finish()?.sync_all()?;
        std::fs::rename(&packed, format!("{}.gz", path.display()))?;
        std::fs::remove_file(path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_logs_are_packed_and_the_oldest_go() {
        let root = tempfile::tempdir().unwrap();
        let container = root.path().join("ns_pod_uid/c");
        std::fs::create_dir_all(&container).unwrap();
        let log = container.join("0.log");
        File::create(&log).unwrap().set_len(MOST_BYTES + 1).unwrap();
        for time in ["20260101-000001.gz", "20260101-000002.gz", "20260101-000003.gz", "20260101-000004"] {
            std::fs::write(container.join(format!("0.log.{time}")), time).unwrap();
        }
        std::fs::write(container.join("1.log"), "short").unwrap();
        assert_eq!(long_logs(root.path()), std::slice::from_ref(&log));
        make_room(&log).unwrap();
        let mut left: Vec<String> = std::fs::read_dir(&container).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        left.sort();
        assert_eq!(left, ["0.log", "0.log.20260101-000002.gz", "0.log.20260101-000003.gz", "0.log.20260101-000004.gz", "1.log"]);
    }
}
