//! Keeps the ways to other nodes' pods as the cluster's nodes and this machine's links ask, until told to end.
use crate::kubernetes::{OwnNode, peers_of};
use crate::link_changes::LinkChanges;
use crate::peers::{Peer, SecondPeer};
use crate::{Error, NodeNetwork, peer_links};
use api_cache::{Cache, Selection, Source};
use api_meta::{ClusterName, IpFamily};
use k8s_openapi::api::core::v1::Node;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Changes that come together are taken together.
const TOGETHER: Duration = Duration::from_millis(50);
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// The ways stay when it ends: pods that run on go on reaching each other.
///
/// # Errors
/// Only if the kernel can't be listened to. What it refuses later is logged and tried again.
pub async fn run(network: NodeNetwork, own: OwnNode, source: Arc<dyn Source>, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
    let IpAddr::V4(address) = own.address else {
        tracing::warn!(address = %own.address, "pods of other nodes are reached over IPv4 only, and this node has no such address");
        return Ok(());
    };
    let links = LinkChanges::open(IpFamily::all(network.second.is_some()))?;
    let second = network.second.map(|second| SecondPeer { pod_cidr: second.pod_cidr, address: None });
    let this = Peer { address, pod_cidr: network.pod_cidr, second };
    tokio::pin!(shutdown);
    tokio::select! {
        () = &mut shutdown => {}
        () = follow(&network, this, &own.name, &*source, links) => {}
    }
    Ok(())
}

async fn follow(network: &NodeNetwork, own: Peer, name: &str, source: &dyn Source, mut links: LinkChanges) {
    let selection = Selection { cluster: Some(ClusterName::root()), ..Selection::of::<Node>("nodes") };
    let nodes = Cache::<Node>::start(source, selection, &[]);
    let mut changes = nodes.subscribe();
    // Without knowing all nodes nothing is taken away.
    nodes.synced().await;
    let (mut retry, mut rules_known): (_, Option<BTreeSet<IpAddr>>) = (FIRST_RETRY, None);
    let mut applied: Option<Vec<Peer>> = None;
    let mut links_changed = true;
    loop {
        let all: Vec<Arc<Node>> = nodes.all().into_iter().map(|(_, node)| node).collect();
        let peers = peers_of(name, all.iter().map(|node| &**node));
        // Nodes change all the time; what matters here hardly ever does.
        if links_changed || applied.as_ref() != Some(&peers) {
            let (network, wanted, mut known) = (network.clone(), peers.clone(), rules_known.take());
            let outcome = tokio::task::spawn_blocking(move || peer_links::apply(&network, own, &wanted, &mut known).map(|()| known)).await;
            match outcome {
                Ok(Ok(known)) => {
                    if applied.as_ref() != Some(&peers) {
                        tracing::info!(nodes = peers.len(), "the ways to other nodes' pods are in place");
                    }
                    (rules_known, applied, retry, links_changed) = (known, Some(peers), FIRST_RETRY, false);
                }
                Ok(Err(error)) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "the ways to other nodes' pods could not be made; trying again in {retry:?}");
                    tokio::time::sleep(retry).await;
                    (applied, retry) = (None, (retry * 2).min(LAST_RETRY));
                    continue;
                }
                Err(error) => tracing::error!(%error, "making the ways to other nodes' pods panicked"),
            }
        }
        tokio::select! {
            // Lagging means that something changed as well.
            _ = changes.recv() => {}
            () = links.changed() => links_changed = true,
        }
        tokio::time::sleep(TOGETHER).await;
    }
}
