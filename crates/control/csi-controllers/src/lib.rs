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

use controller_kit::{CancellationToken, Kit, Roster};

/// Cares for a driver's volumes in all clusters until `shutdown`. Must be called inside a tokio runtime.
///
/// The driver may start later, end and start again: what it can't do now is tried again.
pub async fn run(settings: DriverSettings, kit: Kit, shutdown: CancellationToken) {
    let Some(driver) = shutdown.run_until_cancelled(Driver::connect(settings)).await else { return };
    roster(&kit, &driver, shutdown).run().await;
}

/// All that run beside a driver. Must be called inside a tokio runtime.
pub fn roster(kit: &Kit, driver: &Driver, shutdown: CancellationToken) -> Roster {
    let mut all = Roster::new(shutdown.clone());
    all.add(provisioner::runner(kit, driver.clone()));
    all.add(deleter::runner(kit, driver.clone()));
    all.add(attacher::runner(kit, driver.clone()));
    all.add(resizer::runner(kit, driver.clone()));
    all.add(modifier::runner(kit, driver.clone()));
    all.add(capacity::runner(kit, driver.clone()));
    all.add(snapshots::snapshotter::runner(kit, driver.clone()));
    all.add_special("csi-orphans", orphans::run(kit.clone(), driver.clone(), shutdown));
    all
}
