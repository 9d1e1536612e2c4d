//! Runs the scheduler: caches feed the core, one loop decides, tasks write.
use crate::binding::Writer;
use crate::core::{Core, DEVICES_CHANGED, VOLUMES_CHANGED};
use crate::devices::{self, ClaimWriter, DeviceSelectors, Reservation, Stores, Taken};
use crate::filters::dynamic_resources::ELSEWHERE;
use crate::preemption::{self, Preemption};
use crate::queue::Pending;
use crate::volumes::Storage;
use crate::{FitError, Needs, Plugins, SchedulerSettings, Volumes, metrics, schedule, volumes};
use controller_kit::own_nodes;
use controller_kit::{CancellationToken, Error, Kit, ObjectKey, Objects, Preconditions};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use parking_lot::Mutex;
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, Semaphore};

struct Scheduler {
    settings: SchedulerSettings,
    kit: Kit,
    core: Mutex<Core>,
    /// Told whenever the queue may have something.
    changed: Notify,
    writer: Writer,
    storage: Storage,
    devices: Stores,
    claims: ClaimWriter,
    budgets: Objects<PodDisruptionBudget>,
    bindings: Arc<Semaphore>,
}

/// Places the pods of all clusters on the host cluster's nodes until `shutdown`. Must be called inside a tokio runtime.
pub async fn run(settings: SchedulerSettings, kit: Kit, selectors: Arc<dyn DeviceSelectors>, shutdown: CancellationToken) {
    let kit = kit.managed_by("kube-scheduler");
    let (pods, nodes, namespaces) = (kit.objects::<Pod>(), kit.objects::<Node>(), kit.objects::<Namespace>());
    let scheduler = Arc::new(Scheduler {
        core: Mutex::new(Core::new(&settings)),
        changed: Notify::new(),
        writer: Writer { kit: kit.clone(), pods: pods.clone(), events: kit.recorder(settings.name), name: settings.name },
        storage: Storage {
            claims: kit.objects(),
            volumes: kit.objects(),
            classes: kit.objects(),
            nodes: kit.objects(),
            drivers: kit.objects(),
            capacities: kit.objects(),
            snapshots: kit.objects(),
            contents: kit.objects(),
        },
        devices: Stores {
            claims: kit.objects(),
            slices: kit.objects(),
            classes: kit.objects(),
            rules: kit.objects(),
            selectors,
            taken: Mutex::new(Taken::default()),
            pools: Mutex::default(),
        },
        claims: ClaimWriter(kit.objects()),
        budgets: kit.objects(),
        bindings: Arc::new(Semaphore::new(settings.bindings)),
        kit,
        settings,
    });
    // All must be known before the first decision: a node whose pods are not known yet would look empty.
    let synced = async {
        tokio::join!(
            pods.synced(),
            nodes.synced(),
            namespaces.synced(),
            scheduler.storage.claims.synced(),
            scheduler.storage.volumes.synced(),
            scheduler.storage.classes.synced(),
            scheduler.storage.nodes.synced(),
            scheduler.storage.drivers.synced(),
            scheduler.storage.capacities.synced(),
            scheduler.storage.snapshots.synced(),
            scheduler.storage.contents.synced(),
            scheduler.devices.claims.synced(),
            scheduler.devices.slices.synced(),
            scheduler.devices.classes.synced(),
            scheduler.devices.rules.synced(),
            scheduler.budgets.synced()
        )
    };
    if shutdown.run_until_cancelled(synced).await.is_none() {
        return;
    }
    let changed = |scheduler: &Arc<Scheduler>, change: &dyn Fn(&mut Core, Instant)| {
        change(&mut scheduler.core.lock(), scheduler.kit.clock().instant());
        scheduler.changed.notify_one();
    };
    let on = Arc::downgrade(&scheduler);
    let _namespaces = namespaces.listen({
        let on = on.clone();
        move |change| {
            let Some(scheduler) = on.upgrade() else { return };
            changed(&scheduler, &|core, _| core.snapshot.set_namespace(&change.key.cluster, &change.key.name, change.new.clone()));
        }
    });
    let _nodes = nodes.listen({
        let on = on.clone();
        move |change| {
            let Some(scheduler) = on.upgrade() else { return };
            // Those of virtual clusters are machines of their own; what these see of the host's are no objects.
            let seen = |node: &Option<Arc<Node>>| node.as_ref().map(|node| own_nodes::among_all(&change.key.cluster, node));
            let (old, new) = (seen(&change.old), seen(&change.new));
            changed(&scheduler, &|core, now| core.node_changed(old.as_ref(), new.as_ref(), now));
        }
    });
    let _pods = pods.listen({
        let on = on.clone();
        move |change| {
            let Some(scheduler) = on.upgrade() else { return };
            let ours = change
                .new
                .as_ref()
                .and_then(|pod| pod.spec.as_ref())
                .is_some_and(|spec| spec.scheduler_name.as_deref().unwrap_or("default-scheduler") == scheduler.settings.name);
            changed(&scheduler, &|core, now| core.pod_changed(&change.key, change.old.as_ref(), change.new.as_ref(), ours, now));
            if let Some(pod) = change.new.as_ref().filter(|pod| ours && is_newly_gated(pod)) {
                let (scheduler, key, uid) = (scheduler.clone(), change.key.clone(), pod.metadata.uid.clone());
                tokio::spawn(async move {
                    if let Err(error) = scheduler.writer.refuse(&key, "SchedulingGated", "Scheduling is blocked due to non-empty scheduling gates", None).await
                    {
                        tracing::debug!(%key, ?uid, %error, "the gated pod's condition could not be written");
                    }
                });
            }
        }
    });
    macro_rules! volumes_wake {
        ($objects:expr) => {
            $objects.listen({
                let on = on.clone();
                move |change| {
                    let Some(scheduler) = on.upgrade() else { return };
                    // What the host has, virtual clusters may have.
                    changed(&scheduler, &|core, now| {
                        if change.key.cluster.is_root() {
                            core.queue.wake(VOLUMES_CHANGED, now);
                        } else {
                            core.queue.wake_cluster(&change.key.cluster, VOLUMES_CHANGED, now);
                        }
                    });
                }
            })
        };
    }
    let storage = &scheduler.storage;
    let _claims = (volumes_wake!(storage.claims), volumes_wake!(storage.volumes), volumes_wake!(storage.classes));
    let _drivers = (volumes_wake!(storage.nodes), volumes_wake!(storage.drivers), volumes_wake!(storage.capacities));
    let _resource_claims = scheduler.devices.claims.listen({
        let on = on.clone();
        move |change| {
            let Some(scheduler) = on.upgrade() else { return };
            scheduler.devices.taken.lock().claim_changed(&change.key, change.new.as_deref());
            changed(&scheduler, &|core, now| core.queue.wake_cluster(&change.key.cluster, DEVICES_CHANGED, now));
        }
    });
    macro_rules! devices_wake {
        ($objects:expr) => {
            $objects.listen({
                let on = on.clone();
                move |change| {
                    let Some(scheduler) = on.upgrade() else { return };
                    scheduler.devices.pools.lock().remove(&change.key.cluster);
                    changed(&scheduler, &|core, now| core.queue.wake_cluster(&change.key.cluster, DEVICES_CHANGED, now));
                }
            })
        };
    }
    let devices = &scheduler.devices;
    let _devices = (devices_wake!(devices.slices), devices_wake!(devices.classes), devices_wake!(devices.rules));
    shutdown.run_until_cancelled(scheduler.work()).await;
}

fn is_newly_gated(pod: &Pod) -> bool {
    let gated = pod.spec.as_ref().and_then(|spec| spec.scheduling_gates.as_ref()).is_some_and(|gates| !gates.is_empty());
    let told = pod.status.iter().flat_map(|status| status.conditions.iter().flatten()).any(|condition| condition.type_ == "PodScheduled");
    gated && !told && pod.metadata.deletion_timestamp.is_none()
}

enum Decision {
    Bind {
        node: Arc<str>,
        waiting_claims: Vec<String>,
        devices: Reservation,
    },
    Refuse {
        error: FitError,
        preemption: Option<Preemption>,
        /// Claims whose devices can't be used where there is room, if nobody else needs them there.
        in_the_way: Vec<ObjectKey>,
    },
    /// It is not to be looked at yet.
    Wait,
}

/// How long a pod's claims may take to be bound once its node is known, as upstream.
const VOLUMES_PATIENCE: Duration = Duration::from_secs(600);
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";

impl Scheduler {
    async fn work(self: &Arc<Self>) {
        loop {
            // A permit first: what is decided is bound at once, and the queue's order holds.
            let permit = self.bindings.clone().acquire_owned().await.expect("the semaphore is never closed");
            let now = self.kit.clock().instant();
            let (pending, deadline) = {
                let mut core = self.core.lock();
                (core.queue.pop(now), core.queue.next_deadline())
            };
            let Some(pending) = pending else {
                drop(permit);
                match deadline {
                    Some(at) => {
                        // The timeout passing is what was waited for as much as a change.
                        let _ = tokio::time::timeout(at.saturating_duration_since(now), self.changed.notified()).await;
                    }
                    None => self.changed.notified().await,
                }
                continue;
            };
            let decision = self.decide(&pending, now);
            metrics::attempted(self.settings.name, matches!(decision, Decision::Bind { .. }), self.kit.clock().instant() - now);
            match decision {
                Decision::Bind { node, waiting_claims, devices } => {
                    let scheduler = self.clone();
                    // Volumes may take minutes: nobody else waits for them.
                    let permit = Some(permit).filter(|_| waiting_claims.is_empty());
                    tokio::spawn(async move {
                        scheduler.bind(&pending, &node, &waiting_claims, &devices).await;
                        drop(permit);
                    });
                }
                Decision::Refuse { error, preemption, in_the_way } => {
                    let scheduler = self.clone();
                    tokio::spawn(async move {
                        scheduler.refuse(&pending, error, preemption, &in_the_way).await;
                        drop(permit);
                    });
                }
                Decision::Wait => drop(permit),
            }
            // Thousands of pods in a row must not keep the other tasks of this thread waiting.
            tokio::task::yield_now().await;
        }
    }

    fn decide(&self, pending: &Pending, now: Instant) -> Decision {
        let pod = &pending.info;
        let volumes = self.look_at_volumes(pending);
        let mut core = self.core.lock();
        // Under the lock, so that no claim's change falls between the look and the wait.
        let needs = Needs { volumes, devices: devices::look(&pod.pod, &pod.key, &self.devices) };
        if let Some(why) = &needs.devices.not_ready {
            tracing::debug!(pod = %pod.key, why, "the pod's claims are not ready");
            core.queue.unschedulable(&pod.key, DEVICES_CHANGED, now);
            return Decision::Wait;
        }
        let mut random = |below: usize| u32::from_le_bytes(clock::random_bytes()) as usize % below.max(1);
        match schedule(pod, &needs, &core.snapshot, core.start, self.settings.percentage_of_nodes_to_score, &mut random) {
            Ok(placement) => {
                core.start = placement.next_start;
                let devices = self.devices.take(&needs.devices, &core.snapshot.nodes()[placement.node]);
                Decision::Bind { node: core.assume(pending, placement.node), waiting_claims: needs.volumes.waiting, devices }
            }
            Err(mut error) => {
                // In the same breath: places in the snapshot hold only while nothing changes.
                let mut preemption = None;
                if error.all_nodes > 0 && error.pre_filter.is_none() {
                    let budgets = self.budgets.list(&pod.key.cluster, None);
                    match preemption::preempt(pod, &needs, &core.snapshot, &error, &budgets, random(error.resolvable.len())) {
                        Err(message) => error.post_filter = message,
                        Ok(found) => {
                            core.snapshot.nominate(pod.clone(), &found.node);
                            preemption = Some(found);
                        }
                    }
                }
                let refused_by = if error.all_nodes == 0 { Plugins::ALL } else { error.plugins };
                core.queue.unschedulable(&pod.key, refused_by, now);
                let in_the_way = if error.reasons.contains_key(ELSEWHERE) { needs.devices.movable() } else { Vec::new() };
                Decision::Refuse { error, preemption, in_the_way }
            }
        }
    }

    fn look_at_volumes(&self, pending: &Pending) -> Volumes {
        let pod = &pending.info;
        if pod.pod.spec.as_ref().is_none_or(|spec| spec.volumes.as_ref().is_none_or(Vec::is_empty)) {
            return Volumes::default();
        }
        volumes::look(&pod.pod, &pod.key, &self.storage)
    }

    async fn bind(&self, pending: &Pending, node: &str, waiting_claims: &[String], devices: &Reservation) {
        let mut plugin = "Bind plugin \"DefaultBinder\"";
        let bound = async {
            let node = own_nodes::owner(node).map_or(node, |(_, name)| name);
            plugin = "PreBind plugin \"VolumeBinding\"";
            self.bind_claims(pending, node, waiting_claims).await?;
            plugin = "PreBind plugin \"DynamicResources\"";
            self.claims.reserve_all(&pending.info, devices).await?;
            plugin = "Bind plugin \"DefaultBinder\"";
            self.writer.bind(&pending.info, node).await
        };
        let Err(error) = bound.await else { return };
        let pod = &pending.info;
        self.devices.undo(devices);
        self.claims.release_all(pod, devices).await;
        let now = self.kit.clock().instant();
        self.core.lock().forget(pending, now);
        self.changed.notify_one();
        // Gone meanwhile, or bound by somebody else: there is nothing to complain of.
        if !error.is_not_found() && !error.is_conflict() {
            tracing::warn!(pod = %pod.key, node, %error, "binding failed and will be tried again");
            self.writer.failed(pod, format!("running {plugin}: {error}"));
        }
    }

    /// Tells the provisioner the node of claims that waited for it, and waits until they are bound.
    async fn bind_claims(&self, pending: &Pending, node: &str, claims: &[String]) -> Result<(), Error> {
        let pod = &pending.info.key;
        for name in claims {
            let key = ObjectKey::new(&pod.cluster, &pod.namespace, name);
            self.storage.claims.patch(&key, "", &json!({"metadata": {"annotations": {SELECTED_NODE: node}}}), &Preconditions::default()).await?;
        }
        let mut changes = self.storage.claims.subscribe();
        let is_bound = |name: &String| {
            let claim = self.storage.claims.get(&ObjectKey::new(&pod.cluster, &pod.namespace, name));
            claim.is_some_and(|claim| claim.metadata.annotations.as_ref().is_some_and(|all| all.contains_key("pv.kubernetes.io/bind-completed")))
        };
        // A provisioner that has no room on the node takes the choice back.
        let refused = |name: &&String| {
            let claim = self.storage.claims.get(&ObjectKey::new(&pod.cluster, &pod.namespace, name));
            !claim.is_some_and(|claim| claim.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(SELECTED_NODE)))
        };
        let all_bound = async {
            while !claims.iter().all(is_bound) {
                if let Some(name) = claims.iter().filter(|name| !is_bound(name)).find(refused) {
                    return Err(Error::NotYet(format!("binding volumes: provisioning failed for PVC {name:?}")));
                }
                // Lagging only means that there was much news.
                let _ = changes.recv().await;
            }
            Ok(())
        };
        let waited = tokio::time::timeout(VOLUMES_PATIENCE, all_bound).await;
        waited.unwrap_or_else(|_| Err(Error::NotYet("binding volumes: context deadline exceeded".into())))
    }

    async fn refuse(&self, pending: &Pending, mut error: FitError, preemption: Option<Preemption>, in_the_way: &[ObjectKey]) {
        let pod = &pending.info;
        if !error.post_filter.is_empty() {
            error.post_filter = format!("{}, {}", self.claims.deallocate_one(pod, in_the_way).await.message(), error.post_filter);
        }
        for victim in preemption.iter().flat_map(|preemption| &preemption.victims) {
            if let Err(error) = self.writer.evict(victim, pod, preemption.as_ref().map(|p| &*p.node).unwrap_or_default()).await {
                tracing::debug!(victim = %victim.key, %error, "a victim could not be made to go");
            }
        }
        let message = error.to_string();
        self.writer.failed(pod, message.clone());
        let nominated = preemption.as_ref().map(|preemption| &*preemption.node);
        if let Err(error) = self.writer.refuse(&pod.key, "Unschedulable", &message, nominated).await {
            tracing::debug!(pod = %pod.key, %error, "the pod's condition could not be written");
        }
    }
}
