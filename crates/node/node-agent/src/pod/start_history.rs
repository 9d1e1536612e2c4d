//! StartHistory: how a pod's containers fared when they were started, and until when to wait.
use super::back_off::{BackOff, later};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

/// Why a container waits, as its status shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub reason: String,
    pub message: String,
}

/// A start that failed before there was a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartFailure {
    pub at: Timestamp,
    pub retry_at: Timestamp,
    /// The image that could not be pulled, if that was it.
    pub image: Option<String>,
    tries: u32,
}

/// One container's history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerHistory {
    pub waiting: Option<Waiting>,
    pub failure: Option<StartFailure>,
    crashes: Option<(String, BackOff)>,
}

/// A pulling error and the waits it led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullHistory {
    pub back_off: BackOff,
    /// `ErrImagePull: <what the runtime said>`.
    pub error: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StartHistory {
    containers: BTreeMap<String, ContainerHistory>,
    pulls: BTreeMap<String, PullHistory>,
}

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(10);

impl StartHistory {
    pub fn waiting(&self, container: &str) -> Option<&Waiting> {
        self.containers.get(container)?.waiting.as_ref()
    }
    pub fn failure(&self, container: &str) -> Option<&StartFailure> {
        self.containers.get(container)?.failure.as_ref()
    }
    pub fn pull(&self, image: &str) -> Option<&PullHistory> {
        self.pulls.get(image)
    }
    /// The crash back-off of a container with this hash. Another image starts over.
    pub fn crashes(&self, container: &str, hash: &str) -> Option<BackOff> {
        self.containers.get(container)?.crashes.as_ref().filter(|(of, _)| of == hash).map(|(_, back_off)| *back_off)
    }

    pub fn set_waiting(&mut self, container: &str, waiting: Waiting) {
        self.containers.entry(container.into()).or_default().waiting = Some(waiting);
    }

    /// A container that crashed at `crash` is started again now.
    pub fn restarting(&mut self, container: &str, hash: &str, crash: Timestamp, now: Timestamp) {
        let next = BackOff::next(self.crashes(container, hash), crash, now);
        self.containers.entry(container.into()).or_default().crashes = Some((hash.into(), next));
    }

    /// A container was started.
    pub fn started(&mut self, container: &str) {
        if let Some(history) = self.containers.get_mut(container) {
            history.waiting = None;
            history.failure = None;
        }
    }

    /// A start failed before the container ran.
    pub fn failed(&mut self, container: &str, waiting: Waiting, image: Option<String>, now: Timestamp) {
        let retry_at = image.as_ref().map(|image| {
            let back_off = BackOff::next(self.pulls.get(image).map(|p| p.back_off), now, now);
            self.pulls.insert(image.clone(), PullHistory { back_off, error: format!("{}: {}", waiting.reason, waiting.message) });
            later(now, back_off.delay)
        });
        let history = self.containers.entry(container.into()).or_default();
        let tries = history.failure.as_ref().map_or(0, |f| f.tries).saturating_add(1);
        let delay = FIRST_RETRY.saturating_mul(1 << (tries - 1).min(10)).min(LONGEST_RETRY);
        history.failure = Some(StartFailure { at: now, retry_at: retry_at.unwrap_or_else(|| later(now, delay)), image, tries });
        history.waiting = Some(waiting);
    }
}
