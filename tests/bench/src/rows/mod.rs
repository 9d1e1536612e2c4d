//! The rows of the budget table: one file each.
mod balancer;
mod cluster_pods;
mod clusters;
mod create;
pub mod dns;
mod fairness;
mod memory;
mod pods;
mod projects;
mod read;
mod reviews;
mod scale;
mod scheduler;
pub mod services;
mod start;
mod storage;
mod turns;
mod watch;

use crate::figure::Figure;
use anyhow::{Result, bail};
use clock::{Clock, SystemClock};
use std::time::Duration;

/// How a row is measured.
type Measure = fn() -> Result<Vec<Figure>>;

/// Every row's name and how it is measured.
pub const ALL: &[(&str, Measure)] = &[
    ("memory", memory::measure),
    ("start", start::measure),
    ("create", create::measure),
    ("read", read::measure),
    ("watch", watch::measure),
    ("scheduler", scheduler::measure),
    ("fairness", fairness::measure),
    ("clusters", clusters::measure),
    ("turns", turns::measure),
    ("scale", scale::measure),
    ("services", services::measure),
    ("dns", dns::measure),
    ("balancer", balancer::measure),
    ("reviews", reviews::measure),
    ("projects", projects::measure),
    ("pods", pods::measure),
    ("storage", storage::measure),
    ("cluster-pods", cluster_pods::measure),
];

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

/// Asks again and again until the answer is yes.
async fn until<F: Future<Output = Result<bool>>>(what: &str, patience: Duration, mut done: impl FnMut() -> F) -> Result<()> {
    let began = SystemClock.instant();
    while !done().await? {
        if SystemClock.instant() - began > patience {
            bail!("waited {patience:?} in vain until {what}");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}
