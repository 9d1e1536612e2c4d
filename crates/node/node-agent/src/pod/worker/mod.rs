//! A pod's worker: looks at the world, decides by `plan`, carries out, and reports by `status`.
//!
//! It is one task a pod, driven by messages: the pod changed, the runtime said something, a probe decided,
//! an action ended. Nothing is polled; times to look again come from the plan.
mod actions;
mod outcomes;
mod probing;
mod reporting;

use super::back_off::later;
use super::containers::spec;
use super::effects::forget;
use super::identity::{MESSAGE_POLICY_ANNOTATION, PodId, pod_text};
use super::paths::PodPaths;
use super::plan::{Busy, Ending, KillReason, VolumesState, World, grace, plan};
use super::probe_results::{ProbeKind, ProbeResults};
use super::runtime_state::{PodRuntime, RunState};
use super::start::StartError;
use super::start_history::{StartHistory, Waiting};
use crate::admission::refusal;
use crate::context::AgentContext;
use crate::devices::Unready;
use crate::events::EventType;
use crate::probe::ProbeReport;
use crate::termination_message::termination_message;
use api_cache::ObjectKey;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use volumes::MountedVolume;

/// What a worker is told.
#[derive(Clone, Debug)]
pub enum PodMessage {
    /// The API's pod as it is now.
    Pod(Arc<Pod>),
    /// The API has it no more.
    Gone,
    /// The runtime's state changed; a container or sandbox that ended may still show as running.
    Runtime { ended: Option<String> },
    /// Something the volumes come from changed: what failed may work now.
    VolumesChanged,
    /// The agent stops with its pods: end the pod without a word to the API.
    StopAll { grace: Duration },
}

/// What an action in flight came to.
enum Outcome {
    Volumes(Result<BTreeMap<String, MountedVolume>, Unready>),
    Sandbox(Result<String, String>),
    SandboxStopped(Result<(), cri::CriError>),
    Started { container: String, result: Option<Result<String, StartError>> },
    Killed { id: String, result: Result<(), cri::CriError> },
    CleanedUp(Result<(), String>),
    Written(Box<Result<Pod, kube::Error>>),
    Deleted(Result<(), kube::Error>),
    Pruned,
}

/// How often the exit of a container that was announced is looked for before the slow relist has to find it.
const EXIT_LOOKS: u32 = 12;
const FIRST_LOOK: Duration = Duration::from_millis(2);
/// The next try after a conflict sees what was in its way.
const CONFLICT_RETRY: Duration = Duration::from_millis(50);
const RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(10);

pub struct Worker {
    context: Arc<AgentContext>,
    id: PodId,
    key: ObjectKey,
    pod: Arc<Pod>,
    /// The status the API is known to have: of the newest answer or cache entry.
    known: PodStatus,
    known_version: u64,
    runtime: PodRuntime,
    probes: ProbeResults,
    history: StartHistory,
    busy: Busy,
    volumes: VolumesState,
    mounted: Arc<BTreeMap<String, MountedVolume>>,
    volume_tries: u32,
    sandbox_retry_at: Option<Timestamp>,
    sandbox_tries: u32,
    to_restart: BTreeSet<String>,
    ending: Option<Ending>,
    /// The API has the pod no more.
    gone: bool,
    /// The agent stops with its pods.
    stopping: bool,
    admitted: bool,
    writing: bool,
    deleting: bool,
    write_again_at: Option<Timestamp>,
    /// The spec's generation that volumes were last mounted for.
    mounted_for: Option<String>,
    operations: JoinSet<Outcome>,
    kills: HashMap<String, AbortHandle>,
    start_cancelled: CancellationToken,
    probers: HashMap<(String, ProbeKind), AbortHandle>,
    reports: mpsc::UnboundedSender<ProbeReport>,
    running: watch::Sender<BTreeSet<String>>,
    exits: BTreeMap<String, u32>,
    messages: mpsc::UnboundedSender<PodMessage>,
    stale: bool,
    wake_at: Option<Timestamp>,
}

impl Worker {
    /// Starts a worker; it ends when the pod is gone and nothing of it is left.
    pub fn spawn(context: Arc<AgentContext>, key: ObjectKey, pod: Arc<Pod>) -> (mpsc::UnboundedSender<PodMessage>, tokio::task::JoinHandle<()>) {
        let (messages, inbox) = mpsc::unbounded_channel();
        let (reports, reported) = mpsc::unbounded_channel();
        let id = PodId::of(&key.cluster, &pod);
        let known = pod.status.clone().unwrap_or_default();
        let worker = Self {
            known_version: version_of(&pod),
            known,
            context,
            id,
            key,
            pod,
            runtime: PodRuntime::default(),
            probes: ProbeResults::default(),
            history: StartHistory::default(),
            busy: Busy::default(),
            volumes: VolumesState::Unknown,
            mounted: Arc::default(),
            volume_tries: 0,
            sandbox_retry_at: None,
            sandbox_tries: 0,
            to_restart: BTreeSet::new(),
            ending: None,
            gone: false,
            stopping: false,
            admitted: false,
            writing: false,
            deleting: false,
            write_again_at: None,
            mounted_for: None,
            operations: JoinSet::new(),
            kills: HashMap::new(),
            start_cancelled: CancellationToken::new(),
            probers: HashMap::new(),
            reports,
            running: watch::channel(BTreeSet::new()).0,
            exits: BTreeMap::new(),
            messages: messages.clone(),
            stale: true,
            wake_at: None,
        };
        let task = tokio::spawn(worker.run(inbox, reported));
        (messages, task)
    }

    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<PodMessage>, mut reported: mpsc::UnboundedReceiver<ProbeReport>) {
        loop {
            self.wake_at = None;
            self.refresh().await;
            if self.step() {
                break;
            }
            let sleep = self.sleep();
            tokio::select! {
                Some(message) = inbox.recv() => {
                    self.take(message);
                    while let Ok(message) = inbox.try_recv() {
                        self.take(message);
                    }
                }
                Some(report) = reported.recv() => self.take_report(report),
                Some(outcome) = self.operations.join_next() => match outcome {
                    Ok(outcome) => self.take_outcome(outcome),
                    Err(error) if error.is_cancelled() => {}
                    Err(error) => tracing::error!(pod = %self.id, %error, "an action of a pod broke"),
                },
                () = sleep => {}
            }
        }
        self.probers.drain().for_each(|(_, prober)| prober.abort());
        if self.gone || self.stopping {
            forget(&self.context, &self.id, &self.pod, &self.runtime).await;
        }
        self.context.table.remove(&self.key, &self.id.uid);
    }

    fn sleep(&self) -> impl Future<Output = ()> + use<> {
        let now = self.context.clock.now();
        let left = self.wake_at.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
        async move {
            match left {
                Some(left) => tokio::time::sleep(left).await,
                None => std::future::pending().await,
            }
        }
    }

    fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |before| before.min(at)));
    }

    fn wake_in(&mut self, delay: Duration) {
        self.wake(later(self.context.clock.now(), delay));
    }

    fn take(&mut self, message: PodMessage) {
        match message {
            PodMessage::Pod(pod) => self.take_pod(pod),
            PodMessage::Gone => {
                self.gone = true;
                self.shorten();
            }
            PodMessage::Runtime { ended } => {
                self.stale = true;
                self.exits.extend(ended.map(|id| (id, 0)));
            }
            PodMessage::VolumesChanged => {
                if let VolumesState::Failed(_) = self.volumes {
                    // Still failed, so that what was mounted so far is taken down should the pod end now.
                    self.volumes = VolumesState::Failed(self.context.clock.now());
                }
            }
            PodMessage::StopAll { grace } => {
                self.stopping = true;
                self.ending = Some(Ending { grace: Some(grace), failure: None });
                self.shorten();
            }
        }
    }

    fn take_pod(&mut self, pod: Arc<Pod>) {
        let version = version_of(&pod);
        if version >= self.known_version {
            self.known_version = version;
            self.known = pod.status.clone().unwrap_or_default();
        }
        let before = std::mem::replace(&mut self.pod, pod);
        if is_hurried(&before, &self.pod) {
            self.shorten();
        }
    }

    /// Containers being ended get less time than they were told: end them anew.
    fn shorten(&mut self) {
        for (id, task) in self.kills.drain() {
            task.abort();
            self.busy.kills.remove(&id);
        }
    }

    fn take_report(&mut self, report: ProbeReport) {
        if let Some(failure) = report.failure {
            self.context.events.container(&self.id.cluster, &self.pod, &report.container, EventType::Warning, "Unhealthy", failure);
        }
        if let Some(result) = report.result {
            self.probes.set(&report.container_id, report.kind, result);
        }
    }

    /// Reads the runtime, if something changed there.
    async fn refresh(&mut self) {
        if !std::mem::take(&mut self.stale) && self.exits.is_empty() {
            return;
        }
        match PodRuntime::read(&self.context.runtime, &self.id, &self.runtime).await {
            Ok(mut now) => {
                self.add_messages(&mut now);
                self.runtime = now;
            }
            Err(error) => {
                tracing::debug!(pod = %self.id, %error, "the runtime can't be read");
                self.stale = true;
                self.wake_in(RETRY);
                return;
            }
        }
        let still: BTreeSet<&str> = self.alive().collect();
        let still: BTreeMap<String, u32> = self.exits.iter().filter(|(id, _)| still.contains(id.as_str())).map(|(id, looks)| (id.clone(), looks + 1)).collect();
        self.exits = still.into_iter().filter(|(_, looks)| *looks < EXIT_LOOKS).collect();
        if let Some(looks) = self.exits.values().min() {
            // The runtime announces an exit just before it shows it.
            let delay = FIRST_LOOK.saturating_mul(1 << looks);
            self.wake_in(delay);
        }
        let ids = self.runtime.sandboxes.iter().map(|s| &s.id).chain(self.runtime.containers.iter().map(|c| &c.id));
        ids.for_each(|id| self.context.table.own(id, &self.messages));
        let running: BTreeSet<String> = self.runtime.containers.iter().filter(|c| c.state == RunState::Running).map(|c| c.id.clone()).collect();
        self.running.send_replace(running);
        let runtime = &self.runtime;
        self.probes.retain(|id| runtime.container(id).is_some_and(|c| c.state == RunState::Running));
        self.to_restart.retain(|id| runtime.container(id).is_some());
    }

    /// Ids that run as far as the runtime shows.
    fn alive(&self) -> impl Iterator<Item = &str> {
        let containers = self.runtime.containers.iter().filter(|c| c.state == RunState::Running).map(|c| c.id.as_str());
        containers.chain(self.runtime.sandboxes.iter().filter(|s| s.ready).map(|s| s.id.as_str()))
    }

    /// Containers that ended since the last look get their last words.
    fn add_messages(&self, now: &mut PodRuntime) {
        let paths = PodPaths::new(&self.context.settings.data_dir, &self.id, &self.pod);
        for record in now.containers.iter_mut().filter(|c| c.state == RunState::Exited) {
            if self.runtime.container(&record.id).is_some_and(|before| before.state == RunState::Exited) {
                continue;
            }
            let from_log = record.exit_code != 0 && record.annotations.get(MESSAGE_POLICY_ANNOTATION).is_some_and(|p| p == "FallbackToLogsOnError");
            let log = from_log.then(|| Path::new(&record.log_path));
            let words = termination_message(&paths.termination_message(&record.name, record.restart_count), log);
            if !words.is_empty() {
                record.message = if record.message.is_empty() { words } else { format!("{}: {words}", record.message) };
            }
        }
    }

    /// Decides and starts what is decided. Returns whether the worker's work is done.
    fn step(&mut self) -> bool {
        let now = self.context.clock.now();
        self.admit();
        self.adopt_results();
        self.decide_ending(now);
        self.run_probers(now);
        let world = World {
            pod: &self.pod,
            now,
            runtime: &self.runtime,
            probes: &self.probes,
            history: &self.history,
            busy: &self.busy,
            volumes: self.volumes,
            sandbox_retry_at: self.sandbox_retry_at,
            to_restart: &self.to_restart,
            ending: self.ending.as_ref(),
        };
        let actions = plan(&world);
        let idle = actions.is_empty() && self.busy == Busy::default();
        let finished = idle && self.ending.is_some() && self.volumes == VolumesState::Unmounted;
        actions.into_iter().for_each(|action| self.carry_out(action, now));
        self.remount_if_changed();
        if finished && (self.gone || self.stopping) {
            return true;
        }
        self.report(finished, now);
        false
    }

    /// A pod that never ran here may be refused.
    fn admit(&mut self) {
        if std::mem::replace(&mut self.admitted, true) || !self.runtime.is_empty() || self.known.phase.as_deref().is_some_and(|phase| phase != "Pending") {
            return;
        }
        let all = self.context.pods.all();
        let others = all.iter().filter(|(key, _)| *key != self.key).map(|(_, pod)| &**pod);
        let failure = refusal(&self.pod, others, &self.context.facts.allocatable, &self.context.settings.allowed_unsafe_sysctls);
        if let Some(failure) = failure {
            self.event(EventType::Warning, event_reason(&failure.reason), failure.message.trim_start_matches("Pod was rejected: ").to_owned());
            self.ending = Some(Ending { grace: None, failure: Some(failure) });
        }
    }

    fn decide_ending(&mut self, now: Timestamp) {
        if self.gone {
            let grace = self.pod.metadata.deletion_grace_period_seconds.and_then(|s| u64::try_from(s).ok()).unwrap_or(0);
            let failure = self.ending.take().and_then(|ending| ending.failure);
            self.ending = Some(Ending { grace: Some(Duration::from_secs(grace.min(1))), failure });
        }
        if self.ending.is_none() && self.pod.metadata.deletion_timestamp.is_some() {
            self.ending = Some(Ending { grace: None, failure: None });
        }
        if let (None, Some(seconds), Some(start)) = (&self.ending, spec(&self.pod).active_deadline_seconds, &self.known.start_time) {
            let deadline = later(start.0, Duration::from_secs(u64::try_from(seconds).unwrap_or(0)));
            if deadline <= now {
                let message = "Pod was active on the node longer than the specified deadline".to_owned();
                self.event(EventType::Normal, "DeadlineExceeded", message.clone());
                self.ending = Some(Ending { grace: None, failure: Some(Waiting { reason: "DeadlineExceeded".into(), message }) });
            } else {
                self.wake(deadline);
            }
        }
        if self.ending.is_none() && self.is_over(now) {
            self.ending = Some(Ending { grace: None, failure: None });
        }
        if self.ending.is_some() {
            self.start_cancelled.cancel();
        }
    }

    fn event(&self, type_: EventType, reason: &'static str, message: String) {
        self.context.events.pod(&self.id.cluster, &self.pod, type_, reason, message);
        tracing::debug!(pod = pod_text(&self.pod), cluster = %self.id.cluster, reason, "a pod's event");
    }
}

/// The reasons that admission gives.
fn event_reason(reason: &str) -> &'static str {
    match reason {
        "SysctlForbidden" => "SysctlForbidden",
        "OutOfpods" => "OutOfpods",
        "OutOfcpu" => "OutOfcpu",
        "OutOfmemory" => "OutOfmemory",
        "OutOfephemeral-storage" => "OutOfephemeral-storage",
        _ => "Rejected",
    }
}

/// Whether the pod's containers get less time to end than they were told before.
fn is_hurried(before: &Pod, now: &Pod) -> bool {
    let grace_of = |pod: &Pod| grace(pod, None, KillReason::PodEnds, None);
    now.metadata.deletion_grace_period_seconds.is_some() && grace_of(now) < grace_of(before)
}

/// Versions of this API are numbers that grow.
fn version_of(pod: &Pod) -> u64 {
    pod.metadata.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0)
}

/// What of a pod its volumes show.
fn mount_key(pod: &Pod) -> String {
    format!("{:?}{:?}", pod.metadata.labels, pod.metadata.annotations)
}
