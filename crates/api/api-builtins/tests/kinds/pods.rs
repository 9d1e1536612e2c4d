//! Pods: defaulting, the PodSpec's rules, updates and grace.
use crate::suite::{Suite, context, texts};
use api_builtins::find;
use serde_json::{Value, json};

fn suite() -> Suite {
    Suite::new("v1", "pods", json!({"metadata": {"name": "web"}, "spec": {"containers": [{"name": "web", "image": "nginx"}]}}))
}

/// A patch that makes the one container this, plus name and image.
fn container(extra: Value) -> Value {
    let mut container = json!({"name": "web", "image": "nginx"});
    crate::suite::merge(&mut container, &extra);
    json!({"spec": {"containers": [container]}})
}

#[test]
fn left_out_fields_become_what_upstream_makes_of_them() {
    insta::assert_yaml_snapshot!("pod", suite().stored());
    let rich = Suite::new(
        "v1",
        "pods",
        json!({"metadata": {"name": "rich", "labels": {"a": "b"}}, "spec": {
            "serviceAccountName": "robot", "hostNetwork": true,
            "initContainers": [{"name": "setup", "image": "busybox:1"}],
            "containers": [{"name": "web", "image": "localhost:5000/nginx:1", "ports": [{"containerPort": 80}],
                "resources": {"limits": {"cpu": 0.5, "memory": "1024Mi"}},
                "env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
                "livenessProbe": {"httpGet": {"port": 80}}, "readinessProbe": {"grpc": {"port": 1}},
                "lifecycle": {"preStop": {"httpGet": {"port": "http"}}},
                "volumeMounts": [{"name": "scratch", "mountPath": "/s"}]}],
            "volumes": [{"name": "scratch"}, {"name": "s", "secret": {"secretName": "s"}}, {"name": "h", "hostPath": {"path": "/"}},
                {"name": "p", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}, {"downwardAPI": {"items": [{"path": "n", "fieldRef": {"fieldPath": "metadata.name"}}]}}]}}]}}),
    );
    insta::assert_yaml_snapshot!("rich_pod", rich.stored());
}

#[test]
fn containers_are_checked() {
    suite()
        .refuses(json!({"spec": {"containers": []}}), &["spec.containers: Required value"])
        .refuses(container(json!({"image": null})), &["spec.containers[0].image: Required value"])
        .refuses(container(json!({"image": " nginx"})), &["spec.containers[0].image: Invalid value: \" nginx\": must not have leading or trailing whitespace"])
        .refuses(
            container(json!({"name": "Web"})),
            &["spec.containers[0].name: Invalid value: \"Web\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"],
        )
        .refuses(
            json!({"spec": {"containers": [{"name": "a", "image": "i"}, {"name": "a", "image": "i"}]}}),
            &["spec.containers[1].name: Duplicate value: \"a\""],
        )
        .refuses(json!({"spec": {"initContainers": [{"name": "web", "image": "i"}]}}), &["spec.initContainers[0].name: Duplicate value: \"web\""])
        .refuses(
            json!({"spec": {"initContainers": [{"name": "i", "image": "i", "readinessProbe": {"exec": {"command": ["x"]}}}]}}),
            &["spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always"],
        )
        .refuses(container(json!({"imagePullPolicy": "Often"})), &["spec.containers[0].imagePullPolicy: Unsupported value: \"Often\": supported values: \"Always\", \"IfNotPresent\", \"Never\""])
        .refuses(container(json!({"ports": [{"containerPort": 70000}]})), &["spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive"])
        .refuses(
            container(json!({"ports": [{"containerPort": 80, "hostPort": 80}, {"containerPort": 81, "hostPort": 80}]})),
            &["spec.containers[0].ports[1].hostPort: Duplicate value: \"TCP//80\""],
        )
        .refuses(container(json!({"volumeMounts": [{"name": "data", "mountPath": "/d"}]})), &["spec.containers[0].volumeMounts[0].name: Not found: \"data\""])
        .refuses(
            container(json!({"env": [{"name": "A=B"}]})),
            &["spec.containers[0].env[0].name: Invalid value: \"A=B\": a valid environment variable name must consist only of printable ASCII characters other than '='"],
        )
        .refuses(
            container(json!({"env": [{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]})),
            &["spec.containers[0].env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty"],
        )
        .refuses(
            container(json!({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.x"}}}]})),
            &["spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"spec.x\": error converting fieldPath: field label not supported: spec.x"],
        )
        .refuses(container(json!({"livenessProbe": {}})), &["spec.containers[0].livenessProbe: Required value: must specify a handler type"])
        .refuses(
            container(json!({"livenessProbe": {"successThreshold": 2, "tcpSocket": {"port": 80}}})),
            &["spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1"],
        )
        .refuses(
            container(json!({"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}})),
            &["spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1"],
        )
        .refuses(
            container(json!({"resources": {"requests": {"example.com/gpu": "1"}}})),
            &["spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources"],
        )
        .refuses(
            container(json!({"resources": {"limits": {"example.com/gpu": "500m"}}})),
            &["spec.containers[0].resources.limits[example.com/gpu]: Invalid value: \"500m\": must be an integer", "spec.containers[0].resources.requests[example.com/gpu]: Invalid value: \"500m\": must be an integer"],
        )
        .refuses(container(json!({"resources": {"limits": {"cpu": "-1"}}})), &[
            "spec.containers[0].resources.limits[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
            "spec.containers[0].resources.requests[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
        ])
        .refuses(
            container(json!({"securityContext": {"privileged": true, "allowPrivilegeEscalation": false}})),
            &["spec.containers[0].securityContext: Invalid value: {\"allowPrivilegeEscalation\":false,\"privileged\":true}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true"],
        )
        .refuses(json!({"spec": {"ephemeralContainers": [{"name": "e", "image": "i"}]}}), &["spec.ephemeralContainers: Forbidden: cannot be set on create"]);
}

#[test]
fn the_rest_of_the_spec_is_checked() {
    suite()
        .refuses(json!({"spec": {"restartPolicy": "Sometimes"}}), &["spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"Never\", \"OnFailure\""])
        .refuses(json!({"spec": {"dnsPolicy": "None"}}), &["spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"])
        .refuses(json!({"spec": {"volumes": [{"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}}]}}), &["spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type"])
        .refuses(json!({"spec": {"volumes": [{"name": "v"}, {"name": "v"}]}}), &["spec.volumes[1].name: Duplicate value: \"v\""])
        .refuses(
            json!({"spec": {"serviceAccountName": "s", "volumes": [{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 60}}]}}]}}),
            &["spec.volumes[0].projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 60: may not specify a duration less than 10 minutes"],
        )
        .refuses(
            json!({"spec": {"tolerations": [{"operator": "Equal"}]}}),
            &["spec.tolerations[0].operator: Invalid value: \"Equal\": operator must be Exists when `key` is empty, which means \"match all values and all keys\""],
        )
        .refuses(
            json!({"spec": {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "zone", "labelSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}]}}}}),
            &["spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].labelSelector.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'"],
        )
        .refuses(
            json!({"spec": {"topologySpreadConstraints": [{"maxSkew": 0, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}]}}),
            &["spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero"],
        )
        .refuses(json!({"spec": {"nodeName": "n", "schedulingGates": [{"name": "g"}]}}), &["spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared"])
        .refuses(json!({"spec": {"securityContext": {"runAsUser": -1}}}), &["spec.securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive"])
        .refuses(json!({"spec": {"hostUsers": false, "hostPID": true}}), &["spec.HostPID: Forbidden: when `pod.Spec.HostUsers` is false"]);
}

/// A pod with this one volume.
fn volume(source: Value) -> Value {
    let mut volume = json!({"name": "v"});
    crate::suite::merge(&mut volume, &source);
    json!({"spec": {"serviceAccountName": "s", "volumes": [volume]}})
}

#[test]
fn volumes_of_storage_systems_are_checked() {
    suite()
        .refuses(volume(json!({"rbd": {"image": "i"}})), &["spec.volumes[0].rbd.monitors: Required value"])
        .refuses(volume(json!({"fc": {"targetWWNs": ["a"]}})), &["spec.volumes[0].fc.lun: Required value: lun is required if targetWWNs is specified"])
        .refuses(volume(json!({"fc": {}})), &["spec.volumes[0].fc.targetWWNs: Required value: must specify either targetWWNs or wwids, but not both"])
        .refuses(
            volume(json!({"flocker": {"datasetName": "a", "datasetUUID": "b"}})),
            &["spec.volumes[0].flocker: Invalid value: \"resource\": datasetName and datasetUUID can not be specified simultaneously"],
        )
        .refuses(volume(json!({"iscsi": {"targetPortal": "p", "iqn": "x", "lun": 0}})), &["spec.volumes[0].iscsi.iqn: Invalid value: \"x\": must be valid format"])
        .refuses(
            volume(json!({"gcePersistentDisk": {"pdName": "d", "partition": 256}})),
            &["spec.volumes[0].gcePersistentDisk.partition: Invalid value: 256: must be between 0 and 255, inclusive"],
        )
        .refuses(
            volume(json!({"azureDisk": {"diskName": "d", "diskURI": "https://a", "cachingMode": "Some"}})),
            &["spec.volumes[0].azureDisk.cachingMode: Unsupported value: \"Some\": supported values: \"None\", \"ReadOnly\", \"ReadWrite\""],
        )
        .refuses(volume(json!({"image": {"reference": " a"}})), &["spec.volumes[0].image.reference: Invalid value: \" a\": must not have leading or trailing whitespace"])
        .refuses(
            volume(json!({"projected": {"sources": [{"podCertificate": {"signerName": "a.b/c", "keyType": "RSA1024", "keyPath": "k"}}]}})),
            &["spec.volumes[0].projected.sources[0].podCertificate.keyType: Unsupported value: \"RSA1024\": supported values: \"ECDSAP256\", \"ECDSAP384\", \"ECDSAP521\", \"ED25519\", \"RSA3072\", \"RSA4096\""],
        )
        .refuses(
            volume(json!({"projected": {"sources": [{"podCertificate": {"signerName": "a.b/c", "keyType": "ED25519"}}]}})),
            &["spec.volumes[0].projected.sources[0].podCertificate: Required value: specify at least one of credentialBundlePath, keyPath, and certificateChainPath"],
        )
        .accepts(volume(json!({"nfs": {"server": "s", "path": "/p"}})));
}

#[test]
fn what_other_systems_have_is_checked() {
    suite()
        .refuses(
            container(json!({"lifecycle": {"stopSignal": "SIGUSR1"}})),
            &["spec.containers[0].lifecycle.stopSignal: Forbidden: may not be set for containers with empty `spec.os.name`"],
        )
        .refuses(
            json!({"spec": {"os": {"name": "windows"}, "containers": [{"name": "a", "image": "i", "lifecycle": {"stopSignal": "SIGUSR1"}}]}}),
            &["spec.containers[0].lifecycle.stopSignal: Unsupported value: \"SIGUSR1\": supported values: \"SIGKILL\", \"SIGTERM\""],
        )
        .accepts(json!({"spec": {"os": {"name": "linux"}, "containers": [{"name": "a", "image": "i", "lifecycle": {"stopSignal": "SIGRTMIN+15"}}]}}))
        .refuses(
            container(json!({"securityContext": {"windowsOptions": {"runAsUserName": "a\\b\\c"}}})),
            &["spec.containers[0].securityContext.windowsOptions.runAsUserName: Invalid value: \"a\\\\b\\\\c\": runAsUserName cannot contain more than one backslash"],
        )
        .refuses(
            json!({"spec": {"securityContext": {"windowsOptions": {"hostProcess": true}}}}),
            &["spec.hostNetwork: Invalid value: false: hostNetwork must be true if pod contains any hostProcess containers"],
        )
        .refuses(
            json!({"spec": {"hostnameOverride": "a", "setHostnameAsFQDN": true}}),
            &["spec.hostnameOverride: Forbidden: may not be specified when setHostnameAsFQDN is true"],
        );
}

#[test]
fn little_of_a_pod_can_change() {
    suite()
        .refuses_update(container(json!({"image": "nginx:2", "imagePullPolicy": "Always"})), &[])
        .refuses_update(json!({"spec": {"tolerations": [{"operator": "Exists"}]}}), &[])
        .refuses_update(json!({"spec": {"containers": [{"name": "a", "image": "b"}, {"name": "c", "image": "d"}]}}), &["spec.containers: Forbidden: pod updates may not add or remove containers"])
        .refuses_update(
            json!({"spec": {"nodeSelector": {"a": "b"}}}),
            &["spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n+ nodeSelector: {\"a\":\"b\"}"],
        );
    let gated = Suite::new(
        "v1",
        "pods",
        json!({"spec": {"schedulingGates": [{"name": "g"}], "nodeSelector": {"a": "b"}, "containers": [{"name": "a", "image": "i"}]}}),
    );
    gated
        .refuses_update(json!({"spec": {"schedulingGates": null, "nodeSelector": {"c": "d"}}}), &[])
        .refuses_update(
            json!({"spec": {"nodeSelector": {"a": "c"}}}),
            &["spec.nodeSelector: Invalid value: {\"a\":\"c\"}: only additions to nodeSelector are allowed (no mutations or deletions)"],
        )
        .refuses_update(
            json!({"spec": {"schedulingGates": [{"name": "h"}]}}),
            &["spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'h'"],
        );
}

#[test]
fn parts_are_written_by_themselves() {
    let resource = find("", "v1", "pods").unwrap();
    let stored = suite().stored();
    let part = |name: &str, patch: Value| {
        let api_resource::SubresourceKind::Part(merge) = resource.subresource(name).unwrap().kind else { panic!("{name} is a part") };
        let mut sent = stored.clone();
        crate::suite::merge(&mut sent, &patch);
        let mut new = merge(&stored, &sent);
        context(|context| resource.prepare_part(name, &mut new, &stored, context));
        let errors = texts(&resource.validate_part(name, &new, &stored));
        (new, errors)
    };
    let (new, errors) = part(
        "ephemeralcontainers",
        json!({"spec": {"nodeName": "x", "ephemeralContainers": [{"name": "debug", "image": "busybox", "targetContainerName": "web"}]}}),
    );
    assert_eq!((errors, &new["spec"]["nodeName"], &new["spec"]["ephemeralContainers"][0]["imagePullPolicy"]), (vec![], &Value::Null, &json!("Always")));
    let (_, errors) =
        part("ephemeralcontainers", json!({"spec": {"ephemeralContainers": [{"name": "debug", "image": "busybox", "ports": [{"containerPort": 1}]}]}}));
    assert_eq!(errors, ["spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container"]);
    let (_, errors) = part("resize", json!({"spec": {"containers": [{"name": "web", "image": "nginx", "resources": {"requests": {"cpu": "1"}}}]}}));
    assert_eq!(errors, ["spec: Invalid value: \"Burstable\": Pod QOS Class may not change as a result of resizing, was \"BestEffort\""]);
    let (_, errors) = part("status", json!({"status": {"qosClass": "Guaranteed", "podIPs": [{"ip": "x"}]}}));
    assert_eq!(
        errors,
        [
            "status.qosClass: Invalid value: \"Guaranteed\": field is immutable",
            "status.podIPs[0].ip: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
        ]
    );
}

#[test]
fn grace_is_for_pods_that_run() {
    let resource = find("", "v1", "pods").unwrap();
    let pod = |node: &str, phase: &str, seconds: i64| json!({"spec": {"nodeName": node, "terminationGracePeriodSeconds": seconds}, "status": {"phase": phase}});
    for (pod, asked, want) in [
        (pod("", "Pending", 30), None, 0),
        (pod("n", "Succeeded", 30), Some(5), 0),
        (pod("n", "Running", 30), None, 30),
        (pod("n", "Running", 30), Some(5), 5),
        (pod("n", "Running", 30), Some(0), 0),
        (pod("n", "Running", -1), None, 1),
    ] {
        assert_eq!(resource.grace(&pod, asked), Some(want), "{pod}");
    }
}
