//! Discovery: what resources a cluster serves, asked from its API.
use api_meta::{ClusterName, split_api_version};
use controller_kit::{Error, Kit};
use std::collections::HashSet;

/// One resource in its preferred version.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServedResource {
    pub group: String,
    pub version: String,
    pub plural: String,
    pub kind: String,
    pub namespaced: bool,
    pub verbs: Vec<String>,
}

impl ServedResource {
    pub fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|other| other == verb)
    }
    pub fn api_version(&self) -> String {
        api_meta::join_api_version(&self.group, &self.version)
    }
    /// The path of the collection, in a namespace if it has one.
    pub fn path(&self, namespace: &str) -> String {
        let root = if self.group.is_empty() { "/api" } else { "/apis" };
        let namespace = if namespace.is_empty() { String::new() } else { format!("/namespaces/{namespace}") };
        format!("{root}/{}{namespace}/{}", self.api_version(), self.plural)
    }
}

/// All resources without subresources; the groups that could not be asked come with why.
pub async fn served(kit: &Kit, cluster: &ClusterName) -> Result<(Vec<ServedResource>, Vec<String>), Error> {
    let client = kit.clients().cluster(cluster);
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    let core = client.list_core_api_resources("v1").await?;
    let groups = client.list_api_groups().await?;
    // A group's versions come preferred first; what only others serve is found there.
    let versions = groups.groups.into_iter().flat_map(|group| group.versions);
    let (mut lists, mut seen) = (vec![core], HashSet::new());
    for version in versions {
        match client.list_api_group_resources(&version.group_version).await {
            Ok(list) => lists.push(list),
            Err(error) => failures.push(format!("unable to retrieve the complete list of server APIs: {}: {}", version.group_version, Error::from(error))),
        }
    }
    for list in lists {
        let (group, version) = split_api_version(&list.group_version);
        for resource in list.resources.into_iter().filter(|resource| !resource.name.contains('/')) {
            if !seen.insert((group.to_owned(), resource.name.clone())) {
                continue;
            }
            found.push(ServedResource {
                group: group.to_owned(),
                version: version.to_owned(),
                plural: resource.name,
                kind: resource.kind,
                namespaced: resource.namespaced,
                verbs: resource.verbs,
            });
        }
    }
    Ok((found, failures))
}
