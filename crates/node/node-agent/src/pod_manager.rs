//! PodManager: a worker for each pod bound to this node; takes up what runs and takes down what nobody wants.
use crate::containerd::{ContainerdProcess, RuntimeEvent, RuntimeEvents};
use crate::context::AgentContext;
use crate::log_rotation::rotate_logs;
use crate::pod::effects::remove_sandbox;
use crate::pod::identity::PodId;
use crate::pod::paths::{files_root, logs_root};
use crate::pod::worker::{PodMessage, Worker};
use api_cache::{Change, ObjectKey};
use cri::v1::ContainerFilter;
use k8s_openapi::api::core::v1::Pod;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How often the runtime is looked at as a whole, should an event get lost.
const RELIST: Duration = Duration::from_secs(10);
const RECONNECT: Duration = Duration::from_millis(200);
/// Beyond the pods' own grace, for sandboxes and volumes.
const STOP_SLACK: Duration = Duration::from_secs(60);

pub struct PodManager {
    context: Arc<AgentContext>,
    socket: PathBuf,
    workers: HashMap<PodId, mpsc::UnboundedSender<PodMessage>>,
    tasks: JoinSet<PodId>,
    /// Ids and states of the last relist.
    seen: BTreeMap<String, i32>,
}

impl PodManager {
    pub fn new(context: Arc<AgentContext>, socket: PathBuf) -> Self {
        Self { context, socket, workers: HashMap::new(), tasks: JoinSet::new(), seen: BTreeMap::new() }
    }

    /// Runs until `shutdown`. The workers stay; `stop_all` or dropping the manager ends them.
    pub async fn run(&mut self, process: Option<ContainerdProcess>, shutdown: CancellationToken) {
        let mut changes = self.context.pods.subscribe();
        let mut volume_changes = self.context.volumes.changes();
        let (events_in, mut events) = mpsc::unbounded_channel();
        // Before the first look at the runtime, so that nothing falls between.
        let (ready, is_ready) = tokio::sync::oneshot::channel();
        let follower = tokio::spawn(follow_runtime(self.context.clone(), self.socket.clone(), process.clone(), events_in, ready));
        let _follower = tokio_util::task::AbortOnDropHandle::new(follower);
        // Its sender goes only with the follower, which lives as long as this.
        let _ = is_ready.await;
        self.context.pods.synced().await;
        self.sync_all();
        if !self.remove_orphans().await
            && let Some(process) = &process
        {
            // A removal that was cut off can leave containerd with a container that it can neither use nor
            // remove, until it reads its records again. Containers survive its restart.
            tracing::info!("containerd is started anew, since it can't remove a sandbox");
            process.stop().await;
            if let Err(error) = process.ensure_running().await {
                tracing::error!(error = &error as &dyn std::error::Error, "containerd can't be started again");
            }
            self.remove_orphans().await;
        }
        let mut relist = tokio::time::interval(RELIST);
        relist.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                change = changes.recv() => match change {
                    Ok(change) => self.take(change),
                    Err(broadcast::error::RecvError::Lagged(_)) => self.sync_all(),
                    Err(broadcast::error::RecvError::Closed) => return,
                },
                event = events.recv() => match event {
                    Some(Some(event)) => self.tell_owner(event),
                    // Reconnected: anything may have happened.
                    Some(None) => self.workers.values().for_each(|worker| tell(worker, PodMessage::Runtime { ended: None })),
                    None => return,
                },
                changed = volume_changes.recv() => match changed {
                    Ok((cluster, uid)) => {
                        let id = PodId { cluster, uid: uid.into() };
                        if let Some(worker) = self.workers.get(&id) {
                            tell(worker, PodMessage::VolumesChanged);
                        }
                    }
                    Err(_) => self.workers.values().for_each(|worker| tell(worker, PodMessage::VolumesChanged)),
                },
                Some(ended) = self.tasks.join_next() => match ended {
                    Ok(id) => self.workers.retain(|known, sender| *known != id || !sender.is_closed()),
                    Err(error) => tracing::error!(%error, "a pod's worker broke"),
                },
                _ = relist.tick() => self.relist().await,
            }
        }
    }

    /// Ends all pods, without a word to the API.
    pub async fn stop_all(mut self, grace: Duration) {
        self.workers.values().for_each(|worker| tell(worker, PodMessage::StopAll { grace }));
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(grace + STOP_SLACK, all).await.is_err() {
            tracing::warn!("some pods did not end in time");
        }
        self.workers.clear();
        // Whatever a worker could not take down, and what never had one.
        self.remove_orphans().await;
    }

    fn take(&mut self, change: Change<Pod>) {
        let Change { key, old, new } = change;
        let old_id = old.as_ref().map(|old| PodId::of(&key.cluster, old));
        let new = new.filter(|pod| self.is_ours(pod));
        let new_id = new.as_ref().map(|new| PodId::of(&key.cluster, new));
        if let Some(old_id) = old_id.filter(|old| Some(old) != new_id.as_ref())
            && let Some(worker) = self.workers.get(&old_id)
        {
            tell(worker, PodMessage::Gone);
        }
        if let (Some(id), Some(pod)) = (new_id, new) {
            self.show(id, key, pod);
        }
    }

    fn show(&mut self, id: PodId, key: ObjectKey, pod: Arc<Pod>) {
        match self.workers.get(&id).filter(|worker| !worker.is_closed()) {
            Some(worker) => tell(worker, PodMessage::Pod(pod)),
            None => {
                let (sender, task) = Worker::spawn(self.context.clone(), key, pod);
                self.workers.insert(id.clone(), sender);
                self.tasks.spawn(async move {
                    if let Err(error) = task.await {
                        tracing::error!(pod = %id, %error, "a pod's worker broke");
                    }
                    id
                });
            }
        }
    }

    fn is_ours(&self, pod: &Pod) -> bool {
        pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()) == Some(&self.context.settings.node_name)
    }

    fn sync_all(&mut self) {
        let mut wanted = BTreeSet::new();
        for (key, pod) in self.context.pods.all() {
            if self.is_ours(&pod) {
                let id = PodId::of(&key.cluster, &pod);
                wanted.insert(id.clone());
                self.show(id, key, pod);
            }
        }
        self.workers.iter().filter(|(id, _)| !wanted.contains(id)).for_each(|(_, worker)| tell(worker, PodMessage::Gone));
    }

    fn tell_owner(&self, event: RuntimeEvent) {
        if let Some(worker) = self.context.table.owner(&event.container) {
            tell(&worker, PodMessage::Runtime { ended: event.ended.then_some(event.container) });
        }
    }

    /// Looks at the whole runtime and tells the owners of what changed since the last time.
    async fn relist(&mut self) {
        let runtime = &self.context.runtime;
        let lists = tokio::try_join!(runtime.list_pod_sandboxes(BTreeMap::new()), runtime.list_containers(ContainerFilter::default()));
        let Ok((sandboxes, containers)) = lists else { return };
        let now: BTreeMap<String, i32> = sandboxes.into_iter().map(|s| (s.id, s.state)).chain(containers.into_iter().map(|c| (c.id, c.state))).collect();
        let changed = now.iter().filter(|(id, state)| self.seen.get(*id) != Some(state)).map(|(id, _)| id);
        let gone = self.seen.keys().filter(|id| !now.contains_key(*id));
        for id in changed.chain(gone) {
            if let Some(worker) = self.context.table.owner(id) {
                tell(&worker, PodMessage::Runtime { ended: None });
            }
        }
        self.seen = now;
        let (context, logs) = (self.context.clone(), logs_root(&self.context.settings.data_dir));
        if let Err(error) = rotate_logs(&context.runtime, &logs, context.clock.now()).await {
            tracing::debug!(%error, "the runtime can't be asked for logs to rotate");
        }
    }

    /// Removes sandboxes, volumes, files and cgroups of pods that are not wanted here any more.
    ///
    /// Returns whether the runtime let go of all of them.
    async fn remove_orphans(&self) -> bool {
        let mut all_removed = true;
        let wanted: BTreeSet<&PodId> = self.workers.keys().collect();
        match self.context.runtime.list_pod_sandboxes(BTreeMap::new()).await {
            Ok(sandboxes) => {
                // A sandbox without our labels is somebody else's.
                let orphans = sandboxes.into_iter().filter(|s| PodId::of_labels(&s.labels).is_some_and(|id| !wanted.contains(&id)));
                let removals = orphans.map(|sandbox| async move {
                    tracing::info!(sandbox = sandbox.id, "a sandbox of a pod that is gone is removed");
                    remove_sandbox(&self.context, &sandbox.id).await
                });
                all_removed = futures::future::join_all(removals).await.into_iter().all(|removed| removed);
            }
            Err(error) => tracing::warn!(%error, "the runtime's sandboxes can't be listed"),
        }
        let names: BTreeSet<String> = wanted.iter().map(|id| id.directory_name()).collect();
        self.context.cgroups.remove_others(|name| names.contains(name));
        let uids: BTreeSet<&str> = wanted.iter().map(|id| &*id.uid).collect();
        for uid in self.context.volumes.pods_on_disk().unwrap_or_default() {
            if !uids.contains(uid.as_str())
                && let Err(error) = self.context.volumes.unmount(&api_meta::ClusterName::root(), &uid).await
            {
                tracing::warn!(uid, %error, "the volumes of a pod that is gone can't be taken down");
            }
        }
        self.context.devices.release_others(&uids);
        let data_dir = &self.context.settings.data_dir;
        remove_others(&files_root(data_dir), |name| names.contains(name));
        // `{namespace}_{name}_{uid}`: neither of the first two can hold an underscore.
        remove_others(&logs_root(data_dir), |name| name.splitn(3, '_').nth(2).is_some_and(|uid| names.contains(uid)));
        all_removed
    }
}

fn remove_others(dir: &std::path::Path, keep: impl Fn(&str) -> bool) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if !keep(&entry.file_name().to_string_lossy())
            && let Err(error) = std::fs::remove_dir_all(entry.path())
        {
            tracing::warn!(path = %entry.path().display(), %error, "the files of a pod that is gone can't be removed");
        }
    }
}

fn tell(worker: &mpsc::UnboundedSender<PodMessage>, message: PodMessage) {
    // One that ended needs no telling.
    let _ = worker.send(message);
}

/// Passes the runtime's events on; `None` after each new connection. Keeps a containerd of our own alive.
async fn follow_runtime(
    context: Arc<AgentContext>,
    socket: PathBuf,
    process: Option<ContainerdProcess>,
    events: mpsc::UnboundedSender<Option<RuntimeEvent>>,
    ready: tokio::sync::oneshot::Sender<()>,
) {
    let mut ready = Some(ready);
    loop {
        match RuntimeEvents::subscribe(&context.runtime, &socket).await {
            Ok(mut stream) => {
                if let Some(ready) = ready.take() {
                    // Nobody waits once the agent stops.
                    let _ = ready.send(());
                }
                if events.send(None).is_err() {
                    return;
                }
                while let Some(event) = stream.next().await {
                    if events.send(Some(event)).is_err() {
                        return;
                    }
                }
                tracing::warn!("the container runtime's events ended");
            }
            Err(error) if error.is_unimplemented() => {
                tracing::warn!("the container runtime has no events: changes are seen only every {} s", RELIST.as_secs());
                drop(ready.take());
                return std::future::pending().await;
            }
            Err(error) => tracing::debug!(%error, "the container runtime's events can't be followed"),
        }
        drop(ready.take());
        tokio::time::sleep(RECONNECT).await;
        if let Some(process) = &process
            && let Err(error) = process.ensure_running().await
        {
            tracing::error!(error = &error as &dyn std::error::Error, "containerd can't be started again");
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
    }
}
