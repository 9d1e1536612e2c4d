//! The controller of namespaces that an organisation's projects share: there while one of them asks for it.
use crate::kinds::Project;
use crate::names::{MANAGED_BY, MANAGER, ORG_LABEL, TENANT_TYPE, organization_of, shared_namespace};
use crate::wanted::{self, Sort, administration};
use crate::writes::{Write, collect, difference, metadata_patch, write};
use api_meta::ClusterName;
use controller_kit::{Change, Controller, Deletion, Error, Kind, Kit, ObjectKey, Objects, Plan, Preconditions, Runner, async_trait};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use serde_json::{Value, json};
use std::sync::Arc;

pub struct Organizations {
    projects: Objects<Project>,
    namespaces: Objects<Namespace>,
    roles: Objects<Role>,
    bindings: Objects<RoleBinding>,
}

pub struct World {
    pub organization: String,
    /// Whether one of its projects asks for it.
    pub wanted: bool,
    pub namespace: Option<Value>,
    pub found: Vec<(Sort, Value)>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    CreateNamespace(Value),
    Namespace(Value),
    DeleteNamespace { uid: String },
    Write(Sort, Write),
}

pub fn runner(kit: &Kit) -> Runner<Organizations> {
    let kit = kit.managed_by(MANAGER);
    let host = ClusterName::root();
    let (projects, namespaces): (Objects<Project>, Objects<Namespace>) = (kit.of_cluster(&host, None), kit.objects());
    let (roles, bindings): (Objects<Role>, Objects<RoleBinding>) = (kit.of_cluster(&host, None), kit.of_cluster(&host, None));
    let controller = Organizations { projects: projects.clone(), namespaces: namespaces.clone(), roles: roles.clone(), bindings: bindings.clone() };
    Runner::new(controller)
        .workers(1)
        // A project that moves concerns both.
        .watch(&projects, |change| [&change.old, &change.new].into_iter().flatten().map(|project| key(&project.spec.organization)).collect())
        .watch(&namespaces, |change| if change.key.cluster.is_root() { of_namespace(&change.key.name) } else { Vec::new() })
        .watch(&roles, in_namespace)
        .watch(&bindings, in_namespace)
}

fn key(organization: &str) -> ObjectKey {
    ObjectKey::new(&ClusterName::root(), "", organization)
}

fn of_namespace(name: &str) -> Vec<ObjectKey> {
    organization_of(name).map(key).into_iter().collect()
}

fn in_namespace<K: Kind>(change: &Change<K>) -> Vec<ObjectKey> {
    if change.key.cluster.is_root() { of_namespace(&change.key.namespace) } else { Vec::new() }
}

#[async_trait]
impl Controller for Organizations {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "org-shared-namespace-controller"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        let host = ClusterName::root();
        let name = shared_namespace(&key.name);
        let asks = |project: &Arc<Project>| project.spec.org_shared && *project.spec.organization == *key.name && project.metadata.deletion_timestamp.is_none();
        let mut found = Vec::new();
        collect(&self.roles, &host, Some(&name), Sort::Role, &mut found);
        collect(&self.bindings, &host, Some(&name), Sort::RoleBinding, &mut found);
        Some(World {
            organization: key.name.to_string(),
            wanted: self.projects.list(&host, None).iter().any(asks),
            namespace: self.namespaces.get(&ObjectKey::new(&host, "", &name)).and_then(|namespace| serde_json::to_value(&*namespace).ok()),
            found,
        })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        reconcile(world)
    }

    async fn act(&self, key: &ObjectKey, action: Action) -> Result<(), Error> {
        let host = ClusterName::root();
        let place = ObjectKey::new(&host, "", &shared_namespace(&key.name));
        match action {
            Action::CreateNamespace(namespace) => drop(self.namespaces.create(&host, &serde_json::from_value(namespace)?).await?),
            Action::Namespace(metadata) => {
                self.namespaces.patch(&place, "", &json!({ "metadata": metadata }), &Preconditions::default()).await?;
            }
            Action::DeleteNamespace { uid } => {
                let deletion = Deletion { preconditions: Preconditions { uid: Some(uid), resource_version: None }, ..Deletion::default() };
                self.namespaces.delete(&place, &deletion).await?;
            }
            Action::Write(Sort::Role, action) => write(&self.roles, &host, action).await?,
            Action::Write(_, action) => write(&self.bindings, &host, action).await?,
        }
        Ok(())
    }
}

pub fn reconcile(world: &World) -> Plan<Action> {
    let mut plan = Plan::nothing();
    let metadata = wanted::shared_metadata(&world.organization);
    let ours = |namespace: &Value| {
        let labels = &namespace["metadata"]["labels"];
        labels[ORG_LABEL] == *world.organization && labels[TENANT_TYPE] == "org-shared"
    };
    match &world.namespace {
        None if world.wanted => plan.push(Action::CreateNamespace(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}))),
        None => return plan,
        Some(found) if !found["metadata"]["deletionTimestamp"].is_null() => return plan,
        Some(found) if !world.wanted => {
            if ours(found) && world.found.iter().any(|(_, object)| object["metadata"]["labels"][MANAGED_BY] == MANAGER) {
                plan.push(Action::DeleteNamespace { uid: found["metadata"]["uid"].as_str().unwrap_or_default().to_owned() });
            }
            return plan;
        }
        // Somebody else's.
        Some(found) if !ours(found) && world.found.is_empty() => return plan,
        Some(found) => plan.actions.extend(metadata_patch(&metadata, &found["metadata"]).map(Action::Namespace)),
    }
    let wanted = administration(&shared_namespace(&world.organization), &world.organization);
    plan.actions.extend(difference(&wanted, &world.found).into_iter().map(|(sort, write)| Action::Write(sort, write)));
    plan
}
