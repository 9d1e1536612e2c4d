//! The controller of projects: the namespace and what is in it, the virtual cluster and who may what inside.
use crate::kinds::{Cluster, CustomRole, Project, ProjectStatus};
use crate::names::{CLUSTER, FINALIZER, MANAGED_BY, MANAGER, PROJECT_LABEL, namespace, project_of};
use crate::wanted::{self, Sort};
use crate::writes::{Write, collect, difference, metadata_patch, write};
use api_meta::ClusterName;
use controller_kit::{Change, Controller, Deletion, Error, Kind, Kit, ObjectKey, Objects, Plan, Preconditions, Runner, async_trait, until};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Namespace, ResourceQuota};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// How long a deleted project's namespace stays unless the project says otherwise.
const GRACE_PERIOD: i64 = 300;

pub struct Projects {
    projects: Objects<Project>,
    custom_roles: Objects<CustomRole>,
    namespaces: Objects<Namespace>,
    networks: Objects<NetworkPolicy>,
    quotas: Objects<ResourceQuota>,
    roles: Objects<Role>,
    bindings: Objects<RoleBinding>,
    clusters: Objects<Cluster>,
    cluster_roles: Objects<ClusterRole>,
    cluster_bindings: Objects<ClusterRoleBinding>,
    kit: Kit,
}

pub struct World {
    pub project: Arc<Project>,
    /// Those of its organisation.
    pub roles: Vec<Arc<CustomRole>>,
    pub namespace: Option<Value>,
    /// What is in the namespace.
    pub found: Vec<(Sort, Value)>,
    /// What is in the virtual cluster, once that is served.
    pub inside: Option<Vec<(Sort, Value)>>,
    pub now: Timestamp,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Finalizers(Vec<String>),
    Status(ProjectStatus),
    CreateNamespace(Value),
    /// Patches the namespace's metadata.
    Namespace(Value),
    DeleteNamespace {
        uid: String,
    },
    Write(Sort, Write),
}

pub fn runner(kit: &Kit) -> Runner<Projects> {
    let kit = kit.managed_by(MANAGER);
    let host = ClusterName::root();
    let controller = Projects {
        projects: kit.of_cluster(&host, None),
        custom_roles: kit.of_cluster(&host, None),
        namespaces: kit.objects(),
        networks: kit.of_cluster(&host, None),
        quotas: kit.objects(),
        roles: kit.of_cluster(&host, None),
        bindings: kit.of_cluster(&host, None),
        // Of all virtual clusters, those of projects.
        clusters: kit.of_cluster(&host, Some(&format!("metadata.name={CLUSTER}"))),
        cluster_roles: kit.objects(),
        cluster_bindings: kit.objects(),
        kit: kit.clone(),
    };
    let Projects { projects, custom_roles, namespaces, networks, quotas, roles, bindings, clusters, cluster_roles, cluster_bindings, .. } = &controller;
    let (all, clusters) = (projects.clone(), clusters.clone());
    let (projects, custom_roles, namespaces, networks) = (projects.clone(), custom_roles.clone(), namespaces.clone(), networks.clone());
    let (quotas, roles, bindings) = (quotas.clone(), roles.clone(), bindings.clone());
    let (cluster_roles, cluster_bindings) = (cluster_roles.clone(), cluster_bindings.clone());
    Runner::new(controller)
        .workers(2)
        .watch_own(&projects)
        .watch(&custom_roles, move |_| {
            all.list(&ClusterName::root(), None).iter().map(|project| ObjectKey::of(&ClusterName::root(), &project.metadata)).collect()
        })
        .watch(&namespaces, |change| {
            let metadata = |namespace: Option<&Arc<Namespace>>| {
                namespace.map(|n| (n.metadata.labels.clone(), n.metadata.annotations.clone(), n.metadata.deletion_timestamp.is_some()))
            };
            let news = change.key.cluster.is_root() && metadata(change.old.as_ref()) != metadata(change.new.as_ref());
            if news { of_namespace(&change.key.name) } else { Vec::new() }
        })
        .watch(&networks, in_namespace)
        .watch(&quotas, |change| {
            // What is used changes all the time.
            let spec = |quota: Option<&Arc<ResourceQuota>>| quota.map(|quota| (quota.spec.clone(), quota.metadata.labels.clone()));
            if spec(change.old.as_ref()) == spec(change.new.as_ref()) { Vec::new() } else { in_namespace(change) }
        })
        .watch(&roles, in_namespace)
        .watch(&bindings, in_namespace)
        .watch(&clusters, in_namespace)
        .watch(&cluster_roles, in_cluster)
        .watch(&cluster_bindings, in_cluster)
}

fn of_namespace(name: &str) -> Vec<ObjectKey> {
    project_of(name).map(|project| ObjectKey::new(&ClusterName::root(), "", &project)).into_iter().collect()
}

/// The project of an object's namespace.
fn in_namespace<K: Kind>(change: &Change<K>) -> Vec<ObjectKey> {
    if change.key.cluster.is_root() { of_namespace(&change.key.namespace) } else { Vec::new() }
}

/// The project whose virtual cluster an object of ours is in.
fn in_cluster<K: Kind>(change: &Change<K>) -> Vec<ObjectKey> {
    let ours = [&change.old, &change.new]
        .into_iter()
        .flatten()
        .any(|object| object.metadata().labels.as_ref().is_some_and(|labels| labels.get(MANAGED_BY).is_some_and(|by| by == MANAGER)));
    match change.key.cluster.host_object() {
        Some((namespace, CLUSTER)) if ours => of_namespace(namespace),
        _ => Vec::new(),
    }
}

/// The virtual cluster of a project's namespace.
fn own_cluster(namespace: &str) -> Option<ClusterName> {
    ClusterName::hosted(namespace, CLUSTER).ok()
}

#[async_trait]
impl Controller for Projects {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "project-controller"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        let host = ClusterName::root();
        let project = self.projects.get(key)?;
        let name = namespace(&key.name);
        let mut roles = self.custom_roles.list(&host, None);
        roles.retain(|role| role.spec.organization == project.spec.organization && role.metadata.deletion_timestamp.is_none());
        let mut found = Vec::new();
        collect(&self.networks, &host, Some(&name), Sort::Network, &mut found);
        collect(&self.quotas, &host, Some(&name), Sort::Quota, &mut found);
        collect(&self.roles, &host, Some(&name), Sort::Role, &mut found);
        collect(&self.bindings, &host, Some(&name), Sort::RoleBinding, &mut found);
        collect(&self.clusters, &host, Some(&name), Sort::Cluster, &mut found);
        let served = self.clusters.get(&ObjectKey::new(&host, &name, CLUSTER)).is_some_and(|cluster| cluster.status.phase == "Ready");
        let inside = own_cluster(&name).filter(|_| served && project.spec.virtual_cluster).map(|cluster| {
            let mut inside = Vec::new();
            collect(&self.cluster_roles, &cluster, None, Sort::ClusterRole, &mut inside);
            collect(&self.cluster_bindings, &cluster, None, Sort::ClusterRoleBinding, &mut inside);
            inside
        });
        let namespace = self.namespaces.get(&ObjectKey::new(&host, "", &name)).and_then(|namespace| serde_json::to_value(&*namespace).ok());
        Some(World { project, roles, namespace, found, inside, now: self.kit.now() })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        reconcile(world)
    }

    async fn act(&self, key: &ObjectKey, action: Action) -> Result<(), Error> {
        let host = ClusterName::root();
        let place = ObjectKey::new(&host, "", &namespace(&key.name));
        match action {
            Action::Finalizers(finalizers) => {
                self.projects.patch(key, "", &json!({"metadata": {"finalizers": finalizers}}), &Preconditions::default()).await?;
            }
            Action::Status(status) => {
                self.projects.patch(key, "/status", &json!({ "status": status }), &Preconditions::default()).await?;
            }
            Action::CreateNamespace(namespace) => {
                self.namespaces.create(&host, &serde_json::from_value(namespace)?).await?;
            }
            Action::Namespace(metadata) => {
                self.namespaces.patch(&place, "", &json!({ "metadata": metadata }), &Preconditions::default()).await?;
            }
            Action::DeleteNamespace { uid } => {
                let deletion = Deletion { preconditions: Preconditions { uid: Some(uid), resource_version: None }, ..Deletion::default() };
                self.namespaces.delete(&place, &deletion).await?;
            }
            Action::Write(Sort::Network, action) => write(&self.networks, &host, action).await?,
            Action::Write(Sort::Quota, action) => write(&self.quotas, &host, action).await?,
            Action::Write(Sort::Role, action) => write(&self.roles, &host, action).await?,
            Action::Write(Sort::RoleBinding, action) => write(&self.bindings, &host, action).await?,
            Action::Write(Sort::Cluster, action) => write(&self.clusters, &host, action).await?,
            Action::Write(sort, action) => {
                let cluster = own_cluster(&place.name).ok_or_else(|| Error::Invalid("no virtual cluster can have this name".into()))?;
                match sort {
                    Sort::ClusterRole => write(&self.cluster_roles, &cluster, action).await?,
                    _ => write(&self.cluster_bindings, &cluster, action).await?,
                }
            }
        }
        Ok(())
    }
}

pub fn reconcile(world: &World) -> Plan<Action> {
    let project = &*world.project;
    let finalizers = project.metadata.finalizers.clone().unwrap_or_default();
    let held = finalizers.iter().any(|name| name == FINALIZER);
    let ours = |namespace: &Value| namespace["metadata"]["labels"][PROJECT_LABEL].as_str() == project.metadata.name.as_deref();
    if let Some(deleted) = &project.metadata.deletion_timestamp {
        return if held { removal(world, deleted.0, &finalizers, world.namespace.as_ref().filter(|namespace| ours(namespace))) } else { Plan::nothing() };
    }
    let mut plan = Plan::nothing();
    if !held {
        plan.push(Action::Finalizers(finalizers.into_iter().chain([FINALIZER.to_owned()]).collect()));
    }
    let metadata = wanted::namespace_metadata(project);
    match &world.namespace {
        None => plan.push(Action::CreateNamespace(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}))),
        Some(found) if !found["metadata"]["deletionTimestamp"].is_null() => {
            tell(&mut plan, world, "Pending", "its namespace is being deleted", None);
            return plan;
        }
        // Made by somebody else, unless its labels were taken away: what we made in it tells.
        Some(found) if !ours(found) && !world.found.iter().any(|(_, object)| object["metadata"]["labels"][MANAGED_BY] == MANAGER) => {
            tell(&mut plan, world, "Failed", &format!("namespace {} exists and is not this project's", metadata["name"]), None);
            return plan;
        }
        Some(found) => plan.actions.extend(metadata_patch(&metadata, &found["metadata"]).map(Action::Namespace)),
    }
    let writes = difference(&wanted::objects(project, &world.roles), &world.found);
    plan.actions.extend(writes.into_iter().map(|(sort, write)| Action::Write(sort, write)));
    if let Some(inside) = &world.inside {
        let mut writes = difference(&wanted::inside(project, &world.roles), inside);
        writes.sort_by_key(|(sort, _)| *sort);
        plan.actions.extend(writes.into_iter().map(|(sort, write)| Action::Write(sort, write)));
    }
    if project.spec.virtual_cluster && world.inside.is_none() {
        tell(&mut plan, world, "Pending", "its virtual cluster is not served yet", None);
    } else {
        tell(&mut plan, world, "Active", "", None);
    }
    plan
}

/// First the time of grace, in which nothing changes but that nobody's role in the project counts any more; then the namespace goes.
fn removal(world: &World, deleted: Timestamp, finalizers: &[String], namespace: Option<&Value>) -> Plan<Action> {
    let mut plan = Plan::nothing();
    let grace = world.project.spec.deletion_grace_period_seconds.unwrap_or(GRACE_PERIOD);
    let end = deleted.saturating_add(SignedDuration::from_secs(grace)).unwrap_or(Timestamp::MAX);
    tell(&mut plan, world, "Terminating", "", Some(end));
    let grace = Duration::from_secs(grace.max(0).unsigned_abs());
    match namespace {
        None => plan.push(Action::Finalizers(finalizers.iter().filter(|name| *name != FINALIZER).cloned().collect())),
        Some(namespace) => match until(deleted, grace, world.now) {
            Some(left) => plan.look_again(left),
            None if namespace["metadata"]["deletionTimestamp"].is_null() => {
                let uid = namespace["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
                plan.push(Action::DeleteNamespace { uid });
            }
            // Its going brings us back.
            None => {}
        },
    }
    plan
}

fn tell(plan: &mut Plan<Action>, world: &World, phase: &str, message: &str, delete_after: Option<Timestamp>) {
    let project = &world.project;
    let status = ProjectStatus {
        namespace: namespace(project.metadata.name.as_deref().unwrap_or_default()),
        phase: phase.to_owned(),
        message: message.to_owned(),
        delete_after,
        observed_generation: project.metadata.generation.unwrap_or_default(),
    };
    if project.status != status {
        plan.push(Action::Status(status));
    }
}
