//! PodClusters: which cluster a pod is of, as the node agent tells the plugin before it has the runtime make the sandbox.
//!
//! A runtime passes a pod's namespace, name and uid on, but nothing of its cluster. A file named by the uid does, in a
//! directory that is the node's alone, so no pod can say anything about itself.
use crate::Error;
use crate::policy::Isolation;
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The cluster of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodCluster {
    /// 0 is the host cluster.
    pub number: u16,
    pub name: String,
    /// What policies keep from it from its first packet on.
    #[serde(default)]
    pub isolation: Isolation,
}

/// The pods whose sandboxes are being made.
#[derive(Clone, Debug)]
pub struct PodClusters {
    directory: PathBuf,
}

impl PodClusters {
    /// Of a node with this state directory.
    pub fn new(state_dir: &Path) -> Self {
        Self { directory: state_dir.join("pods") }
    }

    /// Says which cluster the pod with this uid is of, until `forget`.
    ///
    /// # Errors
    /// Also when another cluster's pod of the same uid is being made: one of them must wait.
    pub fn expect(&self, uid: &str, cluster: &PodCluster) -> Result<(), Error> {
        let path = self.path(uid)?;
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory).map_err(Error::file(&self.directory))?;
        let text = serde_json::to_vec(cluster).expect("a cluster always encodes");
        let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return match self.of(uid) {
                    Ok(Some(other)) if (other.number, &other.name) != (cluster.number, &cluster.name) => {
                        Err(Error::Pod { uid: uid.into(), reason: format!("a pod of the same uid of cluster {:?} is being made", other.name) })
                    }
                    // The same once more, or half a file of a process that died, or one that just went.
                    _ => crate::address_file::replace(&path, &text, 0o600),
                };
            }
            Err(source) => return Err(Error::File { path, source }),
        };
        file.write_all(&text).map_err(Error::file(&path))
    }

    /// The cluster of the pod with this uid; `None` when nobody said.
    pub fn of(&self, uid: &str) -> Result<Option<PodCluster>, Error> {
        let path = self.path(uid)?;
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::File { path, source }),
        };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| Error::Pod { uid: uid.into(), reason: format!("what is said of its cluster is damaged: {error}") })
    }

    /// Its sandbox is made, or never will be.
    pub fn forget(&self, uid: &str) -> Result<(), Error> {
        let path = self.path(uid)?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::File { path, source: error }),
            _ => Ok(()),
        }
    }

    /// Forgets all: what an agent that died had begun begins again.
    pub(crate) fn clear(&self) -> Result<(), Error> {
        match fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::file(&self.directory)(error)),
            _ => Ok(()),
        }
    }

    fn path(&self, uid: &str) -> Result<PathBuf, Error> {
        let legal = !uid.is_empty() && uid.len() <= 128 && uid.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if legal { Ok(self.directory.join(uid)) } else { Err(Error::Pod { uid: uid.into(), reason: "that is no uid".into() }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_is_one_clusters_until_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let pods = PodClusters::new(directory.path());
        let cluster = |number| PodCluster { number, name: format!("c{number}.n"), isolation: Isolation::default() };
        assert_eq!(pods.of("u").unwrap(), None);
        pods.expect("u", &cluster(1)).unwrap();
        pods.expect("u", &cluster(1)).unwrap();
        assert!(pods.expect("u", &cluster(2)).unwrap_err().to_string().contains("c1.n"));
        assert_eq!(pods.of("u").unwrap(), Some(cluster(1)));
        for _ in 0..2 {
            pods.forget("u").unwrap();
        }
        pods.expect("u", &cluster(2)).unwrap();
        fs::write(directory.path().join("pods/u"), "{").unwrap();
        assert!(pods.of("u").is_err());
        pods.expect("u", &cluster(3)).unwrap();
        assert_eq!(pods.of("u").unwrap(), Some(cluster(3)));
        pods.clear().unwrap();
        pods.clear().unwrap();
        assert_eq!(pods.of("u").unwrap(), None);
        for bad in ["", "../x", "a/b", "."] {
            assert!(pods.of(bad).is_err(), "{bad:?}");
        }
    }
}
