//! The other groups.
use crate::suite::Suite;
use serde_json::json;

#[test]
fn access_control() {
    let rbac = "rbac.authorization.k8s.io/v1";
    Suite::new(rbac, "roles", json!({"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]}))
        .refuses(json!({"rules": [{"apiGroups": [""], "resources": ["pods"]}]}), &["rules[0].verbs: Required value: verbs must contain at least one value"])
        .refuses(
            json!({"rules": [{"nonResourceURLs": ["/x"], "verbs": ["get"]}]}),
            &["rules[0].nonResourceURLs: Invalid value: [\"/x\"]: namespaced rules cannot apply to non-resource URLs"],
        )
        .refuses(
            json!({"rules": [{"resources": ["pods"], "verbs": ["get"]}]}),
            &["rules[0].apiGroups: Required value: resource rules must supply at least one api group"],
        );
    Suite::new(rbac, "clusterroles", json!({"rules": [{"nonResourceURLs": ["/x"], "verbs": ["get"]}]})).refuses(
        json!({"aggregationRule": {}}),
        &["aggregationRule.clusterRoleSelectors: Required value: at least one clusterRoleSelector required if aggregationRule is non-nil"],
    );
    let binding = Suite::new(
        rbac,
        "rolebindings",
        json!({"roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "jane"}, {"kind": "ServiceAccount", "name": "s"}]}),
    );
    let stored = binding.stored();
    assert_eq!(stored["roleRef"]["apiGroup"], "rbac.authorization.k8s.io");
    assert_eq!(stored["subjects"], json!([{"kind": "User", "name": "jane", "apiGroup": "rbac.authorization.k8s.io"}, {"kind": "ServiceAccount", "name": "s"}]));
    binding
        .refuses(json!({"roleRef": {"kind": "Job"}}), &["roleRef.kind: Unsupported value: \"Job\": supported values: \"ClusterRole\", \"Role\""])
        .refuses_update(
            json!({"roleRef": {"name": "other"}}),
            &["roleRef: Invalid value: {\"apiGroup\":\"rbac.authorization.k8s.io\",\"kind\":\"Role\",\"name\":\"other\"}: cannot change roleRef"],
        );
    Suite::new(rbac, "clusterrolebindings", json!({"roleRef": {"kind": "ClusterRole", "name": "r"}}))
        .refuses(json!({"subjects": [{"kind": "ServiceAccount", "name": "s"}]}), &["subjects[0].namespace: Required value"]);
}

#[test]
fn networking() {
    let group = "networking.k8s.io/v1";
    let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
    let paths = |path: serde_json::Value| json!({"spec": {"rules": [{"host": "a.b", "http": {"paths": [path]}}]}});
    Suite::new(group, "ingresses", paths(json!({"path": "/", "pathType": "Prefix", "backend": backend})))
        .refuses(json!({"spec": {"rules": null}}), &["spec: Invalid value: []: either `defaultBackend` or `rules` must be specified"])
        .refuses(paths(json!({"path": "/", "backend": backend})), &["spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified"])
        .refuses(paths(json!({"path": "x", "pathType": "Exact", "backend": backend})), &["spec.rules[0].http.paths[0].path: Invalid value: \"x\": must be an absolute path"])
        .refuses(paths(json!({"path": "/", "pathType": "Prefix", "backend": {}})), &["spec.rules[0].http.paths[0].backend: Required value: resource or service backend is required"])
        .accepts(json!({"spec": {"rules": [{"host": "*.b.c", "http": {"paths": [{"pathType": "ImplementationSpecific", "backend": backend}]}}], "tls": [{"hosts": ["a.b"], "secretName": "s"}]}}));
    Suite::new(group, "ingressclasses", json!({"spec": {"controller": "example.com/ingress"}}))
        .refuses(
            json!({"spec": {"controller": "nginx"}}),
            &["spec.controller: Invalid value: \"nginx\": must be a domain-prefixed path (such as \"acme.io/foo\")"],
        )
        .refuses_update(json!({"spec": {"controller": "example.com/other"}}), &["spec.controller: Invalid value: \"example.com/other\": field is immutable"]);
    let policy = Suite::new(group, "networkpolicies", json!({"spec": {"egress": [{"ports": [{"port": 53}], "to": [{"podSelector": {}}]}]}}));
    assert_eq!(policy.stored()["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
    assert_eq!(policy.stored()["spec"]["egress"][0]["ports"][0]["protocol"], "TCP");
    policy
        .refuses(json!({"spec": {"ingress": [{"from": [{}]}]}}), &["spec.ingress[0].from[0]: Required value: must specify a peer"])
        .refuses(
            json!({"spec": {"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/24", "except": ["10.1.0.0/25"]}}]}]}}),
            &["spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: \"10.1.0.0/25\": must be a strict subset of `cidr`"],
        )
        .refuses(
            json!({"spec": {"ingress": [{"ports": [{"port": 10, "endPort": 5}]}]}}),
            &["spec.ingress[0].ports[0].endPort: Invalid value: 5: must be greater than or equal to `port`"],
        );
    Suite::new(
        group,
        "ipaddresses",
        json!({"metadata": {"name": "10.96.0.1"}, "spec": {"parentRef": {"resource": "services", "name": "kubernetes", "namespace": "default"}}}),
    )
    .accepts(json!({"metadata": {"name": "fd43::be53"}}))
    .refuses(json!({"metadata": {"name": "FD43::1"}}), &["metadata.name: Invalid value: \"FD43::1\": must be a valid IP address in canonical form"])
    .refuses(json!({"metadata": {"name": "010.0.0.1"}}), &["metadata.name: Invalid value: \"010.0.0.1\": must be a valid IP address in canonical form"]);
    Suite::new(group, "servicecidrs", json!({"spec": {"cidrs": ["10.96.0.0/12"]}}))
        .refuses(json!({"spec": {"cidrs": []}}), &["spec.cidrs: Required value: at least one CIDR required"])
        .refuses_update(json!({"spec": {"cidrs": ["10.96.0.0/12", "fd00::/112"]}}), &[])
        .refuses_update(json!({"spec": {"cidrs": ["10.0.0.0/12", "fd00::/112"]}}), &["spec.cidrs[0]: Invalid value: \"10.0.0.0/12\": field is immutable"])
        .refuses_update(json!({"spec": {"cidrs": ["10.0.0.0/12"]}}), &["spec.cidrs[0]: Invalid value: \"10.0.0.0/12\": field is immutable"]);
    Suite::new(group, "servicecidrs", json!({"spec": {"cidrs": ["10.96.0.0/12", "fd00::/112"]}}))
        .refuses_update(json!({"spec": {"cidrs": ["10.96.0.0/12"]}}), &["spec.cidrs: Invalid value: [\"10.96.0.0/12\"]: field is immutable"]);
    Suite::new("discovery.k8s.io/v1", "endpointslices", json!({"addressType": "IPv4", "ports": [{"port": 80}], "endpoints": [{"addresses": ["10.0.0.1"]}]}))
        .refuses(json!({"endpoints": [{"addresses": ["::1"]}]}), &["endpoints[0].addresses[0]: Invalid value: \"::1\": must be a valid IPv4 address"])
        .refuses(json!({"endpoints": [{"addresses": []}]}), &["endpoints[0].addresses: Required value: must contain at least 1 address"])
        .refuses_update(json!({"addressType": "FQDN"}), &["addressType: Invalid value: \"FQDN\": field is immutable"]);
}

#[test]
fn storage() {
    let group = "storage.k8s.io/v1";
    let class = Suite::new(group, "storageclasses", json!({"provisioner": "stor.plasmacloud.io"}));
    assert_eq!((&class.stored()["reclaimPolicy"], &class.stored()["volumeBindingMode"]), (&json!("Delete"), &json!("Immediate")));
    class
        .refuses(json!({"reclaimPolicy": "Recycle"}), &["reclaimPolicy: Unsupported value: \"Recycle\": supported values: \"Delete\", \"Retain\""])
        .refuses_update(json!({"parameters": {"a": "b"}}), &["parameters: Forbidden: updates to parameters are forbidden."]);
    Suite::new(group, "csidrivers", json!({"spec": {}}))
        .refuses_update(json!({"spec": {"attachRequired": false}}), &["spec.attachRequired: Invalid value: false: field is immutable"]);
    Suite::new(group, "csinodes", json!({"spec": {"drivers": [{"name": "d", "nodeID": "n"}]}}))
        .refuses(json!({"spec": {"drivers": [{"name": "d"}]}}), &["spec.drivers[0].nodeID: Required value"]);
    Suite::new(group, "csistoragecapacities", json!({"storageClassName": "s", "capacity": "1024Mi"}))
        .refuses_update(json!({"storageClassName": "t"}), &["storageClassName: Invalid value: \"t\": field is immutable"]);
    Suite::new(group, "volumeattachments", json!({"spec": {"attacher": "d", "nodeName": "n", "source": {"persistentVolumeName": "v"}}})).refuses(
        json!({"spec": {"source": {"persistentVolumeName": null}}}),
        &["spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName"],
    );
    Suite::new(group, "volumeattributesclasses", json!({"driverName": "d", "parameters": {"a": "b"}}))
        .refuses_update(json!({"parameters": {"a": "c"}}), &["parameters: Forbidden: updates to parameters are forbidden."]);
}

#[test]
fn cluster_policies() {
    Suite::new("coordination.k8s.io/v1", "leases", json!({"spec": {"holderIdentity": "me", "leaseDurationSeconds": 15}}))
        .refuses(json!({"spec": {"leaseDurationSeconds": 0}}), &["spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"]);
    Suite::new("scheduling.k8s.io/v1", "priorityclasses", json!({"value": 10}))
        .refuses(json!({"value": 1_000_000_001}), &["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"])
        .refuses_update(json!({"value": 11}), &["value: Forbidden: may not be changed in an update."])
        .accepts(json!({"metadata": {"name": "system-node-critical"}, "value": 2_000_001_000}));
    Suite::new("node.k8s.io/v1", "runtimeclasses", json!({"handler": "runc", "overhead": {"podFixed": {"cpu": "0.1"}}}))
        .refuses_update(json!({"handler": "crun"}), &["handler: Invalid value: \"crun\": field is immutable"]);
    let hook = |extra: serde_json::Value| {
        let mut hook = json!({"name": "a.b.c", "admissionReviewVersions": ["v1"], "sideEffects": "None", "clientConfig": {"service": {"name": "s", "namespace": "n"}},
            "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]});
        crate::suite::merge(&mut hook, &extra);
        json!({"webhooks": [hook]})
    };
    let hooks = Suite::new("admissionregistration.k8s.io/v1", "mutatingwebhookconfigurations", hook(json!({})));
    insta::assert_yaml_snapshot!("mutating_webhook", hooks.stored()["webhooks"]);
    hooks
        .refuses(hook(json!({"timeoutSeconds": 31})), &["webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds"])
        .refuses(hook(json!({"name": "a.b"})), &["webhooks[0].name: Invalid value: \"a.b\": should be a domain with at least three segments separated by dots"])
        .refuses(
            hook(json!({"clientConfig": {"service": null, "url": "http://x"}})),
            &["webhooks[0].clientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]"],
        )
        .refuses(
            hook(json!({"rules": [{"operations": ["*", "CREATE"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]}]})),
            &["webhooks[0].rules[0].operations: Invalid value: [\"*\",\"CREATE\"]: if '*' is present, must not specify other operations"],
        );
    Suite::new("admissionregistration.k8s.io/v1", "validatingwebhookconfigurations", hook(json!({})));
    Suite::new(
        "admissionregistration.k8s.io/v1",
        "validatingadmissionpolicies",
        json!({"spec": {"matchConstraints": {"resourceRules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]}, "validations": [{"expression": "true"}]}}),
    )
    .refuses(json!({"spec": {"validations": [{"expression": " "}]}}), &["spec.validations[0].expression: Required value"]);
    Suite::new("admissionregistration.k8s.io/v1", "validatingadmissionpolicybindings", json!({"spec": {"policyName": "p", "validationActions": ["Deny"]}}))
        .refuses(json!({"spec": {"validationActions": []}}), &["spec.validationActions: Required value"]);
    Suite::new("flowcontrol.apiserver.k8s.io/v1", "flowschemas", json!({"spec": {"priorityLevelConfiguration": {"name": "p"}}}))
        .refuses(json!({"spec": {"matchingPrecedence": 10_001}}), &["spec.matchingPrecedence: Invalid value: 10001: must not be greater than 10000"]);
    Suite::new(
        "flowcontrol.apiserver.k8s.io/v1",
        "prioritylevelconfigurations",
        json!({"spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Reject"}}}}),
    )
    .refuses(json!({"spec": {"limited": null}}), &["spec.limited: Required value: must not be empty when type is Limited"]);
    Suite::new("apiregistration.k8s.io/v1", "apiservices", json!({"metadata": {"name": "v1.a.b"}, "spec": {"group": "a.b", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 10, "service": {"namespace": "n", "name": "s"}}}))
        .refuses(json!({"metadata": {"name": "x"}}), &["metadata.name: Invalid value: \"x\": must be `spec.version+\".\"+spec.group`: \"v1.a.b\""]);
    let claim = Suite::new(
        "resource.k8s.io/v1",
        "resourceclaims",
        json!({"spec": {"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": "gpu.example.com"}}]}}}),
    );
    assert_eq!(
        claim.stored()["spec"]["devices"]["requests"][0]["exactly"],
        json!({"deviceClassName": "gpu.example.com", "allocationMode": "ExactCount", "count": 1})
    );
}

#[test]
fn signing_requests_carry_who_asks() {
    // "-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n"
    let request = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KLS0tLS1FTkQgQ0VSVElGSUNBVEUgUkVRVUVTVC0tLS0tCg==";
    let suite = Suite::new(
        "certificates.k8s.io/v1",
        "certificatesigningrequests",
        json!({"spec": {"request": request, "signerName": "kubernetes.io/kube-apiserver-client", "usages": ["client auth"], "username": "root", "extra": {"a": ["b"]}}}),
    );
    let spec = &suite.stored()["spec"];
    assert_eq!((&spec["username"], &spec["groups"], spec.get("extra")), (&json!("jane"), &json!(["system:authenticated"]), None));
    suite
        .refuses(
            json!({"spec": {"signerName": "mine"}}),
            &["spec.signerName: Invalid value: \"mine\": must be a fully qualified domain and path of the form 'example.com/signer-name'"],
        )
        .refuses(json!({"spec": {"request": "eA=="}}), &["spec.request: Invalid value: \"eA==\": PEM block type must be CERTIFICATE REQUEST"])
        .refuses_update(json!({"spec": {"username": "root"}}), &[]);
}

#[test]
fn flow_control() {
    let group = "flowcontrol.apiserver.k8s.io/v1";
    let resources = json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "namespaces": ["*"]});
    let rule = |extra: serde_json::Value| {
        let mut rule = json!({"subjects": [{"kind": "User", "user": {"name": "jane"}}], "resourceRules": [resources]});
        crate::suite::merge(&mut rule, &extra);
        json!({"spec": {"priorityLevelConfiguration": {"name": "p"}, "rules": [rule]}})
    };
    Suite::new(group, "flowschemas", rule(json!({})))
        .refuses(rule(json!({"subjects": null})), &["spec.rules[0].subjects: Required value: subjects must contain at least one value"])
        .refuses(
            rule(json!({"subjects": [{"kind": "User", "group": {"name": "g"}}]})),
            &[
                "spec.rules[0].subjects[0].group: Forbidden: group is forbidden when subject kind is not 'Group'",
                "spec.rules[0].subjects[0].user: Required value: user is required when subject kind is 'User'",
            ],
        )
        .refuses(
            rule(json!({"resourceRules": null})),
            &["spec.rules[0]: Required value: at least one of resourceRules and nonResourceRules has to be non-empty"],
        )
        .refuses(
            rule(json!({"resourceRules": [{"verbs": ["*", "get"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["A"]}]})),
            &[
                "spec.rules[0].resourceRules[0].verbs: Invalid value: [\"*\",\"get\"]: if '*' is present, must not specify other verbs",
                "spec.rules[0].resourceRules[0].namespaces[0]: Invalid value: \"A\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
            ],
        )
        .refuses(
            rule(json!({"nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["healthz"]}]})),
            &["spec.rules[0].nonResourceRules[0].nonResourceURLs[0]: Invalid value: \"healthz\": must start with slash"],
        );
    let limited = |extra: serde_json::Value| {
        let mut limited = json!({"limitResponse": {"type": "Queue", "queuing": {"queues": 64}}});
        crate::suite::merge(&mut limited, &extra);
        json!({"spec": {"type": "Limited", "limited": limited}})
    };
    Suite::new(group, "prioritylevelconfigurations", limited(json!({})))
        .refuses(
            limited(json!({"limitResponse": {"queuing": {"queues": 4}}})),
            &["spec.limited.limitResponse.queuing.handSize: Invalid value: 8: should not be greater than queues (4)"],
        )
        .refuses(
            limited(json!({"limitResponse": {"queuing": {"queues": 512}}})),
            &["spec.limited.limitResponse.queuing.handSize: Invalid value: 8: required entropy bits of deckSize 512 and handSize 8 should not be greater than 60"],
        )
        .refuses(limited(json!({"borrowingLimitPercent": -1})), &["spec.limited.borrowingLimitPercent: Invalid value: -1: if specified, must be a non-negative integer"])
        .refuses(
            json!({"metadata": {"name": "exempt"}}),
            &["spec.type: Invalid value: \"Limited\": type must be 'Exempt' if and only if name is 'exempt'"],
        );
}

#[test]
fn devices() {
    let group = "resource.k8s.io/v1";
    let device = |device: serde_json::Value| json!({"spec": {"driver": "gpu.example.com", "nodeName": "n", "pool": {"name": "p", "resourceSliceCount": 1}, "devices": [device]}});
    Suite::new(group, "resourceslices", device(json!({"name": "gpu-0", "attributes": {"model": {"string": "a"}, "v": {"version": "1.2.3-rc.1+b"}}})))
        .refuses(device(json!({"name": "gpu-0", "attributes": {"1x": {"int": 1}}})), &["spec.devices[0].attributes[1x]: Invalid value: \"1x\": a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')"])
        .refuses(device(json!({"name": "gpu-0", "attributes": {"x": {}}})), &["spec.devices[0].attributes[x]: Required value: exactly one value must be specified"])
        .refuses(device(json!({"name": "gpu-0", "attributes": {"x": {"version": "1.2"}}})), &["spec.devices[0].attributes[x].version: Invalid value: \"1.2\": must be a string compatible with semver.org spec 2.0.0"])
        .refuses(device(json!({"name": "gpu-0", "nodeName": "n"})), &["spec.devices[0].nodeName: Invalid value: \"n\": may only be specified when `perDeviceNodeSelection` is set to true in the spec"])
        .refuses(json!({"spec": {"pool": {"name": "a//b"}}}), &["spec.pool.name: Invalid value: \"a//b\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"]);
    Suite::new(group, "deviceclasses", json!({"spec": {"selectors": [{"cel": {"expression": "true"}}]}}))
        .refuses(json!({"spec": {"config": [{}]}}), &["spec.config[0].opaque: Required value"]);
    let claim = |extra: serde_json::Value| {
        let mut exactly = json!({"deviceClassName": "gpu.example.com"});
        crate::suite::merge(&mut exactly, &extra);
        json!({"spec": {"devices": {"requests": [{"name": "gpu", "exactly": exactly}]}}})
    };
    Suite::new(group, "resourceclaims", claim(json!({})))
        .refuses(claim(json!({"tolerations": [{"operator": "Exists", "key": "a", "value": "b"}]})), &["spec.devices.requests[0].exactly.tolerations[0].value: Invalid value: \"b\": must be empty for operator `Exists`"])
        .refuses(json!({"spec": {"devices": {"constraints": [{"requests": ["gpu"]}]}}}), &["spec.devices.constraints[0]: Required value: exactly one of `matchAttribute` or `distinctAttribute` must be set"])
        .refuses(json!({"spec": {"devices": {"constraints": [{"requests": ["other"], "matchAttribute": "a.b/c"}]}}}), &["spec.devices.constraints[0].requests[0]: Invalid value: \"other\": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"])
        .refuses_update(claim(json!({"count": 2})), &["spec: Invalid value: {\"devices\":{\"requests\":[{\"exactly\":{\"allocationMode\":\"ExactCount\",\"count\":2,\"deviceClassName\":\"gpu.example.com\"},\"name\":\"gpu\"}]}}: field is immutable"]);
    let rule = Suite::new(
        group,
        "devicetaintrules",
        json!({"spec": {"deviceSelector": {"driver": "gpu.example.com"}, "taint": {"key": "a.b/broken", "effect": "NoExecute"}}}),
    );
    assert_eq!(rule.stored()["spec"]["taint"]["timeAdded"], "2026-01-01T00:00:00Z");
    rule.refuses(
        json!({"spec": {"taint": {"effect": "PreferNoSchedule"}}}),
        &["spec.taint.effect: Unsupported value: \"PreferNoSchedule\": supported values: \"NoExecute\", \"NoSchedule\", \"None\""],
    )
    .refuses(json!({"spec": {"taint": {"key": null}}}), &["spec.taint.key: Required value"]);
}

#[test]
fn pods_get_certificates_of_signers() {
    Suite::new(
        "certificates.k8s.io/v1",
        "podcertificaterequests",
        json!({"spec": {"signerName": "example.com/pods", "podName": "p", "podUID": "1", "serviceAccountName": "s", "serviceAccountUID": "2", "nodeName": "n", "nodeUID": "3", "stubPKCS10Request": "MIIB"}}),
    )
    .refuses(json!({"spec": {"maxExpirationSeconds": 60}}), &["spec.maxExpirationSeconds: Invalid value: 60: must be in the range [3600, 7862400]"])
    .refuses(
        json!({"spec": {"signerName": "kubernetes.io/kube-apiserver-client-pod", "maxExpirationSeconds": 86_401}}),
        &["spec.maxExpirationSeconds: Invalid value: 86401: must be in the range [3600, 86400]"],
    )
    .refuses(json!({"spec": {"podUID": ""}}), &["spec.podUID: Required value: must not be empty"])
    .refuses(
        json!({"spec": {"unverifiedUserAnnotations": {"plain": "x"}}}),
        &["spec.unverifiedUserAnnotations[plain]: Invalid value: \"plain\": must have a prefix that is a domain, as in \"example.com/key\""],
    );
    Suite::new("storagemigration.k8s.io/v1", "storageversionmigrations", json!({"spec": {"resource": {"group": "apps", "resource": "deployments"}}}))
        .refuses(json!({"spec": {"resource": {"resource": null}}}), &["spec.resource.resource: Required value"])
        .refuses_update(
            json!({"spec": {"resource": {"resource": "daemonsets"}}}),
            &["spec.resource: Invalid value: {\"group\":\"apps\",\"resource\":\"daemonsets\"}: field is immutable"],
        );
}
