//! Mirrors: which objects of the host cluster another one may look at, and how they look there.
use api_meta::{ClusterName, GroupResource};
use bytes::Bytes;
use store::Record;

/// Decides about mirrors. Asked on every read of a virtual cluster, so it has to be quick.
pub trait Mirrors: Send + Sync + 'static {
    /// Whether the cluster sees the host's objects of this resource, and has none of its own.
    fn mirrors(&self, cluster: &ClusterName, resource: &GroupResource) -> bool;

    /// An object of the host cluster as the cluster sees it; `None`: not at all.
    fn view(&self, cluster: &ClusterName, record: &Record) -> Option<Bytes>;
}
