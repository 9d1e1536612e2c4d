//! Projects: the namespace, roles, isolation and quotas of each project of IAM, or its virtual cluster, kept true.

mod kinds;
mod names;
mod organization;
mod project;
#[cfg(test)]
mod tests;
mod wanted;
mod writes;

use controller_kit::{CancellationToken, Kit, Roster};

/// Runs the controllers until `shutdown`. Must be called inside a tokio runtime, once IAM's definitions are there.
pub async fn run(kit: Kit, shutdown: CancellationToken) {
    roster(&kit, shutdown).run().await;
}

/// Both of them. Must be called inside a tokio runtime.
pub fn roster(kit: &Kit, shutdown: CancellationToken) -> Roster {
    let mut all = Roster::new(shutdown);
    all.add(project::runner(kit));
    all.add(organization::runner(kit));
    all
}
