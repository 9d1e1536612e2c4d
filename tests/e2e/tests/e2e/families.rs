//! Two address families: pods of two machines and of a virtual cluster, Services, names and policies, by IPv6.
use crate::SOON;
use crate::machines::{pod_on, wait_for_nodes};
use testkit::{Cluster, Machine, Tool};

const SERVICE: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {ipFamilyPolicy: PreferDualStack, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
"#;

const CLOSED: &str = r#"
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: closed}
spec: {podSelector: {matchLabels: {app: web}}, ingress: [{from: [{ipBlock: {cidr: "fd99::/64"}}]}]}
"#;

/// The second address of a pod.
fn second(kubectl: &Tool, pod: &str) -> String {
    kubectl.until(&format!("kubectl get pod {pod} -o jsonpath='{{.status.podIPs[1].ip}}'"), SOON, |printed| printed.starts_with("fd42:"))
}

/// Prints what a pod is answered at an address, or `nothing`.
fn ask(pod: &str, address: &str) -> String {
    format!("kubectl exec {pod} -- timeout 5 wget -qO- http://[{address}]:8080/name || echo nothing")
}

#[test]
fn pods_services_names_and_policies_are_of_both_families() {
    let cluster = Cluster::start_with(&["--cluster-cidr", "10.42.0.0/16,fd42::/56", "--service-cidr", "10.43.0.0/16,fd43::/112"]);
    let _machine = Machine::of(&cluster, "n1");
    let host = cluster.server.host_tool();
    wait_for_nodes(&host, 2);
    let ranges = host.until("kubectl get nodes -o jsonpath='{.items[*].spec.podCIDRs[1]}'", SOON, |printed| printed.split(' ').count() == 2);
    assert!(ranges.split(' ').all(|range| range.starts_with("fd42:") && range.ends_with("/64")), "{ranges}");
    let server = host.sh("kubectl get nodes -o name | grep -v /n1").ok().trim().replace("node/", "");
    let tenant = cluster.server.virtual_cluster("team", "dev");
    for tool in [&host, &tenant] {
        tool.until("kubectl get serviceaccount default -o name", SOON, |printed| !printed.is_empty());
        tool.apply(&(pod_on(&server, "here") + &pod_on("n1", "there")));
    }
    host.apply(SERVICE);
    for tool in [&host, &tenant] {
        tool.sh("kubectl wait --for=condition=Ready pod/here pod/there --timeout=90s").ok();
        // From node to node, both ways.
        for (from, to) in [("here", "there"), ("there", "here")] {
            tool.until_it_prints(&ask(from, &second(tool, to)), to);
        }
    }
    // Nobody's of another cluster, on the same node or the other.
    for (from, to) in [(&tenant, &host), (&host, &tenant)] {
        for (pod, target) in [("here", "here"), ("here", "there"), ("there", "here")] {
            assert_eq!(from.sh(&ask(pod, &second(to, target))).stdout.trim(), "nothing", "{pod} reaches another cluster's {target}");
        }
    }

    let address = host.sh("kubectl get service web -o jsonpath='{.spec.clusterIPs[1]}'").ok();
    assert!(address.starts_with("fd43:"), "{address}");
    for pod in ["here", "there"] {
        let script = format!("for i in $(seq 20); do kubectl exec {pod} -- timeout 5 wget -qO- http://[{address}]/name; done | sort -u | wc -l");
        host.until(&script, SOON, |printed| printed == "2");
        host.until(&format!("kubectl exec {pod} -- nslookup web.default.svc.cluster.local"), SOON, |printed| printed.contains(&address));
    }

    // A policy that lets in by IPv6 only whom nobody is holds for both families, and ends what was open.
    host.apply(CLOSED);
    for (from, to) in [("here", "there"), ("there", "here")] {
        host.until_it_prints(&ask(from, &second(&host, to)), "nothing");
    }
    host.sh("kubectl patch networkpolicy closed --type=json -p '[{\"op\": \"replace\", \"path\": \"/spec/ingress/0/from/0/ipBlock/cidr\", \"value\": \"fd42::/56\"}]'").ok();
    for (from, to) in [("here", "there"), ("there", "here")] {
        host.until_it_prints(&ask(from, &second(&host, to)), to);
    }
    let first = host.sh("kubectl get pod there -o jsonpath='{.status.podIP}'").ok();
    let ipv4 = host.sh(&format!("kubectl exec here -- timeout 3 wget -qO- http://{first}:8080/name || echo nothing"));
    assert_eq!(ipv4.stdout.trim(), "nothing", "only IPv6 is let in");
}
