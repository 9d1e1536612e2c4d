//! Informers with indexes: fed by the store in-process, or by a remote cluster.

mod balancer_addresses;
mod cache;
mod hosted_clusters;
mod index;
mod remote_source;
mod source;
mod tally;

pub use balancer_addresses::{AddressGrant, AddressHolding, AddressLedger, BalancerAddresses, Held};
pub use cache::{Cache, Cached, Change, Listening, ObjectKey};
pub use hosted_clusters::HostedClusters;
pub use index::IndexFunction;
pub use remote_source::RemoteSource;
pub use source::{Selection, Source, SourceEvent};
pub use tally::Tally;
