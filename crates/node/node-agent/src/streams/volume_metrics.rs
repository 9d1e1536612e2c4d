//! The metrics of claims' volumes, by the kubelet's names.
use super::summary::{Summary, VolumeStats};
use std::collections::BTreeMap;
use std::fmt::Write;

/// A metric's name, its help, and where its value is.
type Metric = (&'static str, &'static str, fn(&VolumeStats) -> Option<u64>);

const METRICS: [Metric; 7] = [
    ("kubelet_volume_stats_available_bytes", "Number of available bytes in the volume", |volume| volume.available_bytes),
    ("kubelet_volume_stats_capacity_bytes", "Capacity in bytes of the volume", |volume| volume.capacity_bytes),
    (
        "kubelet_volume_stats_health_status_abnormal",
        "Abnormal volume health status. The count is either 1 or 0. 1 indicates the volume is unhealthy, 0 indicates volume is healthy",
        |volume| volume.volume_health_stats.map(|health| u64::from(health.abnormal)),
    ),
    ("kubelet_volume_stats_inodes", "Maximum number of inodes in the volume", |volume| volume.inodes),
    ("kubelet_volume_stats_inodes_free", "Number of free inodes in the volume", |volume| volume.inodes_free),
    ("kubelet_volume_stats_inodes_used", "Number of used inodes in the volume", |volume| volume.inodes_used),
    ("kubelet_volume_stats_used_bytes", "Number of used bytes in the volume", |volume| volume.used_bytes),
];

/// The figures of each claim once, in the text form that Prometheus reads.
pub fn render(summary: &Summary) -> String {
    let volumes: BTreeMap<_, _> =
        summary.pods.iter().flat_map(|pod| &pod.volumes).map(|volume| ((&volume.pvc_ref.namespace, &volume.pvc_ref.name), volume)).collect();
    let mut text = String::new();
    for (name, help, value) in METRICS {
        let lines: Vec<_> = volumes.iter().filter_map(|(claim, volume)| Some((claim, value(volume)?))).collect();
        if lines.is_empty() {
            continue;
        }
        // Writing to a String can't fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
        for ((namespace, claim), value) in lines {
            let _ = writeln!(text, "{name}{{namespace=\"{namespace}\",persistentvolumeclaim=\"{claim}\"}} {value}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::streams::summary::{ClaimReference, PodStats, VolumeHealth};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    #[test]
    fn a_claim_that_two_pods_share_is_told_once() {
        let volume = VolumeStats {
            time: Time(jiff::Timestamp::UNIX_EPOCH),
            available_bytes: Some(3),
            capacity_bytes: None,
            used_bytes: None,
            inodes_free: None,
            inodes: None,
            inodes_used: None,
            name: "v".into(),
            pvc_ref: ClaimReference { name: "data".into(), namespace: "n".into() },
            volume_health_stats: Some(VolumeHealth { abnormal: false }),
        };
        let pod = PodStats { volumes: vec![volume], ..Default::default() };
        let text = render(&Summary { pods: vec![pod.clone(), pod], ..Default::default() });
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let labels = "{namespace=\"n\",persistentvolumeclaim=\"data\"}";
        assert_eq!(lines, [format!("kubelet_volume_stats_available_bytes{labels} 3"), format!("kubelet_volume_stats_health_status_abnormal{labels} 0")]);
    }
}
