//! What a PodSpec becomes when the user leaves things out: upstream's SetDefaults of core/v1, for pods and templates alike.
use super::images::default_pull_policy;
use crate::fields::{Fill, Read};
use crate::quantities;
use serde_json::{Value, json};

/// Defaults a PodTemplateSpec.
pub fn template(template: &mut Value) {
    pod_spec(template.open("spec"));
}

/// Defaults a PodSpec.
pub fn pod_spec(spec: &mut Value) {
    spec.zero("dnsPolicy", "ClusterFirst");
    spec.zero("restartPolicy", "Always");
    spec.absent("securityContext", json!({}));
    spec.absent("terminationGracePeriodSeconds", 30);
    spec.zero("schedulerName", "default-scheduler");
    service_account(spec);
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        spec.each(list).for_each(container);
    }
    spec.each("volumes").for_each(volume);
    quantities::canonical_map(spec, "overhead");
    if let Some(resources) = spec.child("resources") {
        quantities::canonical_resources(resources);
    }
}

/// `serviceAccount` is the old name of `serviceAccountName`; both say the same in what is stored.
fn service_account(spec: &mut Value) {
    if spec["serviceAccountName"].text().is_empty() && !spec["serviceAccount"].text().is_empty() {
        let name = spec["serviceAccount"].clone();
        spec.put("serviceAccountName", name);
    }
    if !spec["serviceAccountName"].text().is_empty() {
        let name = spec["serviceAccountName"].clone();
        spec.put("serviceAccount", name);
    }
}

fn container(container: &mut Value) {
    if container["imagePullPolicy"].text().is_empty() {
        let policy = default_pull_policy(container["image"].text());
        container.put("imagePullPolicy", policy);
    }
    container.zero("terminationMessagePath", "/dev/termination-log");
    container.zero("terminationMessagePolicy", "File");
    quantities::canonical_resources(container.open("resources"));
    container.each("ports").for_each(|port| port.zero("protocol", "TCP"));
    for variable in container.each("env") {
        if let Some(source) = variable.child("valueFrom") {
            field_sources(source);
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.child(name) {
            default_probe(probe);
        }
    }
    if let Some(lifecycle) = container.child("lifecycle") {
        for name in ["postStart", "preStop"] {
            if let Some(get) = lifecycle.child(name).and_then(|handler| handler.child("httpGet")) {
                http_get(get);
            }
        }
    }
}

/// The defaults of `fieldRef` and `resourceFieldRef`, in variables and downward API files.
fn field_sources(source: &mut Value) {
    if let Some(field) = source.child("fieldRef") {
        field.zero("apiVersion", "v1");
    }
    if let Some(resource) = source.child("resourceFieldRef") {
        resource.absent("divisor", "0");
        quantities::canonical(resource, "divisor");
    }
}

fn default_probe(probe: &mut Value) {
    probe.zero("timeoutSeconds", 1);
    probe.zero("periodSeconds", 10);
    probe.zero("successThreshold", 1);
    probe.zero("failureThreshold", 3);
    if let Some(get) = probe.child("httpGet") {
        http_get(get);
    }
    if let Some(grpc) = probe.child("grpc") {
        grpc.absent("service", "");
    }
}

fn http_get(get: &mut Value) {
    get.zero("path", "/");
    get.zero("scheme", "HTTP");
}

/// The keys of a volume that are not its source.
const NOT_SOURCES: &[&str] = &["name"];

fn volume(volume: &mut Value) {
    let has_source = volume.entries().any(|(key, value)| value.is_set() && !NOT_SOURCES.contains(&key.as_str()));
    if !has_source {
        volume.put("emptyDir", json!({}));
    }
    for (source, fields) in SOURCE_DEFAULTS {
        if let Some(source) = volume.child(source) {
            for (field, value) in *fields {
                match value {
                    Absent::Text(text) => source.absent(field, *text),
                    Absent::Number(number) => source.absent(field, *number),
                    Absent::False => source.absent(field, false),
                }
            }
        }
    }
    if let Some(empty_dir) = volume.child("emptyDir") {
        quantities::canonical(empty_dir, "sizeLimit");
    }
    if let Some(api) = volume.child("downwardAPI") {
        api.each("items").for_each(field_sources);
    }
    if let Some(projected) = volume.child("projected") {
        for source in projected.each("sources") {
            if let Some(token) = source.child("serviceAccountToken") {
                token.absent("expirationSeconds", 3600);
            }
            if let Some(api) = source.child("downwardAPI") {
                api.each("items").for_each(field_sources);
            }
        }
    }
    if let Some(image) = volume.child("image")
        && image["pullPolicy"].text().is_empty()
    {
        let policy = default_pull_policy(image["reference"].text());
        image.put("pullPolicy", policy);
    }
    if let Some(claim) = volume.child("ephemeral").and_then(|source| source.child("volumeClaimTemplate")) {
        claim_spec(claim.open("spec"));
    }
}

enum Absent {
    Text(&'static str),
    Number(i64),
    False,
}

/// Volume source -> the fields that have a default.
const SOURCE_DEFAULTS: &[(&str, &[(&str, Absent)])] = &[
    ("secret", &[("defaultMode", Absent::Number(0o644))]),
    ("configMap", &[("defaultMode", Absent::Number(0o644))]),
    ("downwardAPI", &[("defaultMode", Absent::Number(0o644))]),
    ("projected", &[("defaultMode", Absent::Number(0o644))]),
    ("hostPath", &[("type", Absent::Text(""))]),
    ("iscsi", &[("iscsiInterface", Absent::Text("default"))]),
    ("rbd", &[("pool", Absent::Text("rbd")), ("user", Absent::Text("admin")), ("keyring", Absent::Text("/etc/ceph/keyring"))]),
    (
        "azureDisk",
        &[("cachingMode", Absent::Text("ReadWrite")), ("kind", Absent::Text("Shared")), ("fsType", Absent::Text("ext4")), ("readOnly", Absent::False)],
    ),
    ("scaleIO", &[("storageMode", Absent::Text("ThinProvisioned")), ("fsType", Absent::Text("xfs"))]),
];

/// Defaults a PersistentVolumeClaimSpec.
pub fn claim_spec(spec: &mut Value) {
    spec.absent("volumeMode", "Filesystem");
    quantities::canonical_resources(spec.open("resources"));
}

/// What only pods get, not templates: requests from limits, host ports, service links.
pub fn pod(spec: &mut Value) {
    let host_network = spec["hostNetwork"].flag();
    for list in ["containers", "initContainers"] {
        for container in spec.each(list) {
            requests_from_limits(container);
            if host_network {
                for port in container.each("ports") {
                    let number = port["containerPort"].clone();
                    port.zero("hostPort", number);
                }
            }
        }
    }
    pod_level_requests(spec);
    spec.absent("enableServiceLinks", true);
}

fn requests_from_limits(container: &mut Value) {
    let Some(resources) = container.child("resources") else { return };
    let Some(limits) = resources.get("limits").and_then(Value::as_object).filter(|limits| !limits.is_empty()).cloned() else { return };
    let requests = resources.open("requests");
    for (name, limit) in limits {
        requests.absent(&name, limit);
    }
}

/// Requests of the pod as a whole, where it has limits: what its containers request, else its limits.
fn pod_level_requests(spec: &mut Value) {
    let Some(limits) = spec["resources"]["limits"].as_object().filter(|limits| !limits.is_empty()).cloned() else { return };
    let mut requests = spec["resources"]["requests"].as_object().cloned().unwrap_or_default();
    for (name, sum) in super::qos::container_requests(spec) {
        if quantities::is_pod_level(&name) && !requests.contains_key(&name) {
            requests.insert(name, sum.to_string().into());
        }
    }
    for (name, limit) in limits {
        if quantities::is_pod_level(&name) && !requests.contains_key(&name) {
            requests.insert(name, limit);
        }
    }
    if !requests.is_empty() {
        spec["resources"].put("requests", Value::Object(requests));
    }
}
