//! Audit: a record of who asked for what and what came of it, as a policy wants it (`audit.k8s.io/v1`).
mod event;
mod log_file;
mod metrics;
mod policy;
mod throttle;
mod webhook;

pub use event::{Arrival, Draft, Stage};
pub use log_file::{LogFile, LogFileSettings};
pub use policy::{Level, Policy};
pub use webhook::{AuditReceiver, Mode, Receipt, Webhook, WebhookSettings};

use std::time::Duration;

/// What is recorded and where it goes.
pub struct Audit {
    pub policy: Policy,
    log: Option<LogFile>,
    webhook: Option<Webhook>,
}

/// Why auditing can't begin.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    #[error("the audit policy is not usable: {0}")]
    Policy(String),
    #[error("the audit log {path:?} can't be written")]
    Log { path: std::path::PathBuf, source: std::io::Error },
}

/// What every line of the log begins with. Lists leave it out, as upstream's do.
const LINE: &[u8] = br#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","#;

impl Audit {
    pub fn new(policy: Policy, log: Option<LogFile>, webhook: Option<Webhook>) -> Self {
        Self { policy, log, webhook }
    }

    /// Takes an event (a JSON object). Gives what the request has to wait for, if anything.
    fn take(&self, event: Vec<u8>) -> Option<Receipt> {
        metrics::told();
        if let Some(log) = &self.log {
            // In place of the brace.
            let mut line = LINE.to_vec();
            line.extend(&event[1..]);
            line.push(b'\n');
            log.write(&line);
        }
        self.webhook.as_ref()?.tell(event)
    }

    /// Waits until it is known what became of a request's arrival; gives whether the request may go on.
    pub async fn arrived(&self, receipt: Receipt) -> bool {
        let told = receipt.await.unwrap_or(false);
        let goes_on = told || !self.webhook.as_ref().is_some_and(Webhook::is_strict);
        if !goes_on {
            metrics::rejected();
        }
        goes_on
    }

    /// Posts what still waits, within `patience`.
    pub async fn close(&self, patience: Duration) {
        if let Some(webhook) = &self.webhook {
            webhook.close(patience).await;
        }
    }
}
