//! Device taint eviction: pods leave devices with NoExecute taints they do not bear, or no longer bear (KEP 5055).
use crate::pods;
use crate::taint_eviction::disrupt;
use api_meta::ClusterName;
use controller_kit::device_taints::{of_rules, tolerates};
use controller_kit::{Controller, Deletion, Error, Kit, ObjectKey, Objects, Plan, Preconditions, Recorder, Runner, async_trait, until};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::resource::v1::{DeviceRequestAllocationResult, DeviceTaint, DeviceTaintRule, DeviceToleration, ResourceClaim, ResourceSlice};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

const BY_USER: &str = "user";

pub struct DeviceTaintEviction {
    kit: Kit,
    pods: Objects<Pod>,
    claims: Objects<ResourceClaim>,
    slices: Objects<ResourceSlice>,
    rules: Objects<DeviceTaintRule>,
    events: Recorder,
}

pub struct World {
    pub pod: Arc<Pod>,
    /// The NoExecute taints of the pod's devices, each with what the request for the device bears.
    pub taints: Vec<(DeviceTaint, Vec<DeviceToleration>)>,
    pub now: Timestamp,
}

#[derive(Debug, PartialEq)]
pub enum Action {
    Evict,
}

/// The pods that use a claim, by uid.
fn users(claim: &ResourceClaim) -> Vec<String> {
    let all = claim.status.iter().flat_map(|status| status.reserved_for.iter().flatten());
    all.filter(|user| user.resource == "pods").map(|user| user.uid.clone()).collect()
}

/// The pods that use devices in a cluster.
fn all_users(claims: &Objects<ResourceClaim>, cluster: &ClusterName) -> Vec<ObjectKey> {
    let mut found = BTreeSet::new();
    for claim in claims.list(cluster, None) {
        let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
        let pods = claim.status.iter().flat_map(|status| status.reserved_for.iter().flatten()).filter(|user| user.resource == "pods");
        found.extend(pods.map(|user| (namespace.to_owned(), user.name.clone())));
    }
    found.into_iter().map(|(namespace, name)| ObjectKey::new(cluster, &namespace, &name)).collect()
}

fn results(claim: &ResourceClaim) -> impl Iterator<Item = &DeviceRequestAllocationResult> {
    let devices = claim.status.iter().filter_map(|status| status.allocation.as_ref()?.devices.as_ref());
    devices.flat_map(|devices| devices.results.iter().flatten())
}

pub fn runner(kit: &Kit) -> Runner<DeviceTaintEviction> {
    let (pods, claims) = (kit.objects::<Pod>(), kit.objects::<ResourceClaim>());
    let (slices, rules) = (kit.objects::<ResourceSlice>(), kit.objects::<DeviceTaintRule>());
    claims.add_index(BY_USER, users);
    let controller = DeviceTaintEviction {
        kit: kit.clone(),
        pods: pods.clone(),
        claims: claims.clone(),
        slices: slices.clone(),
        rules: rules.clone(),
        events: kit.recorder("device-taint-eviction"),
    };
    let (of_slices, of_rules) = (claims.clone(), claims.clone());
    Runner::new(controller)
        .needs(&pods)
        .watch(&claims, |change| {
            let Some(claim) = &change.new else { return Vec::new() };
            let users = claim.status.iter().flat_map(|status| status.reserved_for.iter().flatten()).filter(|user| user.resource == "pods");
            users.map(|user| ObjectKey::new(&change.key.cluster, &change.key.namespace, &user.name)).collect()
        })
        .watch(&slices, move |change| {
            let is_tainted = |slice: &Option<Arc<ResourceSlice>>| {
                let devices = slice.iter().flat_map(|slice| slice.spec.devices.iter().flatten());
                devices.into_iter().any(|device| device.taints.iter().flatten().any(|taint| taint.effect == "NoExecute"))
            };
            if is_tainted(&change.new) { all_users(&of_slices, &change.key.cluster) } else { Vec::new() }
        })
        .watch(&rules, move |change| all_users(&of_rules, &change.key.cluster))
}

#[async_trait]
impl Controller for DeviceTaintEviction {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "device-taint-eviction-controller"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        let pod = self.pods.get(key)?;
        let claims = self.claims.by_index(BY_USER, &key.cluster, pod.metadata.uid.as_deref().unwrap_or_default());
        let (slices, rules) = (self.slices.list(&key.cluster, None), self.rules.list(&key.cluster, None));
        let taints = claims.iter().flat_map(|claim| results(claim)).flat_map(|result| {
            let taints = of_slices(&slices, result).chain(of_rules(&rules, &result.driver, &result.pool, &result.device));
            let bears = result.tolerations.clone().unwrap_or_default();
            taints.filter(|taint| taint.effect == "NoExecute").map(|taint| (taint, bears.clone())).collect::<Vec<_>>()
        });
        Some(World { taints: taints.collect(), pod, now: self.kit.now() })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        let mut plan = Plan::nothing();
        if pods::is_terminating(&world.pod) || pods::is_finished(&world.pod) {
            return plan;
        }
        for (taint, tolerations) in &world.taints {
            let bearing: Vec<_> = tolerations.iter().filter(|toleration| tolerates(toleration, taint)).collect();
            if bearing.is_empty() {
                return vec![Action::Evict].into();
            }
            // The shortest patience counts; a toleration without limit sets none.
            let Some(seconds) = bearing.iter().filter_map(|toleration| toleration.toleration_seconds).min() else { continue };
            let since = taint.time_added.as_ref().map_or(world.now, |time| time.0);
            match until(since, Duration::from_secs(u64::try_from(seconds).unwrap_or_default()), world.now) {
                None => return vec![Action::Evict].into(),
                Some(left) => plan.look_again(left),
            }
        }
        plan
    }

    async fn act(&self, key: &ObjectKey, Action::Evict: Action) -> Result<(), Error> {
        let Some(pod) = self.pods.get(key) else { return Ok(()) };
        self.events.normal(&key.cluster, &*pod, "DeviceTaintManagerEviction", "Marking for deletion".to_owned());
        let message = "Device Taint manager: deleting due to NoExecute taint";
        disrupt(&self.kit, &self.pods, key, &pod, "DeletionByDeviceTaintManager", message, None).await?;
        self.pods.delete(key, &Deletion { preconditions: Preconditions::uid_of(&pod.metadata), ..Default::default() }).await
    }
}

/// The taints a device has by itself, in the newest slices of its pool.
fn of_slices<'a>(slices: &'a [Arc<ResourceSlice>], result: &'a DeviceRequestAllocationResult) -> impl Iterator<Item = DeviceTaint> + 'a {
    let of_pool = move || slices.iter().map(|slice| &slice.spec).filter(move |spec| spec.driver == result.driver && spec.pool.name == result.pool);
    let newest = of_pool().map(|spec| spec.pool.generation).max();
    let devices = of_pool().filter(move |spec| Some(spec.pool.generation) == newest).flat_map(|spec| spec.devices.iter().flatten());
    devices.filter(move |device| device.name == result.device).flat_map(|device| device.taints.iter().flatten().cloned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use controller_kit::converges;
    use serde_json::{Value, json};

    fn world(tolerations: Value, seconds_ago: i64) -> World {
        let now: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
        let added = now - jiff::SignedDuration::from_secs(seconds_ago);
        let taint = json!({"key": "sick", "value": "v", "effect": "NoExecute", "timeAdded": added.to_string()});
        let pod = json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": {"containers": [], "nodeName": "n1"}});
        let taints = vec![(serde_json::from_value(taint).unwrap(), serde_json::from_value(tolerations).unwrap())];
        World { pod: Arc::new(serde_json::from_value(pod).unwrap()), taints, now }
    }

    #[test]
    fn pods_leave_devices_they_can_not_bear() {
        let patient = json!([{"key": "sick", "operator": "Exists", "tolerationSeconds": 60}]);
        for (tolerations, seconds_ago, evicted, again) in [
            (json!([]), 0, true, None),
            (json!([{"key": "other", "operator": "Exists"}]), 0, true, None),
            (json!([{"operator": "Exists"}]), 1000, false, None),
            (patient.clone(), 20, false, Some(40)),
            (patient, 60, true, None),
        ] {
            let plan = DeviceTaintEviction::reconcile(&world(tolerations.clone(), seconds_ago));
            assert_eq!((!plan.actions.is_empty(), plan.again_after.map(|left| left.as_secs())), (evicted, again), "{tolerations} {seconds_ago}");
        }
        converges(world(json!([]), 0), 1, DeviceTaintEviction::reconcile, |world, Action::Evict| {
            let mut pod = (*world.pod).clone();
            pod.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T12:00:00Z")).unwrap();
            world.pod = Arc::new(pod);
        });
    }

    #[test]
    fn taints_are_those_of_the_newest_slices() {
        let slice = |generation: i64, effect: &str| -> Arc<ResourceSlice> {
            let devices = json!([{"name": "a", "taints": [{"key": "k", "effect": effect}]}, {"name": "b"}]);
            let pool = json!({"name": "p", "generation": generation, "resourceSliceCount": 1});
            Arc::new(serde_json::from_value(json!({"metadata": {}, "spec": {"driver": "d", "pool": pool, "devices": devices}})).unwrap())
        };
        let result = |device: &str| serde_json::from_value(json!({"request": "r", "driver": "d", "pool": "p", "device": device})).unwrap();
        let slices = [slice(1, "NoSchedule"), slice(2, "NoExecute")];
        let effects = |device: &str| of_slices(&slices, &result(device)).map(|taint| taint.effect).collect::<Vec<_>>();
        assert_eq!((effects("a"), effects("b")), (vec!["NoExecute".to_owned()], Vec::<String>::new()));
    }
}
