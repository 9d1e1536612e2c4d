//! StreamsBackend: what the server needs to know of this node's pods and to ask of the container runtime.
use super::summary::Summary;
use api_meta::ClusterName;
use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;
use std::path::PathBuf;
use std::sync::Arc;

/// Implemented by the node agent over its pods and its runtime.
#[async_trait]
pub trait StreamsBackend: Send + Sync + 'static {
    /// A pod of this node, with the status the node itself knows (container states and ids as `containerd://..`).
    fn pod(&self, cluster: &ClusterName, namespace: &str, name: &str) -> Option<Arc<Pod>>;

    /// All pods of this node in one cluster.
    fn pods(&self, cluster: &ClusterName) -> Vec<Arc<Pod>>;

    /// The runtime's id of the pod's running sandbox.
    fn sandbox(&self, cluster: &ClusterName, pod: &Pod) -> Option<String>;

    /// Where the runtime writes the container's log (CRI `ContainerStatus.log_path`).
    async fn log_path(&self, container_id: &str) -> Result<PathBuf, BackendError>;

    /// Returns once the container does not run; at once if it does not now.
    async fn stopped(&self, container_id: &str);

    /// CRI `Exec`: the URL of the runtime's stream.
    async fn exec(&self, container_id: &str, command: Vec<String>, options: StreamOptions) -> Result<String, BackendError>;

    /// CRI `Attach`: the URL of the runtime's stream.
    async fn attach(&self, container_id: &str, options: StreamOptions) -> Result<String, BackendError>;

    /// CRI `PortForward`: the URL of the runtime's stream.
    async fn port_forward(&self, sandbox_id: &str, ports: Vec<i32>) -> Result<String, BackendError>;

    /// The socket of a CSI driver that is registered on this node.
    fn driver(&self, name: &str) -> Option<PathBuf>;

    /// Resource use of the node and of one cluster's pods.
    async fn summary(&self, cluster: &ClusterName) -> Result<Summary, BackendError>;
}

/// Which streams of a process are wanted. INVARIANT: with `tty` there is no `stderr`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamOptions {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

/// Why the runtime did not do it. The text goes to the user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    #[error("{0}")]
    NotFound(String),
    /// Too many streams at once.
    #[error("{0}")]
    Busy(String),
    #[error("{0}")]
    Failed(String),
}
