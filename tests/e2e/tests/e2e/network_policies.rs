//! NetworkPolicies with real pods: a namespace closes, opens where it is told to, and closes again.
use crate::SOON;
use testkit::{Cluster, Tool, wait_until};

const SHOP: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: busybox:1.36
    command: [sh, -c, "mkdir /www; echo shop >/www/page; exec httpd -f -p 8080 -h /www"]
    ports: [{name: http, containerPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}
---
apiVersion: v1
kind: Pod
metadata: {name: friend, labels: {app: friend}}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: main, image: "busybox:1.36", command: [sleep, "100000"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: stranger, labels: {app: stranger}}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: main, image: "busybox:1.36", command: [sleep, "100000"]}]
"#;

const DENY_ALL: &str = r#"
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: default-deny-all}
spec: {podSelector: {}, policyTypes: [Ingress, Egress]}
"#;

const LET_FRIENDS: &str = r#"
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web-for-friends}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress: [{from: [{podSelector: {matchLabels: {app: friend}}}], ports: [{port: http}]}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: out-to-web}
spec:
  podSelector: {matchExpressions: [{key: app, operator: In, values: [friend, stranger, late]}]}
  policyTypes: [Egress]
  egress: [{to: [{podSelector: {matchLabels: {app: web}}}]}]
"#;

fn asks(kubectl: &Tool, from: &str) -> bool {
    kubectl.kubectl(["exec", from, "--", "timeout", "2", "wget", "-qO-", "http://web/page"]).success
}

#[test]
fn a_namespace_closes_and_opens_as_its_policies_say() {
    let cluster = Cluster::start();
    let kubectl = &cluster.tool();
    kubectl.apply(SHOP);
    kubectl.sh("kubectl wait --for=condition=Ready pod --all --timeout=90s").ok();
    wait_until("all reach the Service", SOON, || asks(kubectl, "friend") && asks(kubectl, "stranger"));

    kubectl.apply(DENY_ALL);
    wait_until("nobody reaches it", SOON, || !asks(kubectl, "friend") && !asks(kubectl, "stranger"));
    let name = kubectl.sh("kubectl exec friend -- nslookup web.default.svc.cluster.local");
    assert!(name.success, "the node's own DNS answers its pods whatever policies say: {name:?}");

    kubectl.apply(LET_FRIENDS);
    wait_until("friends reach it, by the port's name", SOON, || asks(kubectl, "friend"));
    assert!(!asks(kubectl, "stranger"), "strangers may go out to it, but it lets only friends in");
    kubectl.sh("kubectl label pod stranger app=friend --overwrite").ok();
    wait_until("a label makes a friend", SOON, || asks(kubectl, "stranger"));
    kubectl.sh("kubectl label pod stranger app=stranger --overwrite").ok();
    wait_until("and unmakes one", SOON, || !asks(kubectl, "stranger"));

    // A pod that speaks in its first moment is judged like all others.
    kubectl.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: late, labels: {app: late}}
spec:
  terminationGracePeriodSeconds: 1
  restartPolicy: Never
  containers: [{name: main, image: "busybox:1.36", command: [sh, -c, "for i in 1 2 3; do timeout 1 wget -qO- http://web/page && exit 1; done; exit 0"]}]
"#,
    );
    kubectl.sh("kubectl wait --for=jsonpath='{.status.phase}'=Succeeded pod/late --timeout=60s").ok();

    kubectl.sh("kubectl delete networkpolicy --all").ok();
    wait_until("all is open again", SOON, || asks(kubectl, "friend") && asks(kubectl, "stranger"));
}
