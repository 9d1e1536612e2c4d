//! Keys: `/{cluster}/{group}/{resource}/{namespace}/{name}`; the core group is written `core`.
use api_meta::{ClusterName, GroupResource};
use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// One object's place in the store. A cluster-scoped object has an empty namespace segment.
///
/// INVARIANT: five segments, none of which contains `/`; `new` and `parse` are the only ways to make one.
/// Engines refuse to write a key that is not [`Key::is_well_formed`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

fn group_segment(group: &str) -> &str {
    if group.is_empty() { "core" } else { group }
}

fn well_formed(text: &str) -> bool {
    let mut segments = text.split('/');
    let mut next = || segments.next();
    next() == Some("")
        && [true, true, true, false, true].iter().all(|filled| next().is_some_and(|segment| !(*filled && segment.is_empty())))
        && segments.next().is_none()
}

impl Key {
    pub fn new(cluster: &ClusterName, resource: &GroupResource, namespace: &str, name: &str) -> Self {
        debug_assert!(![&resource.group, &resource.resource].iter().any(|s| s.contains('/')) && !namespace.contains('/') && !name.contains('/'));
        Self(format!("/{cluster}/{}/{}/{namespace}/{name}", group_segment(&resource.group), resource.resource).into())
    }
    pub fn parse(text: &str) -> Option<Self> {
        well_formed(text).then(|| Self(text.into()))
    }
    /// Whether it has exactly five segments, of which only the namespace is empty.
    pub fn is_well_formed(&self) -> bool {
        well_formed(&self.0)
    }
    /// The [`Scope::address`] of every scope that covers this key. A slice of the key each, so fan-out allocates nothing.
    pub fn addresses(&self) -> [&str; 5] {
        let key = &*self.0;
        let mut slashes = [0; 5];
        for (slash, (at, _)) in slashes.iter_mut().zip(key.match_indices('/')) {
            *slash = at;
        }
        let [_, cluster, _, resource, namespace] = slashes;
        [&key[..=cluster], &key[cluster..=resource], &key[..=resource], &key[..=namespace], key]
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
    /// A name for the scope, under which watchers are filed: a key's event concerns those filed under [`Key::addresses`].
    ///
    /// No two scopes share an address: they differ in the number of slashes, or a key in not ending with one.
    pub fn address(&self) -> String {
        match self {
            Self::AllClusters(resource) => format!("/{}/{}/", group_segment(&resource.group), resource.resource),
            _ => self.prefix(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_contains_a_key_exactly_if_the_key_names_its_address() {
        let cluster = |name| ClusterName::parse(name).unwrap();
        let (pods, replica_sets) = (GroupResource::new("", "pods"), GroupResource::new("apps", "replicasets"));
        let keys: Vec<Key> = ["root", "a", "a.b", "core"]
            .iter()
            .flat_map(|c| {
                [(&pods, "ns", "x"), (&pods, "", "x"), (&pods, "ns", "xy"), (&replica_sets, "ns", "x")].map(|(r, ns, n)| Key::new(&cluster(c), r, ns, n))
            })
            .collect();
        let mut scopes: Vec<Scope> = keys.iter().cloned().map(Scope::Key).collect();
        scopes.extend([Scope::AllClusters(pods.clone()), Scope::AllClusters(replica_sets), Scope::AllClusters(GroupResource::new("pods", "ns"))]);
        for name in ["root", "a", "core"] {
            scopes.push(Scope::Cluster(cluster(name)));
            for namespace in [None, Some("ns".to_owned()), Some(String::new()), Some("n".to_owned())] {
                scopes.push(Scope::Resource { cluster: cluster(name), resource: pods.clone(), namespace });
            }
        }
        for scope in &scopes {
            for key in &keys {
                assert_eq!(scope.contains(key), key.addresses().contains(&&*scope.address()), "{scope:?} {key}");
            }
        }
    }

    #[test]
    fn only_five_filled_segments_make_a_key() {
        for good in ["/root/core/pods/default/web", "/root/core/nodes//n1"] {
            assert!(Key::parse(good).is_some(), "{good}");
        }
        for bad in
            ["", "/", "root/core/pods/default/web", "/root/core/pods/web", "/root/core/pods/default/", "/root/core/pods/a/b/c", "//core/pods/default/web"]
        {
            assert!(Key::parse(bad).is_none(), "{bad}");
        }
    }
}
