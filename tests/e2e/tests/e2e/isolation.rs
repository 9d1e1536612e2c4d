//! Tenants' pods don't reach each other: the specification's script, in namespaces called as projects' are, and in projects.
use crate::SOON;
use testkit::images::HTTPD;
use testkit::{Cluster, wait_until};

/// As the specification has it, but that it waits for the pods, and asks with what the image has.
const SCRIPT: &str = r#"
set -e
# Create two namespaces
kubectl create namespace project-a
kubectl create namespace project-b
# Deploy pod in each
kubectl run pod-a --image=httpd:1 -n project-a
kubectl run pod-b --image=httpd:1 -n project-b
kubectl wait --for=condition=Ready pod/pod-a -n project-a --timeout=90s
kubectl wait --for=condition=Ready pod/pod-b -n project-b --timeout=90s
# Verify network isolation (if NetworkPolicies enabled)
# Pod A should NOT be able to reach Pod B
POD_B_IP=$(kubectl get pod pod-b -n project-b -o jsonpath='{.status.podIP}')
kubectl exec pod-a -n project-a -- timeout 5 wget -qO- http://$POD_B_IP && exit 1 || true
# Cleanup
kubectl delete ns project-a project-b
"#;

#[test]
fn pods_of_two_projects_do_not_reach_each_other() {
    let cluster = Cluster::with_images(&[HTTPD]);
    let tool = cluster.tool();
    // Where nothing is a project's, the very question is answered: it is the isolation that the script finds.
    let (make, ask) = SCRIPT.split_once("# Verify network isolation").expect("the script has two parts");
    let open = |part: &str| part.replace("project-a", "open-a").replace("project-b", "open-b");
    tool.sh(&open(make)).ok();
    let ask: Vec<&str> = ask.lines().filter(|line| line.starts_with("POD_B_IP") || line.starts_with("kubectl exec")).collect();
    let ask = open(&ask.join("\n")).replace(" && exit 1 || true", "");
    tool.until(&ask, SOON, |page| page.contains("httpd version 1"));
    tool.sh(SCRIPT).ok();

    // The same with projects of two organisations, by their members, with pods as quotas want them.
    let k8shost = testkit::binary().display().to_string();
    for org in ["a", "b"] {
        tool.sh(&format!(
            "set -e\n{k8shost} iam org create Org{org} --id org-{org}\n{k8shost} iam project create web-{org} --org org-{org} --id proj-t{org}\n\
             {k8shost} iam user create eve@{org}.example.com --org org-{org}\n{k8shost} iam role grant project_member --user eve@{org}.example.com --project web-{org}\n\
             {k8shost} iam token create eve@{org}.example.com > {org}.token\nsed '/client-/d' $KUBECONFIG > bare.yaml"
        ))
        .ok();
    }
    let by = |org: &str, line: &str| tool.sh(&format!("kubectl --kubeconfig bare.yaml --token $(cat {org}.token) -n project-t{org} {line}"));
    let limits = r#"{"spec":{"containers":[{"name":"pod","image":"httpd:1","resources":{"limits":{"cpu":"100m","memory":"64Mi"}}}]}}"#;
    for org in ["a", "b"] {
        wait_until("a pod can be made", SOON, || by(org, &format!("run pod --image=httpd:1 --overrides='{limits}'")).success || by(org, "get pod pod").success);
    }
    for org in ["a", "b"] {
        by(org, "wait --for=condition=Ready pod/pod --timeout=90s").ok();
    }
    let address = by("b", "get pod pod -o jsonpath={.status.podIP}").ok();
    let reaches = |org: &str| by(org, &format!("exec pod -- timeout 5 wget -qO- http://{address}")).success;
    assert!(!reaches("a"));
    assert!(by("a", "-n project-tb get pods").err().contains("Forbidden") || by("a", "-n project-tb get pods").err().contains("forbidden"));
    // Who has the pod lets somebody in, and only then: both sides have a say.
    let policy = |name: &str, spec: &str| format!("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}}}\nspec: {spec}\n");
    let apply = |org: &str, manifest: &str| by(org, &format!("apply -f - <<'EOF'\n{manifest}EOF")).ok();
    let of = |org: &str| format!("{{namespaceSelector: {{matchLabels: {{plasmacloud.io/org-id: org-{org}}}}}}}");
    apply("b", &policy("in", &format!("{{podSelector: {{}}, policyTypes: [Ingress], ingress: [{{from: [{}]}}]}}", of("a"))));
    assert!(!reaches("a"), "the one side alone does not open it");
    apply("a", &policy("out", &format!("{{podSelector: {{}}, policyTypes: [Egress], egress: [{{to: [{}]}}]}}", of("b"))));
    wait_until("both do", SOON, || reaches("a"));
}
