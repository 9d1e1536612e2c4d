//! Projects: the namespace, roles, isolation and quotas of each project of IAM, or its virtual cluster, kept true.

mod isolation;
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

/// Runs the controllers until `shutdown`. Pods have their addresses from `pods` (CIDR). Must be called inside a tokio runtime, once IAM's definitions are there.
pub async fn run(kit: Kit, pods: String, shutdown: CancellationToken) {
    let all: Vec<BoxFuture<'static, ()>> = vec![
        project::runner(&kit).run(shutdown.clone()).boxed(),
        organization::runner(&kit).run(shutdown.clone()).boxed(),
        isolation::runner(&kit, &pods).run(shutdown).boxed(),
    ];
    join_all(all.into_iter().map(tokio::spawn)).await;
}
