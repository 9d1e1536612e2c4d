//! CustomKinds: the definitions of every cluster, and the kinds they make.
use super::names::GroupNames;
use api_custom::{CustomResource, Definition, DefinitionError};
use api_meta::ClusterName;
use parking_lot::RwLock;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use store::Revision;
use tokio_util::sync::CancellationToken;

/// One version of a custom kind, while it is served.
pub struct CustomKind {
    pub resource: Arc<CustomResource>,
    pub(crate) retired: CancellationToken,
}

struct Entry {
    definition: Arc<Definition>,
    revision: Revision,
    kinds: Vec<Arc<CustomKind>>,
}

#[derive(Default)]
struct Group {
    /// By plural.
    entries: BTreeMap<String, Entry>,
    names: GroupNames,
}

#[derive(Default)]
struct ClusterKinds {
    version: u64,
    groups: BTreeMap<String, Group>,
}

#[derive(Default)]
pub(crate) struct CustomKinds {
    clusters: RwLock<HashMap<ClusterName, ClusterKinds>>,
    /// Versions given out. 0 is that of a cluster without custom kinds.
    versions: AtomicU64,
}

impl CustomKinds {
    pub fn find(&self, cluster: &ClusterName, group: &str, version: &str, plural: &str) -> Option<Arc<CustomKind>> {
        let clusters = self.clusters.read();
        let entry = clusters.get(cluster)?.groups.get(group)?.entries.get(plural)?;
        let found = entry.kinds.iter().find(|kind| api_resource::AnyResource::names(&*kind.resource).version == version)?;
        entry.definition.is_served().then(|| found.clone())
    }

    pub fn all(&self, cluster: &ClusterName) -> Vec<Arc<CustomKind>> {
        let clusters = self.clusters.read();
        let groups = clusters.get(cluster).into_iter().flat_map(|cluster| cluster.groups.values());
        groups.flat_map(|group| group.entries.values()).filter(|entry| entry.definition.established).flat_map(|entry| entry.kinds.iter().cloned()).collect()
    }

    pub fn version(&self, cluster: &ClusterName) -> u64 {
        self.clusters.read().get(cluster).map_or(0, |cluster| cluster.version)
    }

    pub fn definition(&self, cluster: &ClusterName, group: &str, plural: &str) -> Option<(Arc<Definition>, Revision)> {
        let clusters = self.clusters.read();
        let entry = clusters.get(cluster)?.groups.get(group)?.entries.get(plural)?;
        Some((entry.definition.clone(), entry.revision))
    }

    /// Everything known, to find what is gone.
    pub fn definitions(&self) -> Vec<(ClusterName, Arc<Definition>)> {
        let clusters = self.clusters.read();
        let entries = clusters.iter().flat_map(|(name, cluster)| cluster.groups.values().flat_map(move |g| g.entries.values().map(move |e| (name, e))));
        entries.map(|(name, entry)| (name.clone(), entry.definition.clone())).collect()
    }

    /// The definitions of a group whose names are not accepted, by plural.
    pub fn refused(&self, cluster: &ClusterName, group: &str) -> Vec<String> {
        let clusters = self.clusters.read();
        let entries = clusters.get(cluster).and_then(|cluster| cluster.groups.get(group)).into_iter().flat_map(|group| &group.entries);
        entries.filter(|(_, entry)| !entry.definition.names_accepted).map(|(plural, _)| plural.clone()).collect()
    }

    /// Asks about the names in a group.
    pub fn with_names<T>(&self, cluster: &ClusterName, group: &str, ask: impl FnOnce(&GroupNames) -> T) -> T {
        let clusters = self.clusters.read();
        match clusters.get(cluster).and_then(|cluster| cluster.groups.get(group)) {
            Some(group) => ask(&group.names),
            None => ask(&GroupNames::default()),
        }
    }

    /// Takes in a definition as it was written at `revision`; what is older than what is known changes nothing.
    pub fn apply(&self, cluster: &ClusterName, group: &str, plural: &str, bytes: &[u8], revision: Revision) -> Result<(), DefinitionError> {
        let before = self.definition(cluster, group, plural);
        if before.as_ref().is_some_and(|(_, known)| *known > revision) {
            return Ok(());
        }
        let before = before.map(|(definition, _)| definition);
        let definition = Arc::new(Definition::read(bytes, revision, before.as_deref())?);
        let mut clusters = self.clusters.write();
        let own = clusters.entry(cluster.clone()).or_default();
        let group = own.groups.entry(group.to_owned()).or_default();
        let old = group.entries.remove(plural);
        if old.as_ref().is_some_and(|old| old.revision > revision) {
            group.entries.extend(old.map(|old| (plural.to_owned(), old)));
            return Ok(());
        }
        if let Some(old) = &old {
            group.names.release(&old.definition.accepted);
        }
        group.names.hold(&definition.accepted);
        let kept = old.as_ref().map_or(&[][..], |old| &old.kinds);
        let kinds: Vec<Arc<CustomKind>> = definition.served.iter().map(|resource| kind(resource, kept)).collect();
        let same = old.as_ref().is_some_and(|old| {
            old.definition.established == definition.established
                && old.kinds.len() == kinds.len()
                && old.kinds.iter().zip(&kinds).all(|(old, new)| Arc::ptr_eq(old, new))
        });
        for gone in kept.iter().filter(|old| !kinds.iter().any(|new| new.retired_with(old))) {
            gone.retired.cancel();
        }
        group.entries.insert(plural.to_owned(), Entry { definition, revision, kinds });
        if !same {
            own.version = self.versions.fetch_add(1, Ordering::Relaxed) + 1;
        }
        Ok(())
    }

    /// Forgets a definition.
    pub fn remove(&self, cluster: &ClusterName, group: &str, plural: &str, revision: Revision) {
        let mut clusters = self.clusters.write();
        let Some(own) = clusters.get_mut(cluster) else { return };
        let Some(of) = own.groups.get_mut(group) else { return };
        if of.entries.get(plural).is_none_or(|entry| entry.revision > revision) {
            return;
        }
        if let Some(entry) = of.entries.remove(plural) {
            of.names.release(&entry.definition.accepted);
            entry.kinds.iter().for_each(|kind| kind.retired.cancel());
        }
        if of.entries.is_empty() {
            own.groups.remove(group);
        }
        own.version = self.versions.fetch_add(1, Ordering::Relaxed) + 1;
        if own.groups.is_empty() {
            clusters.remove(cluster);
        }
    }
}

impl CustomKind {
    fn retired_with(&self, other: &Self) -> bool {
        let version = |kind: &Self| api_resource::AnyResource::names(&*kind.resource).version.clone();
        version(self) == version(other) && self.resource.serves_like(&other.resource)
    }
}

/// A version as it is served now. Its watches go on if they would show the same.
fn kind(resource: &Arc<CustomResource>, before: &[Arc<CustomKind>]) -> Arc<CustomKind> {
    if let Some(same) = before.iter().find(|old| Arc::ptr_eq(&old.resource, resource)) {
        return same.clone();
    }
    let alike = before.iter().find(|old| old.resource.serves_like(resource));
    let retired = alike.map_or_else(CancellationToken::new, |old| old.retired.clone());
    Arc::new(CustomKind { resource: resource.clone(), retired })
}
