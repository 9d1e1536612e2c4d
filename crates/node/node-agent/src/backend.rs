//! What the kubelet server asks of the agent: pods, their containers, their streams, their statistics.
use crate::context::AgentContext;
use crate::machine;
use crate::pod::identity::{CONTAINER_NAME_LABEL, PodId, name, namespace};
use crate::streams::summary::{
    ClaimReference, ContainerStats, CpuStats, FileSystemStats, MemoryStats, NodeStats, PodReference, PodStats, Summary, VolumeHealth, VolumeStats,
};
use crate::streams::{BackendError, StreamOptions, StreamsBackend};
use api_cache::ObjectKey;
use api_meta::ClusterName;
use async_trait::async_trait;
use cri::CriError;
use cri::v1::{AttachRequest, ContainerState, ContainerStatsFilter, ExecRequest, UInt64Value};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The agent behind the kubelet server.
pub struct AgentBackend {
    context: Arc<AgentContext>,
    /// Processor use at the last question, for rates that the runtime does not give: container to (when, nanoseconds).
    samples: Mutex<HashMap<String, (i64, u64)>>,
}

impl AgentBackend {
    pub fn new(context: Arc<AgentContext>) -> Self {
        Self { context, samples: Mutex::default() }
    }

    /// Billionths of a core since the last question.
    fn rate(&self, of: &str, at: i64, used: u64) -> Option<u64> {
        let (before_at, before) = self.samples.lock().insert(of.to_owned(), (at, used))?;
        let elapsed = u64::try_from(at - before_at).ok().filter(|elapsed| *elapsed > 0)?;
        u64::try_from(u128::from(used.checked_sub(before)?) * 1_000_000_000 / u128::from(elapsed)).ok()
    }

    /// How full the claims of a pod are.
    async fn volumes(&self, cluster: &ClusterName, of: &PodReference) -> Vec<VolumeStats> {
        let Some(pod) = self.pods(cluster).into_iter().find(|pod| pod.metadata.uid.as_deref() == Some(&*of.uid)) else { return Vec::new() };
        let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        // An ephemeral volume's claim is named by the pod and the volume.
        let claims: HashMap<String, String> = volumes
            .filter_map(|volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
                (Some(source), _) => Some((source.claim_name.clone(), volume.name.clone())),
                (_, Some(_)) => Some((format!("{}-{}", of.name, volume.name), volume.name.clone())),
                _ => None,
            })
            .collect();
        if claims.is_empty() {
            return Vec::new();
        }
        let found = self.context.volumes.usage(&of.uid).await;
        let now = Time(self.context.clock.now());
        let told = found.into_iter().filter_map(|volume| {
            Some(VolumeStats {
                time: now.clone(),
                available_bytes: volume.available_bytes,
                capacity_bytes: volume.capacity_bytes,
                used_bytes: volume.used_bytes,
                inodes_free: volume.inodes_free,
                inodes: volume.inodes,
                inodes_used: volume.inodes_used,
                name: claims.get(&volume.claim)?.clone(),
                pvc_ref: ClaimReference { name: volume.claim, namespace: of.namespace.clone() },
                volume_health_stats: volume.abnormal.map(|abnormal| VolumeHealth { abnormal }),
            })
        });
        told.collect()
    }

    fn node_stats(&self) -> NodeStats {
        let now = self.context.clock.now();
        let used = machine::processor_nanoseconds();
        let cpu = used.map(|used| CpuStats {
            time: Time(now),
            usage_nano_cores: self.rate("", i64::try_from(now.as_nanosecond()).unwrap_or(i64::MAX), used),
            usage_core_nano_seconds: Some(used),
        });
        let available = machine::available_memory();
        let in_use = available.map(|available| self.context.machine.memory.saturating_sub(available));
        NodeStats {
            node_name: self.context.settings.node_name.clone(),
            start_time: None,
            cpu,
            memory: Some(MemoryStats {
                time: Time(now),
                available_bytes: available,
                usage_bytes: in_use,
                working_set_bytes: in_use,
                rss_bytes: None,
                page_faults: None,
                major_page_faults: None,
            }),
            fs: machine::file_system(&self.context.settings.data_dir).map(|fs| FileSystemStats {
                time: Time(now),
                available_bytes: Some(fs.available),
                capacity_bytes: Some(fs.capacity),
                used_bytes: Some(fs.capacity.saturating_sub(fs.available)),
                inodes_used: Some(fs.inodes.saturating_sub(fs.inodes_free)),
            }),
        }
    }

    fn container_stats(&self, stats: cri::v1::ContainerStats) -> ContainerStats {
        let attributes = stats.attributes.unwrap_or_default();
        let now = self.context.clock.now();
        let time = |nanos: i64| Time(Timestamp::from_nanosecond(i128::from(nanos)).unwrap_or(now));
        let value = |value: Option<UInt64Value>| value.map(|v| v.value);
        let cpu = stats.cpu.map(|cpu| {
            let used = value(cpu.usage_core_nano_seconds);
            let sampled = used.and_then(|used| self.rate(&attributes.id, cpu.timestamp, used));
            CpuStats { time: time(cpu.timestamp), usage_nano_cores: value(cpu.usage_nano_cores).or(sampled), usage_core_nano_seconds: used }
        });
        let memory = stats.memory.map(|memory| MemoryStats {
            time: time(memory.timestamp),
            available_bytes: value(memory.available_bytes).filter(|bytes| *bytes > 0),
            usage_bytes: value(memory.usage_bytes).filter(|bytes| *bytes > 0),
            working_set_bytes: value(memory.working_set_bytes),
            rss_bytes: value(memory.rss_bytes).filter(|bytes| *bytes > 0),
            page_faults: value(memory.page_faults),
            major_page_faults: value(memory.major_page_faults),
        });
        let rootfs = stats.writable_layer.map(|layer| FileSystemStats {
            time: time(layer.timestamp),
            available_bytes: None,
            capacity_bytes: None,
            used_bytes: value(layer.used_bytes),
            inodes_used: value(layer.inodes_used),
        });
        ContainerStats { name: attributes.labels.get(CONTAINER_NAME_LABEL).cloned().unwrap_or_default(), start_time: None, cpu, memory, rootfs }
    }
}

fn failed(error: CriError) -> BackendError {
    if error.is_not_found() { BackendError::NotFound(error.to_string()) } else { BackendError::Failed(error.to_string()) }
}

#[async_trait]
impl StreamsBackend for AgentBackend {
    fn pod(&self, cluster: &ClusterName, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        self.context.table.get(&ObjectKey::new(cluster, namespace, name)).map(|view| view.pod)
    }

    fn pods(&self, cluster: &ClusterName) -> Vec<Arc<Pod>> {
        self.context.table.all().into_iter().filter(|(key, _)| key.cluster == *cluster).map(|(_, view)| view.pod).collect()
    }

    fn sandbox(&self, cluster: &ClusterName, pod: &Pod) -> Option<String> {
        self.context.table.get(&ObjectKey::new(cluster, namespace(pod), name(pod)))?.sandbox
    }

    async fn log_path(&self, container_id: &str) -> Result<PathBuf, BackendError> {
        self.context.runtime.container_status(container_id).await.map(|status| status.log_path.into()).map_err(failed)
    }

    async fn stopped(&self, container_id: &str) {
        let mut versions = self.context.table.versions();
        loop {
            versions.mark_unchanged();
            match self.context.runtime.container_status(container_id).await {
                Ok(status) if matches!(status.state(), ContainerState::ContainerRunning | ContainerState::ContainerCreated) => {}
                Err(error) if error.is_unavailable() => {}
                _ => return,
            }
            // A worker that sees the container end says so by its pod's new status.
            if versions.changed().await.is_err() {
                return;
            }
        }
    }

    async fn exec(&self, container_id: &str, command: Vec<String>, options: StreamOptions) -> Result<String, BackendError> {
        let StreamOptions { stdin, stdout, stderr, tty } = options;
        let request = ExecRequest { container_id: container_id.into(), cmd: command, tty, stdin, stdout, stderr };
        self.context.runtime.exec(request).await.map_err(failed)
    }

    async fn attach(&self, container_id: &str, options: StreamOptions) -> Result<String, BackendError> {
        let StreamOptions { stdin, stdout, stderr, tty } = options;
        self.context.runtime.attach(AttachRequest { container_id: container_id.into(), stdin, tty, stdout, stderr }).await.map_err(failed)
    }

    async fn port_forward(&self, sandbox_id: &str, ports: Vec<i32>) -> Result<String, BackendError> {
        self.context.runtime.port_forward(sandbox_id, ports).await.map_err(failed)
    }

    fn driver(&self, name: &str) -> Option<PathBuf> {
        self.context.volumes.driver_socket(name)
    }

    async fn summary(&self, cluster: &ClusterName) -> Result<Summary, BackendError> {
        let filter =
            ContainerStatsFilter { label_selector: [(crate::pod::identity::CLUSTER_LABEL.to_owned(), cluster.to_string())].into(), ..Default::default() };
        let mut of_pods: HashMap<PodId, Vec<ContainerStats>> = HashMap::new();
        for stats in self.context.runtime.list_container_stats(filter).await.map_err(failed)? {
            let Some(id) = stats.attributes.as_ref().and_then(|a| PodId::of_labels(&a.labels)) else { continue };
            of_pods.entry(id).or_default().push(self.container_stats(stats));
        }
        let pods = self.pods(cluster).into_iter().filter_map(|pod| {
            let containers = of_pods.remove(&PodId::of(cluster, &pod))?;
            Some(PodStats {
                pod_ref: PodReference { name: name(&pod).into(), namespace: namespace(&pod).into(), uid: pod.metadata.uid.clone().unwrap_or_default() },
                start_time: pod.status.as_ref().and_then(|s| s.start_time.clone()),
                cpu: sum_cpu(&containers),
                memory: sum_memory(&containers),
                containers,
                volumes: Vec::new(),
            })
        });
        let mut pods: Vec<PodStats> = pods.collect();
        let volumes = pods.iter().map(|pod| self.volumes(cluster, &pod.pod_ref));
        let volumes = futures::future::join_all(volumes).await;
        pods.iter_mut().zip(volumes).for_each(|(pod, volumes)| pod.volumes = volumes);
        self.forget_old_samples();
        Ok(Summary { node: self.node_stats(), pods })
    }
}

impl AgentBackend {
    /// Containers that are gone are not asked for again.
    fn forget_old_samples(&self) {
        const KEPT: Duration = Duration::from_secs(600);
        let oldest = i64::try_from(self.context.clock.now().as_nanosecond()).unwrap_or(i64::MAX) - i64::try_from(KEPT.as_nanos()).unwrap_or(0);
        self.samples.lock().retain(|_, (at, _)| *at >= oldest);
    }
}

fn sum_cpu(containers: &[ContainerStats]) -> Option<CpuStats> {
    let all: Vec<&CpuStats> = containers.iter().filter_map(|c| c.cpu.as_ref()).collect();
    let sum = |of: fn(&CpuStats) -> Option<u64>| all.iter().filter_map(|c| of(c)).reduce(|a, b| a + b);
    let time = all.first()?.time.clone();
    Some(CpuStats { time, usage_nano_cores: sum(|c| c.usage_nano_cores), usage_core_nano_seconds: sum(|c| c.usage_core_nano_seconds) })
}

fn sum_memory(containers: &[ContainerStats]) -> Option<MemoryStats> {
    let all: Vec<&MemoryStats> = containers.iter().filter_map(|c| c.memory.as_ref()).collect();
    let sum = |of: fn(&MemoryStats) -> Option<u64>| all.iter().filter_map(|c| of(c)).reduce(|a, b| a + b);
    let time = all.first()?.time.clone();
    Some(MemoryStats {
        time,
        available_bytes: None,
        usage_bytes: sum(|m| m.usage_bytes),
        working_set_bytes: sum(|m| m.working_set_bytes),
        rss_bytes: sum(|m| m.rss_bytes),
        page_faults: sum(|m| m.page_faults),
        major_page_faults: sum(|m| m.major_page_faults),
    })
}
