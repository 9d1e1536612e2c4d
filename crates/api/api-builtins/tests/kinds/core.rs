//! core/v1, pods apart.
use crate::suite::Suite;
use serde_json::json;

#[test]
fn services() {
    let suite = Suite::new("v1", "services", json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}}));
    insta::assert_yaml_snapshot!("service", suite.stored());
    suite
        .refuses(json!({"spec": {"ports": null}}), &["spec.ports: Required value"])
        .refuses(json!({"spec": {"ports": [{"port": 0, "targetPort": 1}]}}), &["spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive"])
        .refuses(json!({"spec": {"ports": [{"port": 80}, {"port": 81, "name": "a"}]}}), &["spec.ports[0].name: Required value"])
        .refuses(json!({"spec": {"ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "a"}]}}), &["spec.ports[1].name: Duplicate value: \"a\""])
        .refuses(
            json!({"spec": {"ports": [{"port": 80, "nodePort": 30000}]}}),
            &["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"],
        )
        .refuses(
            json!({"spec": {"type": "Other"}}),
            &["spec.type: Unsupported value: \"Other\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\""],
        )
        .refuses(json!({"spec": {"type": "ExternalName", "ports": null}}), &["spec.externalName: Required value"])
        .refuses(
            json!({"spec": {"type": "NodePort", "clusterIP": "None"}}),
            &["spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services"],
        )
        .refuses(
            json!({"spec": {"sessionAffinity": "Sticky"}}),
            &["spec.sessionAffinity: Unsupported value: \"Sticky\": supported values: \"ClientIP\", \"None\""],
        )
        .refuses(
            json!({"spec": {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 0}}}}),
            &["spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 0: must be greater than 0 and less than 86400"],
        )
        .refuses(
            json!({"spec": {"externalIPs": ["127.0.0.1"]}}),
            &["spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)"],
        )
        .refuses(json!({"spec": {"loadBalancerClass": "a.b/c"}}), &["spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'"])
        .accepts(json!({"spec": {"clusterIP": "None", "ports": null}}))
        .accepts(json!({"spec": {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}}));
    let addressed = Suite::new("v1", "services", json!({"spec": {"clusterIP": "10.96.0.7", "ports": [{"port": 80}]}}));
    addressed
        .refuses_update(
            json!({"spec": {"clusterIP": "10.96.0.8", "clusterIPs": ["10.96.0.8"]}}),
            &["spec.clusterIPs[0]: Invalid value: [\"10.96.0.8\"]: may not change once set"],
        )
        .refuses_update(json!({"spec": {"clusterIP": null, "clusterIPs": null}}), &[])
        .refuses_update(json!({"spec": {"type": "ExternalName", "externalName": "a.b"}}), &[]);
}

#[test]
fn node_ports_that_were_given_are_kept() {
    let resource = api_builtins::find("", "v1", "services").unwrap();
    let spec = |node_port: serde_json::Value| json!({"spec": {"type": "NodePort", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ports": [{"port": 80, "protocol": "TCP", "nodePort": node_port}]}});
    let (old, mut new) = (spec(30_080.into()), json!({"spec": {"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP"}]}}));
    crate::suite::context(|context| resource.prepare_update(&mut new, &old, context));
    assert_eq!(new, old);
    new["spec"]["type"] = "ClusterIP".into();
    crate::suite::context(|context| resource.prepare_update(&mut new, &old, context));
    assert!(new["spec"]["ports"][0].get("nodePort").is_none());
}

#[test]
fn namespaces() {
    let suite = Suite::new("v1", "namespaces", json!({"metadata": {"name": "team"}}));
    let stored = suite.stored();
    assert_eq!(stored["metadata"]["labels"], json!({"kubernetes.io/metadata.name": "team"}));
    assert_eq!((&stored["spec"], &stored["status"]), (&json!({"finalizers": ["kubernetes"]}), &json!({"phase": "Active"})));
    let resource = api_builtins::find("", "v1", "namespaces").unwrap();
    assert!(resource.held(&stored));
    suite.refuses(
        json!({"spec": {"finalizers": ["mine"]}}),
        &["spec.finalizers[0]: Invalid value: \"mine\": name is neither a standard finalizer name nor is it fully qualified"],
    );
    let mut gone = stored.clone();
    resource.prepare_delete(&mut gone);
    assert_eq!(gone["status"]["phase"], "Terminating");
    let finalize = resource.subresource("finalize").unwrap();
    let api_resource::SubresourceKind::Part(merge) = finalize.kind else { panic!("finalize is a part") };
    let mut sent = stored.clone();
    sent["spec"] = json!({});
    assert!(!resource.held(&merge(&stored, &sent)));
}

#[test]
fn config_maps_and_secrets() {
    let maps = Suite::new("v1", "configmaps", json!({"data": {"a": "1"}, "immutable": true}));
    maps.refuses(json!({"binaryData": {"a": "AQ=="}}), &["data[a]: Invalid value: \"a\": duplicate of key present in binaryData"])
        .refuses_update(json!({"data": {"a": "2"}}), &["data: Forbidden: field is immutable when `immutable` is set"])
        .refuses_update(json!({"immutable": false}), &["immutable: Forbidden: field is immutable when `immutable` is set"]);
    let (_, too_big) = ((), "x".repeat((1 << 20) + 1));
    maps.refuses(json!({"data": {"a": too_big}}), &["[]: Too long: may not be more than 1048576 bytes"]);

    let secrets = Suite::new("v1", "secrets", json!({"stringData": {"user": "jane"}, "data": {"user": "eA==", "key": "AQ=="}}));
    let stored = secrets.stored();
    assert_eq!((&stored["data"], &stored["type"]), (&json!({"user": "amFuZQ==", "key": "AQ=="}), &json!("Opaque")));
    assert!(stored.get("stringData").is_none());
    secrets
        .refuses(json!({"type": "kubernetes.io/tls"}), &["data[tls.crt]: Required value", "data[tls.key]: Required value"])
        .refuses(json!({"type": "kubernetes.io/service-account-token"}), &["metadata.annotations[kubernetes.io/service-account.name]: Required value"])
        .refuses(
            json!({"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": "eA=="}}),
            &["data[.dockerconfigjson]: Invalid value: \"<secret contents redacted>\": expected value at line 1 column 1"],
        )
        .refuses_update(json!({"type": "other"}), &["type: Invalid value: \"other\": field is immutable"]);
}

#[test]
fn nodes() {
    let suite =
        Suite::new("v1", "nodes", json!({"spec": {"podCIDR": "10.0.0.0/24", "podCIDRs": ["10.0.0.0/24"], "taints": [{"key": "k", "effect": "NoSchedule"}]}}));
    suite
        .refuses(
            json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}, {"key": "k", "effect": "NoSchedule"}]}}),
            &["metadata.taints[1]: Duplicate value: {\"effect\":\"NoSchedule\",\"key\":\"k\"}: taints must be unique by key and effect pair"],
        )
        .refuses(
            json!({"spec": {"taints": [{"key": "k", "effect": "No"}]}}),
            &["metadata.taints[0].effect: Unsupported value: \"No\": supported values: \"NoExecute\", \"NoSchedule\", \"PreferNoSchedule\""],
        )
        .refuses_update(
            json!({"spec": {"podCIDRs": ["10.0.1.0/24"]}}),
            &["spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid"],
        );
}

#[test]
fn volumes_and_claims() {
    let claim =
        Suite::new("v1", "persistentvolumeclaims", json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1024Mi"}}}}));
    let stored = claim.stored();
    assert_eq!((&stored["spec"]["volumeMode"], &stored["spec"]["resources"]["requests"]["storage"]), (&json!("Filesystem"), &json!("1Gi")));
    assert_eq!(stored["status"], json!({"phase": "Pending"}));
    claim
        .refuses(json!({"spec": {"accessModes": []}}), &["spec.accessModes: Required value: at least 1 access mode is required"])
        .refuses(
            json!({"spec": {"accessModes": ["Often"]}}),
            &["spec.accessModes: Unsupported value: \"Often\": supported values: \"ReadOnlyMany\", \"ReadWriteMany\", \"ReadWriteOnce\", \"ReadWriteOncePod\""],
        )
        .refuses(json!({"spec": {"resources": {"requests": null}}}), &["spec.resources.requests[storage]: Required value"])
        .refuses(json!({"spec": {"resources": {"requests": {"storage": "0"}}}}), &["spec.resources.requests[storage]: Invalid value: \"0\": must be greater than zero"])
        .refuses_update(
            json!({"spec": {"accessModes": ["ReadWriteMany"]}}),
            &["spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n- accessModes[0]: \"ReadWriteOnce\"\n+ accessModes[0]: \"ReadWriteMany\""],
        )
        .refuses_update(json!({"spec": {"volumeName": "v", "storageClassName": "s"}}), &[]);
    let volume =
        Suite::new("v1", "persistentvolumes", json!({"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"}}}));
    volume
        .refuses(json!({"spec": {"hostPath": null}}), &["spec: Required value: must specify a volume type"])
        .refuses(json!({"spec": {"hostPath": {"path": "/a/../b"}}}), &["spec.hostPath.path: Invalid value: \"/a/../b\": must not contain '..'"])
        .refuses(json!({"spec": {"capacity": null}}), &["spec.capacity: Required value"])
        .refuses(
            json!({"spec": {"volumeAttributesClassName": "gold"}}),
            &["spec.csi: Required value: has to be specified when using volumeAttributesClassName"],
        )
        .refuses_update(
            json!({"spec": {"hostPath": {"path": "/y"}}}),
            &["spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation"],
        );
}

#[test]
fn quotas_and_limits() {
    Suite::new("v1", "resourcequotas", json!({"spec": {"hard": {"pods": 10, "requests.cpu": "1000m", "count/jobs.batch": "3", "gold.storageclass.storage.k8s.io/requests.storage": "1Gi"}}}))
        .refuses(json!({"spec": {"hard": {"pods": "1500m"}}}), &["spec.hard[pods]: Invalid value: \"1500m\": must be an integer"])
        .refuses(
            json!({"spec": {"hard": {"bananas": "1"}}}),
            &["spec.hard[bananas]: Invalid value: \"bananas\": must be a standard resource type or fully qualified", "spec.hard[bananas]: Invalid value: \"bananas\": must be a standard resource for quota"],
        )
        .refuses(
            json!({"spec": {"hard": {"gold.storageclass.storage.k8s.io/requests.storage": null, "count/jobs.batch": null}, "scopes": ["Terminating", "NotTerminating"]}}),
            &["spec.scopes: Invalid value: [\"Terminating\",\"NotTerminating\"]: conflicting scopes"],
        );
    let limits = Suite::new("v1", "limitranges", json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi"}}]}}));
    let item = &limits.stored()["spec"]["limits"][0];
    assert_eq!((&item["default"], &item["defaultRequest"]), (&json!({"cpu": "2"}), &json!({"cpu": "2", "memory": "1Mi"})));
    limits
        .refuses(
            json!({"spec": {"limits": [{"type": "Pod", "max": {"cpu": "1"}, "min": {"cpu": "2"}}]}}),
            &["spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1"],
        )
        .refuses(
            json!({"spec": {"limits": [{"type": "Pod", "default": {"cpu": "1"}}]}}),
            &["spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'"],
        );
}

#[test]
fn endpoints_and_events() {
    Suite::new("v1", "endpoints", json!({"subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}]}))
        .refuses(json!({"subsets": [{"ports": [{"port": 80}]}]}), &["subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`"])
        .refuses(
            json!({"subsets": [{"addresses": [{"ip": "x"}]}]}),
            &["subsets[0].addresses[0].ip: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"],
        );
    Suite::new("v1", "events", json!({"involvedObject": {"namespace": "default", "kind": "Pod", "name": "p"}}))
        .refuses(json!({"involvedObject": {"namespace": "other"}}), &["involvedObject.namespace: Invalid value: \"other\": does not match event.namespace"]);
    Suite::new("v1", "serviceaccounts", json!({}));
    Suite::new("v1", "bindings", json!({"target": {"kind": "Node", "name": "n"}})).refuses(json!({"target": {"name": null}}), &["target.name: Required value"]);
}
