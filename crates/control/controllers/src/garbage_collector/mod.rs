//! Garbage collector: deletes what nobody owns any more, in every cluster and for every kind there is.
mod decide;
mod definition;
mod graph;
mod kinds;
mod monitors;
#[cfg(test)]
mod tests;

use crate::discovery::{self, ServedResource};
use api_meta::ClusterName;
use controller_kit::{CancellationToken, Controller, Error, Kit, ObjectKey, Plan, Queue, Runner, async_trait, backoff};
use decide::{Decision, OwnerState, decide, of_going};
use definition::Definition;
use graph::{FOREGROUND, Graph, Metadata, ORPHAN, Owner};
use http::Method;
use kinds::Kinds;
use monitors::Monitors;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

pub const NAME: &str = "garbage-collector-controller";

/// Events own nothing, are owned by nobody, and are many.
const IGNORED: [(&str, &str); 2] = [("", "events"), ("events.k8s.io", "events")];

struct Shared {
    graph: Mutex<Graph>,
    kinds: Mutex<Kinds>,
}

pub struct GarbageCollector {
    kit: Kit,
    shared: Arc<Shared>,
}

/// What there is to do for one object, by its uid.
pub struct World {
    uid: Box<str>,
    node: graph::Node,
}

#[derive(Debug, PartialEq)]
pub enum Action {
    /// Sees whether it is still owned.
    Attempt,
}

/// Runs until `shutdown`. Every resource is followed by its own task; new custom resources as they come.
pub async fn run(kit: Kit, shutdown: CancellationToken) {
    let root = ClusterName::root();
    let mut failures = 0;
    let builtin = loop {
        match discovery::served(&kit, &root).await {
            Ok((resources, missing)) if missing.is_empty() => break resources,
            Ok((_, missing)) => tracing::warn!(missing = missing.join("; "), "the garbage collector does not know all resources yet"),
            Err(error) => tracing::warn!(%error, "the garbage collector could not ask for the resources"),
        }
        failures += 1;
        if shutdown.run_until_cancelled(tokio::time::sleep(backoff(failures + 4))).await.is_none() {
            return;
        }
    };
    let definitions = kit.objects::<Definition>();
    if shutdown.run_until_cancelled(definitions.synced()).await.is_none() {
        return;
    }
    let shared = Arc::new(Shared { graph: Mutex::default(), kinds: Mutex::default() });
    let runner = Runner::new(GarbageCollector { kit: kit.clone(), shared: shared.clone() }).workers(20);
    let queue = runner.queue().clone();
    let custom: HashSet<(String, String)> = definitions.all().iter().map(|(_, d)| (d.spec.group.clone(), d.spec.names.plural.clone())).collect();
    let collectable = |resource: &ServedResource| {
        let key = (resource.group.clone(), resource.plural.clone());
        resource.can("list") && resource.can("watch") && resource.can("delete") && !IGNORED.contains(&(&*key.0, &*key.1)) && !custom.contains(&key)
    };
    let builtin: Vec<Arc<ServedResource>> = builtin.into_iter().filter(collectable).map(Arc::new).collect();
    shared.kinds.lock().set_builtin(builtin.iter().cloned());
    let mut monitors = Monitors::new(&kit, &shared, &queue);
    let mut listed: Vec<watch::Receiver<bool>> = builtin.into_iter().map(|resource| monitors.start(resource)).collect();
    let defined = definitions.all();
    let defined = defined.iter().filter_map(|(key, definition)| Some((&key.cluster, kinds::resource_of(definition)?)));
    listed.extend(defined.filter_map(|(cluster, resource)| monitors.define(cluster, resource)));
    // Definitions are listened to, and their resources followed, by one task: the set of monitors is its own.
    let (sender, mut changes) = mpsc::unbounded_channel();
    let listening = definitions.listen(move |change| {
        let of = |d: &Option<Arc<Definition>>| d.as_ref().and_then(|d| kinds::resource_of(d));
        // The task ends only with the process.
        let _ = sender.send((change.key.cluster.clone(), of(&change.old), of(&change.new)));
    });
    let following = async move {
        // Kept while the task lives.
        let _listening = listening;
        while let Some((cluster, old, new)) = changes.recv().await {
            monitors.definition_changed(&cluster, old, new);
        }
    };
    let collecting = {
        let (shared, queue, shutdown) = (shared.clone(), queue.clone(), shutdown.clone());
        async move {
            // Before all is listed, an owner that is not known is no absent owner, and one without dependents may have some.
            for mut one in listed {
                // A monitor ends only with the process.
                if shutdown.run_until_cancelled(one.wait_for(|done| *done)).await.is_none() {
                    return;
                }
            }
            {
                let graph = shared.graph.lock();
                for uid in graph.with_absent_owners() {
                    enqueue(&graph, &queue, &uid);
                }
            }
            runner.run(shutdown).await;
        }
    };
    tokio::select! {
        () = following => {}
        () = collecting => {}
    }
}

fn enqueue(graph: &Graph, queue: &Queue, uid: &str) {
    if let Some(node) = graph.node(uid) {
        queue.add(ObjectKey::new(&node.cluster, "", uid));
    }
}

#[async_trait]
impl Controller for GarbageCollector {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        NAME
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        let node = self.shared.graph.lock().node(&key.name)?.clone();
        Some(self.world((&*key.name).into(), node))
    }

    fn reconcile(_: &World) -> Plan<Action> {
        // The graph may be behind: what is decided is decided from what the API says at the time.
        vec![Action::Attempt].into()
    }

    async fn act(&self, key: &ObjectKey, Action::Attempt: Action) -> Result<(), Error> {
        let Some(world) = self.observe(key) else { return Ok(()) };
        self.attempt(&world).await
    }
}

impl GarbageCollector {
    /// The object, by a version of its resource that is served now.
    fn world(&self, uid: Box<str>, node: graph::Node) -> World {
        let served = self.shared.kinds.lock().find(&node.cluster, &node.resource.api_version(), &node.resource.kind);
        World { uid, node: graph::Node { resource: served.unwrap_or_else(|| node.resource.clone()), ..node } }
    }

    async fn attempt(&self, world: &World) -> Result<(), Error> {
        let World { uid, node } = world;
        let latest = self.fresh(&node.cluster, &node.resource, &node.namespace, &node.name).await?.filter(|latest| latest.uid == *uid);
        let Some(latest) = latest else { return Ok(()) };
        let blocked = latest.waits_for_dependents() && !self.shared.graph.lock().blocking(uid).is_empty();
        let decision = match of_going(&latest, blocked) {
            Some(decision) => decision,
            None => {
                let mut states = Vec::with_capacity(latest.owner_references.len());
                for owner in &latest.owner_references {
                    states.push(self.state_of(node, owner).await?);
                }
                let dependents = self.shared.graph.lock().dependents(uid);
                decide(&latest, &states, !dependents.is_empty(), dependents.iter().any(|(_, dependent)| dependent.waits_for_dependents))
            }
        };
        match decision {
            Decision::Keep => Ok(()),
            Decision::LeaveOrphans => self.leave_orphans(world, &latest).await,
            Decision::LetGo => self.remove_finalizer(world, &latest, FOREGROUND).await,
            Decision::DropOwners(gone) => self.drop_owners(world, &latest, &gone).await,
            Decision::Delete { propagation, unblock } => {
                if unblock {
                    self.patch(world, json!({"metadata": {"ownerReferences": references(&self.raw(world).await?, |_| true, true), "uid": latest.uid}})).await?;
                }
                self.delete(world, &latest, propagation).await
            }
        }
    }

    /// What the API says of an owner.
    async fn state_of(&self, node: &graph::Node, owner: &Owner) -> Result<OwnerState, Error> {
        let Some(resource) = self.shared.kinds.lock().find(&node.cluster, &owner.api_version, &owner.kind) else {
            return Err(Error::NotYet(format!("no resource of kind {} in {} is known", owner.kind, owner.api_version)));
        };
        if resource.namespaced && !node.resource.namespaced {
            // Such a reference can't be right, but deleting for it would be worse.
            return Ok(OwnerState::Solid);
        }
        let namespace = if resource.namespaced { &*node.namespace } else { "" };
        Ok(match self.fresh(&node.cluster, &resource, namespace, &owner.name).await? {
            Some(found) if found.uid == owner.uid => {
                if found.waits_for_dependents() {
                    OwnerState::Waiting
                } else {
                    OwnerState::Solid
                }
            }
            _ => OwnerState::Absent,
        })
    }

    /// Takes the owner off all its dependents, then lets it go.
    async fn leave_orphans(&self, world: &World, latest: &Metadata) -> Result<(), Error> {
        let dependents = self.shared.graph.lock().dependents(&world.uid);
        for (uid, node) in dependents {
            let dependent = self.world(uid, node);
            let Some(fresh) = self.fresh(&dependent.node.cluster, &dependent.node.resource, &dependent.node.namespace, &dependent.node.name).await? else {
                continue;
            };
            if fresh.uid == dependent.uid {
                self.drop_owners(&dependent, &fresh, std::slice::from_ref(&world.uid)).await?;
            }
        }
        self.remove_finalizer(world, latest, ORPHAN).await
    }

    async fn drop_owners(&self, world: &World, latest: &Metadata, gone: &[Box<str>]) -> Result<(), Error> {
        let left = references(&self.raw(world).await?, |uid| !gone.iter().any(|gone| **gone == *uid), false);
        self.patch(world, json!({"metadata": {"ownerReferences": left, "uid": latest.uid, "resourceVersion": latest.resource_version}})).await
    }

    async fn remove_finalizer(&self, world: &World, latest: &Metadata, finalizer: &str) -> Result<(), Error> {
        let left: Vec<&str> = latest.finalizers.iter().map(|f| &**f).filter(|other| *other != finalizer).collect();
        self.patch(world, json!({"metadata": {"finalizers": left, "uid": latest.uid, "resourceVersion": latest.resource_version}})).await
    }

    async fn raw(&self, world: &World) -> Result<Value, Error> {
        let node = &world.node;
        Ok(self.ask(&node.cluster, Method::GET, path(&node.resource, &node.namespace, &node.name), None).await?.unwrap_or_default())
    }

    async fn fresh(&self, cluster: &ClusterName, resource: &ServedResource, namespace: &str, name: &str) -> Result<Option<Metadata>, Error> {
        let Some(mut value) = self.ask(cluster, Method::GET, path(resource, namespace, name), None).await? else { return Ok(None) };
        Ok(Some(serde_json::from_value(value["metadata"].take())?))
    }

    async fn patch(&self, world: &World, patch: Value) -> Result<(), Error> {
        let node = &world.node;
        self.ask(&node.cluster, Method::PATCH, path(&node.resource, &node.namespace, &node.name), Some(("application/merge-patch+json", patch))).await?;
        Ok(())
    }

    async fn delete(&self, world: &World, latest: &Metadata, propagation: &str) -> Result<(), Error> {
        let node = &world.node;
        let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": propagation,
            "preconditions": {"uid": latest.uid, "resourceVersion": latest.resource_version}});
        self.ask(&node.cluster, Method::DELETE, path(&node.resource, &node.namespace, &node.name), Some(("application/json", options))).await?;
        Ok(())
    }

    /// The answer; `None` when it is not (or no longer) there.
    async fn ask(&self, cluster: &ClusterName, method: Method, path: String, body: Option<(&str, Value)>) -> Result<Option<Value>, Error> {
        let (content_type, body) = match body {
            Some((content_type, value)) => (content_type, serde_json::to_vec(&value)?),
            None => ("application/json", Vec::new()),
        };
        let request = http::Request::builder().method(method).uri(path).header(http::header::CONTENT_TYPE, content_type).body(body);
        let request = request.map_err(|error| Error::Request(Box::new(error)))?;
        match self.kit.clients().cluster(cluster).request::<Value>(request).await.map_err(Error::from) {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn path(resource: &ServedResource, namespace: &str, name: &str) -> String {
    format!("{}/{name}", resource.path(namespace))
}

/// The owner references to keep, whole; with `unblock` none of them blocks its owner any more.
fn references(object: &Value, keep: impl Fn(&str) -> bool, unblock: bool) -> Value {
    let all = object["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
    let mut left: Vec<Value> = all.into_iter().filter(|reference| keep(reference["uid"].as_str().unwrap_or_default())).collect();
    if unblock {
        left.iter_mut().for_each(|reference| reference["blockOwnerDeletion"] = json!(false));
    }
    if left.is_empty() { Value::Null } else { Value::Array(left) }
}
