//! Kinds: which resource serves a kind, in a cluster with its own custom resources.
use super::definition::Definition;
use crate::discovery::ServedResource;
use api_meta::{ClusterName, split_api_version};
use std::collections::HashMap;
use std::sync::Arc;

/// The built-in resources are the same in every cluster; custom ones are each cluster's own.
#[derive(Default)]
pub struct Kinds {
    builtin: HashMap<(String, String), Arc<ServedResource>>,
    custom: HashMap<(ClusterName, String, String), Arc<ServedResource>>,
}

impl Kinds {
    pub fn set_builtin(&mut self, resources: impl IntoIterator<Item = Arc<ServedResource>>) {
        self.builtin.extend(resources.into_iter().map(|resource| ((resource.group.clone(), resource.kind.clone()), resource)));
    }

    pub fn set_custom(&mut self, cluster: &ClusterName, resource: Arc<ServedResource>) {
        self.custom.insert((cluster.clone(), resource.group.clone(), resource.kind.clone()), resource);
    }

    /// True if no cluster has this resource any more.
    pub fn remove_custom(&mut self, cluster: &ClusterName, resource: &ServedResource) -> bool {
        self.custom.remove(&(cluster.clone(), resource.group.clone(), resource.kind.clone()));
        !self.custom.values().any(|other| other.group == resource.group && other.plural == resource.plural)
    }

    pub fn find(&self, cluster: &ClusterName, api_version: &str, kind: &str) -> Option<Arc<ServedResource>> {
        let (group, _) = split_api_version(api_version);
        let builtin = self.builtin.get(&(group.to_owned(), kind.to_owned()));
        builtin.or_else(|| self.custom.get(&(cluster.clone(), group.to_owned(), kind.to_owned()))).cloned()
    }
}

/// The resource a definition makes, once it is established.
pub fn resource_of(definition: &Definition) -> Option<ServedResource> {
    let conditions = definition.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let established = conditions.into_iter().any(|condition| condition.kind == "Established" && condition.status == "True");
    let spec = &definition.spec;
    // Objects are the same in every version that is served; one that is not can't be asked for.
    let served = || spec.versions.iter().filter(|version| version.served);
    let version = served().find(|version| version.storage).or_else(|| served().next())?;
    established.then(|| ServedResource {
        group: spec.group.clone(),
        version: version.name.clone(),
        plural: spec.names.plural.clone(),
        kind: spec.names.kind.clone(),
        namespaced: spec.scope == "Namespaced",
        verbs: vec!["list".into(), "watch".into(), "delete".into()],
    })
}
