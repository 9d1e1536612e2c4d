//! Keys: `/{cluster}/{group}/{resource}/{namespace}/{name}`; the core group is written `core`.
use api_meta::{ClusterName, GroupResource};
use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// One object's place in the store. A cluster-scoped object has an empty namespace segment.
///
/// INVARIANT: five segments, none of which contains `/`; `new` and `parse` are the only ways to make one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

fn group_segment(group: &str) -> &str {
    if group.is_empty() { "core" } else { group }
}

impl Key {
    pub fn new(cluster: &ClusterName, resource: &GroupResource, namespace: &str, name: &str) -> Self {
        debug_assert!(![&resource.group, &resource.resource].iter().any(|s| s.contains('/')) && !namespace.contains('/') && !name.contains('/'));
        Self(format!("/{cluster}/{}/{}/{namespace}/{name}", group_segment(&resource.group), resource.resource).into())
    }
    pub fn parse(text: &str) -> Option<Self> {
        (text.starts_with('/') && text.bytes().filter(|b| *b == b'/').count() == 5).then(|| Self(text.into()))
    }
    pub fn as_str(&self) -> &str {
        &self.0
    }
    fn segment(&self, index: usize) -> &str {
        self.0.split('/').nth(index + 1).unwrap_or_default()
    }
    pub fn cluster(&self) -> &str {
        self.segment(0)
    }
    /// The API group; "" for core.
    pub fn group(&self) -> &str {
        match self.segment(1) {
            "core" => "",
            group => group,
        }
    }
    pub fn resource(&self) -> &str {
        self.segment(2)
    }
    pub fn namespace(&self) -> &str {
        self.segment(3)
    }
    pub fn name(&self) -> &str {
        self.segment(4)
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which keys a range or a watch covers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// One object.
    Key(Key),
    /// A resource in one cluster, in one namespace (`Some`) or in all (`None`).
    Resource { cluster: ClusterName, resource: GroupResource, namespace: Option<String> },
    /// A resource in every cluster: what controllers that run once for all clusters watch.
    AllClusters(GroupResource),
    /// Everything of one cluster (deleting a cluster, backups).
    Cluster(ClusterName),
}

impl Scope {
    /// The prefix all covered keys share (for `AllClusters` that is "/", and `contains` decides).
    pub fn prefix(&self) -> String {
        match self {
            Self::Key(key) => key.as_str().to_owned(),
            Self::Resource { cluster, resource, namespace } => {
                let base = format!("/{cluster}/{}/{}/", group_segment(&resource.group), resource.resource);
                match namespace {
                    Some(namespace) => format!("{base}{namespace}/"),
                    None => base,
                }
            }
            Self::AllClusters(_) => "/".to_owned(),
            Self::Cluster(cluster) => format!("/{cluster}/"),
        }
    }
    pub fn contains(&self, key: &Key) -> bool {
        match self {
            Self::Key(own) => own == key,
            Self::AllClusters(resource) => key.resource() == resource.resource && key.group() == resource.group,
            _ => key.as_str().starts_with(&self.prefix()),
        }
    }
}
