//! PodNetwork: what the node tells the pod network of a pod before the runtime asks it for a port.
use api_meta::ClusterName;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;

/// A pod, as far as the network needs to know it before it has an address.
#[derive(Clone, Copy, Debug)]
pub struct ExpectedPod<'a> {
    pub uid: &'a str,
    pub cluster: &'a ClusterName,
    /// The number of its cluster; 0 is the host cluster.
    pub number: u16,
    pub namespace: &'a str,
    pub labels: &'a BTreeMap<String, String>,
}

/// The pod network's side of a pod that is about to get its sandbox. `bin` fills it.
pub trait PodNetwork: Debug + Send + Sync {
    /// This pod's sandbox is about to be made. Holds until `forget`.
    ///
    /// # Errors
    /// What can't be told must not be guessed: the pod gets no sandbox then.
    fn expect(&self, pod: &ExpectedPod<'_>) -> io::Result<()>;

    /// The pod has its sandbox, or it failed.
    fn forget(&self, uid: &str);
}
