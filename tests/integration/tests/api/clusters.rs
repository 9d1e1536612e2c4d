//! Virtual clusters as their owners meet them: K3k's manifests through kubectl, and the commands of k3kcli.
use crate::support::SOON;
use serde_json::{Value, json};
use std::path::PathBuf;
use testkit::{Api, Outcome, Server, ServerOptions, Tool, wait_until};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

pub fn clusters(namespace: &str) -> String {
    format!("/apis/k3k.io/v1beta1/namespaces/{namespace}/clusters")
}

fn cluster(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "k3k.io/v1beta1", "kind": "Cluster", "metadata": {"name": name}, "spec": spec})
}

/// Makes a cluster and waits until it is served.
pub fn make(api: &Api, namespace: &str, name: &str, spec: &Value) {
    api.post("/api/v1/namespaces", &json!({"metadata": {"name": namespace}}));
    wait_until("there are virtual clusters", SOON, || api.get(&clusters(namespace)).code == 200);
    api.post(&clusters(namespace), &cluster(name, spec.clone())).ok();
    phase(api, &format!("{}/{name}", clusters(namespace)), "Ready");
}

pub fn host() -> (Server, Api) {
    let server = Server::start(ServerOptions { arguments: vec!["--disable-agent".into()], is_host: true, ..ServerOptions::default() });
    let api = server.api();
    namespace(&api, "team", json!({}));
    (server, api)
}

fn namespace(api: &Api, name: &str, labels: Value) {
    api.post("/api/v1/namespaces", &json!({"metadata": {"name": name, "labels": labels}})).ok();
}

#[track_caller]
pub fn phase(api: &Api, path: &str, expected: &str) -> Value {
    let mut found = Value::Null;
    wait_until(&format!("{path} is {expected}"), SOON, || {
        found = api.get(path).json();
        found["status"]["phase"] == expected
    });
    found
}

#[track_caller]
fn gone(api: &Api, path: &str) {
    wait_until(&format!("{path} is gone"), SOON, || api.get(path).code == 404);
}

/// kubectl for a virtual cluster, from the Secret that holds its kubeconfig.
pub fn inside(server: &Server, api: &Api, namespace: &str, name: &str) -> Tool {
    let secret = api.get(&format!("/api/v1/namespaces/{namespace}/secrets/k3k-{name}-kubeconfig")).ok();
    let text = base64_text(&secret["data"]["kubeconfig.yaml"]);
    let kubeconfig = server.directory.path().join(format!("{namespace}-{name}.yaml"));
    std::fs::write(&kubeconfig, text).unwrap();
    Tool { kubeconfig, ..server.tool() }
}

pub fn base64_text(value: &Value) -> String {
    use base64::Engine;
    String::from_utf8(base64::engine::general_purpose::STANDARD.decode(value.as_str().unwrap()).unwrap()).unwrap()
}

pub fn command(server: &Server, line: &str) -> Outcome {
    server.tool().run(testkit::binary().to_str().unwrap(), line.split_whitespace())
}

#[test]
fn a_cluster_is_served_from_its_manifest_and_leaves_nothing() {
    let (server, api) = host();
    // As in K3k's examples.
    server.tool().apply(
        "apiVersion: k3k.io/v1beta1\nkind: Cluster\nmetadata: {name: several, namespace: team}\nspec:\n  mode: shared\n  servers: 3\n  agents: 3\n  \
         version: v1.33.1-k3s1\n  serverArgs: [--write-kubeconfig-mode=777]\n  tlsSANs: [myserver.app]\n  expose: {nodePort: {}}\n",
    );
    let path = format!("{}/several", clusters("team"));
    let found = phase(&api, &path, "Ready");
    assert_eq!(found["status"]["conditions"][0]["reason"], "Provisioned");
    assert!(found["status"]["hostVersion"].as_str().unwrap().starts_with("v1.37"), "{found}");
    assert_eq!((&found["status"]["serviceCIDR"], &found["status"]["clusterCIDR"]), (&json!("10.96.0.0/12"), &json!("10.244.0.0/16")));
    assert_eq!(found["spec"]["sync"]["services"]["enabled"], true, "defaults are set");
    let service = api.get("/api/v1/namespaces/team/services/k3k-several-service").ok();
    assert_eq!(service["spec"]["type"], "NodePort");

    let kubectl = inside(&server, &api, "team", "several");
    assert_eq!(kubectl.k("get ns -o name").ok(), "namespace/default\nnamespace/kube-node-lease\nnamespace/kube-public\nnamespace/kube-system\n");
    kubectl.k("create namespace mine").ok();
    kubectl.k("create configmap kept -n mine --from-literal=a=b").ok();
    assert_eq!(api.get("/api/v1/namespaces/mine").code, 404);

    server.tool().k("delete clusters.k3k.io several -n team").ok();
    gone(&api, &path);
    gone(&api, "/api/v1/namespaces/team/secrets/k3k-several-kubeconfig");
    gone(&api, "/api/v1/namespaces/team/services/k3k-several-service");
    kubectl.k("get ns").err();

    // One of the same name is another cluster.
    api.post(&clusters("team"), &cluster("several", json!({}))).ok();
    phase(&api, &path, "Ready");
    inside(&server, &api, "team", "several").k("get namespace mine").err();
}

#[test]
fn what_cannot_be_served_is_refused_with_the_reason() {
    let (_server, api) = host();
    for (spec, expected) in [
        (json!({"mode": "virtual"}), "mode virtual needs PlasmaVMC"),
        (json!({"servers": 0}), "cluster must have at least one server"),
        (json!({"version": "newest"}), "version must be a Kubernetes or k3s version"),
        (json!({"serviceCIDR": "10.0.0.0"}), "serviceCIDR must be a network"),
        (json!({"serviceCIDR": "10.43.0.0/16", "clusterDNS": "10.44.0.10"}), "clusterDNS must be an address of serviceCIDR"),
        (json!({"expose": {"nodePort": {"etcdPort": 30001}}}), "there is no etcd to expose"),
        (json!({"expose": {"nodePort": {}, "loadBalancer": {}}}), "mutually exclusive"),
        (json!({"serverArgs": ["--kube-apiserver-arg=audit-log-path=/x"]}), "no API server, controllers or scheduler of its own"),
        (json!({"serverArgs": ["--cluster-domain", "x"]}), "cluster-domain and service-node-port-range are the server's"),
    ] {
        let (code, _, message) = api.post(&clusters("team"), &cluster("no", spec.clone())).refusal();
        assert!(code == 422 && message.contains(expected), "{spec}: {message}");
    }
    api.post(&clusters("team"), &cluster("still", json!({"serviceCIDR": "10.43.0.0/16"}))).ok();
    let change = json!({"spec": {"serviceCIDR": "10.44.0.0/16"}});
    let (_, _, message) = api.patch("merge", &format!("{}/still", clusters("team")), &change).refusal();
    assert!(message.contains("serviceCIDR is immutable"), "{message}");
    // What only the controller can know is told in the status.
    api.post(&clusters("team"), &cluster("addon", json!({"addons": [{"secretNamespace": "kube-system", "secretRef": "s"}]}))).ok();
    let found = phase(&api, &format!("{}/addon", clusters("team")), "Pending");
    assert_eq!(found["status"]["conditions"][0]["reason"], "ValidationFailed");
    assert_eq!(found["metadata"]["finalizers"], Value::Null);
}

#[test]
fn a_cluster_exposed_by_ingress_has_one_for_the_names_that_are_its_own() {
    let (server, api) = host();
    let ingress = "/apis/networking.k8s.io/v1/namespaces/team/ingresses/k3k-mine-ingress";
    let path = |name: &str| format!("{}/{name}", clusters("team"));
    let exposed = json!({"ingress": {"ingressClassName": "nginx", "annotations": {"nginx.ingress.kubernetes.io/ssl-passthrough": "true"}}});
    api.post(&clusters("team"), &cluster("first", json!({"tlsSANs": ["first.example.com"]}))).ok();
    phase(&api, &path("first"), "Ready");
    api.post(&clusters("team"), &cluster("mine", json!({"expose": exposed, "tlsSANs": ["192.0.2.1"]}))).ok();
    let found = phase(&api, &path("mine"), "Pending");
    assert!(found["status"]["conditions"][0]["message"].as_str().unwrap().contains("needs a host name in tlsSANs"), "{found}");
    api.patch("merge", &path("mine"), &json!({"spec": {"tlsSANs": ["first.example.com"]}})).ok();
    phase(&api, &path("mine"), "Failed");
    assert_eq!(api.get(ingress).code, 404, "another cluster's name is no way to this one");
    api.patch("merge", &path("mine"), &json!({"spec": {"tlsSANs": ["first.example.com", "a.example.com", "B.example.com", "192.0.2.1"]}})).ok();
    phase(&api, &path("mine"), "Ready");
    let made = api.get(ingress).ok();
    let hosts: Vec<&Value> = made["spec"]["rules"].as_array().unwrap().iter().map(|rule| &rule["host"]).collect();
    assert_eq!((&made["spec"]["ingressClassName"], hosts), (&json!("nginx"), vec![&json!("a.example.com"), &json!("b.example.com")]));
    assert_eq!(made["metadata"]["annotations"]["nginx.ingress.kubernetes.io/ssl-passthrough"], "true");
    assert_eq!(made["metadata"]["ownerReferences"][0]["kind"], "Cluster");
    let kubeconfig = || base64_text(&api.get("/api/v1/namespaces/team/secrets/k3k-mine-kubeconfig").ok()["data"]["kubeconfig.yaml"]);
    assert!(kubeconfig().contains("    server: https://a.example.com\n"));
    assert_eq!(command(&server, "kubeconfig generate mine -n team").ok(), kubeconfig());
    let elsewhere = command(&server, "kubeconfig generate mine -n team --kubeconfig-server 192.0.2.9").ok();
    assert!(elsewhere.contains(&format!("    server: https://192.0.2.9:{}/clusters/mine.team\n", server.port)), "{elsewhere}");
    // What the Cluster says no longer goes, annotations too.
    api.patch("merge", &path("mine"), &json!({"spec": {"expose": {"ingress": {"annotations": null}}, "tlsSANs": ["a.example.com"]}})).ok();
    wait_until("the Ingress says the same", SOON, || {
        let found = api.get(ingress).ok();
        found["spec"]["rules"].as_array().unwrap().len() == 1 && found["metadata"]["annotations"].as_object().unwrap().len() == 1
    });
    api.patch("merge", &path("mine"), &json!({"spec": {"expose": null}})).ok();
    gone(&api, ingress);
    gone(&api, "/api/v1/namespaces/team/services/k3k-mine-service");
    wait_until("the kubeconfig leads to the path", SOON, || kubeconfig().contains("/clusters/mine.team\n"));
    command(&server, &format!("cluster export mine -n team -f {}", server.directory.path().join("export.yaml").display())).ok();
}

#[test]
fn addons_are_applied_inside_once_they_can_be() {
    let (server, api) = host();
    api.post(&clusters("team"), &cluster("mine", json!({"addons": [{"secretRef": "manifests"}]}))).ok();
    let path = format!("{}/mine", clusters("team"));
    let found = phase(&api, &path, "Failed");
    assert_eq!(found["status"]["conditions"][0]["message"], "secret \"manifests\" not found");
    let manifests =
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: app}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: from-addon, namespace: app}\n";
    api.post("/api/v1/namespaces/team/secrets", &json!({"metadata": {"name": "manifests"}, "stringData": {"a.yaml": manifests}})).ok();
    phase(&api, &path, "Ready");
    inside(&server, &api, "team", "mine").k("get configmap from-addon -n app").ok();
}

#[test]
fn machines_of_an_hcp_cluster_have_a_token_to_join_with() {
    let (server, api) = host();
    server.tool().apply(
        "apiVersion: k3k.io/v1beta1\nkind: Cluster\nmetadata: {name: hcp-server, namespace: team}\nspec: {mode: hcp, servers: 1, version: v1.33.1-k3s1, expose: {nodePort: {}}}\n",
    );
    phase(&api, &format!("{}/hcp-server", clusters("team")), "Ready");
    let token = api.get("/api/v1/namespaces/team/secrets/k3k-hcp-server-token").ok();
    assert_eq!(base64_text(&token["data"]["token"]).len(), 32);
    assert_eq!(inside(&server, &api, "team", "hcp-server").k("get nodes -o name").ok(), "");
}

#[test]
fn a_policy_rules_its_namespaces_until_they_are_let_go() {
    let (server, api) = host();
    server.tool().apply(
        "apiVersion: k3k.io/v1beta1\nkind: VirtualClusterPolicy\nmetadata: {name: gold}\nspec:\n  allowedMode: shared\n  \
         quota: {hard: {cpu: 2, memory: 1000Mi}}\n  limit: {limits: [{type: Container, max: {cpu: '1'}}]}\n  \
         podSecurityAdmissionLevel: restricted\n  defaultNodeSelector: {pool: gold}\n",
    );
    namespace(&api, "bound", json!({"policy.k3k.io/policy-name": "gold"}));
    let (quota, limits, network) = (
        "/api/v1/namespaces/bound/resourcequotas/k3k-gold",
        "/api/v1/namespaces/bound/limitranges/k3k-gold",
        "/apis/networking.k8s.io/v1/namespaces/bound/networkpolicies/k3k-gold",
    );
    let all = [quota, limits, network];
    for path in all {
        wait_until(&format!("{path} is made"), SOON, || api.get(path).code == 200);
    }
    assert_eq!(api.get(quota).ok()["metadata"]["labels"]["app.kubernetes.io/managed-by"], "k3k-policy-controller");
    let label = |name: &str| api.get("/api/v1/namespaces/bound").ok()["metadata"]["labels"][format!("pod-security.kubernetes.io/{name}")].clone();
    wait_until("the namespace has its level", SOON, || label("enforce") == "restricted" && label("warn-version") == "latest");

    // Kept true.
    api.patch("merge", quota, &json!({"spec": {"hard": {"cpu": "100"}}})).ok();
    wait_until("the quota is put right", SOON, || api.get(quota).ok()["spec"]["hard"]["cpu"] == "2");
    api.delete(network).ok();
    wait_until("the network policy is back", SOON, || api.get(network).code == 200);
    let settled = api.get(limits).ok()["metadata"]["resourceVersion"].clone();

    api.post(&clusters("bound"), &cluster("mine", json!({"nodeSelector": {"pool": "other"}}))).ok();
    let path = format!("{}/mine", clusters("bound"));
    let found = phase(&api, &path, "Ready");
    let status = &found["status"];
    assert_eq!(
        (&status["policyName"], &status["policy"]["nodeSelector"], &status["podSecurity"]),
        (&json!("gold"), &json!({"pool": "gold"}), &json!("restricted"))
    );
    api.post(&clusters("bound"), &cluster("other", json!({"mode": "hcp"}))).ok();
    let refused = phase(&api, &format!("{}/other", clusters("bound")), "Pending");
    assert_eq!(refused["status"]["conditions"][0]["message"], "mode \"hcp\" is not allowed by the policy \"gold\"");

    api.patch("merge", "/apis/k3k.io/v1beta1/virtualclusterpolicies/gold", &json!({"spec": {"defaultNodeSelector": null, "disableNetworkPolicy": true}})).ok();
    gone(&api, network);
    wait_until("the cluster follows its policy", SOON, || api.get(&path).ok()["status"]["policy"]["nodeSelector"].is_null());
    assert_eq!(api.get(limits).ok()["metadata"]["resourceVersion"], settled, "what is right is not written");

    api.delete("/apis/k3k.io/v1beta1/virtualclusterpolicies/gold").ok();
    gone(&api, "/apis/k3k.io/v1beta1/virtualclusterpolicies/gold");
    gone(&api, quota);
    gone(&api, limits);
    wait_until("the namespace is let go", SOON, || label("enforce").is_null() && label("warn").is_null());
    wait_until("the cluster is free", SOON, || {
        let status = api.get(&path).ok()["status"].clone();
        status["policyName"].is_null() && status["policy"].is_null() && status["podSecurity"] == "baseline"
    });
    phase(&api, &format!("{}/other", clusters("bound")), "Ready");
}

#[test]
fn commands_make_list_change_and_delete_clusters() {
    let (server, _api) = host();
    let printed = command(&server, "cluster create mine").ok();
    let kubeconfig: PathBuf = server.directory.path().join("mine.yaml");
    std::fs::write(&kubeconfig, &printed).unwrap();
    let kubectl = Tool { kubeconfig: kubeconfig.clone(), ..server.tool() };
    assert_eq!(kubectl.k("auth can-i * *").ok(), "yes\n");
    assert!(printed.contains(&format!("server: https://127.0.0.1:{}/clusters/mine.k3k-mine\n", server.port)), "{printed}");

    let table = command(&server, "cluster list").ok();
    let words: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[0], ["NAMESPACE", "NAME", "MODE", "STATUS", "POLICY"]);
    assert_eq!(words[1][..4], ["k3k-mine", "mine", "shared", "Ready"]);
    assert_eq!(command(&server, "cluster list -n k3k-mine -o name").ok(), "cluster.k3k.io/mine\n");
    let list: Value = serde_json::from_str(&command(&server, "cluster list -o json").ok()).unwrap();
    assert_eq!(list["items"][0]["metadata"]["name"], "mine");

    let file = server.directory.path().join("again.yaml");
    let line = format!("kubeconfig generate mine --kubeconfig-server api.example.com --kubeconfig-output {}", file.display());
    command(&server, &line).ok();
    assert!(std::fs::read_to_string(&file).unwrap().contains(&format!("https://api.example.com:{}/clusters/", server.port)));
    command(&server, "cluster update mine --labels tier=gold --servers 3 -y").ok();
    assert_eq!(server.tool().k("get clusters.k3k.io mine -n k3k-mine -o jsonpath={.metadata.labels.tier}{.spec.servers}").ok(), "gold3");
    assert!(command(&server, "cluster update mine --version v1.20.0 -y").err().contains("downgrading cluster version is not supported"));

    command(&server, "policy create silver --mode shared --namespace team,absent").ok();
    assert!(command(&server, "policy list").ok().contains("silver"));
    assert!(command(&server, "cluster create bad -n team --mode hcp").err().contains("mode \"hcp\" is not allowed by the policy \"silver\""));
    assert!(command(&server, "cluster create bad --mode virtual").err().contains("PlasmaVMC"));
    command(&server, "policy delete silver").ok();

    command(&server, "cluster delete mine").ok();
    assert_eq!(command(&server, "cluster list -n k3k-mine").ok(), "No resources found\n");
    kubectl.k("get ns").err();
    assert!(command(&server, "cluster delete mine").err().contains("cluster \"mine\" not found in namespace \"k3k-mine\""));
}

#[test]
fn a_server_that_starts_again_has_nothing_to_do_for_what_is_as_it_should_be() {
    let (mut server, api) = host();
    api.post(&clusters("team"), &cluster("mine", json!({}))).ok();
    let path = format!("{}/mine", clusters("team"));
    phase(&api, &path, "Ready");
    let written = |api: &Api| {
        let version = |path: &str| api.get(path).ok()["metadata"]["resourceVersion"].clone();
        let definitions = ["clusters.k3k.io", "virtualclusterpolicies.k3k.io"].map(|name| version(&format!("{DEFINITIONS}/{name}")));
        (version(&path), version("/api/v1/namespaces/team/secrets/k3k-mine-kubeconfig"), definitions)
    };
    let before = written(&api);
    server.end(nix::sys::signal::Signal::SIGTERM);
    server.launch();
    let api = server.api();
    // A change shows that the controller has seen all there is.
    api.post(&clusters("team"), &cluster("next", json!({}))).ok();
    phase(&api, &format!("{}/next", clusters("team")), "Ready");
    assert_eq!(written(&api), before);
    inside(&server, &api, "team", "mine").k("get ns").ok();
    // Its kubeconfig comes back when it is taken away.
    api.delete("/api/v1/namespaces/team/secrets/k3k-mine-kubeconfig").ok();
    wait_until("the kubeconfig is back", SOON, || api.get("/api/v1/namespaces/team/secrets/k3k-mine-kubeconfig").code == 200);
}

#[test]
fn a_cluster_is_reached_by_its_tls_names_and_nobody_takes_anothers() {
    let (server, api) = host();
    let names = |path: &str| {
        api.get(path).ok()["status"]["tlsSANs"].as_array().unwrap().iter().skip(1).map(|name| name.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let path = |name: &str| format!("{}/{name}", clusters("team"));
    api.post(&clusters("team"), &cluster("first", json!({"tlsSANs": ["First.example.com", "192.0.2.1", "localhost"]}))).ok();
    phase(&api, &path("first"), "Ready");
    api.post(&clusters("team"), &cluster("second", json!({"tlsSANs": ["first.example.com", "second.example.com"]}))).ok();
    phase(&api, &path("second"), "Ready");
    assert_eq!((names(&path("first")), names(&path("second"))), (vec!["first.example.com".to_owned()], vec!["second.example.com".to_owned()]));
    // kubectl with a server that has no path: which cluster is meant is in the name it asks for, and so is the certificate.
    let by_name = |credentials: &str, asked: &str| {
        let own = inside(&server, &api, "team", credentials);
        let text = std::fs::read_to_string(&own.kubeconfig).unwrap();
        let at = format!("/clusters/{credentials}.team");
        assert!(text.contains(&at));
        let kubeconfig = server.directory.path().join(format!("{credentials}-{asked}.yaml"));
        std::fs::write(&kubeconfig, text.replace(&at, &format!("\n    tls-server-name: {asked}"))).unwrap();
        Tool { kubeconfig, ..own }
    };
    for (name, asked) in [("first", "first.example.com"), ("second", "second.example.com")] {
        let kubectl = by_name(name, asked);
        kubectl.k(&format!("create configmap {name}")).ok();
        assert_eq!(inside(&server, &api, "team", name).k(&format!("get configmap {name} -o name")).ok(), format!("configmap/{name}\n"));
    }
    for (name, asked) in [("second", "first.example.com"), ("first", "second.example.com")] {
        assert!(by_name(name, asked).k("get ns").err().contains("must be logged in"), "{name} by {asked}");
    }
    assert!(by_name("first", "localhost").k("get ns").err().contains("must be logged in"), "the server's own names are its own");
    // A name that is given up may be had by another.
    api.patch("merge", &path("first"), &json!({"spec": {"tlsSANs": []}})).ok();
    wait_until("the name is given up", SOON, || names(&path("first")).is_empty());
    assert!(!by_name("first", "first.example.com").k("get ns").success);
    api.patch("merge", &path("second"), &json!({"spec": {"tlsSANs": ["first.example.com"]}})).ok();
    wait_until("the other has it", SOON, || names(&path("second")) == ["first.example.com"]);
    by_name("second", "first.example.com").k("get configmap second").ok();
}
