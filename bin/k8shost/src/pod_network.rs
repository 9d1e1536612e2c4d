//! Tells the CNI plugin, which is a process of its own, the clusters of the pods that the node agent makes.
use node_agent::PodNetwork;
use prismnet::{PodCluster, PodClusters};
use std::io;

#[derive(Debug)]
pub struct PrismnetPods(pub PodClusters);

impl PodNetwork for PrismnetPods {
    fn expect(&self, uid: &str, cluster: &str, number: u16) -> io::Result<()> {
        self.0.expect(uid, &PodCluster { number, name: cluster.into() }).map_err(io::Error::other)
    }

    fn forget(&self, uid: &str) {
        if let Err(error) = self.0.forget(uid) {
            tracing::warn!(uid, error = &error as &dyn std::error::Error, "what the pod network was told of a pod stays");
        }
    }
}
