//! Usage: what two samples of a node's counters say of the time between them. Pure.
use jiff::Timestamp;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// The parts of a node's `/stats/summary` that usage is worked out from.
#[derive(Debug, Default, Deserialize)]
pub struct Summary {
    #[serde(default)]
    node: Counters,
    #[serde(default)]
    pods: Vec<PodCounters>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodCounters {
    pod_ref: PodReference,
    #[serde(default)]
    containers: Vec<ContainerCounters>,
}

#[derive(Debug, Deserialize)]
struct PodReference {
    uid: String,
}

#[derive(Debug, Deserialize)]
struct ContainerCounters {
    name: String,
    #[serde(flatten)]
    counters: Counters,
}

#[derive(Debug, Default, Deserialize)]
struct Counters {
    cpu: Option<CpuCounter>,
    memory: Option<Memory>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CpuCounter {
    time: Timestamp,
    usage_core_nano_seconds: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Memory {
    working_set_bytes: Option<u64>,
}

/// What something used on average, and the memory it has now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Billionths of a core.
    pub nano_cores: u64,
    /// Bytes.
    pub working_set: u64,
}

#[derive(Debug, PartialEq)]
pub struct Measured {
    pub end: Timestamp,
    pub window: Duration,
    pub node: Option<Usage>,
    /// By the pod's uid and the container's name. Pods with a container that has not been seen twice are left out.
    pub pods: HashMap<String, BTreeMap<String, Usage>>,
}

impl Measured {
    /// What its pods use together.
    pub fn of_pods(&self) -> Usage {
        let all = self.pods.values().flat_map(BTreeMap::values);
        all.fold(Usage { nano_cores: 0, working_set: 0 }, |sum, usage| Usage {
            nano_cores: sum.nano_cores.saturating_add(usage.nano_cores),
            working_set: sum.working_set.saturating_add(usage.working_set),
        })
    }
}

impl Summary {
    /// What was used from `before` to this.
    pub fn since(&self, before: &Self, end: Timestamp, window: Duration) -> Measured {
        let earlier: HashMap<(&str, &str), &Counters> =
            before.pods.iter().flat_map(|pod| pod.containers.iter().map(|c| ((pod.pod_ref.uid.as_str(), c.name.as_str()), &c.counters))).collect();
        let pods = self.pods.iter().filter(|pod| !pod.containers.is_empty()).filter_map(|pod| {
            let uid = pod.pod_ref.uid.as_str();
            let of = |c: &ContainerCounters| Some((c.name.clone(), c.counters.since(earlier.get(&(uid, c.name.as_str()))?)?));
            Some((uid.to_owned(), pod.containers.iter().map(of).collect::<Option<BTreeMap<_, _>>>()?))
        });
        Measured { end, window, node: self.node.since(&before.node), pods: pods.collect() }
    }
}

impl Counters {
    fn since(&self, before: &Self) -> Option<Usage> {
        let (cpu, earlier) = (self.cpu.as_ref()?, before.cpu.as_ref()?);
        let nanoseconds = u128::try_from(cpu.time.duration_since(earlier.time).as_nanos()).ok().filter(|passed| *passed > 0)?;
        // A counter that went back is another container's of the same name.
        let used = cpu.usage_core_nano_seconds?.checked_sub(earlier.usage_core_nano_seconds?)?;
        let nano_cores = u64::try_from(u128::from(used) * 1_000_000_000 / nanoseconds).ok()?;
        Some(Usage { nano_cores, working_set: self.memory.as_ref()?.working_set_bytes? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn container(name: &str, second: u32, used: u64) -> Value {
        json!({"name": name, "cpu": {"time": format!("2026-01-01T00:00:{second:02}Z"), "usageCoreNanoSeconds": used}, "memory": {"workingSetBytes": 4096}})
    }

    fn summary(pods: &[(&str, Vec<Value>)]) -> Summary {
        let pods: Vec<Value> =
            pods.iter().map(|(uid, containers)| json!({"podRef": {"name": "p", "namespace": "n", "uid": uid}, "containers": containers})).collect();
        serde_json::from_value(json!({"node": {"nodeName": "n"}, "pods": pods})).unwrap()
    }

    #[test]
    fn usage_is_what_came_to_the_counters_over_their_own_time() {
        let before = summary(&[("a", vec![container("x", 0, 1_000)]), ("b", vec![container("x", 0, 9)]), ("c", vec![container("x", 0, 9)])]);
        let now = summary(&[
            ("a", vec![container("x", 10, 5_000_001_000)]),
            ("b", vec![container("x", 10, 3)]),
            ("c", vec![container("x", 10, 9), container("new", 10, 0)]),
            ("d", vec![container("x", 10, 9)]),
        ]);
        let measured = now.since(&before, "2026-01-01T00:00:10Z".parse().unwrap(), Duration::from_secs(10));
        assert_eq!(measured.pods, HashMap::from([("a".to_owned(), BTreeMap::from([("x".to_owned(), Usage { nano_cores: 500_000_000, working_set: 4096 })]))]));
        assert_eq!(measured.node, None, "a node without counters");
        assert_eq!(measured.of_pods(), Usage { nano_cores: 500_000_000, working_set: 4096 });
    }
}
