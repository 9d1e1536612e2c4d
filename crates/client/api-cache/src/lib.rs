//! Informers with indexes: fed by the store in-process, or by a remote cluster.

mod cache;
mod hosted_clusters;
mod managed_fields;
mod remote_source;
mod source;

pub use cache::{Cache, Cached, Change, IndexFunction, Listening, ObjectKey};
pub use hosted_clusters::HostedClusters;
pub use remote_source::RemoteSource;
pub use source::{Selection, Source, SourceEvent};
