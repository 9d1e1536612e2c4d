//! Two tenants with the same names for everything, each cluster-admin of their own: every road out of one is tried.
mod roads;

use crate::support::{CONFIG_MAPS, SOON, config_map, names, pod};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use testkit::{Api, Server, ServerOptions, wait_until};

const A: &str = "/clusters/same.team-a";
const B: &str = "/clusters/same.team-b";

/// The host's administrator and those of two clusters.
pub fn tenants() -> (Server, Api, [Api; 2]) {
    let server = Server::start(ServerOptions { arguments: vec!["--disable-agent".into()], is_host: true, ..ServerOptions::default() });
    let apis = ["team-a", "team-b"].map(|namespace| Api::of_kubeconfig(&server.virtual_cluster(namespace, "same").kubeconfig));
    for api in &apis {
        wait_until("the service account is there", SOON, || api.get("/api/v1/namespaces/default/serviceaccounts/default").code == 200);
    }
    let host = server.api();
    (server, host, apis)
}

/// Asks for exactly this path of the server, with this one's credentials.
fn at(api: &Api, path: &str) -> u16 {
    api.elsewhere(path).get("").code
}

fn token(api: &Api) -> String {
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    api.post("/api/v1/namespaces/default/serviceaccounts/default/token", &request).ok()["status"]["token"].as_str().unwrap().to_owned()
}

/// The token of a Secret, once it is filled.
fn kept_token(api: &Api) -> String {
    let secret =
        json!({"metadata": {"name": "kept", "annotations": {"kubernetes.io/service-account.name": "default"}}, "type": "kubernetes.io/service-account-token"});
    api.post("/api/v1/namespaces/default/secrets", &secret).ok();
    let held = || api.get("/api/v1/namespaces/default/secrets/kept").ok()["data"]["token"].as_str().map(|text| STANDARD.decode(text).unwrap());
    wait_until("the secret is filled", SOON, || held().is_some());
    String::from_utf8(held().unwrap()).unwrap()
}

fn admin_binding() -> Value {
    json!({
        "metadata": {"name": "all"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "system:serviceaccounts"}],
    })
}

const BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";

#[test]
fn credentials_count_in_their_own_cluster_alone() {
    let (_server, host, [a, b]) = tenants();
    for api in [&host, &a, &b] {
        api.post(BINDINGS, &admin_binding()).ok();
    }
    let namespaces = "/api/v1/namespaces";
    for (whose, own, others) in [(&a, A, [B, ""]), (&b, B, [A, ""]), (&host, "", [A, B])] {
        let (bearer, kept) = (whose.bearer(&token(whose)), whose.bearer(&kept_token(whose)));
        for api in [whose, &bearer, &kept] {
            assert_eq!(at(api, &format!("{own}{namespaces}")), 200);
            for other in others {
                assert_eq!(at(api, &format!("{other}{namespaces}")), 401, "{own} in {other}");
            }
            assert_eq!(at(api, &format!("/clusters/none.such{namespaces}")), 401, "what is not there looks like what is not one's own");
            for path in [format!("{own}{A}{namespaces}"), format!("{own}/clusters/../..{B}{namespaces}"), format!("{own}/%2e%2e/same.team-b{namespaces}")] {
                assert!(matches!(at(api, &path), 400 | 401 | 404), "{path}");
            }
        }
    }
    // A token of one is nobody's in a review of the other, and no difference tells which clusters there are.
    let review = b.post("/apis/authentication.k8s.io/v1/tokenreviews", &json!({"spec": {"token": token(&a)}})).ok();
    assert!(review["status"]["authenticated"].is_null(), "{review}");
    let nobody = host.anonymous();
    for path in ["/healthz", "/version", "/api", "/api/v1/namespaces"] {
        assert_eq!(at(&nobody, &format!("{A}{path}")), at(&nobody, &format!("/clusters/none.such{path}")), "{path}");
    }
    // What tells of the whole server is the host's.
    for path in ["/metrics", "/v1-k8shost/encrypt/status", "/v1-k8shost/encrypt/rotate-keys"] {
        assert_eq!(a.get(path).code, 404, "{path}");
    }
    let issuer = |api: &Api| api.get("/.well-known/openid-configuration").ok()["issuer"].as_str().unwrap().to_owned();
    assert!(issuer(&a) != issuer(&b) && issuer(&a) != issuer(&host));
}

#[test]
fn nothing_of_one_is_seen_in_another() {
    let (_server, host, [a, b]) = tenants();
    let revision = b.post(CONFIG_MAPS, &config_map("mine", &json!({"of": "b"}))).ok()["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let mut watch = a.watch(&format!("{CONFIG_MAPS}?watch=1&resourceVersion={revision}"));
    b.post(CONFIG_MAPS, &config_map("later", &json!({}))).ok();
    host.post(CONFIG_MAPS, &config_map("mine", &json!({"of": "host"}))).ok();
    a.post(CONFIG_MAPS, &config_map("mine", &json!({"of": "a"}))).ok();
    let (kind, object) = watch.next().unwrap();
    assert_eq!((kind.as_str(), &object["data"]["of"]), ("ADDED", &json!("a")));
    for (api, of) in [(&a, "a"), (&b, "b"), (&host, "host")] {
        assert_eq!(api.get(&format!("{CONFIG_MAPS}/mine")).ok()["data"]["of"], of);
    }
    // Where one's pages go on, another's don't.
    for name in ["x1", "x2", "x3"] {
        b.post(CONFIG_MAPS, &config_map(name, &json!({}))).ok();
    }
    let page = b.get(&format!("{CONFIG_MAPS}?limit=1")).ok()["metadata"]["continue"].as_str().unwrap().to_owned();
    let others = a.get(&format!("{CONFIG_MAPS}?limit=10&continue={page}"));
    if others.code == 200 {
        assert!(names(&others.json()).iter().all(|name| !name.starts_with('x') && name != "later"), "{}", others.text());
    }
    for path in ["/api/v1/secrets", "/api/v1/configmaps", "/api/v1/namespaces", "/apis/networking.k8s.io/v1/ipaddresses", "/api/v1/events"] {
        for item in a.get(path).ok()["items"].as_array().unwrap() {
            let text = item.to_string();
            assert!(!text.contains("team-b") && !text.contains("\"later\"") && !text.contains("k3k-same"), "{path}: {text}");
        }
    }
    // What all start with belongs to each.
    b.delete("/apis/rbac.authorization.k8s.io/v1/clusterroles/view").ok();
    b.patch("merge", "/apis/rbac.authorization.k8s.io/v1/clusterroles/edit", &json!({"metadata": {"labels": {"of": "b"}}})).ok();
    assert_eq!(b.get("/apis/rbac.authorization.k8s.io/v1/clusterroles/view").code, 404);
    for api in [&a, &host] {
        assert_eq!(api.get("/apis/rbac.authorization.k8s.io/v1/clusterroles/view").code, 200);
        assert!(api.get("/apis/rbac.authorization.k8s.io/v1/clusterroles/edit").ok()["metadata"]["labels"]["of"].is_null());
    }
    let custom = json!({
        "metadata": {"name": "bells.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"plural": "bells", "kind": "Bell"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}],
        },
    });
    b.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &custom).ok();
    wait_until("the kind is served", SOON, || b.get("/apis/example.com/v1/bells").code == 200);
    for api in [&a, &host] {
        assert_eq!(api.get("/apis/example.com/v1/bells").code, 404);
        assert!(!api.get("/apis").text().contains("example.com"));
    }
}

#[test]
fn the_hosts_nodes_are_out_of_reach() {
    let (_server, host, [a, b]) = tenants();
    let node =
        json!({"metadata": {"name": "n1", "annotations": {"secret": "plan"}}, "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.7"}]}});
    host.post("/api/v1/nodes", &node).ok();
    let seen = a.get("/api/v1/nodes/n1").ok();
    assert!(!seen.to_string().contains("192.0.2.7") && !seen.to_string().contains("plan"), "{seen}");
    for (method, path) in [
        ("POST", "/api/v1/nodes"),
        ("PUT", "/api/v1/nodes/n1"),
        ("DELETE", "/api/v1/nodes/n1"),
        ("DELETE", "/api/v1/nodes"),
        ("PUT", "/api/v1/nodes/n1/status"),
        ("GET", "/api/v1/nodes/n1/proxy/pods"),
        ("GET", "/api/v1/nodes/n1:10250/proxy/pods"),
    ] {
        let reply = a.send(&testkit::Ask::new(method, path).json(&node));
        assert_eq!(reply.code, 403, "{method} {path}: {}", reply.text());
    }
    assert_eq!(a.patch("merge", "/api/v1/nodes/n1", &json!({"metadata": {"labels": {"x": "y"}}})).code, 403);
    // A pod on a node that is none of the cluster's, by its author or by whoever binds it.
    let mut placed = pod("placed");
    placed["spec"]["nodeName"] = json!("n2");
    host.post("/api/v1/nodes", &json!({"metadata": {"name": "n2"}})).ok();
    host.patch("merge", "/apis/k3k.io/v1beta1/namespaces/team-a/clusters/same", &json!({"spec": {"nodeSelector": {"pool": "a"}}})).ok();
    host.patch("merge", "/api/v1/nodes/n1", &json!({"metadata": {"labels": {"pool": "a"}}})).ok();
    wait_until("the cluster sees its own nodes alone", SOON, || names(&a.get("/api/v1/nodes").ok()) == ["n1"]);
    assert_eq!(names(&b.get("/api/v1/nodes").ok()), ["n1", "n2"]);
    assert_eq!(a.post("/api/v1/namespaces/default/pods", &placed).code, 403);
    let made = a.post("/api/v1/namespaces/default/pods", &pod("bound")).ok();
    assert_eq!(made["spec"]["nodeSelector"], json!({"pool": "a"}));
    let binding = json!({"metadata": {"name": "bound"}, "target": {"kind": "Node", "name": "n2"}});
    assert_eq!(a.post("/api/v1/namespaces/default/pods/bound/binding", &binding).code, 403);
    // Its own administrators can't lift what the host's pods have to keep to.
    a.patch("merge", "/api/v1/namespaces/default", &json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "privileged"}}})).ok();
    for spec in [
        json!({"hostNetwork": true}),
        json!({"hostPID": true}),
        json!({"hostIPC": true}),
        json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}),
        json!({"containers": [{"name": "c", "image": "i", "securityContext": {"privileged": true}}]}),
        json!({"containers": [{"name": "c", "image": "i", "securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}]}),
        json!({"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80, "hostPort": 80}]}]}),
    ] {
        let mut dangerous = pod("p");
        dangerous["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let reply = a.post("/api/v1/namespaces/default/pods", &dangerous);
        assert_eq!((reply.code, reply.text().contains("of the virtual cluster")), (403, true), "{spec}: {}", reply.text());
    }
    for source in [
        json!({"hostPath": {"path": "/"}}),
        json!({"local": {"path": "/"}, "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "k", "operator": "Exists"}]}]}}}),
    ] {
        let mut spec = json!({"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]});
        spec.as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
        let reply = a.post("/api/v1/persistentvolumes", &json!({"metadata": {"name": "v"}, "spec": spec}));
        assert_eq!(reply.code, 403, "{}", reply.text());
    }
    // Node ports are the host's, one for all.
    let service = |port: u16| json!({"metadata": {"name": "s"}, "spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]}});
    a.post("/api/v1/namespaces/default/services", &service(30123)).ok();
    let refused = b.post("/api/v1/namespaces/default/services", &service(30123));
    assert!(refused.code == 422 && refused.text().contains("provided port is already allocated"), "{}", refused.text());
}

#[test]
fn the_server_asks_nobody_in_a_tenants_name_that_its_pods_could_not() {
    let (server, _host, [a, _]) = tenants();
    // What packets for elsewhere leave from is an address of the machine that the server was never told of.
    let leaving = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    let own = leaving.connect("192.0.2.77:9").map(|()| leaving.local_addr().unwrap().ip().to_string()).unwrap_or_else(|_| "127.0.0.2".into());
    for host in [
        "127.0.0.1",
        "127.1.2.3",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0.0.0.0",
        "localhost",
        "LOCALHOST.",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "169.254.169.254",
        "[fe80::1]",
        "224.0.0.1",
        &own,
    ] {
        let url = format!("https://{host}:{}/", server.port);
        let hook = json!({
            "metadata": {"name": "inward"},
            "webhooks": [{
                "name": "inward.example.com", "clientConfig": {"url": url}, "sideEffects": "None", "admissionReviewVersions": ["v1"], "timeoutSeconds": 5,
                "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}],
            }],
        });
        let hooks = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
        let made = a.post(hooks, &hook);
        if made.code != 201 {
            assert_eq!(made.code, 422, "{url}: {}", made.text());
            continue;
        }
        let reply = a.post(CONFIG_MAPS, &config_map("m", &json!({})));
        // Spellings that no resolver takes for an address are no way either.
        let kept_out = ["address not allowed", "failed to lookup", "no such host", "Network is unreachable", "network is unreachable"];
        assert!(reply.code == 500 && kept_out.iter().any(|why| reply.text().contains(why)), "{url}: {}", reply.text());
        a.delete(&format!("{hooks}/inward")).ok();
    }
    // A pod may say any address is its own.
    a.post("/api/v1/namespaces/default/pods", &pod("p")).ok();
    a.patch("merge", "/api/v1/namespaces/default/pods/p/status", &json!({"status": {"podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]}}));
    let reply = a.get("/api/v1/namespaces/default/pods/p:22/proxy/");
    assert!(reply.code >= 400 && !reply.text().contains("SSH"), "{}", reply.text());
}

#[test]
fn what_a_cluster_takes_is_bounded_by_its_host_and_never_its_neighbours_loss() {
    let (_server, host, [a, b]) = tenants();
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "2"}}});
    host.post("/api/v1/namespaces/team-a/resourcequotas", &quota).ok();
    a.post("/api/v1/namespaces", &json!({"metadata": {"name": "other"}})).ok();
    wait_until("the service account is there", SOON, || a.get("/api/v1/namespaces/other/serviceaccounts/default").code == 200);
    a.post("/api/v1/namespaces/default/pods", &pod("p1")).ok();
    a.post("/api/v1/namespaces/other/pods", &pod("p1")).ok();
    let refused = a.post("/api/v1/namespaces/default/pods", &pod("p2"));
    assert!(refused.code == 403 && refused.text().contains("exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2"), "{}", refused.text());
    b.post("/api/v1/namespaces/default/pods", &pod("p1")).ok();
    wait_until("the quota tells what is used", SOON, || host.get("/api/v1/namespaces/team-a/resourcequotas/q").ok()["status"]["used"]["pods"] == "2");
    let ranges = json!({"metadata": {"name": "r"}, "spec": {"limits": [{"type": "Container", "defaultRequest": {"cpu": "150m"}}]}});
    host.post("/api/v1/namespaces/team-b/limitranges", &ranges).ok();
    let made = b.post("/api/v1/namespaces/default/pods", &pod("p2")).ok();
    assert_eq!(made["spec"]["containers"][0]["resources"]["requests"]["cpu"], "150m");
}

#[test]
fn a_cluster_that_is_deleted_takes_all_with_it_and_one_of_its_name_is_another() {
    let (server, host, [a, b]) = tenants();
    let held = json!({"metadata": {"name": "held", "finalizers": ["example.com/never"]}});
    a.post(CONFIG_MAPS, &held).ok();
    a.post(
        "/api/v1/namespaces/default/services",
        &json!({"metadata": {"name": "s"}, "spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30777}]}}),
    )
    .ok();
    a.post(BINDINGS, &admin_binding()).ok();
    // What it has put above what all start with, and hidden of it, goes too.
    a.patch("merge", "/apis/rbac.authorization.k8s.io/v1/clusterroles/edit", &json!({"metadata": {"labels": {"of": "a"}}})).ok();
    a.delete("/apis/rbac.authorization.k8s.io/v1/clusterroles/view").ok();
    let old_token = token(&a);
    let mut watch = a.watch(&format!("{CONFIG_MAPS}?watch=1"));
    host.delete("/apis/k3k.io/v1beta1/namespaces/team-a/clusters/same").ok();
    wait_until("the cluster is gone", SOON, || host.get("/apis/k3k.io/v1beta1/namespaces/team-a/clusters/same").code == 404);
    assert_eq!(a.get("/api/v1/namespaces").code, 401);
    while watch.next().is_some() {}
    assert_eq!(host.get("/api/v1/namespaces/team-a/secrets/k3k-same-kubeconfig").code, 404);
    // Its node ports are free.
    b.post(
        "/api/v1/namespaces/default/services",
        &json!({"metadata": {"name": "s"}, "spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30777}]}}),
    )
    .ok();
    let again = Api::of_kubeconfig(&server.virtual_cluster("team-a", "same").kubeconfig);
    assert_eq!(again.get(&format!("{CONFIG_MAPS}/held")).code, 404);
    assert_eq!(
        again.get(BINDINGS.trim_end_matches('/')).ok()["items"].as_array().unwrap().iter().filter(|binding| binding["metadata"]["name"] == "all").count(),
        0
    );
    assert!(again.get("/apis/rbac.authorization.k8s.io/v1/clusterroles/edit").ok()["metadata"]["labels"]["of"].is_null());
    assert_eq!(again.get("/apis/rbac.authorization.k8s.io/v1/clusterroles/view").code, 200);
    for old in [a.clone(), a.bearer(&old_token)] {
        assert_eq!(old.get("/api/v1/namespaces").code, 401);
    }
    again.get("/api/v1/namespaces").ok();
}

#[test]
fn clusters_outlive_the_server() {
    let (mut server, _, [a, _]) = tenants();
    a.post(CONFIG_MAPS, &config_map("kept", &json!({"x": "1"}))).ok();
    a.delete("/apis/rbac.authorization.k8s.io/v1/clusterroles/view").ok();
    let uid = a.get("/api/v1/namespaces/kube-system").ok()["metadata"]["uid"].take();
    server.end(nix::sys::signal::Signal::SIGKILL);
    server.launch();
    assert_eq!(a.get(&format!("{CONFIG_MAPS}/kept")).ok()["data"]["x"], "1");
    assert_eq!(a.get("/apis/rbac.authorization.k8s.io/v1/clusterroles/view").code, 404);
    assert_eq!(a.get("/api/v1/namespaces/kube-system").ok()["metadata"]["uid"], uid);
    assert_eq!(a.get("/apis/rbac.authorization.k8s.io/v1/clusterroles/admin").code, 200);
}

#[test]
fn a_removal_that_was_cut_off_goes_on() {
    let (mut server, host, [a, b]) = tenants();
    let maps = (0..2000).map(|number| config_map(&format!("m{number}"), &json!({})));
    assert!(a.post_all(CONFIG_MAPS, maps).into_iter().all(|code| code == 201));
    let cluster = "/apis/k3k.io/v1beta1/namespaces/team-a/clusters/same";
    host.delete(cluster);
    server.end(nix::sys::signal::Signal::SIGKILL);
    server.launch();
    // Whether all of it is gone or not, once the controller has seen it, which may not have come to it before the end.
    wait_until("nobody gets in any more", SOON, || a.get("/api/v1/namespaces").code == 401);
    wait_until("the cluster is gone", SOON, || host.get(cluster).code == 404);
    let again = Api::of_kubeconfig(&server.virtual_cluster("team-a", "same").kubeconfig);
    assert!(names(&again.get(CONFIG_MAPS).ok()).iter().all(|name| !name.starts_with('m')));
    assert_eq!(b.get("/api/v1/namespaces").code, 200);
}

#[test]
fn every_other_road_out_is_closed() {
    let (server, host, [a, b]) = tenants();
    // All clusters at once are the host's nodes' alone to look at.
    for path in
        ["/clusters/*/api/v1/pods", "/clusters/%2A/api/v1/pods", "/clusters/*/api/v1/secrets", "/clusters/*.team-b/api/v1/pods", "/clusters//api/v1/pods"]
    {
        assert!(matches!(at(&a, path), 400 | 401 | 403 | 404), "{path}: {}", at(&a, path));
    }
    // Tokens for another's audience, and names that are somebody elsewhere, are still one's own.
    let issuer = b.get("/.well-known/openid-configuration").ok()["issuer"].clone();
    let request = json!({"spec": {"audiences": [issuer, "https://kubernetes.default.svc.cluster.local"]}});
    let foreign = a.post("/api/v1/namespaces/default/serviceaccounts/default/token", &request).ok()["status"]["token"].as_str().unwrap().to_owned();
    for place in [B, ""] {
        assert_eq!(at(&a.bearer(&foreign), &format!("{place}/api/v1/namespaces")), 401);
        for (name, group) in [("system:admin", "system:masters"), ("system:node:n1", "system:nodes")] {
            assert_eq!(at(&a.acting_as(name, &[group]), &format!("{place}/api/v1/namespaces")), 401);
        }
    }
    // Custom kinds have nobody asked in the server's name whom pods could not ask.
    let versions = json!([
        {"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}},
        {"name": "v2", "served": true, "storage": false, "schema": {"openAPIV3Schema": {"type": "object"}}},
    ]);
    let url = format!("https://127.0.0.1:{}/convert", server.port);
    let conversion = json!({"strategy": "Webhook", "webhook": {"clientConfig": {"url": url}, "conversionReviewVersions": ["v1"]}});
    let definition = json!({
        "metadata": {"name": "bells.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "bells", "kind": "Bell"}, "versions": versions, "conversion": conversion},
    });
    a.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition).ok();
    wait_until("the kind is served", SOON, || a.get("/apis/example.com/v1/bells").code == 200);
    let bell = json!({"apiVersion": "example.com/v1", "kind": "Bell", "metadata": {"name": "b"}});
    a.post("/apis/example.com/v1/namespaces/default/bells", &bell).ok();
    let reply = a.get("/apis/example.com/v2/namespaces/default/bells/b");
    assert!(reply.code == 500 && reply.text().contains("address not allowed"), "{}", reply.text());
    // An API server that is said to be elsewhere is asked for nothing.
    let aggregated = json!({
        "metadata": {"name": "v1.example.org"},
        "spec": {
            "group": "example.org", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 100, "insecureSkipTLSVerify": true,
            "service": {"namespace": "default", "name": "inward", "port": server.port},
        },
    });
    let made = a.post("/apis/apiregistration.k8s.io/v1/apiservices", &aggregated);
    assert!(matches!(made.code, 201 | 404), "{}", made.text());
    assert!(a.get("/apis/example.org/v1/things").code >= 400);
    // Services and their endpoints may be said to be anywhere.
    a.post("/api/v1/namespaces/default/services", &json!({"metadata": {"name": "inward"}, "spec": {"ports": [{"port": server.port}]}})).ok();
    let slice = json!({
        "metadata": {"name": "inward", "labels": {"kubernetes.io/service-name": "inward"}}, "addressType": "IPv4",
        "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": true}}], "ports": [{"port": server.port, "protocol": "TCP"}],
    });
    let slices = a.post("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", &slice);
    // Upstream refuses loopback addresses there already.
    assert!(matches!(slices.code, 201 | 422), "{}", slices.text());
    a.post("/api/v1/namespaces/default/services", &json!({"metadata": {"name": "outward"}, "spec": {"type": "ExternalName", "externalName": "localhost"}}))
        .ok();
    for path in [format!("https:inward:{}", server.port), format!("https:outward:{}", server.port)] {
        let reply = a.get(&format!("/api/v1/namespaces/default/services/{path}/proxy/version"));
        assert!(reply.code >= 400 && !reply.text().contains("gitVersion"), "{path}: {}", reply.text());
    }
    // Volumes by somebody else's name.
    for handle in ["same.team-b_pvc-1", "pvc-1", "same.team-a_other", "../same.team-b_pvc-1"] {
        let volume = json!({
            "metadata": {"name": "pvc-1"},
            "spec": {
                "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
                "csi": {"driver": "stor.plasmacloud.io", "volumeHandle": handle},
            },
        });
        let reply = a.post("/api/v1/persistentvolumes", &volume);
        assert!(reply.code == 403 && reply.text().contains("is none that the host cluster has made"), "{handle}: {}", reply.text());
    }
    // What is too large is refused whole, and costs its sender alone.
    let huge = config_map("huge", &json!({"x": "x".repeat(4 << 20)}));
    assert!(matches!(a.post(CONFIG_MAPS, &huge).code, 413 | 422));
    assert_eq!(a.get(&format!("{CONFIG_MAPS}/huge")).code, 404);
    // What the host's administrator keeps of clusters is the host's: a tenant has kinds of these names only by defining them.
    for path in
        ["/apis/k3k.io/v1beta1/clusters", "/apis/k8shost.io/v1/clustersnapshots", "/apis/k8shost.io/v1/virtualclusters", "/apis/k8shost.io/v1/restoring"]
    {
        assert_eq!(a.get(path).code, 404, "{path}");
    }
    assert_eq!((b.get("/api/v1/namespaces").code, host.get("/api/v1/namespaces").code), (200, 200));
}
