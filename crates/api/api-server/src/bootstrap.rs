//! What every cluster has from its first moment: namespaces, policy, priority classes, its own Service.
use crate::aggregation::{FRONT_PROXY, FrontProxy};
use crate::server::ApiServer;
use crate::{errors, fairness, metadata};
use api_meta::{ClusterName, GroupResource, Status, object, split_api_version};
use clock::rfc3339_seconds;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::IpAddr;
use store::{Key, Op, Precondition, StoreError, Txn};

/// Where the API of a cluster is reached from inside it.
pub struct Bootstrap {
    /// The first address of the Service range: the `kubernetes` Service.
    pub service_address: IpAddr,
    /// The Service ranges, at most one of each family.
    pub service_cidrs: Vec<ipnet::IpNet>,
    /// The authority of the cluster's clients.
    pub client_ca_pem: String,
    pub advertise_address: IpAddr,
    pub port: u16,
    /// More objects the cluster starts with (DNS Service, ...).
    pub objects: Vec<Value>,
    /// Objects without a namespace that all clusters share (IngressClass, ...), of layered resources.
    pub shared: Vec<Value>,
}

/// How an object that a cluster starts with is kept.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    /// What exists is left as it is.
    Existing,
    /// Where it leads to follows the settings.
    Endpoints,
    /// Ranges that are there stay; one of a second family is added.
    Ranges,
    /// All of it is as this version of the server has it.
    Whole,
}

/// Creates what the host cluster starts with and what all virtual clusters see, where it is missing.
///
/// What exists in the host cluster is left as it is, but for the API's own endpoints, which follow the settings.
pub async fn bootstrap(server: &ApiServer, settings: &Bootstrap) -> Result<(), Status> {
    let (root, base) = (ClusterName::root(), ClusterName::base());
    let now = rfc3339_seconds(server.clock.now());
    let host = namespaces().into_iter().chain(shared_objects(server, &now)).chain(fairness::objects()).chain(settings.shared.iter().cloned());
    let host = host.map(|object| (&root, object, Keep::Existing));
    let own = own_objects(server, settings, &now).into_iter().map(|object| {
        let keep = match object["kind"].as_str() {
            Some("EndpointSlice" | "Endpoints" | "ConfigMap") => Keep::Endpoints,
            Some("ServiceCIDR") => Keep::Ranges,
            _ => Keep::Existing,
        };
        (&root, object, keep)
    });
    let shared = shared_objects(server, &now).into_iter().chain(settings.shared.iter().cloned()).map(|object| (&base, object, Keep::Whole));
    // All at once: the store commits what waits together, and a start waits for few writes to reach the disk.
    futures::future::try_join_all(host.chain(own).chain(shared).map(|(cluster, object, keep)| ensure(server, cluster, object, keep))).await?;
    server.set_ready();
    Ok(())
}

/// What a virtual cluster holds of its own from its first moment; the rest it sees in the base.
pub(crate) fn virtual_objects(server: &ApiServer, settings: &Bootstrap) -> Vec<Value> {
    namespaces().into_iter().chain(own_objects(server, settings, &rfc3339_seconds(server.clock.now()))).collect()
}

/// The writes that put new objects into a cluster that has none of them.
pub(crate) fn first_writes(server: &ApiServer, cluster: &ClusterName, objects: Vec<Value>) -> Result<Vec<Op>, Status> {
    let mut ops = Vec::new();
    for mut object in objects {
        let (resource, generation) = resource_of(server, cluster, &object)?;
        identify(server, &mut object, generation);
        ops.extend(writes(server, cluster, &Key::new(cluster, &resource, metadata::text(&object, "namespace"), metadata::text(&object, "name")), &object));
    }
    Ok(ops)
}

fn namespaces() -> Vec<Value> {
    ["default", "kube-system", "kube-public", "kube-node-lease"].map(namespace).into()
}

/// What is the same in every cluster.
fn shared_objects(server: &ApiServer, now: &str) -> Vec<Value> {
    let classes = [
        ("system-node-critical", 2_000_001_000, "Used for system critical pods that must not be moved from their current node."),
        (
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
    ];
    let classes = classes.map(|(name, value, description)| {
        json!({ "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": { "name": name }, "value": value, "description": description, "preemptionPolicy": "PreemptLowerPriority" })
    });
    let versions: BTreeSet<(&str, &str)> = server.kinds.builtins().map(|kind| (&*kind.names().group, &*kind.names().version)).collect();
    let services = versions.into_iter().map(|(group, version)| api_builtins::local_api_services::builtin(group, version, now));
    let flow_control = api_builtins::flow_control::objects();
    api_auth::bootstrap_policy::objects().into_iter().chain(classes).chain(flow_control).chain(services).collect()
}

/// What says where the API and DNS of a cluster are.
fn own_objects(server: &ApiServer, settings: &Bootstrap, now: &str) -> Vec<Value> {
    let (service, endpoints, slice) = kubernetes_service(settings);
    let authentication = server.options.front_proxy.as_ref().map(|proxy| extension_authentication(settings, proxy));
    [service, endpoints, slice, service_cidr(settings, now)].into_iter().chain(authentication).chain(settings.objects.iter().cloned()).collect()
}

fn namespace(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name, "labels": { "kubernetes.io/metadata.name": name } },
        "spec": { "finalizers": ["kubernetes"] }, "status": { "phase": "Active" },
    })
}

fn kubernetes_service(settings: &Bootstrap) -> (Value, Value, Value) {
    let labels = json!({ "component": "apiserver", "provider": "kubernetes" });
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "kubernetes", "namespace": "default", "labels": labels },
        "spec": {
            "type": "ClusterIP", "clusterIP": settings.service_address, "clusterIPs": [settings.service_address], "sessionAffinity": "None",
            "ipFamilies": [if settings.service_address.is_ipv4() { "IPv4" } else { "IPv6" }], "ipFamilyPolicy": "SingleStack", "internalTrafficPolicy": "Cluster",
            "ports": [{ "name": "https", "port": 443, "protocol": "TCP", "targetPort": settings.port }],
        },
        "status": { "loadBalancer": {} },
    });
    let endpoints = json!({
        "apiVersion": "v1", "kind": "Endpoints", "metadata": { "name": "kubernetes", "namespace": "default", "labels": { "endpointslice.kubernetes.io/skip-mirror": "true" } },
        "subsets": [{ "addresses": [{ "ip": settings.advertise_address }], "ports": [{ "name": "https", "port": settings.port, "protocol": "TCP" }] }],
    });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": { "name": "kubernetes", "namespace": "default", "labels": { "kubernetes.io/service-name": "kubernetes" } },
        "addressType": if settings.advertise_address.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": [{ "addresses": [settings.advertise_address], "conditions": { "ready": true } }],
        "ports": [{ "name": "https", "port": settings.port, "protocol": "TCP" }],
    });
    (service, endpoints, slice)
}

/// What aggregated servers need to know to tell whose requests they are handed.
fn extension_authentication(settings: &Bootstrap, proxy: &FrontProxy) -> Value {
    let list = |names: &[&str]| json!(names).to_string();
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "extension-apiserver-authentication", "namespace": "kube-system" },
        "data": {
            "client-ca-file": settings.client_ca_pem,
            "requestheader-client-ca-file": proxy.authority_pem,
            "requestheader-allowed-names": list(&[FRONT_PROXY]),
            "requestheader-username-headers": list(&["X-Remote-User"]),
            "requestheader-uid-headers": list(&["X-Remote-Uid"]),
            "requestheader-group-headers": list(&["X-Remote-Group"]),
            "requestheader-extra-headers-prefix": list(&["X-Remote-Extra-"]),
        },
    })
}

/// The ranges that Service addresses of the cluster come from.
fn service_cidr(settings: &Bootstrap, now: &str) -> Value {
    let ready = json!({ "type": "Ready", "status": "True", "lastTransitionTime": now, "reason": "", "message": "Kubernetes Service CIDR is ready" });
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
        "metadata": { "name": "kubernetes", "finalizers": ["networking.k8s.io/service-cidr-finalizer"] },
        "spec": { "cidrs": settings.service_cidrs }, "status": { "conditions": [ready] },
    })
}

/// Where objects like this one are kept, and whether they have a generation.
fn resource_of(server: &ApiServer, cluster: &ClusterName, object: &Value) -> Result<(GroupResource, bool), Status> {
    let (group, version) = split_api_version(object["apiVersion"].as_str().unwrap_or_default());
    let kind = object["kind"].as_str().unwrap_or_default();
    let kinds = server.kinds.all(cluster);
    let found = kinds.iter().find(|k| k.names().group == group && k.names().version == version && k.names().kind == kind);
    found.map(|k| (k.stored_as(), k.generation())).ok_or_else(|| Status::internal(format!("no kind {kind:?} in {group:?} {version:?}")))
}

/// Gives a new object what the server gives every new one.
fn identify(server: &ApiServer, object: &mut Value, generation: bool) {
    let metadata = metadata::of(object);
    metadata.insert("uid".into(), uuid::Uuid::new_v4().to_string().into());
    metadata.insert("creationTimestamp".into(), rfc3339_seconds(server.clock.now()).into());
    if generation {
        metadata.insert("generation".into(), 1.into());
    }
}

/// The object itself, and the claim of its address if it is a Service.
fn writes(server: &ApiServer, cluster: &ClusterName, key: &Key, object: &Value) -> Vec<Op> {
    let mut ops = vec![Op::Put { key: key.clone(), value: object::encode(object.as_object().expect("an object literal")) }];
    if object["kind"] == "Service"
        && let Some(address) = object["spec"]["clusterIP"].as_str().filter(|a| *a != "None")
    {
        ops.push(crate::allocate::claim(cluster, address, object, server.clock.now()));
    }
    ops
}

async fn ensure(server: &ApiServer, cluster: &ClusterName, mut object: Value, keep: Keep) -> Result<(), Status> {
    let (resource, generation) = resource_of(server, cluster, &object)?;
    let key = Key::new(cluster, &resource, metadata::text(&object, "namespace"), metadata::text(&object, "name"));
    let stored = server.store.get(&key).await.map_err(errors::from_store)?;
    let precondition = match stored {
        Some(_) if keep == Keep::Existing => return Ok(()),
        Some(record) => {
            let old = crate::stored::stored(&record).object.to_value();
            let is_same = |field: &str| old.get(field) == object.get(field);
            let same = match keep {
                Keep::Whole => {
                    // A status tells when, which is another time at each start.
                    let own = |field: &str| matches!(field, "metadata" | "status");
                    let fields = object.as_object().into_iter().flatten().all(|(field, _)| own(field) || is_same(field));
                    fields && ["labels", "annotations"].iter().all(|part| old["metadata"].get(part) == object["metadata"].get(part))
                }
                Keep::Ranges => {
                    let (now, then) = (object["spec"]["cidrs"].as_array(), old["spec"]["cidrs"].as_array());
                    !now.zip(then).is_some_and(|(now, then)| now.len() > then.len() && now.starts_with(then))
                }
                Keep::Existing | Keep::Endpoints => ["endpoints", "subsets", "ports", "addressType", "data"].into_iter().all(is_same),
            };
            if same {
                return Ok(());
            }
            metadata::keep_system_fields(&mut object, &old);
            Precondition::AtRevision(key.clone(), record.mod_revision)
        }
        None => {
            identify(server, &mut object, generation);
            Precondition::Absent(key.clone())
        }
    };
    match server.store.txn(Txn { preconditions: vec![precondition], ops: writes(server, cluster, &key, &object) }).await {
        Ok(_) | Err(StoreError::PreconditionFailed { .. }) => Ok(()),
        Err(error) => Err(errors::from_store(error)),
    }
}
