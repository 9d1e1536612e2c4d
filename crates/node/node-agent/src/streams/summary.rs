//! Summary: resource use of the node and its pods, in the form of upstream's `/stats/summary` (v1alpha1).
use cri::v1;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Serialize;
use std::borrow::Borrow;

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    pub node: NodeStats,
    pub pods: Vec<PodStats>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStats {
    pub node_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuStats>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryStats>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fs: Option<FileSystemStats>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodStats {
    pub pod_ref: PodReference,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    pub containers: Vec<ContainerStats>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuStats>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryStats>,
    #[serde(rename = "volume", skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<VolumeStats>,
}

/// Of a claim's volume, in bytes and files.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeStats {
    pub time: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub available_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inodes_free: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inodes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inodes_used: Option<u64>,
    /// The volume's name in the pod.
    pub name: String,
    pub pvc_ref: ClaimReference,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_health_stats: Option<VolumeHealth>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ClaimReference {
    pub name: String,
    pub namespace: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct VolumeHealth {
    pub abnormal: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PodReference {
    pub name: String,
    pub namespace: String,
    pub uid: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerStats {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuStats>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryStats>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rootfs: Option<FileSystemStats>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CpuStats {
    pub time: Time,
    /// Billionths of a core, over the sampled time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage_nano_cores: Option<u64>,
    /// Billionths of a second of one core, since the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage_core_nano_seconds: Option<u64>,
}

/// In bytes.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MemoryStats {
    pub time: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub available_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_set_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rss_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page_faults: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub major_page_faults: Option<u64>,
}

/// In bytes.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FileSystemStats {
    pub time: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub available_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inodes_used: Option<u64>,
}

/// The labels by which the agent marks its containers at the runtime, as the kubelet does.
const UID_LABEL: &str = "io.kubernetes.pod.uid";
const NAME_LABEL: &str = "io.kubernetes.container.name";

impl Summary {
    /// Puts the runtime's figures of containers to these pods; those of other pods are left out.
    pub fn of(node: NodeStats, pods: &[impl Borrow<Pod>], stats: &[v1::ContainerStats]) -> Self {
        let label = |stats: &v1::ContainerStats, name: &str| stats.attributes.as_ref().and_then(|a| a.labels.get(name).cloned()).unwrap_or_default();
        let pods = pods.iter().map(|pod| {
            let pod: &Pod = pod.borrow();
            let reference = PodReference {
                name: pod.metadata.name.clone().unwrap_or_default(),
                namespace: pod.metadata.namespace.clone().unwrap_or_default(),
                uid: pod.metadata.uid.clone().unwrap_or_default(),
            };
            let own = stats.iter().filter(|stats| label(stats, UID_LABEL) == reference.uid);
            let containers: Vec<_> = own.map(|stats| ContainerStats::of(label(stats, NAME_LABEL), stats)).collect();
            PodStats {
                start_time: pod.status.as_ref().and_then(|status| status.start_time.clone()),
                cpu: sum_cpu(&containers),
                memory: sum_memory(&containers),
                pod_ref: reference,
                containers,
                volumes: Vec::new(),
            }
        });
        Self { node, pods: pods.collect() }
    }
}

impl ContainerStats {
    fn of(name: String, stats: &v1::ContainerStats) -> Self {
        let value = |value: &Option<v1::UInt64Value>| value.as_ref().map(|value| value.value);
        Self {
            name,
            start_time: None,
            cpu: stats.cpu.as_ref().map(|cpu| CpuStats {
                time: time(cpu.timestamp),
                usage_nano_cores: value(&cpu.usage_nano_cores),
                usage_core_nano_seconds: value(&cpu.usage_core_nano_seconds),
            }),
            memory: stats.memory.as_ref().map(|memory| MemoryStats {
                time: time(memory.timestamp),
                available_bytes: value(&memory.available_bytes),
                usage_bytes: value(&memory.usage_bytes),
                working_set_bytes: value(&memory.working_set_bytes),
                rss_bytes: value(&memory.rss_bytes),
                page_faults: value(&memory.page_faults),
                major_page_faults: value(&memory.major_page_faults),
            }),
            rootfs: stats.writable_layer.as_ref().map(|layer| FileSystemStats {
                time: time(layer.timestamp),
                available_bytes: None,
                capacity_bytes: None,
                used_bytes: value(&layer.used_bytes),
                inodes_used: value(&layer.inodes_used),
            }),
        }
    }
}

/// The runtime gives nanoseconds since 1970.
fn time(nanoseconds: i64) -> Time {
    Time(Timestamp::from_nanosecond(nanoseconds.into()).unwrap_or_default())
}

/// The sum of those that know; `None` when none does.
fn sum<'a, T: 'a>(all: &[&'a T], figure: impl Fn(&'a T) -> Option<u64>) -> Option<u64> {
    all.iter().filter_map(|one| figure(one)).reduce(u64::saturating_add)
}

fn sum_cpu(containers: &[ContainerStats]) -> Option<CpuStats> {
    let all: Vec<&CpuStats> = containers.iter().filter_map(|c| c.cpu.as_ref()).collect();
    Some(CpuStats {
        time: all.iter().map(|cpu| &cpu.time).max()?.clone(),
        usage_nano_cores: sum(&all, |cpu| cpu.usage_nano_cores),
        usage_core_nano_seconds: sum(&all, |cpu| cpu.usage_core_nano_seconds),
    })
}

fn sum_memory(containers: &[ContainerStats]) -> Option<MemoryStats> {
    let all: Vec<&MemoryStats> = containers.iter().filter_map(|c| c.memory.as_ref()).collect();
    Some(MemoryStats {
        time: all.iter().map(|memory| &memory.time).max()?.clone(),
        available_bytes: sum(&all, |memory| memory.available_bytes),
        usage_bytes: sum(&all, |memory| memory.usage_bytes),
        working_set_bytes: sum(&all, |memory| memory.working_set_bytes),
        rss_bytes: sum(&all, |memory| memory.rss_bytes),
        page_faults: sum(&all, |memory| memory.page_faults),
        major_page_faults: sum(&all, |memory| memory.major_page_faults),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_go_to_their_pods_and_add_up() {
        let stats = |uid: &str, name: &str, memory: u64| v1::ContainerStats {
            attributes: Some(v1::ContainerAttributes {
                labels: [(UID_LABEL.to_owned(), uid.to_owned()), (NAME_LABEL.to_owned(), name.to_owned())].into(),
                ..Default::default()
            }),
            memory: Some(v1::MemoryUsage { timestamp: 1_000_000_000, working_set_bytes: Some(v1::UInt64Value { value: memory }), ..Default::default() }),
            ..Default::default()
        };
        let mut pod = Pod::default();
        (pod.metadata.name, pod.metadata.uid) = (Some("p".into()), Some("u".into()));
        let summary = Summary::of(NodeStats::default(), &[pod], &[stats("u", "a", 3), stats("other", "a", 100), stats("u", "b", 4)]);
        let json = serde_json::to_value(&summary.pods[0]).unwrap();
        assert_eq!(json["memory"], serde_json::json!({"time": "1970-01-01T00:00:01Z", "workingSetBytes": 7}));
        assert_eq!((json["containers"][1]["name"].as_str(), json["podRef"]["name"].as_str()), (Some("b"), Some("p")));
        assert!(summary.pods[0].cpu.is_none());
    }
}
