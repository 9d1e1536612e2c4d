//! ResourceQuota: a namespace takes no more than its quotas allow.
use crate::pod::{ResourceList, add};
use crate::quota::{in_scope, unsaid, usage};
use crate::{AdmissionRequest, Operation, Plugin};
use api_meta::{ClusterName, GroupResource, Object, Quantity, Status};
use api_resource::Lookup;
use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// How long an admitted object counts before it is seen among the stored ones: it is being written, or failed to be.
const IN_FLIGHT: SignedDuration = SignedDuration::from_secs(1);

/// What is used is summed from the objects there are, so that it can't drift, with those admitted
/// but not stored yet, so that requests side by side can't exceed a quota together.
#[derive(Default)]
pub struct ResourceQuota {
    in_flight: Mutex<HashMap<Namespace, Vec<Charge>>>,
}

/// A namespace of a cluster.
type Namespace = (ClusterName, Box<str>);

struct Charge {
    resource: GroupResource,
    /// With its cluster and namespace.
    name: Box<str>,
    object: Arc<Value>,
    since: Timestamp,
}

#[async_trait]
impl Plugin for ResourceQuota {
    fn name(&self) -> &'static str {
        "ResourceQuota"
    }

    async fn validate(&self, request: &mut AdmissionRequest<'_>, lookup: &dyn Lookup) -> Result<(), Status> {
        if request.namespace.is_empty() || !is_charged_for(request) {
            return Ok(());
        }
        let own = (request.cluster.clone(), Box::from(request.namespace));
        self.check(request, own, std::slice::from_ref(request.cluster), lookup).await?;
        // What a virtual cluster takes, the namespace it is hosted in takes.
        if let Some((namespace, _)) = request.cluster.host_object()
            && HOSTED.contains(&(request.group, request.resource))
        {
            let clusters = request.host.clusters_in(namespace);
            self.check(request, (ClusterName::root(), namespace.into()), &clusters, lookup).await?;
        }
        Ok(())
    }
}

/// What a virtual cluster has of the host: the rest of it are rows of its own.
const HOSTED: [(&str, &str); 3] = [("", "pods"), ("", "services"), ("", "persistentvolumeclaims")];

/// Creation of anything; changes of what can come to charge more.
fn is_charged_for(request: &AdmissionRequest) -> bool {
    match request.operation {
        Operation::Create => request.subresource.is_empty(),
        Operation::Update => {
            matches!((request.group, request.resource, request.subresource), ("", "services" | "persistentvolumeclaims", "") | ("", "pods", "resize"))
        }
        _ => false,
    }
}

impl ResourceQuota {
    /// Checks the quotas of a namespace, which all namespaces of the other `clusters` count for.
    async fn check(&self, request: &AdmissionRequest<'_>, of: Namespace, clusters: &[ClusterName], lookup: &dyn Lookup) -> Result<(), Status> {
        let quotas = lookup.list(&of.0, &GroupResource::new("", "resourcequotas"), Some(&of.1)).await?;
        if quotas.is_empty() {
            return Ok(());
        }
        let quotas: Vec<Value> = quotas.iter().map(|quota| quota.to_value()).collect();
        let resource = request.group_resource();
        let mut stored = Vec::new();
        let own = (!clusters.contains(&of.0)).then_some(&of.0);
        for cluster in clusters.iter().chain(own) {
            let namespace = (*cluster == of.0).then_some(&*of.1);
            let objects = lookup.list(cluster, &resource, namespace).await?;
            stored.extend(objects.iter().map(|object: &Arc<Object>| (identity(cluster, &object.meta().namespace, &object.meta().name), object.to_value())));
        }
        match self.charge(request, of, &resource, &quotas, &stored) {
            Some(why) => Err(request.forbidden(why)),
            None => Ok(()),
        }
    }

    /// Why the request is refused, if it is; otherwise it counts from now on.
    fn charge(&self, request: &AdmissionRequest, of: Namespace, resource: &GroupResource, quotas: &[Value], stored: &[(Box<str>, Value)]) -> Option<String> {
        let mut in_flight = self.in_flight.lock();
        in_flight.retain(|_, charges| {
            charges.retain(|charge| request.now.duration_since(charge.since) < IN_FLIGHT);
            !charges.is_empty()
        });
        let charges = in_flight.entry(of).or_default();
        let name = identity(request.cluster, request.namespace, request.display_name());
        let known: HashSet<&str> = stored.iter().map(|(name, _)| &**name).chain([&*name]).collect();
        let coming = charges.iter().filter(|charge| charge.resource == *resource && !known.contains(&*charge.name)).map(|charge| &*charge.object);
        let others: Vec<&Value> = stored.iter().filter(|(stored, _)| *stored != name).map(|(_, object)| object).chain(coming).collect();
        let refusal = quotas.iter().find_map(|quota| exceeds(quota, resource, request.object(), request.old, &others, request.now));
        if refusal.is_none() && !request.dry_run && request.operation == Operation::Create {
            charges.push(Charge { resource: resource.clone(), name, object: Arc::new(request.object().clone()), since: request.now });
        }
        refusal
    }
}

/// What tells objects of a resource apart over clusters and namespaces.
fn identity(cluster: &ClusterName, namespace: &str, name: &str) -> Box<str> {
    format!("{cluster}/{namespace}/{name}").into()
}

/// Upstream's reason for refusing `new` under one quota. `others` are the namespace's other objects of the resource.
fn exceeds(quota: &Value, resource: &GroupResource, new: &Value, old: Option<&Value>, others: &[&Value], now: Timestamp) -> Option<String> {
    let hard = crate::pod::resource_list(&quota["spec"]["hard"]);
    let name = quota["metadata"]["name"].as_str().unwrap_or_default();
    let wanted = usage(resource, new, now);
    if !in_scope(quota, resource, new) {
        return None;
    }
    let is_pod = resource.group.is_empty() && resource.resource == "pods";
    if is_pod
        && old.is_none()
        && let Some(why) = unsaid(&hard, new)
    {
        return Some(format!("failed quota: {name}: {why}"));
    }
    let before = old.map(|old| usage(resource, old, now)).unwrap_or_default();
    let had = |resource: &str| before.get(resource).copied().unwrap_or(Quantity::ZERO);
    let mut used = before.clone();
    for other in others.iter().filter(|other| in_scope(quota, resource, other)) {
        add(&mut used, &usage(resource, other, now));
    }
    let (mut requested, mut taken, mut limited) = (ResourceList::new(), ResourceList::new(), ResourceList::new());
    for (resource, most) in hard {
        let Some(wanted) = wanted.get(&resource).copied() else { continue };
        let more = wanted - had(&resource);
        let have = used.get(&resource).copied().unwrap_or(Quantity::ZERO);
        if more > Quantity::ZERO && have + more > most {
            requested.insert(resource.clone(), more);
            taken.insert(resource.clone(), have);
            limited.insert(resource, most);
        }
    }
    let print = |list: &ResourceList| list.iter().map(|(name, quantity)| format!("{name}={quantity}")).collect::<Vec<_>>().join(",");
    (!requested.is_empty()).then(|| format!("exceeded quota: {name}, requested: {}, used: {}, limited: {}", print(&requested), print(&taken), print(&limited)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, ask};
    use serde_json::json;

    fn quota(hard: Value) -> (&'static str, Value) {
        ("resourcequotas", json!({"metadata": {"name": "q", "namespace": "a"}, "spec": {"hard": hard}}))
    }

    fn pod(name: &str, cpu: &str) -> Value {
        let resources = if cpu.is_empty() { json!({}) } else { json!({"requests": {"cpu": cpu}}) };
        json!({"metadata": {"name": name, "namespace": "a"}, "spec": {"containers": [{"name": "c", "resources": resources}]}})
    }

    #[tokio::test]
    async fn a_namespace_stays_within_its_quota() {
        for (hard, cpu, want) in [
            (json!({"pods": "3"}), "", None),
            (json!({"pods": "2"}), "", Some("exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2")),
            (json!({"count/pods": "2"}), "", Some("exceeded quota: q, requested: count/pods=1, used: count/pods=2, limited: count/pods=2")),
            (json!({"requests.cpu": "1"}), "400m", None),
            (
                json!({"requests.cpu": "1", "pods": "2"}),
                "500m",
                Some("exceeded quota: q, requested: pods=1,requests.cpu=500m, used: pods=2,requests.cpu=600m, limited: pods=2,requests.cpu=1"),
            ),
            (json!({"requests.cpu": "1", "limits.cpu": "1"}), "100m", Some("failed quota: q: must specify limits.cpu for: c")),
        ] {
            let world = World::of([quota(hard), ("pods", pod("one", "300m")), ("pods", pod("two", "300m"))]);
            let answer = ask("pods").named("a", "p").creates(pod("p", cpu)).validated(&ResourceQuota::default(), &world).await;
            assert_eq!(answer.err().map(|s| s.message), want.map(|want| format!("pods \"p\" is forbidden: {want}")));
        }
    }

    #[tokio::test]
    async fn requests_side_by_side_do_not_exceed_it_together() {
        let (plugin, world) = (ResourceQuota::default(), World::of([quota(json!({"pods": "1"}))]));
        let create = |name: &'static str| ask("pods").named("a", name).creates(pod(name, "")).validated(&plugin, &world);
        create("p").await.unwrap();
        create("p").await.unwrap();
        assert!(create("other").await.is_err(), "the first is on its way");
    }

    #[tokio::test]
    async fn an_update_is_charged_only_for_what_it_adds() {
        let service = |kind: &str| json!({"metadata": {"name": "s", "namespace": "a"}, "spec": {"type": kind, "ports": [{}]}});
        let world = World::of([quota(json!({"services": "1", "services.nodeports": "0"})), ("services", service("ClusterIP"))]);
        let update = |kind: &'static str| ask("services").named("a", "s").updates(service("ClusterIP"), service(kind));
        update("ClusterIP").validated(&ResourceQuota::default(), &world).await.unwrap();
        assert_eq!(
            update("NodePort").validated(&ResourceQuota::default(), &world).await.unwrap_err().message,
            "services \"s\" is forbidden: exceeded quota: q, requested: services.nodeports=1, used: services.nodeports=0, limited: services.nodeports=0"
        );
    }
}
