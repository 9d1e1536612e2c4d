//! Errors that end the node agent.
use std::path::PathBuf;

/// Why the node agent could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error("the kubelet server has no certificate")]
    NoServingCertificate,
    #[error("the program {program:?} is not installed: install containerd and runc, or set --container-runtime-endpoint")]
    NoContainerd { program: String },
    #[error("containerd ended while it started, see {}: {last_lines}", log.display())]
    ContainerdEnded { log: PathBuf, last_lines: String },
    #[error("containerd did not answer within {seconds} s, see {}", log.display())]
    ContainerdSilent { log: PathBuf, seconds: u64 },
    #[error("cannot use {}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("the container runtime failed")]
    Runtime(#[from] cri::CriError),
    #[error("cannot import the sandbox image")]
    SandboxImage(#[source] crate::containerd::ImportError),
    #[error("cannot read the machine's {what}")]
    Machine { what: &'static str, source: std::io::Error },
    #[error("cannot keep volumes")]
    Volumes(#[source] volumes::VolumeError),
    #[error("cannot register node {node:?}")]
    Register { node: String, source: Box<kube::Error> },
    #[error("the kubelet server failed")]
    Server(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl AgentError {
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}
