//! Tables as kubectl prints them.
use api_builtins::find;
use api_resource::Row;
use serde_json::{Value, json};

/// The cells of one row, wide ones included.
fn row(api_version: &str, plural: &str, object: Value) -> String {
    let (group, version) = api_meta::split_api_version(api_version);
    let row = Row { object: &object, now: "2026-01-01T00:10:00Z".parse().unwrap() };
    let cell = |value: Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    find(group, version, plural).unwrap().columns().iter().map(|column| cell(column.value(&row))).collect::<Vec<_>>().join("|")
}

#[test]
fn rows_hold_what_upstreams_printers_say() {
    let meta = json!({"name": "x", "creationTimestamp": "2026-01-01T00:00:00Z"});
    let check = |api_version: &str, plural: &str, mut object: Value, want: &str| {
        for (key, value) in meta.as_object().unwrap() {
            if object["metadata"][key].is_null() {
                object["metadata"][key] = value.clone();
            }
        }
        assert_eq!(row(api_version, plural, object), want, "{plural}");
    };
    check(
        "v1",
        "services",
        json!({"spec": {"type": "NodePort", "clusterIP": "10.0.0.1", "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}], "selector": {"b": "2", "a": "1"}}}),
        "x|NodePort|10.0.0.1|<none>|80:30080/TCP,53/UDP|10m|a=1,b=2",
    );
    check("v1", "services", json!({"spec": {"type": "LoadBalancer", "clusterIP": "10.0.0.1"}}), "x|LoadBalancer|10.0.0.1|<pending>|<none>|10m|<none>");
    check(
        "v1",
        "services",
        json!({"spec": {"type": "LoadBalancer", "clusterIP": "10.0.0.1", "externalIPs": ["9.9.9.9"]}, "status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}, {"hostname": "a.b"}]}}}),
        "x|LoadBalancer|10.0.0.1|1.2.3.4,a.b,9.9.9.9|<none>|10m|<none>",
    );
    check("v1", "services", json!({"spec": {"type": "ExternalName", "externalName": "a.b"}}), "x|ExternalName|<none>|a.b|<none>|10m|<none>");
    check(
        "apps/v1",
        "deployments",
        json!({"spec": {"replicas": 3, "selector": {"matchLabels": {"app": "x"}}, "template": {"spec": {"containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "j"}]}}}, "status": {"readyReplicas": 2, "updatedReplicas": 1, "availableReplicas": 2}}),
        "x|2/3|1|2|10m|a,b|i,j|app=x",
    );
    check(
        "v1",
        "nodes",
        json!({"metadata": {"labels": {"node-role.kubernetes.io/worker": "", "node-role.kubernetes.io/control-plane": ""}}, "spec": {"unschedulable": true},
            "status": {"conditions": [{"type": "Ready", "status": "True"}], "nodeInfo": {"kubeletVersion": "v1.37.0", "osImage": "Debian"}, "addresses": [{"type": "InternalIP", "address": "10.0.0.2"}]}}),
        "x|Ready,SchedulingDisabled|control-plane,worker|10m|v1.37.0|10.0.0.2|<none>|Debian|<unknown>|<unknown>",
    );
    check(
        "batch/v1",
        "jobs",
        json!({"spec": {"completions": 3, "template": {"spec": {"containers": [{"name": "a", "image": "i"}]}}, "selector": {"matchLabels": {"k": "v"}}}, "status": {"succeeded": 1, "startTime": "2026-01-01T00:05:00Z"}}),
        "x|Running|1/3|5m|10m|a|i|k=v",
    );
    check("batch/v1", "cronjobs", json!({"spec": {"schedule": "* * * * *", "suspend": false}}), "x|* * * * *|<none>|False|0|<none>|10m|||<none>");
    check(
        "v1",
        "events",
        json!({"involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "spec.containers{a}"}, "type": "Normal", "reason": "Pulled", "message": " done ", "firstTimestamp": "2026-01-01T00:08:00Z", "lastTimestamp": "2026-01-01T00:09:00Z", "count": 4, "source": {"component": "kubelet", "host": "n"}}),
        "60s|Normal|Pulled|pod/p|spec.containers{a}|kubelet, n|done|2m|4|x",
    );
    check(
        "v1",
        "events",
        json!({"involvedObject": {"kind": "Node"}, "eventTime": "2026-01-01T00:09:30.000000Z", "reportingComponent": "c"}),
        "30s|null|null|node||c||30s|1|x",
    );
    check(
        "v1",
        "persistentvolumeclaims",
        json!({"spec": {"volumeName": "v", "storageClassName": "s", "volumeMode": "Filesystem"}, "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce", "ReadOnlyMany"]}}),
        "x|Bound|v|1Gi|RWO,ROX|s|<unset>|10m|Filesystem",
    );
    check(
        "v1",
        "endpoints",
        json!({"subsets": [{"addresses": [{"ip": "1.1.1.1"}, {"ip": "::1"}], "ports": [{"port": 80}, {"port": 81}]}]}),
        "x|1.1.1.1:80,[::1]:80,1.1.1.1:81 + 1 more...|10m",
    );
    check(
        "discovery.k8s.io/v1",
        "endpointslices",
        json!({"addressType": "IPv4", "ports": [{"port": 80}], "endpoints": [{"addresses": ["1.1.1.1"]}, {"addresses": ["1.1.1.2"]}]}),
        "x|IPv4|80|1.1.1.1,1.1.1.2|10m",
    );
    check("networking.k8s.io/v1", "ingresses", json!({"spec": {"ingressClassName": "c", "rules": [{"host": "a.b"}], "tls": [{}]}}), "x|c|a.b||80, 443|10m");
    check(
        "networking.k8s.io/v1",
        "networkpolicies",
        json!({"spec": {"podSelector": {"matchExpressions": [{"key": "k", "operator": "In", "values": ["b", "a"]}]}}}),
        "x|k in (a,b)|10m",
    );
    check("rbac.authorization.k8s.io/v1", "roles", json!({}), "x|2026-01-01T00:00:00Z");
    check(
        "rbac.authorization.k8s.io/v1",
        "clusterrolebindings",
        json!({"roleRef": {"kind": "ClusterRole", "name": "r"}, "subjects": [{"kind": "User", "name": "u"}, {"kind": "User", "name": "w"}, {"kind": "ServiceAccount", "namespace": "n", "name": "s"}]}),
        "x|ClusterRole/r|10m|u, w||n/s",
    );
    check("v1", "secrets", json!({"type": "Opaque", "data": {"a": "", "b": ""}}), "x|Opaque|2|10m");
    check(
        "autoscaling/v2",
        "horizontalpodautoscalers",
        json!({"spec": {"scaleTargetRef": {"kind": "Deployment", "name": "d"}, "minReplicas": 1, "maxReplicas": 5, "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"averageUtilization": 80}}}]}}),
        "x|Deployment/d|cpu: <unknown>/80%|1|5|0|10m",
    );
    check(
        "storage.k8s.io/v1",
        "storageclasses",
        json!({"metadata": {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}, "provisioner": "p", "volumeBindingMode": "Immediate"}),
        "x (default)|p|Delete|Immediate|false|10m",
    );
    check(
        "certificates.k8s.io/v1",
        "certificatesigningrequests",
        json!({"spec": {"signerName": "s", "username": "u"}, "status": {"conditions": [{"type": "Approved"}], "certificate": "c"}}),
        "x|10m|s|u|<none>|Approved,Issued",
    );
    check("policy/v1", "poddisruptionbudgets", json!({"spec": {"minAvailable": "50%"}}), "x|50%|N/A|0|10m");
}
