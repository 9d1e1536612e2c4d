//! The objects that are written: pods as a Deployment makes them.
use serde_json::{Value, json};

/// Pods of the bench are no scheduler's, so that what is measured is the API alone.
const SCHEDULER: &str = "nobody";

pub fn pod(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": namespace,
            "labels": { "app": "web", "pod-template-hash": "6d4cf56db6", "tier": "front" },
            "annotations": { "example.com/revision": "17" },
        },
        "spec": {
            "schedulerName": SCHEDULER,
            "containers": [{
                "name": "web", "image": "registry.example.com/web:1.27.3",
                "ports": [{ "name": "http", "containerPort": 8080 }],
                "env": [{ "name": "MODE", "value": "production" }, { "name": "POD_IP", "valueFrom": { "fieldRef": { "fieldPath": "status.podIP" } } }],
                "resources": { "requests": { "cpu": "100m", "memory": "128Mi" }, "limits": { "memory": "256Mi" } },
                "readinessProbe": { "httpGet": { "path": "/healthz", "port": "http" }, "periodSeconds": 5 },
                "volumeMounts": [{ "name": "config", "mountPath": "/etc/web" }],
            }],
            "volumes": [{ "name": "config", "configMap": { "name": "web" } }],
        },
    })
}
