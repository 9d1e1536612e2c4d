//! The scripts of the specification about services and isolation, as they are written there but for the images' names.
use crate::SOON;
use testkit::images::NGINX;
use testkit::{Cluster, Tool, binary};

/// "Service Exposure (LoadBalancer)".
const EXPOSURE: &str = r#"#!/bin/bash
set -e
# Create deployment
kubectl create deployment web --image=nginx:1.22 --replicas=2
# Expose as LoadBalancer
kubectl expose deployment web --type=LoadBalancer --port=80
# Wait for external IP
for i in {1..30}; do
EXTERNAL_IP=$(kubectl get svc web -o jsonpath='{.status.loadBalancer.ingress[0].ip}')
[ -n "$EXTERNAL_IP" ] && break
sleep 2
done
[ -n "$EXTERNAL_IP" ] || exit 1
# Verify HTTP access
curl -f http://$EXTERNAL_IP || exit 1
# Cleanup
kubectl delete svc web
kubectl delete deployment web
"#;

/// "Multi-Tenant Isolation".
const ISOLATION: &str = r#"#!/bin/bash
set -e
# Create two namespaces
kubectl create namespace project-a
kubectl create namespace project-b
# Deploy pod in each
kubectl run pod-a --image=nginx:1.22 -n project-a
kubectl run pod-b --image=nginx:1.22 -n project-b
# Verify network isolation (if NetworkPolicies enabled)
# Pod A should NOT be able to reach Pod B
POD_B_IP=$(kubectl get pod pod-b -n project-b -o jsonpath='{.status.podIP}')
kubectl exec pod-a -n project-a -- curl --max-time 5 http://$POD_B_IP && exit 1 || true
# Cleanup
kubectl delete ns project-a project-b
"#;

/// "Network Isolation": nothing in or out but DNS, for a namespace.
const DENY_ALL: &str = r#"
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: default-deny-all, namespace: NAMESPACE}
spec:
  podSelector: {}
  policyTypes: [Ingress, Egress]
  egress:
  - to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}}]
    ports: [{protocol: UDP, port: 53}]
---
"#;

/// "Allow Ingress from LoadBalancer", for the port that nginx has here.
const ALLOW_BALANCER: &str = r#"
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: allow-loadbalancer, namespace: project-b}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Ingress]
  ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0}}], ports: [{protocol: TCP, port: 80}]}]
"#;

/// A pod of a project, within its quotas.
const OF_PROJECT: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: NAMESPACE}
spec:
  containers:
  - name: web
    image: nginx:1.22
    resources: {requests: {cpu: 10m, memory: 32Mi}, limits: {cpu: "1", memory: 128Mi}}
---
"#;

/// All traffic of a namespace in both directions.
const ALLOW_ALL: &str = r#"
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: allow-all, namespace: NAMESPACE}
spec: {podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{}], egress: [{}]}
---
"#;

fn run(tool: &Tool, script: &str) -> String {
    let outcome = tool.sh(script);
    assert!(outcome.success, "the script failed\n{}\n{}", outcome.stdout, outcome.stderr);
    outcome.stdout
}

#[test]
fn the_scripts_pass_as_they_are_written() {
    let cluster = Cluster::start_with(&["--external-ip-pool", "192.0.2.100-192.0.2.110"]);
    cluster.import(&[NGINX]);
    let kubectl = cluster.tool();
    // More than once, as it has to be no matter of luck who is quicker.
    for _ in 0..3 {
        assert!(run(&kubectl, EXPOSURE).contains("Welcome to nginx!"));
    }
    // The namespaces get the specification's policy as soon as they are there, as those of projects do.
    let policies = ["project-a", "project-b"].map(|namespace| {
        let policy = DENY_ALL.replace("NAMESPACE", namespace);
        kubectl.background(&format!("until kubectl apply -f - >/dev/null 2>&1 <<'END'\n{policy}\nEND\ndo sleep 0.02; done"))
    });
    run(&kubectl, ISOLATION);
    drop(policies);

    // The same with pods that have surely started, first without policies.
    for namespace in ["project-a", "project-b"] {
        kubectl.until(&format!("kubectl get namespace {namespace} --ignore-not-found"), SOON, str::is_empty);
        kubectl.sh(&format!("kubectl create namespace {namespace}")).ok();
    }
    for (pod, namespace) in [("pod-a", "project-a"), ("pod-b", "project-b")] {
        kubectl.until(&format!("kubectl get serviceaccount default -n {namespace} -o name"), SOON, |name| !name.is_empty());
        kubectl.sh(&format!("kubectl run {pod} --image=nginx:1.22 -n {namespace} --labels=app=web")).ok();
        kubectl.sh(&format!("kubectl wait --for=condition=Ready pod/{pod} -n {namespace} --timeout=60s")).ok();
    }
    let address = kubectl.sh("kubectl get pod pod-b -n project-b -o jsonpath='{.status.podIP}'").ok();
    let reach = format!("kubectl exec pod-a -n project-a -- curl -sS --max-time 2 -o /dev/null -w '%{{http_code}}' http://{address} || echo none");
    kubectl.until(&reach, SOON, |printed| printed == "200");
    for namespace in ["project-a", "project-b"] {
        kubectl.apply(&DENY_ALL.replace("NAMESPACE", namespace));
    }
    kubectl.until(&reach, SOON, |printed| printed.ends_with("none"));
    // DNS is still answered, and a balancer's clients get in where they are let in.
    let known = "kubectl exec pod-a -n project-a -- getent hosts kubernetes.default.svc.cluster.local";
    kubectl.until(known, SOON, |printed| printed.contains("kubernetes.default"));
    kubectl.sh("kubectl expose pod pod-b -n project-b --type=LoadBalancer --port=80").ok();
    let external = kubectl.until("kubectl get service pod-b -n project-b -o jsonpath='{.status.loadBalancer.ingress[0].ip}'", SOON, |text| !text.is_empty());
    let outside = cluster.outside();
    let page = format!("curl -sS --max-time 2 http://{external} || echo none");
    assert!(outside.sh(&page).stdout.contains("none"), "nobody was let in yet");
    kubectl.apply(ALLOW_BALANCER);
    outside.until(&page, SOON, |printed| printed.contains("Welcome to nginx!"));
    assert!(kubectl.sh(&reach).stdout.trim().ends_with("none"), "pod-a may send nothing all the same");
}

/// "Multi-Tenant Isolation" with what IAM makes of two organisations' projects: the connection that is refused is one that
/// works where it is allowed, before and after.
#[test]
fn projects_are_apart_unless_both_sides_allow_it() {
    let cluster = Cluster::start();
    cluster.import(&[NGINX]);
    let kubectl = cluster.tool();
    for side in ["left", "right"] {
        for line in [format!("org create {side} --id org-{side}"), format!("project create {side} --org org-{side} --id proj-{side}")] {
            kubectl.sh(&format!("{} iam {line}", binary().display())).ok();
        }
        let namespace = format!("project-{side}");
        kubectl.until(&format!("kubectl get serviceaccount default -n {namespace} -o name --ignore-not-found"), SOON, |name| !name.is_empty());
        kubectl.apply(&OF_PROJECT.replace("NAMESPACE", &namespace));
        kubectl.sh(&format!("kubectl wait --for=condition=Ready pod/web -n {namespace} --timeout=60s")).ok();
    }
    let address = kubectl.sh("kubectl get pod web -n project-right -o jsonpath='{.status.podIP}'").ok();
    let reach = format!("kubectl exec web -n project-left -- curl -sS --max-time 2 -o /dev/null -w '%{{http_code}}' http://{address} || echo none");
    let own = "kubectl exec web -n project-right -- curl -sS --max-time 2 -o /dev/null -w '%{http_code}' http://127.0.0.1";
    kubectl.until(own, SOON, |printed| printed == "200");
    assert!(kubectl.sh(&reach).stdout.trim().ends_with("none"), "nobody has allowed it");
    kubectl.apply(&ALLOW_ALL.replace("NAMESPACE", "project-left"));
    assert!(kubectl.sh(&reach).stdout.trim().ends_with("none"), "one side's word is not enough");
    kubectl.apply(&ALLOW_ALL.replace("NAMESPACE", "project-right"));
    kubectl.until(&reach, SOON, |printed| printed == "200");
    kubectl.sh("kubectl delete networkpolicy allow-all -n project-right").ok();
    kubectl.until(&reach, SOON, |printed| printed.ends_with("none"));
    kubectl.apply(&ALLOW_ALL.replace("NAMESPACE", "project-right"));
    kubectl.until(&reach, SOON, |printed| printed == "200");
}
