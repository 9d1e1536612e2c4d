//! The one runner of all controllers: queue, watches, own writes, events; a controller only decides and acts.

mod controller;
mod convergence;
mod correlator;
pub mod device_taints;
mod error;
mod kit;
pub mod node_selector;
mod objects;
pub mod own_nodes;
pub mod pod_resources;
mod queue;
mod queue_metrics;
mod recorder;
mod roster;
mod runner;
mod sameness;
mod selectors;
mod slow_start;
pub mod storage_class;
mod time;
pub mod tolerations;
pub mod volume_snapshot;

pub use controller::{Controller, Plan};
pub use convergence::converges;
pub use correlator::{Correlator, EventKind, Occurrence};
pub use error::Error;
pub use kit::Kit;
pub use objects::{Deletion, Kind, Objects, Preconditions};
pub use queue::{Queue, backoff};
pub use recorder::{Recorder, reference};
pub use roster::Roster;
pub use runner::{Runner, acting};
pub use sameness::same;
pub use selectors::selector;
pub use slow_start::slow_start;
pub use time::{seconds_since, until, whole_seconds};

pub use api_cache::{Cache, Change, ObjectKey, Selection, Source, SourceEvent, Tally};
pub use async_trait::async_trait;
pub use tokio_util::sync::CancellationToken;
