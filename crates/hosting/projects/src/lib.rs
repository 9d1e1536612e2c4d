//! Projects: the namespace, roles, isolation and quotas of each project of IAM, or its virtual cluster, kept true.

mod kinds;
mod names;
mod organization;
mod project;
#[cfg(test)]
mod tests;
mod wanted;
mod writes;

use controller_kit::{CancellationToken, Kit};
use futures::future::{BoxFuture, FutureExt, join_all};

/// Runs the controllers until `shutdown`. Must be called inside a tokio runtime, once IAM's definitions are there.
pub async fn run(kit: Kit, shutdown: CancellationToken) {
    let all: Vec<BoxFuture<'static, ()>> = vec![project::runner(&kit).run(shutdown.clone()).boxed(), organization::runner(&kit).run(shutdown).boxed()];
    join_all(all.into_iter().map(tokio::spawn)).await;
}
