//! Audit: a record of who asked for what and what came of it, as a policy wants it (`audit.k8s.io/v1`).
mod event;
mod log_file;
mod policy;

pub use event::{Arrival, Draft, Stage};
pub use log_file::{LogFile, LogFileSettings};
pub use policy::{Level, Policy};

use std::sync::Arc;

/// What is recorded and where it goes.
pub struct Audit {
    pub policy: Policy,
    log: Arc<LogFile>,
}

/// Why auditing can't begin.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    #[error("the audit policy is not usable: {0}")]
    Policy(String),
    #[error("the audit log {path:?} can't be written")]
    Log { path: std::path::PathBuf, source: std::io::Error },
}

impl Audit {
    pub fn new(policy: Policy, log: LogFile) -> Self {
        Self { policy, log: Arc::new(log) }
    }
    pub(crate) fn log(&self) -> &LogFile {
        &self.log
    }
}
