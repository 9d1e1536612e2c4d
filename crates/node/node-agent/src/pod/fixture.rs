//! Worlds for tests of pods' decisions, written in few words.
use super::identity::PodId;
use super::plan::{Action, Busy, Ending, VolumesState, World, plan};
use super::probe_results::{ProbeKind, ProbeResults};
use super::runtime_state::{ContainerRecord, PodRuntime, RunState, SandboxRecord};
use super::start_history::{StartHistory, Waiting};
use super::status::{Observed, is_over, status};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// A pod and all that is known of it. Times are seconds.
pub struct Fixture {
    pub pod: Pod,
    pub old: PodStatus,
    pub now: i64,
    pub runtime: PodRuntime,
    pub probes: ProbeResults,
    pub history: StartHistory,
    pub busy: Busy,
    pub volumes: VolumesState,
    pub to_restart: BTreeSet<String>,
    pub ending: Option<Ending>,
    pub finished: bool,
    pub host_ips: Vec<String>,
}

pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

impl Fixture {
    /// A pod with this spec, its volumes mounted and its sandbox ready.
    pub fn new(spec: Value) -> Self {
        let mut fixture = Self::bare(spec);
        fixture.volumes = VolumesState::Mounted;
        fixture.sandbox(true)
    }

    /// A pod that was just bound.
    pub fn bare(spec: Value) -> Self {
        let metadata = json!({"name": "p", "namespace": "ns", "uid": "u", "generation": 1});
        Self {
            pod: serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap(),
            old: PodStatus::default(),
            now: 1000,
            runtime: PodRuntime::default(),
            probes: ProbeResults::default(),
            history: StartHistory::default(),
            busy: Busy::default(),
            volumes: VolumesState::Unmounted,
            to_restart: BTreeSet::new(),
            ending: None,
            finished: false,
            host_ips: vec!["192.0.2.1".into()],
        }
    }

    /// Adds a newer sandbox.
    pub fn sandbox(mut self, ready: bool) -> Self {
        let attempt = self.runtime.sandboxes.first().map_or(0, |newest| newest.attempt + 1);
        let record = SandboxRecord {
            id: format!("s{attempt}"),
            attempt,
            ready,
            created_at: at(i64::from(attempt)),
            host_network: false,
            addresses: vec!["10.0.0.1".into()],
        };
        self.runtime.sandboxes.insert(0, record);
        self
    }

    /// Adds a newer attempt of a container, in the newest sandbox.
    pub fn container(mut self, name: &str, state: RunState, exit_code: i32) -> Self {
        let before = self.runtime.latest(name);
        let restart_count = before.map_or(0, |b| b.restart_count + 1);
        let spec = super::containers::find(&self.pod, name).expect("the pod has this container").0.into_owned();
        let record = ContainerRecord {
            id: format!("{name}{restart_count}"),
            name: name.into(),
            sandbox: self.runtime.sandboxes.first().map(|s| s.id.clone()).unwrap_or_default(),
            state,
            restart_count,
            hash: super::containers::hash(&spec),
            created_at: at(900),
            started_at: Some(at(900)),
            finished_at: (state == RunState::Exited).then(|| at(990)),
            exit_code,
            reason: if state != RunState::Exited {
                ""
            } else if exit_code == 0 {
                "Completed"
            } else {
                "Error"
            }
            .into(),
            message: String::new(),
            image: "i:1".into(),
            image_id: "sha256:i".into(),
            log_path: String::new(),
            annotations: Default::default(),
            user: None,
        };
        self.runtime.containers.insert(0, record);
        self
    }

    pub fn running(self, name: &str) -> Self {
        self.container(name, RunState::Running, 0)
    }
    pub fn exited(self, name: &str, exit_code: i32) -> Self {
        self.container(name, RunState::Exited, exit_code)
    }
    pub fn probe(mut self, id: &str, kind: ProbeKind, success: bool) -> Self {
        self.probes.set(id, kind, success);
        self
    }
    pub fn deleted(mut self) -> Self {
        self.pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(995)));
        self.pod.metadata.deletion_grace_period_seconds = Some(30);
        self.ending = Some(Ending { grace: None, failure: None });
        self
    }
    pub fn waiting(mut self, name: &str, reason: &str) -> Self {
        self.history.set_waiting(name, Waiting { reason: reason.into(), message: "why".into() });
        self
    }
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The plan, in words.
    pub fn plan(&self) -> Vec<String> {
        let world = World {
            pod: &self.pod,
            now: at(self.now),
            runtime: &self.runtime,
            probes: &self.probes,
            history: &self.history,
            busy: &self.busy,
            volumes: self.volumes,
            sandbox_retry_at: None,
            to_restart: &self.to_restart,
            ending: self.ending.as_ref(),
        };
        let describe = |action: Action| match action {
            Action::MountVolumes => "mount".into(),
            Action::CleanUp => "clean up".into(),
            Action::CreateSandbox { attempt, instead_of } => {
                let instead = if instead_of.is_empty() { String::new() } else { format!(" instead of {}", instead_of.join(" ")) };
                format!("sandbox {attempt}{instead}")
            }
            Action::StopSandbox { id, replaced } => format!("stop {id}{}", if replaced { " to replace it" } else { "" }),
            Action::Start { container, restart_count, .. } => format!("start {container} {restart_count}"),
            Action::Kill(kill) => {
                let after = if kill.after.is_empty() { String::new() } else { format!(" after {}", kill.after.join(" ")) };
                format!("kill {} in {}s{}{after}", kill.id, kill.grace.as_secs(), if kill.restart { " to restart" } else { "" })
            }
            Action::HoldBack { container, waiting, .. } => format!("hold {container}: {}", waiting.reason),
            Action::Wake(when) => format!("wake +{}s", when.as_second() - self.now),
        };
        plan(&world).into_iter().map(describe).collect()
    }

    pub fn status(&self) -> PodStatus {
        status(&self.observed())
    }

    pub fn is_over(&self) -> bool {
        is_over(&self.observed())
    }

    fn observed(&self) -> Observed<'_> {
        Observed {
            pod: &self.pod,
            old: &self.old,
            runtime: &self.runtime,
            probes: &self.probes,
            history: &self.history,
            to_restart: &self.to_restart,
            ending: self.ending.as_ref(),
            finished: self.finished,
            host_ips: &self.host_ips,
            now: at(self.now),
        }
    }
}

#[test]
fn a_pods_directory_is_its_clusters_own() {
    let id = |cluster: &str| PodId { cluster: api_meta::ClusterName::parse(cluster).unwrap(), uid: "u".into() };
    assert_eq!((id("root").directory_name(), id("tenant").directory_name()), ("u".into(), "u_tenant".into()));
    assert_eq!(PodId::of_labels(&id("tenant").selector()), Some(id("tenant")));
}
