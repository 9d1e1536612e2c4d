//! Starts the controllers of hosting and waits for their end.
use crate::cluster::{self, HostFacts};
use crate::kinds::{self, Cluster, Policy, Snapshot};
use crate::{policy, snapshot};
use api_client::Hosting;
use controller_kit::{CancellationToken, Kit, Roster};
use ipnet::IpNet;
use std::sync::Arc;

/// Runs the controllers until `shutdown`. Must be called inside a tokio runtime, after [`install`](crate::install).
pub async fn run(facts: HostFacts, kit: Kit, hosting: Arc<dyn Hosting>, shutdown: CancellationToken) {
    roster(facts, &kit, hosting, shutdown).run().await;
}

/// All of hosting's controllers. Must be called inside a tokio runtime.
pub fn roster(facts: HostFacts, kit: &Kit, hosting: Arc<dyn Hosting>, shutdown: CancellationToken) -> Roster {
    let (clusters, policies) = (kinds::of_host::<Cluster>(kit, None), kinds::of_host::<Policy>(kit, None));
    let snapshots = kinds::of_host::<Snapshot>(kit, None);
    let cluster_cidrs: Vec<IpNet> = [Some(facts.cluster_cidr), facts.second_cluster_cidr.map(IpNet::V6)].into_iter().flatten().collect();
    let mut all = Roster::new(shutdown);
    all.add(snapshot::runner(kit, &snapshots, &clusters, hosting.clone(), facts.version.clone()));
    all.add(cluster::runner(kit, &clusters, &policies, hosting, facts));
    all.add(policy::binding_runner(kit, &policies, &cluster_cidrs));
    all.add(policy::life_runner(kit, &policies));
    all
}
