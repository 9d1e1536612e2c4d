//! Facts: what was measured of an autoscaler's target: its scale, and what its pods use.
use super::other_metrics::{Answer, Question};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as WireQuantity;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// What was found when it was last looked for. What could not be had comes with why.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    pub taken: Timestamp,
    pub scale: Result<Scale, String>,
    pub usage: Result<BTreeMap<String, PodUsage>, String>,
    /// What others told of the metrics they know.
    pub others: BTreeMap<Question, Answer>,
}

/// The target's `scale` subresource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scale {
    pub replicas: i32,
    /// Those the target's status has.
    pub running: i32,
    pub selector: String,
}

/// What a pod's containers use, by resource, in thousandths of its unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodUsage {
    pub timestamp: Timestamp,
    pub window: Duration,
    pub containers: BTreeMap<String, BTreeMap<String, i64>>,
}

#[derive(Deserialize)]
pub struct ScaleObject {
    #[serde(default)]
    spec: ScaleSpec,
    #[serde(default)]
    status: ScaleStatus,
}

#[derive(Default, Deserialize)]
struct ScaleSpec {
    #[serde(default)]
    replicas: i32,
}

#[derive(Default, Deserialize)]
struct ScaleStatus {
    #[serde(default)]
    replicas: i32,
    #[serde(default)]
    selector: String,
}

impl From<ScaleObject> for Scale {
    fn from(scale: ScaleObject) -> Self {
        Self { replicas: scale.spec.replicas, running: scale.status.replicas, selector: scale.status.selector }
    }
}

/// PodMetricsList of metrics.k8s.io/v1beta1.
#[derive(Deserialize)]
pub struct PodMetricsList {
    items: Vec<PodMetrics>,
}

#[derive(Deserialize)]
struct PodMetrics {
    metadata: Metadata,
    timestamp: Timestamp,
    #[serde(default)]
    window: String,
    #[serde(default)]
    containers: Vec<ContainerMetrics>,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
}

#[derive(Deserialize)]
struct ContainerMetrics {
    name: String,
    usage: BTreeMap<String, WireQuantity>,
}

impl PodMetricsList {
    pub fn usage(self) -> BTreeMap<String, PodUsage> {
        let pod = |pod: PodMetrics| {
            let seconds = pod.window.strip_suffix('s').and_then(|seconds| seconds.parse().ok()).unwrap_or(60.0);
            let containers =
                pod.containers.into_iter().map(|c| (c.name, c.usage.iter().filter_map(|(name, amount)| Some((name.clone(), milli(amount)?))).collect()));
            (
                pod.metadata.name,
                PodUsage { timestamp: pod.timestamp, window: Duration::try_from_secs_f64(seconds).unwrap_or_default(), containers: containers.collect() },
            )
        };
        self.items.into_iter().map(pod).collect()
    }
}

/// In thousandths of the unit.
pub fn milli(amount: &WireQuantity) -> Option<i64> {
    api_meta::Quantity::parse(&amount.0).ok().map(|quantity| quantity.millis())
}
