//! The controller of namespaces that are called as projects' are but have no project: closed to pods of other namespaces all the same.
use crate::names::{MANAGER, PROJECT_LABEL, project_of};
use crate::wanted::{ISOLATION, isolation};
use api_meta::ClusterName;
use controller_kit::{Change, Controller, Error, Kit, ObjectKey, Objects, Plan, Runner, async_trait};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::Value;
use std::sync::Arc;

pub struct Isolation {
    /// The range of pods' addresses.
    pods: String,
    namespaces: Objects<Namespace>,
    networks: Objects<NetworkPolicy>,
}

pub struct World {
    pub name: String,
    pub pods: String,
    pub namespace: Arc<Namespace>,
    pub is_closed: bool,
}

pub fn runner(kit: &Kit, pods: &str) -> Runner<Isolation> {
    let kit = kit.managed_by(MANAGER);
    let (namespaces, networks): (Objects<Namespace>, Objects<NetworkPolicy>) = (kit.objects(), kit.of_cluster(&ClusterName::root(), None));
    let controller = Isolation { pods: pods.to_owned(), namespaces: namespaces.clone(), networks: networks.clone() };
    Runner::new(controller)
        .workers(1)
        .watch(&namespaces, |change: &Change<Namespace>| if change.key.cluster.is_root() { key(&change.key.name) } else { Vec::new() })
        .watch(&networks, |change: &Change<NetworkPolicy>| if change.key.cluster.is_root() { key(&change.key.namespace) } else { Vec::new() })
}

fn key(namespace: &str) -> Vec<ObjectKey> {
    project_of(namespace).map(|_| ObjectKey::new(&ClusterName::root(), "", namespace)).into_iter().collect()
}

#[async_trait]
impl Controller for Isolation {
    type World = World;
    type Action = Value;

    fn name(&self) -> &'static str {
        "project-isolation-controller"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        let name = key.name.to_string();
        let is_closed = self.networks.get(&ObjectKey::new(&key.cluster, &name, ISOLATION)).is_some();
        Some(World { namespace: self.namespaces.get(key)?, is_closed, pods: self.pods.clone(), name })
    }

    fn reconcile(world: &World) -> Plan<Value> {
        reconcile(world)
    }

    async fn act(&self, key: &ObjectKey, policy: Value) -> Result<(), Error> {
        match self.networks.create(&key.cluster, &serde_json::from_value(policy)?).await {
            Err(error) if !error.is_namespace_terminating() => Err(error),
            _ => Ok(()),
        }
    }
}

/// The policy to make, if any. One that is there is its namespace's own, whatever it says.
pub fn reconcile(world: &World) -> Plan<Value> {
    let mut plan = Plan::nothing();
    let metadata = &world.namespace.metadata;
    let of_project = metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(PROJECT_LABEL));
    if !of_project && !world.is_closed && metadata.deletion_timestamp.is_none() {
        plan.push(isolation(&world.name, &world.pods));
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn made(namespace: Value, is_closed: bool) -> Vec<Value> {
        reconcile(&World { name: "project-a".into(), pods: "10.42.0.0/16".into(), namespace: Arc::new(serde_json::from_value(namespace).unwrap()), is_closed })
            .actions
    }

    #[test]
    fn a_namespace_called_as_a_projects_is_closed_once() {
        let plain = json!({"metadata": {"name": "project-a"}});
        let policies = made(plain.clone(), false);
        let from = json!([{"podSelector": {}}, {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.42.0.0/16"]}}]);
        assert_eq!(policies[0]["spec"]["ingress"], json!([{ "from": from }]));
        assert!(policies[0]["metadata"]["labels"].is_null(), "it is the namespace's own to change");
        assert!(made(plain, true).is_empty());
        assert!(made(json!({"metadata": {"name": "project-a", "labels": {"plasmacloud.io/project-id": "proj-a"}}}), false).is_empty());
        assert!(made(json!({"metadata": {"name": "project-a", "deletionTimestamp": "2026-01-02T03:04:05Z"}}), false).is_empty());
    }
}
