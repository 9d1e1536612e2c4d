//! Where a pod's files lie on the node, beside its volumes.
use super::identity::{PodId, name, namespace};
use k8s_openapi::api::core::v1::Pod;
use std::path::{Path, PathBuf};

/// The directories of one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodPaths {
    /// Logs, one folder a container: `{namespace}_{name}_{uid}`, as upstream's.
    pub logs: PathBuf,
    /// What the agent makes for the pod: /etc/hosts and termination messages.
    pub files: PathBuf,
}

impl PodPaths {
    pub fn new(data_dir: &Path, id: &PodId, pod: &Pod) -> Self {
        let logs = logs_root(data_dir).join(format!("{}_{}_{}", namespace(pod), name(pod), id.directory_name()));
        Self { logs, files: files_root(data_dir).join(id.directory_name()) }
    }
    pub fn hosts_file(&self) -> PathBuf {
        self.files.join("etc-hosts")
    }
    /// Where a container leaves its last words.
    pub fn termination_message(&self, container: &str, restart_count: i32) -> PathBuf {
        self.files.join("containers").join(container).join(restart_count.to_string())
    }
}

pub fn logs_root(data_dir: &Path) -> PathBuf {
    data_dir.join("logs/pods")
}

pub fn files_root(data_dir: &Path) -> PathBuf {
    data_dir.join("pod-files")
}

/// A log file's path below the pod's log directory.
pub fn log_path(container: &str, restart_count: i32) -> String {
    format!("{container}/{restart_count}.log")
}
