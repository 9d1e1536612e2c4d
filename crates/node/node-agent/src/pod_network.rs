//! PodNetwork: what the node tells the pod network of a pod before the runtime asks it for a port.
use std::fmt::Debug;
use std::io;

/// The pod network's side of a pod that is about to get its sandbox. `bin` fills it.
pub trait PodNetwork: Debug + Send + Sync {
    /// The pod with this uid is of this cluster, whose number is `number` (0: the host cluster). Holds until `forget`.
    ///
    /// # Errors
    /// What can't be told must not be guessed: the pod gets no sandbox then.
    fn expect(&self, uid: &str, cluster: &str, number: u16) -> io::Result<()>;

    /// The pod has its sandbox, or it failed.
    fn forget(&self, uid: &str);
}
