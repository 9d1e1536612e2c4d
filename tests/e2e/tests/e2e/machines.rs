//! Machines that join: pods on several nodes reach each other, and a node may lose its link, its agent or its server.
use crate::SOON;
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::time::Duration;
use testkit::{Cluster, Host, Machine, Server, ServerOptions, Tool, wait_until};

/// A pod on every node that tells its name and who asks.
const WEB: &str = r#"
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: busybox:1.36
        command: [sh, -c, "mkdir -p /www/cgi-bin; printf '#!/bin/sh\\necho; echo $REMOTE_ADDR | sed s/[^0-9.]//g\\n' >/www/cgi-bin/who; chmod +x /www/cgi-bin/who; hostname >/www/name; echo serving; exec httpd -f -p 8080 -h /www"]
        readinessProbe: {httpGet: {path: /name, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, targetPort: 8080, nodePort: 30080}]}
"#;

pub fn wait_for_nodes(kubectl: &Tool, count: usize) {
    let ready = "kubectl get nodes -o jsonpath='{range .items[*]}{.status.conditions[?(@.type==\"Ready\")].status}{\"\\n\"}{end}'";
    kubectl.until(ready, SOON, |printed| printed.lines().filter(|line| *line == "True").count() == count);
}

/// Node to (pod, address), once there is a ready pod on each.
fn web_pods(kubectl: &Tool, count: usize) -> BTreeMap<String, (String, String)> {
    let show = "kubectl get pods -l app=web -o jsonpath='{range .items[*]}{.spec.nodeName} {.metadata.name} {.status.podIP} {.status.conditions[?(@.type==\"Ready\")].status}{\"\\n\"}{end}'";
    let printed = kubectl.until(show, SOON, |printed| printed.lines().filter(|line| line.ends_with("True")).count() == count);
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    printed.lines().map(words).map(|words| (words[0].clone(), (words[1].clone(), words[2].clone()))).collect()
}

fn condition(kubectl: &Tool, node: &str) -> String {
    kubectl.sh(&format!("kubectl get node {node} -o jsonpath='{{.status.conditions[?(@.type==\"Ready\")].status}}'")).stdout
}

#[test]
fn pods_of_three_machines_reach_each_other_and_their_services() {
    let cluster = Cluster::start();
    let (one, two) = (Machine::of(&cluster, "n1"), Machine::of(&cluster, "n2"));
    let kubectl = cluster.tool();
    wait_for_nodes(&kubectl, 3);
    kubectl.apply(WEB);
    let pods = web_pods(&kubectl, 3);
    assert_eq!(pods.len(), 3, "{pods:?}");
    let ranges = kubectl.sh("kubectl get nodes -o jsonpath='{.items[*].spec.podCIDR}'").ok();
    assert_eq!(ranges.split(' ').collect::<std::collections::BTreeSet<_>>().len(), 3, "{ranges}");

    let service = kubectl.sh("kubectl get service web -o jsonpath='{.spec.clusterIP}'").ok();
    for (node, (pod, address)) in &pods {
        for (other, (name, to)) in &pods {
            // Who is asked sees the pod itself, not its node.
            kubectl.until_it_prints(&format!("kubectl exec {pod} -- timeout 5 wget -qO- http://{to}:8080/cgi-bin/who"), address);
            kubectl.until_it_prints(&format!("kubectl exec {pod} -- timeout 5 wget -qO- http://{to}:8080/name"), name);
            let port = kubectl.sh(&format!("kubectl get node {other} -o jsonpath='{{.status.addresses[?(@.type==\"InternalIP\")].address}}'")).ok();
            kubectl.until(&format!("kubectl exec {pod} -- timeout 5 wget -qO- http://{port}:30080/name"), SOON, |printed| printed.starts_with("web-"));
        }
        // By address and by name, as often as it takes until every node's pod has answered.
        for target in [service.as_str(), "web.default.svc.cluster.local"] {
            let script = format!("for i in $(seq 30); do kubectl exec {pod} -- timeout 5 wget -qO- http://{target}/name; done | sort -u | wc -l");
            kubectl.until(&script, SOON, |printed| printed == "3");
        }
        // The node's own DNS.
        let own = kubectl.sh(&format!("kubectl get node {node} -o jsonpath='{{.spec.podCIDR}}'")).ok().replace(".0/24", ".1");
        let asked = format!("kubectl exec {pod} -- nslookup -port=10053 web.default.svc.cluster.local {own}");
        kubectl.until(&asked, SOON, |printed| printed.contains(&service));
        assert!(kubectl.sh(&format!("kubectl logs {pod}")).ok().contains("serving"));
    }
    let answer = version_as_pod(&one, &kubectl, &pods["n1"].0);
    assert!(answer.contains("gitVersion"), "{answer}");
    // From outside, by every node's address.
    for address in [&cluster.host.address, &one.host.address, &two.host.address] {
        cluster.outside().until(&format!("curl -sS --max-time 5 http://{address}:30080/name"), SOON, |printed| printed.starts_with("web-"));
    }
}

#[test]
fn a_machine_loses_its_link_its_agent_and_its_server() {
    let mut cluster = Cluster::start();
    let mut one = Machine::of(&cluster, "n1");
    let two = Machine::of(&cluster, "n2");
    let kubectl = cluster.tool();
    wait_for_nodes(&kubectl, 3);
    kubectl.apply(WEB);
    let pods = web_pods(&kubectl, 3);
    let (pod, address) = pods["n1"].clone();
    let containers = "kubectl get pods -l app=web -o jsonpath='{.items[*].status.containerStatuses[*].containerID}'";
    let before = kubectl.sh(containers).ok();

    // The agent dies and comes back to the same containers; meanwhile they serve.
    one.end(Signal::SIGKILL);
    cluster.outside().sh(&format!("ip route replace {address} via {}", one.host.address)).ok();
    assert!(cluster.outside().sh(&format!("curl -sS --max-time 5 http://{address}:8080/name")).ok().starts_with("web-"));
    one.launch();
    kubectl.until_it_prints(&format!("kubectl exec {pod} -- cat /www/name"), &pod);
    assert_eq!(kubectl.sh(containers).ok(), before);

    // The server ends and comes back: agents find it again by themselves.
    cluster.server.end(Signal::SIGTERM);
    assert!(cluster.outside().sh(&format!("curl -sS --max-time 5 http://{address}:8080/name")).ok().starts_with("web-"));
    cluster.server.launch();
    wait_for_nodes(&kubectl, 3);
    kubectl.until_it_prints(&format!("kubectl exec {pod} -- cat /www/name"), &pod);
    kubectl.sh("kubectl run late --image=busybox:1.36 --overrides='{\"spec\":{\"nodeName\":\"n1\"}}' -- sleep 100000").ok();
    kubectl.sh("kubectl wait --for=condition=Ready pod/late --timeout=60s").ok();
    assert_eq!(kubectl.sh(containers).ok(), before);

    // The link is cut: the pod that tolerates it for a moment moves, the daemon's runs on.
    kubectl.apply(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: mover}
spec:
  selector: {matchLabels: {app: mover}}
  template:
    metadata: {labels: {app: mover}}
    spec:
      terminationGracePeriodSeconds: 1
      affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 100, preference: {matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [n1]}]}}]}}
      tolerations: [{key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 1}]
      containers: [{name: main, image: "busybox:1.36", command: [sleep, "100000"]}]
"#,
    );
    kubectl.until_it_prints("kubectl get pods -l app=mover --field-selector=status.phase=Running -o jsonpath='{.items[*].spec.nodeName}'", "n1");
    one.host.set_connected(false);
    wait_until("the node is not ready", Duration::from_secs(120), || condition(&kubectl, "n1") == "Unknown");
    let elsewhere = "kubectl get pods -l app=mover --field-selector=spec.nodeName!=n1,status.phase=Running -o name | wc -l";
    kubectl.until_it_prints(elsewhere, "1");
    let inside = format!("curl -sS --max-time 5 http://{address}:8080/name");
    let served = one.host.command("bash").args(["-c", &inside]).output().unwrap();
    assert!(String::from_utf8_lossy(&served.stdout).starts_with("web-"), "the pod runs on");
    one.host.set_connected(true);
    wait_until("the node is ready again", SOON, || condition(&kubectl, "n1") == "True");
    kubectl.until_it_prints(&format!("kubectl exec {pod} -- cat /www/name"), &pod);
    let two_pod = &pods["n2"].0;
    kubectl.until_it_prints(&format!("kubectl exec {two_pod} -- timeout 5 wget -qO- http://{address}:8080/name"), &pod);
    kubectl.until_it_prints("kubectl get pods -l app=mover --field-selector=spec.nodeName=n1 -o name | wc -l", "0");

    // Told to end for good, nothing stays.
    drop(two);
    one.end(Signal::SIGINT);
    assert_eq!(one.remains().describe(), Vec::<String>::new());
    let left = |program: &str, arguments: &[&str]| String::from_utf8(one.host.command(program).args(arguments).output().unwrap().stdout).unwrap();
    assert_eq!(left("nft", &["list", "tables"]), "");
    assert_eq!(left("ip", &["-o", "link"]).lines().count(), 2, "{}", left("ip", &["-o", "link"]));
    assert_eq!(left("ip", &["rule"]).lines().count(), 3);
}

/// A pod that serves, on a certain node.
pub fn pod_on(node: &str, name: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: web}}}}
spec:
  terminationGracePeriodSeconds: 1
  nodeSelector: {{kubernetes.io/hostname: {node}}}
  containers:
  - name: main
    image: busybox:1.36
    command: [sh, -c, "mkdir -p /www/cgi-bin; printf '#!/bin/sh\\necho; echo $REMOTE_ADDR | sed s/[^0-9.]//g\\n' >/www/cgi-bin/who; chmod +x /www/cgi-bin/who; hostname >/www/name; echo serving; exec httpd -f -p 8080 -h /www"]
---
"#
    )
}

const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}\n";

/// What a pod's account is told at `kubernetes.default.svc`, asked from the pod's own network: busybox's TLS is too old.
fn version_as_pod(machine: &Machine, kubectl: &Tool, pod: &str) -> String {
    let read = |file: &str| kubectl.sh(&format!("kubectl exec {pod} -- cat /var/run/secrets/kubernetes.io/serviceaccount/{file}")).ok();
    let authority = machine.data_dir().join(format!("{pod}-ca.crt"));
    std::fs::write(&authority, read("ca.crt")).expect("the authority is written");
    let service = kubectl.sh("kubectl get service kubernetes -o jsonpath='{.spec.clusterIP}'").ok();
    let processes: Vec<String> = machine.remains().processes.iter().map(|process| process.pid.to_string()).collect();
    let script = format!(
        "for pid in {}; do if nsenter -t $pid --net ip -4 address show eth0 2>/dev/null | grep -q ' {}/'; then \
         nsenter -t $pid --net curl -sS --max-time 10 --cacert {} --resolve kubernetes.default.svc:443:{service} -H 'Authorization: Bearer {}' \
         https://kubernetes.default.svc/version; exit; fi; done",
        processes.join(" "),
        address(kubectl, pod),
        authority.display(),
        read("token"),
    );
    let outcome = kubectl.sh(&script);
    outcome.stdout + &outcome.stderr
}

fn address(kubectl: &Tool, pod: &str) -> String {
    kubectl.until(&format!("kubectl get pod {pod} -o jsonpath='{{.status.podIP}}'"), SOON, |printed| !printed.is_empty())
}

#[test]
fn clusters_share_machines_and_stay_apart() {
    let cluster = Cluster::start();
    let machine = Machine::of(&cluster, "n1");
    let host = cluster.server.host_tool();
    wait_for_nodes(&host, 2);
    let server = host.sh("kubectl get nodes -o name | grep -v /n1").ok().trim().replace("node/", "");
    let (dev, other) = (cluster.server.virtual_cluster("team", "dev"), cluster.server.virtual_cluster("rivals", "dev"));
    for tool in [&host, &dev, &other] {
        tool.until("kubectl get serviceaccount default -o name", SOON, |printed| !printed.is_empty());
        tool.apply(&(pod_on(&server, "here") + &pod_on("n1", "there") + SERVICE));
    }
    for tool in [&host, &dev, &other] {
        tool.sh("kubectl wait --for=condition=Ready pod/here pod/there --timeout=90s").ok();
    }
    for tool in [&dev, &other] {
        let (here, there) = (address(tool, "here"), address(tool, "there"));
        // Both ways, with the pods' own addresses, by name too.
        tool.until_it_prints(&format!("kubectl exec there -- timeout 5 wget -qO- http://{here}:8080/cgi-bin/who"), &there);
        tool.until_it_prints(&format!("kubectl exec here -- timeout 5 wget -qO- http://{there}:8080/cgi-bin/who"), &here);
        let script = "for i in $(seq 20); do kubectl exec there -- timeout 5 wget -qO- http://web.default.svc.cluster.local/name; done | sort -u | wc -l";
        tool.until_it_prints(script, "2");
        assert!(tool.sh("kubectl logs there").ok().contains("serving"));
        for pod in ["here", "there"] {
            tool.until_it_prints(&format!("kubectl exec {pod} -- sh -c 'nslookup kubernetes.default.svc.cluster.local >/dev/null && echo known'"), "known");
        }
    }
    // Nobody else's, from either node to either.
    let all = [&host, &dev, &other];
    for (index, from) in all.iter().enumerate() {
        for (_, to) in all.iter().enumerate().filter(|(other, _)| *other != index) {
            for (pod, target) in [("here", "there"), ("there", "here"), ("there", "there")] {
                let reached = from.sh(&format!("kubectl exec {pod} -- timeout 2 wget -qO- http://{}:8080/name", address(to, target)));
                assert!(!reached.success, "{index}: {pod} reaches another cluster's {target}: {}", reached.stdout);
            }
        }
    }
    // A pod's own API, at its cluster's address, from the node that the server is not on.
    for tool in [&dev, &other] {
        let answer = version_as_pod(&machine, tool, "there");
        assert!(answer.contains("gitVersion"), "{answer}");
    }
}

#[test]
fn a_virtual_clusters_own_machine_runs_its_pods_and_nobody_elses() {
    let cluster = Cluster::start();
    let host = cluster.server.host_tool();
    host.sh("kubectl create namespace team").ok();
    host.apply("apiVersion: k3k.io/v1beta1\nkind: Cluster\nmetadata: {name: edge, namespace: team}\nspec: {mode: hcp}\n");
    host.until_it_prints("kubectl get cluster edge -n team -o jsonpath='{.status.phase}'", "Ready");
    let token = host.until("kubectl get secret -n team k3k-edge-token -o jsonpath='{.data.node-token}' | base64 -d", SOON, |printed| !printed.is_empty());
    let kubeconfig = cluster.server.directory.path().join("edge.yaml");
    host.sh(&format!("kubectl get secret -n team k3k-edge-kubeconfig -o jsonpath='{{.data.kubeconfig\\.yaml}}' | base64 -d >{}", kubeconfig.display())).ok();
    let edge = Tool { kubeconfig, ..host.clone() };
    let url = format!("{}/clusters/edge.team", cluster.url());

    let mut foreign = Machine::join(&cluster.host.network, "m0", &url, &cluster.node_token());
    wait_until("the host's token is refused", SOON, || foreign.has_ended());
    assert!(foreign.log().contains("does not let this machine join: Unauthorized"), "{}", foreign.log());
    let machine = Machine::join(&cluster.host.network, "m1", &url, &token);
    machine.import(&[testkit::images::BUSYBOX]);
    wait_for_nodes(&edge, 1);
    assert_eq!(edge.sh("kubectl get nodes -o name").ok().trim(), "node/m1");
    assert!(!host.sh("kubectl get nodes -o name").ok().contains("m1"));

    edge.until("kubectl get serviceaccount default -o name", SOON, |printed| !printed.is_empty());
    edge.sh("kubectl create deployment web --image=busybox:1.36 --replicas=2 -- sh -c 'mkdir /www; hostname >/www/name; echo serving; exec httpd -f -p 8080 -h /www'").ok();
    edge.sh("kubectl expose deployment web --port=80 --target-port=8080 && kubectl rollout status deployment/web --timeout=90s").ok();
    assert_eq!(edge.sh("kubectl get pods -l app=web -o jsonpath='{.items[*].spec.nodeName}'").ok(), "m1 m1");
    let pod = edge.sh("kubectl get pods -l app=web -o jsonpath='{.items[0].metadata.name}'").ok();
    assert_eq!(edge.sh(&format!("kubectl logs {pod}")).ok(), "serving\n");
    edge.until(&format!("kubectl exec {pod} -- timeout 5 wget -qO- http://web.default.svc.cluster.local/name"), SOON, |printed| printed.starts_with("web-"));
    let answer = version_as_pod(&machine, &edge, &pod);
    assert!(answer.contains("gitVersion"), "{answer}");

    // The host's pods stay where they were, also when they would go anywhere.
    host.sh("kubectl create deployment anywhere --image=busybox:1.36 --replicas=4 -- sleep 100000 && kubectl rollout status deployment/anywhere --timeout=90s")
        .ok();
    assert!(!host.sh("kubectl get pods -l app=anywhere -o jsonpath='{.items[*].spec.nodeName}'").ok().contains("m1"));
}

#[test]
fn a_server_without_pods_of_its_own_is_reached_from_every_clusters_pods() {
    let host = Host::new();
    let options = ServerOptions {
        arguments: vec!["--disable-agent".into()],
        network_namespace: Some(host.namespace().to_owned()),
        is_host: true,
        ..ServerOptions::default()
    };
    let cluster = Cluster { server: Server::start(options), host };
    let machine = Machine::of(&cluster, "n1");
    let host = cluster.server.host_tool();
    wait_for_nodes(&host, 1);
    let tools = [cluster.server.virtual_cluster("team", "dev"), cluster.server.virtual_cluster("rivals", "dev"), host];
    for tool in &tools {
        tool.until("kubectl get serviceaccount default -o name", SOON, |printed| !printed.is_empty());
        tool.apply(&pod_on("n1", "there"));
    }
    for tool in &tools {
        tool.sh("kubectl wait --for=condition=Ready pod/there --timeout=90s").ok();
        let answer = version_as_pod(&machine, tool, "there");
        assert!(answer.contains("gitVersion"), "{answer}");
    }
}
