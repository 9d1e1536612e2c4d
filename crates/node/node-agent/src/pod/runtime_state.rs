//! PodRuntime: what the runtime has of one pod.
use super::identity::{HASH_ANNOTATION, PodId, RESTART_COUNT_ANNOTATION};
use cri::v1::{ContainerFilter, ContainerStatus, NamespaceMode, PodSandboxState};
use cri::{CriError, Runtime};
use jiff::Timestamp;
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    Created,
    Running,
    Exited,
    Unknown,
}

/// One attempt of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerRecord {
    pub id: String,
    pub name: String,
    pub sandbox: String,
    pub state: RunState,
    pub restart_count: i32,
    pub hash: String,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub exit_code: i32,
    pub reason: String,
    pub message: String,
    /// As the user wrote it.
    pub image: String,
    /// By digest, where the runtime knows one.
    pub image_id: String,
    pub log_path: String,
    pub annotations: BTreeMap<String, String>,
    /// (uid, gid, supplemental groups), where the runtime tells.
    pub user: Option<(i64, i64, Vec<i64>)>,
}

/// One attempt of a pod's sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxRecord {
    pub id: String,
    pub attempt: u32,
    pub ready: bool,
    pub created_at: Timestamp,
    pub host_network: bool,
    /// Primary first; empty in the host's network.
    pub addresses: Vec<String>,
}

/// All sandboxes and containers of a pod, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodRuntime {
    pub sandboxes: Vec<SandboxRecord>,
    pub containers: Vec<ContainerRecord>,
}

impl PodRuntime {
    /// A container's newest attempt.
    pub fn latest(&self, name: &str) -> Option<&ContainerRecord> {
        self.containers.iter().find(|c| c.name == name)
    }
    pub fn container(&self, id: &str) -> Option<&ContainerRecord> {
        self.containers.iter().find(|c| c.id == id)
    }
    /// The newest sandbox, if it is ready.
    pub fn sandbox(&self) -> Option<&SandboxRecord> {
        self.sandboxes.first().filter(|s| s.ready)
    }
    pub fn is_empty(&self) -> bool {
        self.sandboxes.is_empty() && self.containers.is_empty()
    }
    /// Whether a process of this pod may be running.
    pub fn may_run(&self) -> bool {
        self.containers.iter().any(|c| c.state != RunState::Exited && c.state != RunState::Created)
    }

    /// Reads the runtime. `before` spares questions whose answers can't have changed.
    pub async fn read(runtime: &Runtime, pod: &PodId, before: &Self) -> Result<Self, CriError> {
        let (sandboxes, containers) = tokio::try_join!(
            runtime.list_pod_sandboxes(pod.selector()),
            runtime.list_containers(ContainerFilter { label_selector: pod.selector(), ..Default::default() })
        )?;
        let mut now = Self::default();
        for sandbox in sandboxes {
            let ready = sandbox.state() == PodSandboxState::SandboxReady;
            let known = before.sandboxes.iter().find(|s| s.id == sandbox.id);
            let record = match known {
                Some(known) if known.ready == ready || !ready => SandboxRecord { ready, ..known.clone() },
                _ => match read_sandbox(runtime, &sandbox.id).await {
                    Ok(record) => record,
                    Err(error) if error.is_not_found() => continue,
                    Err(error) => return Err(error),
                },
            };
            now.sandboxes.push(record);
        }
        for container in containers {
            let state = run_state(container.state());
            let known = before.containers.iter().find(|c| c.id == container.id);
            let record = match known {
                Some(known) if known.state == state && state != RunState::Unknown => known.clone(),
                _ => match runtime.container_status(&container.id).await {
                    Ok(status) => ContainerRecord::of(&status, container.pod_sandbox_id),
                    Err(error) if error.is_not_found() => continue,
                    Err(error) => return Err(error),
                },
            };
            now.containers.push(record);
        }
        now.sandboxes.sort_by_key(newest_first);
        now.containers.sort_by_key(|c| std::cmp::Reverse((c.created_at, c.restart_count)));
        Ok(now)
    }
}

/// containerd gives no time of creation for a sandbox whose creation failed: attempts count first.
fn newest_first(sandbox: &SandboxRecord) -> impl Ord + use<> {
    std::cmp::Reverse((sandbox.attempt, sandbox.created_at))
}

async fn read_sandbox(runtime: &Runtime, id: &str) -> Result<SandboxRecord, CriError> {
    let status = runtime.pod_sandbox_status(id).await?;
    let network_mode = status.linux.as_ref().and_then(|l| l.namespaces.as_ref()).and_then(|n| n.options.as_ref()).map(|o| o.network());
    let addresses = status
        .network
        .iter()
        .flat_map(|network| std::iter::once(network.ip.clone()).filter(|ip| !ip.is_empty()).chain(network.additional_ips.iter().map(|ip| ip.ip.clone())));
    Ok(SandboxRecord {
        id: status.id.clone(),
        attempt: status.metadata.as_ref().map_or(0, |m| m.attempt),
        ready: status.state() == PodSandboxState::SandboxReady,
        created_at: timestamp(status.created_at).unwrap_or(Timestamp::UNIX_EPOCH),
        host_network: network_mode == Some(NamespaceMode::Node),
        addresses: addresses.collect(),
    })
}

impl ContainerRecord {
    fn of(status: &ContainerStatus, sandbox: String) -> Self {
        let metadata = status.metadata.clone().unwrap_or_default();
        let image = status.image.as_ref().map(|i| if i.image.is_empty() { i.user_specified_image.clone() } else { i.image.clone() });
        Self {
            id: status.id.clone(),
            name: metadata.name,
            sandbox,
            state: run_state(status.state()),
            restart_count: status
                .annotations
                .get(RESTART_COUNT_ANNOTATION)
                .and_then(|text| text.parse().ok())
                .unwrap_or_else(|| i32::try_from(metadata.attempt).unwrap_or(i32::MAX)),
            hash: status.annotations.get(HASH_ANNOTATION).cloned().unwrap_or_default(),
            created_at: timestamp(status.created_at).unwrap_or(Timestamp::UNIX_EPOCH),
            started_at: timestamp(status.started_at),
            finished_at: timestamp(status.finished_at),
            exit_code: status.exit_code,
            reason: status.reason.clone(),
            message: status.message.clone(),
            image: image.unwrap_or_default(),
            image_id: status.image_ref.clone(),
            log_path: status.log_path.clone(),
            annotations: status.annotations.clone(),
            user: status.user.as_ref().and_then(|u| u.linux.as_ref()).map(|u| (u.uid, u.gid, u.supplemental_groups.clone())),
        }
    }
}

fn run_state(state: cri::v1::ContainerState) -> RunState {
    match state {
        cri::v1::ContainerState::ContainerCreated => RunState::Created,
        cri::v1::ContainerState::ContainerRunning => RunState::Running,
        cri::v1::ContainerState::ContainerExited => RunState::Exited,
        cri::v1::ContainerState::ContainerUnknown => RunState::Unknown,
    }
}

/// CRI's nanoseconds since 1970; 0 is unset.
fn timestamp(nanos: i64) -> Option<Timestamp> {
    (nanos > 0).then(|| Timestamp::from_nanosecond(i128::from(nanos)).ok()).flatten()
}
