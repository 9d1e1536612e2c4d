//! CSI controllers: what makes, deletes, attaches and grows volumes, and makes snapshots, through the driver of one node.
//!
//! The parts of upstream's external-provisioner, -attacher, -resizer and -snapshotter, run for each driver as with
//! `--node-deployment`: each cares for the volumes that can be reached from its driver's node.

mod attacher;
mod capacity;
mod claim_conditions;
mod deleter;
mod driver;
mod modifier;
mod orphans;
mod persistent_volume;
mod placement;
mod provisioner;
mod resize;
mod resizer;
mod slow_retries;
pub mod snapshots;
mod source;
mod tenancy;
#[cfg(test)]
mod tests;

pub use driver::{Driver, DriverSettings, Expected};

use controller_kit::{CancellationToken, Kit};
use futures::future::{BoxFuture, FutureExt, join_all};

/// Cares for a driver's volumes in all clusters until `shutdown`. Must be called inside a tokio runtime.
///
/// The driver may start later, end and start again: what it can't do now is tried again.
pub async fn run(settings: DriverSettings, kit: Kit, shutdown: CancellationToken) {
    let Some(driver) = shutdown.run_until_cancelled(Driver::connect(settings)).await else { return };
    let stop = || shutdown.clone();
    let all: Vec<BoxFuture<'static, ()>> = vec![
        provisioner::runner(&kit, driver.clone()).run(stop()).boxed(),
        deleter::runner(&kit, driver.clone()).run(stop()).boxed(),
        attacher::runner(&kit, driver.clone()).run(stop()).boxed(),
        resizer::runner(&kit, driver.clone()).run(stop()).boxed(),
        modifier::runner(&kit, driver.clone()).run(stop()).boxed(),
        capacity::runner(&kit, driver.clone()).run(stop()).boxed(),
        snapshots::snapshotter::runner(&kit, driver.clone()).run(stop()).boxed(),
        orphans::run(kit.clone(), driver, stop()).boxed(),
    ];
    join_all(all.into_iter().map(tokio::spawn)).await;
}
