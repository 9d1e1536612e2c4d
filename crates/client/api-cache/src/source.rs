//! Sources: where a cache's objects come from. In-process that is the store; on other machines, the API.
use api_meta::{ClusterName, GroupResource};
use bytes::Bytes;
use futures::stream::BoxStream;

/// One change of one object, as JSON bytes.
#[derive(Clone, Debug)]
pub enum SourceEvent {
    /// The start of a full list: what is not applied before `Listed` is gone.
    Restart,
    Applied {
        cluster: ClusterName,
        object: Bytes,
    },
    /// The object's last state.
    Deleted {
        cluster: ClusterName,
        object: Bytes,
    },
    /// The full list is complete; live changes follow.
    Listed,
}

/// What a cache follows. It covers all clusters unless `cluster` narrows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Selection {
    pub group: String,
    pub version: String,
    /// Plural.
    pub resource: String,
    pub kind: String,
    pub cluster: Option<ClusterName>,
    /// Of `cluster`; all of its namespaces if there is none.
    pub namespace: Option<String>,
    /// A field selector in query form, e.g. `spec.nodeName=n1`.
    pub fields: Option<String>,
}

impl Selection {
    pub fn of<K: k8s_openapi::Resource>(plural: &str) -> Self {
        Self { group: K::GROUP.into(), version: K::VERSION.into(), resource: plural.into(), kind: K::KIND.into(), ..Self::default() }
    }
    pub fn group_resource(&self) -> GroupResource {
        GroupResource::new(&self.group, &self.resource)
    }
}

/// Filled by `bin` with the server's store, or with an API connection. A stream never ends by
/// itself: on any break it starts again with `Restart`.
pub trait Source: Send + Sync + 'static {
    fn follow(&self, selection: Selection) -> BoxStream<'static, SourceEvent>;
}
