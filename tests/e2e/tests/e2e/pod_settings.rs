//! What a pod tells its containers: environment, downward API, security context, resources, names.
use testkit::Cluster;

#[test]
fn containers_get_their_environment_and_limits() {
    let cluster = Cluster::start();
    let kubectl = cluster.tool();
    kubectl.sh("kubectl create configmap settings --from-literal=color=blue --from-literal=size=small").ok();
    kubectl.sh("kubectl create secret generic keys --from-literal=token=hidden").ok();
    kubectl.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: told, labels: {app: told}, annotations: {note: "a note"}}
spec:
  hostname: somebody
  subdomain: somewhere
  hostAliases: [{ip: 192.0.2.77, hostnames: [friend.example]}]
  dnsConfig: {options: [{name: ndots, value: "3"}]}
  containers:
  - name: main
    image: busybox:1.36
    command: [sleep, "100000"]
    workingDir: /tmp
    envFrom: [{prefix: SET_, configMapRef: {name: settings}}, {secretRef: {name: absent, optional: true}}]
    env:
    - {name: PLAIN, value: "1"}
    - {name: TWICE, value: "$(PLAIN)$(PLAIN) $$(PLAIN) $(UNKNOWN)"}
    - {name: COLOR, valueFrom: {configMapKeyRef: {name: settings, key: color}}}
    - {name: TOKEN, valueFrom: {secretKeyRef: {name: keys, key: token}}}
    - {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: LABEL, valueFrom: {fieldRef: {fieldPath: "metadata.labels['app']"}}}
    - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
    - {name: LIMIT, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}
    resources: {requests: {cpu: 100m, memory: 32Mi}, limits: {cpu: 500m, memory: 64Mi}}
    securityContext: {runAsUser: 1234, runAsGroup: 2345, readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL], add: [NET_BIND_SERVICE]}}
  securityContext: {fsGroup: 3456, supplementalGroups: [4567]}
"#,
    );
    kubectl.sh("kubectl wait --for=condition=Ready pod/told --timeout=90s").ok();
    let environment = kubectl.sh("kubectl exec told -- env").ok();
    let status = kubectl.sh("kubectl get pod told -o jsonpath='{.status.podIP} {.spec.nodeName}'").ok();
    let (address, node) = status.split_once(' ').unwrap();
    let expected = [
        "PLAIN=1",
        "TWICE=11 $(PLAIN) $(UNKNOWN)",
        "COLOR=blue",
        "TOKEN=hidden",
        "SET_color=blue",
        "SET_size=small",
        "NAME=told",
        "LABEL=told",
        "LIMIT=64",
        "KUBERNETES_SERVICE_HOST=10.96.0.1",
        "KUBERNETES_SERVICE_PORT=443",
        "HOSTNAME=somebody",
        &format!("POD_IP={address}"),
        &format!("NODE={node}"),
    ];
    for expected in expected {
        assert!(environment.lines().any(|line| line == expected), "{expected} is not in {environment}");
    }
    let exec = |script: &str| kubectl.sh(&format!("kubectl exec told -- sh -c '{script}'"));
    assert_eq!(exec("id -u; id -g; id -G; pwd").ok(), "1234\n2345\n2345 3456 4567\n/tmp\n");
    assert!(exec("touch /file").err().contains("Read-only file system"));
    // Bit 10 is CAP_NET_BIND_SERVICE.
    assert!(exec("grep -E CapBnd\\|NoNewPrivs /proc/self/status").ok().contains("CapBnd:\t0000000000000400"));
    let memory = exec("cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max").ok();
    assert_eq!(memory.trim(), "67108864");
    let hosts = exec("cat /etc/hosts").ok();
    assert!(hosts.starts_with("# Kubernetes-managed hosts file.\n") && hosts.contains("192.0.2.77\tfriend.example"), "{hosts}");
    assert!(hosts.contains(&format!("{address}\tsomebody.somewhere.default.svc.cluster.local\tsomebody")), "{hosts}");
    let resolver = exec("cat /etc/resolv.conf").ok();
    assert!(
        resolver.contains("nameserver 10.96.0.10")
            && resolver.contains("search default.svc.cluster.local svc.cluster.local cluster.local")
            && resolver.contains("ndots:3"),
        "{resolver}"
    );
    assert_eq!(kubectl.sh("kubectl get pod told -o jsonpath='{.status.qosClass}'").ok(), "Burstable");

    // What was asked for, and what the runtime made of it.
    assert_eq!(kubectl.sh("kubectl get pod told -o jsonpath='{.status.containerStatuses[0].image}'").ok(), "docker.io/library/busybox:1.36");
    let described = kubectl.sh("kubectl describe pod told").ok();
    for part in [
        "Status:           Running",
        "IP:               10.244.",
        "Limits:",
        "QoS Class:                   Burstable",
        "<set to the key 'token' in secret 'keys'>",
        "Image:         busybox:1.36",
    ] {
        assert!(described.contains(part), "{part:?} is not in {described}");
    }
}

#[test]
fn pods_may_share_with_the_node_and_among_their_containers() {
    let cluster = Cluster::start();
    let kubectl = cluster.tool();
    kubectl.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: on-host}
spec: {hostNetwork: true, dnsPolicy: ClusterFirstWithHostNet, containers: [{name: main, image: "busybox:1.36", command: [sleep, "100000"]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: together}
spec:
  shareProcessNamespace: true
  containers:
  - {name: one, image: "busybox:1.36", command: [sleep, "100001"]}
  - {name: two, image: "busybox:1.36", command: [httpd, -f, -p, "8080"]}
---
apiVersion: v1
kind: Pod
metadata: {name: privileged}
spec: {hostPID: true, containers: [{name: main, image: "busybox:1.36", command: [sleep, "100000"], securityContext: {privileged: true}}]}
"#,
    );
    kubectl.sh("kubectl wait --for=condition=Ready pod --all --timeout=90s").ok();
    let status = kubectl.sh("kubectl get pod on-host -o jsonpath='{.status.podIP}={.status.hostIP}'").ok();
    assert_eq!(status, format!("{0}={0}", cluster.host.address));
    assert!(kubectl.sh("kubectl exec on-host -- ip address show eth0").ok().contains(&cluster.host.address));
    assert!(kubectl.sh("kubectl exec together -c two -- ps").ok().contains("sleep 100001"));
    // One network, so that containers reach each other at localhost.
    assert!(kubectl.sh("kubectl exec together -c one -- wget -S -O- http://localhost:8080/ 2>&1 || true").ok().contains("404 Not Found"));
    assert_eq!(kubectl.sh("kubectl exec privileged -- cat /proc/1/comm").ok(), std::fs::read_to_string("/proc/1/comm").unwrap());
    assert!(kubectl.sh("kubectl exec privileged -- mount -t tmpfs none /mnt 2>&1 || kubectl exec privileged -- sh -c 'mkdir -p /tmp/m && mount -t tmpfs none /tmp/m && echo mounted'").success);
}
