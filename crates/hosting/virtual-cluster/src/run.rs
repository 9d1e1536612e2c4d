//! Starts the controllers of hosting and waits for their end.
use crate::cluster::{self, HostFacts};
use crate::kinds::{self, Cluster, Policy, Snapshot};
use crate::{policy, snapshot};
use api_client::Hosting;
use controller_kit::{CancellationToken, Kit};
use futures::future::{BoxFuture, FutureExt, join_all};
use std::sync::Arc;

/// Runs the controllers until `shutdown`. Must be called inside a tokio runtime, after [`install`](crate::install).
pub async fn run(facts: HostFacts, kit: Kit, hosting: Arc<dyn Hosting>, shutdown: CancellationToken) {
    let (clusters, policies) = (kinds::of_host::<Cluster>(&kit, None), kinds::of_host::<Policy>(&kit, None));
    let snapshots = kinds::of_host::<Snapshot>(&kit, None);
    let cluster_cidr = facts.cluster_cidr.to_string();
    let all: Vec<BoxFuture<'static, ()>> = vec![
        snapshot::runner(&kit, &snapshots, &clusters, hosting.clone(), facts.version.clone()).run(shutdown.clone()).boxed(),
        cluster::runner(&kit, &clusters, &policies, hosting, facts).run(shutdown.clone()).boxed(),
        policy::binding_runner(&kit, &policies, &cluster_cidr).run(shutdown.clone()).boxed(),
        policy::life_runner(&kit, &policies).run(shutdown).boxed(),
    ];
    join_all(all.into_iter().map(tokio::spawn)).await;
}
