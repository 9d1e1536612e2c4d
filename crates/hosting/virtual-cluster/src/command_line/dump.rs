//! Dumps: a cluster's objects as somebody would have written them, in the order they can be applied in.
use serde_json::{Map, Value};

/// Annotations that the server and its controllers write.
const OWN_ANNOTATIONS: [&str; 10] = [
    "deployment.kubernetes.io/revision",
    "kubectl.kubernetes.io/last-applied-configuration",
    "deprecated.daemonset.template.generation",
    "pv.kubernetes.io/bind-completed",
    "pv.kubernetes.io/bound-by-controller",
    "volume.kubernetes.io/selected-node",
    "volume.kubernetes.io/storage-provisioner",
    "volume.beta.kubernetes.io/storage-provisioner",
    "batch.kubernetes.io/job-tracking",
    "k8shost.io/host-storage-classes",
];
/// Labels by which a Job finds its pods: it gets others.
const JOB_LABELS: [&str; 4] = ["controller-uid", "batch.kubernetes.io/controller-uid", "job-name", "batch.kubernetes.io/job-name"];
/// Namespaces that every cluster has.
const NAMESPACES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];
/// What is applied before all else, and what after, by kind; the rest, custom kinds among them, comes between.
const FIRST: [&str; 15] = [
    "Namespace",
    "CustomResourceDefinition",
    "PriorityClass",
    "RuntimeClass",
    "IngressClass",
    "StorageClass",
    "ResourceQuota",
    "LimitRange",
    "ServiceAccount",
    "ClusterRole",
    "Role",
    "ConfigMap",
    "Secret",
    "PersistentVolume",
    "PersistentVolumeClaim",
];
const SECOND: [&str; 4] = ["ClusterRoleBinding", "RoleBinding", "NetworkPolicy", "Service"];
/// They may stand in the way of everything else until what serves them runs.
const LAST: [&str; 6] = [
    "ValidatingAdmissionPolicy",
    "MutatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "MutatingAdmissionPolicyBinding",
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
];

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Whether objects of a resource say what somebody wants, rather than what is.
pub fn is_wanted(group: &str, resource: &str) -> bool {
    !matches!(
        (group, resource),
        ("", "events" | "endpoints" | "nodes" | "componentstatuses" | "bindings")
            | ("events.k8s.io" | "metrics.k8s.io" | "authentication.k8s.io" | "authorization.k8s.io" | "certificates.k8s.io", _)
            | ("apps", "controllerrevisions")
            | ("discovery.k8s.io", "endpointslices")
            | ("coordination.k8s.io", _)
            | ("networking.k8s.io", "ipaddresses" | "servicecidrs")
            | ("storage.k8s.io", "csinodes" | "volumeattachments" | "csistoragecapacities" | "csidrivers")
            | ("snapshot.storage.k8s.io", "volumesnapshotcontents")
            | ("resource.k8s.io", "resourceslices")
    )
}

/// The object as its author would write it; `None` if it has none, because the server or a controller makes it.
pub fn plain(mut object: Value) -> Option<Value> {
    if is_made(&object) {
        return None;
    }
    let kind = text(&object, "/kind").to_owned();
    object.as_object_mut()?.remove("status");
    let metadata = object["metadata"].as_object_mut()?;
    metadata.retain(|field, _| matches!(field.as_str(), "name" | "namespace" | "labels" | "annotations"));
    drop_keys(metadata, "annotations", &OWN_ANNOTATIONS);
    match kind.as_str() {
        "Namespace" => {
            drop_keys(metadata, "labels", &["kubernetes.io/metadata.name"]);
            object.as_object_mut()?.remove("spec");
        }
        "Service" => {
            let spec = object["spec"].as_object_mut()?;
            // Addresses and ports are given anew: others may have them there.
            if spec.get("clusterIP").is_some_and(|address| address != "None") {
                spec.retain(|field, _| !matches!(field.as_str(), "clusterIP" | "clusterIPs" | "ipFamilies" | "ipFamilyPolicy"));
            }
            spec.remove("healthCheckNodePort");
            for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
                port.as_object_mut()?.remove("nodePort");
            }
        }
        "PersistentVolumeClaim" => drop(object["spec"].as_object_mut()?.remove("volumeName")),
        "PersistentVolume" => drop(object["spec"].as_object_mut()?.remove("claimRef")),
        "ServiceAccount" => drop(object.as_object_mut()?.remove("secrets")),
        "Job" => plain_job(&mut object),
        "Pod" => plain_pod(object["spec"].as_object_mut()?),
        _ => {}
    }
    Some(object)
}

/// Whether nobody wrote it: it comes with the cluster, or from something else that was written.
fn is_made(object: &Value) -> bool {
    let (name, namespace) = (text(object, "/metadata/name"), text(object, "/metadata/namespace"));
    let owners = object["metadata"]["ownerReferences"].as_array();
    let label = |name: &str| object["metadata"]["labels"].get(name).is_some();
    if owners.into_iter().flatten().any(|owner| owner["controller"] == true) || object["metadata"]["deletionTimestamp"].is_string() {
        return true;
    }
    // Those that upstream's servers keep as they are.
    if object["metadata"]["annotations"].get("apf.kubernetes.io/autoupdate-spec").is_some() {
        return true;
    }
    match text(object, "/kind") {
        "Namespace" => NAMESPACES.contains(&name),
        "ConfigMap" => name == "kube-root-ca.crt" || (namespace == "kube-system" && matches!(name, "extension-apiserver-authentication")),
        "Secret" => matches!(text(object, "/type"), "kubernetes.io/service-account-token" | "bootstrap.kubernetes.io/token"),
        "ServiceAccount" => name == "default" && !object.as_object().is_some_and(|fields| fields.contains_key("imagePullSecrets")),
        "Service" => (namespace, name) == ("default", "kubernetes") || (namespace, name) == ("kube-system", "kube-dns"),
        "ClusterRole" | "ClusterRoleBinding" | "Role" | "RoleBinding" => label("kubernetes.io/bootstrapping"),
        "PriorityClass" => name.starts_with("system-"),
        "PersistentVolume" => object["spec"].get("csi").is_some_and(|csi| !csi.is_null()),
        "Pod" => object["metadata"]["annotations"].get("kubernetes.io/config.mirror").is_some(),
        _ => false,
    }
}

fn drop_keys(metadata: &mut Map<String, Value>, field: &str, keys: &[&str]) {
    let Some(map) = metadata.get_mut(field).and_then(Value::as_object_mut) else { return };
    map.retain(|key, _| !keys.contains(&key.as_str()));
    if map.is_empty() {
        metadata.remove(field);
    }
}

fn plain_job(job: &mut Value) {
    if job["spec"]["manualSelector"] == true {
        return;
    }
    if let Some(spec) = job["spec"].as_object_mut() {
        spec.remove("selector");
    }
    for pointer in ["/metadata", "/spec/template/metadata"] {
        if let Some(metadata) = job.pointer_mut(pointer).and_then(Value::as_object_mut) {
            drop_keys(metadata, "labels", &JOB_LABELS);
        }
    }
}

/// Without its node, and without the volume that the server mounts its account's token from.
fn plain_pod(spec: &mut Map<String, Value>) {
    for field in ["nodeName", "ephemeralContainers", "priority", "preemptionPolicy", "serviceAccount"] {
        spec.remove(field);
    }
    let is_tokens = |entry: &Value| entry["name"].as_str().is_some_and(|name| name.starts_with("kube-api-access-"));
    if let Some(volumes) = spec.get_mut("volumes").and_then(Value::as_array_mut) {
        volumes.retain(|volume| !is_tokens(volume));
    }
    for containers in ["containers", "initContainers"] {
        for container in spec.get_mut(containers).and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(mounts) = container.get_mut("volumeMounts").and_then(Value::as_array_mut) {
                mounts.retain(|mount| !is_tokens(mount));
            }
        }
    }
}

/// In the order to apply them in; objects of a kind by namespace and name.
pub fn ordered(mut objects: Vec<Value>) -> Vec<Value> {
    objects.sort_by_key(|object| {
        let kind = text(object, "/kind");
        let within = |kinds: &[&str]| kinds.iter().position(|known| *known == kind);
        let rank = within(&FIRST).map(|at| (0, at)).or(within(&SECOND).map(|at| (1, at))).or(within(&LAST).map(|at| (3, at))).unwrap_or((2, 0));
        (
            rank,
            text(object, "/apiVersion").to_owned(),
            kind.to_owned(),
            text(object, "/metadata/namespace").to_owned(),
            text(object, "/metadata/name").to_owned(),
        )
    });
    objects
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn named(kind: &str, name: &str, rest: Value) -> Value {
        let mut object = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "a", "uid": "u", "resourceVersion": "7"}});
        object.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        object
    }

    #[test]
    fn what_the_server_writes_is_left_out() {
        let metadata = json!({
            "name": "web", "namespace": "a", "uid": "u", "resourceVersion": "7", "generation": 3, "creationTimestamp": "x", "managedFields": [],
            "labels": {"app": "web"}, "annotations": {"deployment.kubernetes.io/revision": "2"},
        });
        let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": {"replicas": 1}, "status": {"replicas": 1}});
        let wanted = json!({"name": "web", "namespace": "a", "labels": {"app": "web"}});
        assert_eq!(plain(deployment).unwrap(), json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": wanted, "spec": {"replicas": 1}}));
        let ports = json!([{"port": 80, "nodePort": 30080}]);
        let service = plain(named("Service", "s", json!({"spec": {"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"], "ports": ports}}))).unwrap();
        assert_eq!(service["spec"], json!({"ports": [{"port": 80}]}));
        let headless = plain(named("Service", "s", json!({"spec": {"clusterIP": "None"}}))).unwrap();
        assert_eq!(headless["spec"]["clusterIP"], "None");
        let mounts = json!([{"name": "kube-api-access-x1", "mountPath": "/t"}, {"name": "data", "mountPath": "/d"}]);
        let spec = json!({"nodeName": "n", "volumes": [{"name": "kube-api-access-x1"}, {"name": "data"}], "containers": [{"volumeMounts": mounts}]});
        let pod = plain(named("Pod", "p", json!({ "spec": spec }))).unwrap();
        assert_eq!(pod["spec"], json!({"volumes": [{"name": "data"}], "containers": [{"volumeMounts": [{"name": "data", "mountPath": "/d"}]}]}));
        let job = named("Job", "j", json!({"spec": {"selector": {}, "template": {"metadata": {"labels": {"job-name": "j", "own": "x"}}}}}));
        assert_eq!(plain(job).unwrap()["spec"], json!({"template": {"metadata": {"labels": {"own": "x"}}}}));
    }

    #[test]
    fn what_comes_by_itself_is_not_written_down() {
        for made in [
            named("ConfigMap", "kube-root-ca.crt", json!({})),
            named("Namespace", "kube-system", json!({})),
            named("ServiceAccount", "default", json!({})),
            named("Secret", "t", json!({"type": "kubernetes.io/service-account-token"})),
            named("Pod", "p", json!({"metadata": {"name": "p", "ownerReferences": [{"controller": true}]}})),
            named("ClusterRole", "edit", json!({"metadata": {"name": "edit", "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}}})),
            named("PersistentVolume", "v", json!({"spec": {"csi": {"driver": "d"}}})),
        ] {
            assert_eq!(plain(made.clone()), None, "{made}");
        }
        assert!(is_wanted("", "pods") && is_wanted("example.com", "events") && !is_wanted("", "events") && !is_wanted("discovery.k8s.io", "endpointslices"));
    }

    #[test]
    fn what_others_need_comes_first_and_what_may_refuse_them_last() {
        let kinds = ["ValidatingWebhookConfiguration", "Bell", "Deployment", "Service", "Secret", "CustomResourceDefinition", "RoleBinding", "Namespace"];
        let sorted = ordered(kinds.iter().map(|kind| named(kind, "x", json!({}))).collect());
        let sorted: Vec<&str> = sorted.iter().map(|object| text(object, "/kind")).collect();
        assert_eq!(
            sorted,
            ["Namespace", "CustomResourceDefinition", "Secret", "RoleBinding", "Service", "Bell", "Deployment", "ValidatingWebhookConfiguration"]
        );
    }
}
