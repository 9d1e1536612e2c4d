//! Monitors: follow every resource there is, one task each, and keep the graph as they are told.
use super::graph::{Metadata, Wake};
use super::{Shared, enqueue};
use crate::discovery::ServedResource;
use api_meta::ClusterName;
use controller_kit::{Kit, Queue, Selection, SourceEvent};
use futures::StreamExt;
use serde::Deserialize;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

/// The tasks that follow resources. They end with it.
pub struct Monitors {
    kit: Kit,
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    tasks: JoinSet<()>,
    running: HashMap<(String, String), AbortHandle>,
}

impl Monitors {
    pub fn new(kit: &Kit, shared: &Arc<Shared>, queue: &Arc<Queue>) -> Self {
        Self { kit: kit.clone(), shared: shared.clone(), queue: queue.clone(), tasks: JoinSet::new(), running: HashMap::new() }
    }

    /// Follows a resource in all clusters; tells when all is listed.
    pub fn start(&mut self, resource: Arc<ServedResource>) -> watch::Receiver<bool> {
        let selection = Selection {
            group: resource.group.clone(),
            version: resource.version.clone(),
            resource: resource.plural.clone(),
            kind: resource.kind.clone(),
            ..Selection::default()
        };
        let mut events = self.kit.source().follow(selection);
        let (sender, receiver) = watch::channel(false);
        let (shared, queue) = (self.shared.clone(), self.queue.clone());
        let key = (resource.group.clone(), resource.plural.clone());
        let task = self.tasks.spawn(async move {
            let mut relisted: Option<HashSet<Box<str>>> = None;
            while let Some(event) = events.next().await {
                let mut graph = shared.graph.lock();
                let wake = match event {
                    SourceEvent::Restart => {
                        relisted = Some(HashSet::new());
                        continue;
                    }
                    SourceEvent::Applied { cluster, object } => {
                        let Some(metadata) = read(&object) else { continue };
                        if let Some(seen) = &mut relisted {
                            seen.insert(metadata.uid.clone());
                        }
                        graph.apply(&cluster, &resource, metadata)
                    }
                    SourceEvent::Deleted { object, .. } => match read(&object) {
                        Some(metadata) => graph.remove(&metadata.uid),
                        None => continue,
                    },
                    SourceEvent::Listed => {
                        let mut wake = Wake::default();
                        if let Some(seen) = relisted.take() {
                            for uid in graph.uids_of(&resource).difference(&seen) {
                                let more = graph.remove(uid);
                                wake.attempt.extend(more.attempt);
                            }
                        }
                        sender.send_replace(true);
                        wake
                    }
                };
                for uid in wake.attempt.iter().chain(&wake.orphan) {
                    enqueue(&graph, &queue, uid);
                }
            }
        });
        self.running.insert(key, task);
        receiver
    }

    /// A cluster's own resource. Gives what tells when all is listed, unless another cluster's is followed already.
    pub fn define(&mut self, cluster: &ClusterName, resource: ServedResource) -> Option<watch::Receiver<bool>> {
        let resource = Arc::new(resource);
        self.shared.kinds.lock().set_custom(cluster, resource.clone());
        let followed = self.running.contains_key(&(resource.group.clone(), resource.plural.clone()));
        (!followed).then(|| self.start(resource))
    }

    pub fn definition_changed(&mut self, cluster: &ClusterName, old: Option<ServedResource>, new: Option<ServedResource>) {
        if let Some(new) = new {
            // Its objects are looked at as they come: each look asks the API for the owners.
            self.define(cluster, new);
        } else if let Some(old) = old
            && self.shared.kinds.lock().remove_custom(cluster, &old)
            && let Some(task) = self.running.remove(&(old.group.clone(), old.plural.clone()))
        {
            task.abort();
            let mut graph = self.shared.graph.lock();
            for uid in graph.uids_of(&old) {
                for uid in graph.remove(&uid).attempt {
                    enqueue(&graph, &self.queue, &uid);
                }
            }
            while self.tasks.try_join_next().is_some() {}
        }
    }
}

fn read(object: &[u8]) -> Option<Metadata> {
    #[derive(Deserialize)]
    struct Object {
        metadata: Metadata,
    }
    serde_json::from_slice::<Object>(object).ok().map(|object| object.metadata)
}
