//! What every cluster has from its first moment: namespaces, policy, priority classes, its own Service.
use crate::server::ApiServer;
use crate::{errors, metadata};
use api_meta::{ClusterName, Status, object, split_api_version};
use clock::rfc3339_seconds;
use serde_json::{Value, json};
use std::net::IpAddr;
use store::{Key, Op, Precondition, StoreError, Txn};

/// Where the API of a cluster is reached from inside it.
pub struct Bootstrap {
    /// The first address of the Service range: the `kubernetes` Service.
    pub service_address: IpAddr,
    pub advertise_address: IpAddr,
    pub port: u16,
    /// More objects the cluster starts with (DNS Service, ...).
    pub objects: Vec<Value>,
}

/// Creates what is missing; what exists is left as it is, but for the API's own endpoints, which follow the settings.
pub async fn bootstrap(server: &ApiServer, cluster: &ClusterName, settings: &Bootstrap) -> Result<(), Status> {
    // All at once: the store commits what waits together, and a start waits for few writes to reach the disk.
    futures::future::try_join_all(objects(settings).into_iter().map(|(object, follows)| ensure(server, cluster, object, follows))).await?;
    server.set_ready();
    Ok(())
}

/// What a cluster starts with, and whether it follows the settings later.
fn objects(settings: &Bootstrap) -> Vec<(Value, bool)> {
    let namespaces = ["default", "kube-system", "kube-public", "kube-node-lease"].map(namespace);
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
    let mut objects: Vec<(Value, bool)> =
        namespaces.into_iter().chain(api_auth::bootstrap_policy::objects()).chain(classes).map(|object| (object, false)).collect();
    let (service, endpoints, slice) = kubernetes_service(settings);
    objects.extend([(service, false), (endpoints, true), (slice, true)]);
    for object in &settings.objects {
        let follows = object["kind"] == "EndpointSlice" || object["kind"] == "Endpoints";
        objects.push((object.clone(), follows));
    }
    objects
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

async fn ensure(server: &ApiServer, cluster: &ClusterName, mut object: Value, follows: bool) -> Result<(), Status> {
    let api_version = object["apiVersion"].as_str().unwrap_or_default().to_owned();
    let (group, version) = split_api_version(&api_version);
    let kind = object["kind"].as_str().unwrap_or_default().to_owned();
    let resource = server
        .kinds
        .all(cluster)
        .iter()
        .find(|k| k.names().group == group && k.names().version == version && k.names().kind == kind)
        .map(|k| (k.stored_as(), k.generation()))
        .ok_or_else(|| Status::internal(format!("no kind {kind:?} in {group:?} {version:?}")))?;
    let (resource, generation) = resource;
    let key = Key::new(cluster, &resource, metadata::text(&object, "namespace"), metadata::text(&object, "name"));
    let stored = server.store.get(&key).await.map_err(errors::from_store)?;
    let precondition = match stored {
        Some(_) if !follows => return Ok(()),
        Some(record) => {
            let old = crate::stored::stored(&record).object.to_value();
            let differs = ["endpoints", "subsets", "ports", "addressType"].iter().any(|field| old.get(*field) != object.get(*field));
            if !differs {
                return Ok(());
            }
            metadata::keep_system_fields(&mut object, &old);
            Precondition::AtRevision(key.clone(), record.mod_revision)
        }
        None => {
            let now = rfc3339_seconds(server.clock.now());
            let metadata = metadata::of(&mut object);
            metadata.insert("uid".into(), uuid::Uuid::new_v4().to_string().into());
            metadata.insert("creationTimestamp".into(), now.into());
            if generation {
                metadata.insert("generation".into(), 1.into());
            }
            Precondition::Absent(key.clone())
        }
    };
    let mut ops = vec![Op::Put { key: key.clone(), value: object::encode(object.as_object().expect("an object literal")) }];
    if kind == "Service"
        && let Some(address) = object["spec"]["clusterIP"].as_str().filter(|a| *a != "None")
    {
        ops.push(crate::allocate::claim(cluster, address, &object, server.clock.now()));
    }
    match server.store.txn(Txn { preconditions: vec![precondition], ops }).await {
        Ok(_) | Err(StoreError::PreconditionFailed { .. }) => Ok(()),
        Err(error) => Err(errors::from_store(error)),
    }
}
