//! Tells the CNI plugin, which is a process of its own, of the pods that the node agent makes.
use node_agent::{ExpectedPod, PodNetwork};
use prismnet::policy::PolicyView;
use prismnet::{PodCluster, PodClusters};
use std::io;

#[derive(Debug)]
pub struct PrismnetPods {
    pub clusters: PodClusters,
    pub policies: PolicyView,
}

impl PodNetwork for PrismnetPods {
    fn expect(&self, pod: &ExpectedPod<'_>) -> io::Result<()> {
        let isolation = self.policies.isolation_of(pod.cluster, pod.namespace, pod.labels);
        let isolation = isolation.ok_or_else(|| io::Error::other("the network policies for it are not known yet"))?;
        let cluster = PodCluster { number: pod.number, name: pod.cluster.as_str().into(), isolation };
        self.clusters.expect(pod.uid, &cluster).map_err(io::Error::other)
    }

    fn forget(&self, uid: &str) {
        if let Err(error) = self.clusters.forget(uid) {
            tracing::warn!(uid, error = &error as &dyn std::error::Error, "what the pod network was told of a pod stays");
        }
    }
}
