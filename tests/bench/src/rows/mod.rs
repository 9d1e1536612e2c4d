//! The rows of the budget table: one file each.
mod balancer;
mod clusters;
mod create;
mod memory;
mod pods;
mod projects;
mod read;
mod reviews;
mod scheduler;
mod start;
mod storage;
mod watch;

use crate::figure::Figure;
use anyhow::Result;

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
    ("clusters", clusters::measure),
    ("balancer", balancer::measure),
    ("reviews", reviews::measure),
    ("projects", projects::measure),
    ("pods", pods::measure),
    ("storage", storage::measure),
];

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}
