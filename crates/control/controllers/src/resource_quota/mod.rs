//! ResourceQuota: tells in each quota's status how much of it is used.
mod counted;
mod usage;

use self::counted::{CountedConfigMap, CountedSecret};
use crate::discovery;
use api_meta::{ClusterName, Quantity};
use controller_kit::pod_resources::{self, Resources};
use controller_kit::{Change, Controller, Error, Kind, Kit, ObjectKey, Objects, Plan, Runner, async_trait};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, PodSpec, ResourceQuota, ResourceQuotaStatus, Service};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as WireQuantity;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;

/// Objects nobody here watches are counted again after this long, as upstream.
const RECOUNT: Duration = Duration::from_secs(300);
/// Kinds a quota may name without `count/`.
const PLAIN_COUNTS: [(&str, &str); 2] = [("replicationcontrollers", ""), ("resourcequotas", "")];

pub struct ResourceQuotas {
    kit: Kit,
    quotas: Objects<ResourceQuota>,
    pods: Objects<Pod>,
    services: Objects<Service>,
    claims: Objects<PersistentVolumeClaim>,
    config_maps: Objects<CountedConfigMap>,
    secrets: Objects<CountedSecret>,
}

pub struct World {
    pub quota: Arc<ResourceQuota>,
    pub pods: Vec<Arc<Pod>>,
    pub services: Vec<Arc<Service>>,
    pub claims: Vec<Arc<PersistentVolumeClaim>>,
    /// How many there are.
    pub config_maps: usize,
    pub secrets: usize,
}

#[derive(Debug, PartialEq)]
pub enum Action {
    /// What is used of the things in the caches; the named kinds are still to be counted: name, resource, group.
    SetStatus { used: Resources, count: Vec<(String, String, String)> },
}

pub fn runner(kit: &Kit) -> Runner<ResourceQuotas> {
    let (quotas, pods) = (kit.objects::<ResourceQuota>(), kit.objects::<Pod>());
    let (services, claims) = (kit.objects::<Service>(), kit.objects::<PersistentVolumeClaim>());
    let (config_maps, secrets) = (kit.objects::<CountedConfigMap>(), kit.objects::<CountedSecret>());
    let controller = ResourceQuotas {
        kit: kit.clone(),
        quotas: quotas.clone(),
        pods: pods.clone(),
        services: services.clone(),
        claims: claims.clone(),
        config_maps: config_maps.clone(),
        secrets: secrets.clone(),
    };
    let of = |key: &ObjectKey, quotas: &Objects<ResourceQuota>| -> Vec<ObjectKey> {
        let root = ClusterName::root();
        let host = key.cluster.host_object().map(|(namespace, _)| (&root, namespace));
        let places = std::iter::once((&key.cluster, &*key.namespace)).chain(host);
        let found =
            places.flat_map(|(cluster, namespace)| quotas.list(cluster, Some(namespace)).into_iter().map(move |quota| ObjectKey::of(cluster, &quota.metadata)));
        found.collect()
    };
    /// The quotas that count an object which came or went.
    fn of_counted<K: Kind>(change: &Change<K>, quotas: &Objects<ResourceQuota>) -> Vec<ObjectKey> {
        if change.old.is_some() == change.new.is_some() {
            return Vec::new();
        }
        let found = quotas.list(&change.key.cluster, Some(&*change.key.namespace));
        found.iter().map(|quota| ObjectKey::of(&change.key.cluster, &quota.metadata)).collect()
    }
    let (by_pod, by_service, by_claim) = (quotas.clone(), quotas.clone(), quotas.clone());
    let (by_config_map, by_secret) = (quotas.clone(), quotas.clone());
    Runner::new(controller)
        .watch_own(&quotas)
        .watch(&pods, move |change| {
            // Use changes when a pod comes, ends, goes or is resized.
            fn weight(pod: Option<&Arc<Pod>>) -> Option<(bool, Option<&PodSpec>)> {
                pod.map(|pod| (crate::pods::is_finished(pod), pod.spec.as_ref()))
            }
            if weight(change.old.as_ref()) == weight(change.new.as_ref()) { Vec::new() } else { of(&change.key, &by_pod) }
        })
        .watch(&services, move |change| of(&change.key, &by_service))
        .watch(&claims, move |change| of(&change.key, &by_claim))
        .watch(&config_maps, move |change| of_counted(change, &by_config_map))
        .watch(&secrets, move |change| of_counted(change, &by_secret))
}

/// What the virtual clusters that are hosted in the quota's namespace have.
fn hosted<K: Kind>(quota: &ObjectKey, objects: &Objects<K>) -> Vec<Arc<K>> {
    if !quota.cluster.is_root() {
        return Vec::new();
    }
    let here = |cluster: &ClusterName| cluster.host_object().is_some_and(|(namespace, _)| *namespace == *quota.namespace);
    objects.all().into_iter().filter(|(key, _)| here(&key.cluster)).map(|(_, object)| object).collect()
}

#[async_trait]
impl Controller for ResourceQuotas {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "resourcequota-controller"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        let quota = self.quotas.get(key)?;
        let namespace = Some(&*key.namespace);
        Some(World {
            quota,
            pods: [self.pods.list(&key.cluster, namespace), hosted(key, &self.pods)].concat(),
            services: [self.services.list(&key.cluster, namespace), hosted(key, &self.services)].concat(),
            claims: [self.claims.list(&key.cluster, namespace), hosted(key, &self.claims)].concat(),
            config_maps: self.config_maps.list(&key.cluster, namespace).len(),
            secrets: self.secrets.list(&key.cluster, namespace).len(),
        })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        let hard = pod_resources::parse(world.quota.spec.as_ref().and_then(|spec| spec.hard.as_ref()));
        let mut all = Resources::new();
        world.pods.iter().filter(|pod| usage::in_scope(&world.quota, pod)).for_each(|pod| usage::add_pod(&mut all, pod));
        let scoped = world.quota.spec.as_ref().is_some_and(|spec| spec.scopes.as_ref().is_some_and(|s| !s.is_empty()) || spec.scope_selector.is_some());
        if !scoped {
            world.services.iter().for_each(|service| usage::add_service(&mut all, service));
            world.claims.iter().for_each(|claim| usage::add_claim(&mut all, claim));
            for (name, many) in [("configmaps", world.config_maps), ("secrets", world.secrets)] {
                let many = Quantity::from_units(i64::try_from(many).unwrap_or(i64::MAX));
                all.insert(name.to_owned(), many);
                all.insert(format!("count/{name}"), many);
            }
        }
        let mut used = Resources::new();
        let mut count = Vec::new();
        for name in hard.keys() {
            let known = ["count/pods", "count/services", "count/persistentvolumeclaims", "count/configmaps", "count/secrets"].contains(&name.as_str());
            let plain = PLAIN_COUNTS.iter().find(|(plain, _)| plain == name).map(|(resource, group)| ((*resource).to_owned(), (*group).to_owned()));
            let counted = name
                .strip_prefix("count/")
                .filter(|_| !known)
                .map(|of| of.split_once('.').map_or((of.to_owned(), String::new()), |(r, g)| (r.to_owned(), g.to_owned())));
            match plain.or(counted) {
                Some((resource, group)) => count.push((name.clone(), resource, group)),
                None => {
                    used.insert(name.clone(), all.get(name).copied().unwrap_or_else(|| Quantity::from_units(0)));
                }
            }
        }
        let mut plan = Plan::nothing();
        if !count.is_empty() {
            plan.look_again(RECOUNT);
        }
        let status = world.quota.status.clone().unwrap_or_default();
        if !count.is_empty() || pod_resources::parse(status.used.as_ref()) != used || pod_resources::parse(status.hard.as_ref()) != hard {
            plan.push(Action::SetStatus { used, count });
        }
        plan
    }

    async fn act(&self, key: &ObjectKey, Action::SetStatus { mut used, count }: Action) -> Result<(), Error> {
        for (name, resource, group) in count {
            used.insert(name, Quantity::from_units(self.count(key, &resource, &group).await?));
        }
        let Some(quota) = self.quotas.get(key) else { return Ok(()) };
        let used = used.into_iter().map(|(name, quantity)| (name, WireQuantity(quantity.to_string()))).collect();
        let hard = quota.spec.as_ref().and_then(|spec| spec.hard.clone());
        let status = Some(ResourceQuotaStatus { hard, used: Some(used) });
        if quota.status != status {
            self.quotas.replace_status(&key.cluster, &ResourceQuota { status, ..(*quota).clone() }).await?;
        }
        Ok(())
    }
}

impl ResourceQuotas {
    /// Objects of a resource in the namespace; a resource that is not served has none.
    async fn count(&self, key: &ObjectKey, resource: &str, group: &str) -> Result<i64, Error> {
        #[derive(Deserialize)]
        struct Listed {
            items: Vec<serde::de::IgnoredAny>,
        }
        let (served, _) = discovery::served(&self.kit, &key.cluster).await?;
        let Some(found) = served.iter().find(|other| other.plural == resource && other.group == group && other.namespaced && other.can("list")) else {
            return Ok(0);
        };
        let request = http::Request::get(found.path(&key.namespace)).body(Vec::new()).map_err(|error| Error::Request(Box::new(error)))?;
        let listed: Listed = self.kit.clients().cluster(&key.cluster).request(request).await?;
        Ok(i64::try_from(listed.items.len()).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use controller_kit::converges;
    use serde_json::{Value, json};

    fn used(hard: Value, scopes: Value) -> (String, usize) {
        let pod = |phase: &str, cpu: &str| {
            let value = json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}, "limits": {"memory": "1Gi"}}}]}, "status": {"phase": phase}});
            Arc::new(serde_json::from_value(value).unwrap())
        };
        let world = World {
            quota: Arc::new(serde_json::from_value(json!({"spec": {"hard": hard, "scopes": scopes}})).unwrap()),
            pods: vec![pod("Running", "500m"), pod("Pending", "1"), pod("Succeeded", "9")],
            services: vec![Arc::new(serde_json::from_value(json!({"spec": {"type": "LoadBalancer", "ports": [{"port": 1}, {"port": 2}]}})).unwrap())],
            claims: vec![Arc::new(
                serde_json::from_value(json!({"spec": {"storageClassName": "fast", "resources": {"requests": {"storage": "3Gi"}}}})).unwrap(),
            )],
            config_maps: 4,
            secrets: 5,
        };
        let Some(Action::SetStatus { used, count }) = ResourceQuotas::reconcile(&world).actions.pop() else { panic!() };
        (used.iter().map(|(name, quantity)| format!("{name}={quantity}")).collect::<Vec<_>>().join(" "), count.len())
    }

    #[test]
    fn use_is_counted_under_the_names_the_quota_has() {
        let hard = json!({"pods": "9", "requests.cpu": "9", "limits.memory": "9Gi", "services.nodeports": "9", "requests.storage": "9Gi", "count/pods": "9", "secrets": "9", "count/configmaps": "9", "count/deployments.apps": "9",
            "fast.storageclass.storage.k8s.io/persistentvolumeclaims": "1"});
        let want = "count/configmaps=4 count/pods=3 fast.storageclass.storage.k8s.io/persistentvolumeclaims=1 limits.memory=2Gi pods=2 requests.cpu=1500m requests.storage=3Gi secrets=5 services.nodeports=2";
        assert_eq!(used(hard, json!(null)), (want.into(), 1));
        assert_eq!(used(json!({"pods": "9"}), json!(["BestEffort"])).0, "pods=0");
        assert_eq!(used(json!({"pods": "9"}), json!(["NotBestEffort", "NotTerminating"])).0, "pods=2");
    }

    #[test]
    fn use_is_told_once_whatever_its_spelling() {
        let quota = json!({"spec": {"hard": {"pods": "9", "requests.cpu": "9000m", "services": "2"}}});
        let pod = json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "500m"}}}]}, "status": {"phase": "Running"}});
        let pod: Arc<Pod> = Arc::new(serde_json::from_value(pod).unwrap());
        let quota = Arc::new(serde_json::from_value(quota).unwrap());
        let world = World { quota, pods: vec![pod.clone(), pod], services: vec![], claims: vec![], config_maps: 0, secrets: 0 };
        let end = converges(world, 1, ResourceQuotas::reconcile, |world, Action::SetStatus { used, count }| {
            assert!(count.is_empty());
            let used = used.into_iter().map(|(name, quantity)| (name, WireQuantity(quantity.to_string()))).collect();
            let quota = Arc::make_mut(&mut world.quota);
            quota.status = Some(ResourceQuotaStatus { hard: quota.spec.as_ref().unwrap().hard.clone(), used: Some(used) });
        });
        let used = end.quota.status.as_ref().unwrap().used.clone().unwrap();
        assert_eq!(["pods", "requests.cpu", "services"].map(|name| used[name].0.as_str()), ["2", "1", "0"]);
    }
}
