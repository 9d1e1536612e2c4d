//! Record: what is kept on the disk of each staged and published volume, in the kubelet's own files.
use super::PLUGIN;
use crate::error::SetUpError;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const FILE: &str = "vol_data.json";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    #[serde(rename = "driverName")]
    pub driver: String,
    #[serde(rename = "volumeHandle")]
    pub volume_handle: String,
    /// A raw device.
    #[serde(default)]
    pub block: bool,
    /// Whose volume it is, for those who ask how full it is.
    #[serde(rename = "claimName", default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<String>,
}

impl Record {
    /// What the driver is told to publish to.
    pub fn target(&self, directory: &Path) -> PathBuf {
        directory.join(if self.block { "dev" } else { "mount" })
    }

    /// What the driver is told to stage at.
    pub fn staged_at(&self, directory: &Path) -> PathBuf {
        directory.join(if self.block { "staging" } else { "globalmount" })
    }

    pub fn write(&self, directory: &Path) -> Result<(), SetUpError> {
        fs::create_dir_all(directory).map_err(SetUpError::io("creating", directory))?;
        let (path, new) = (directory.join(FILE), directory.join("vol_data.json.new"));
        let text = serde_json::to_vec(self).expect("plain values encode");
        let write = || {
            let mut file = fs::File::create(&new)?;
            io::Write::write_all(&mut file, &text)?;
            file.sync_all()?;
            fs::rename(&new, &path)
        };
        write().map_err(SetUpError::io("writing", &path))
    }

    /// The record of a directory; none where there is no whole one.
    pub fn read(directory: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(directory.join(FILE)).ok()?).ok()
    }

    /// Removes the record, and the directory with it once nothing else is there.
    pub fn remove(directory: &Path) -> io::Result<()> {
        let gone = |result: io::Result<()>| match result {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        };
        gone(fs::remove_file(directory.join(FILE)))?;
        gone(fs::remove_file(directory.join("vol_data.json.new")))?;
        gone(fs::remove_dir(directory))
    }
}

fn directories(path: &Path) -> Vec<PathBuf> {
    fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

/// The volumes published to one pod, with their directories.
pub fn published_to(pod_directory: &Path) -> Vec<(PathBuf, Record)> {
    with_records(directories(&pod_directory.join("volumes").join(PLUGIN)))
}

/// All volumes published to pods.
pub fn published(root: &Path) -> Vec<(PathBuf, Record)> {
    directories(&root.join("pods")).iter().flat_map(|pod| published_to(pod)).collect()
}

/// All staged volumes, with their directories.
pub fn staged(root: &Path) -> Vec<(PathBuf, Record)> {
    let drivers = directories(&root.join("plugins/kubernetes.io/csi"));
    with_records(drivers.iter().flat_map(|driver| directories(driver)).collect())
}

fn with_records(directories: Vec<PathBuf>) -> Vec<(PathBuf, Record)> {
    directories.into_iter().filter_map(|directory| Some((directory.clone(), Record::read(&directory)?))).collect()
}
