//! Reviewer: whoever answers a review that is sent to it, be it about tokens or about access.
use async_trait::async_trait;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

/// Why there is no answer.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReviewError {
    #[error("{0}")]
    Timeout(String),
    #[error("{0}")]
    Other(String),
}

/// Sends a review (`TokenReview`, `SubjectAccessReview`) and gives what comes back.
#[async_trait]
pub trait Reviewer: Send + Sync + 'static {
    async fn review(&self, review: Value) -> Result<Value, ReviewError>;
}

/// Makes reviewers of kubeconfigs.
#[async_trait]
pub trait Reviewers: Send + Sync + 'static {
    /// The one that a kubeconfig leads to, which is given `timeout` for each answer.
    ///
    /// # Errors
    /// When the file can't be used.
    async fn of_kubeconfig(&self, file: &Path, timeout: Duration) -> Result<Box<dyn Reviewer>, String>;
}
