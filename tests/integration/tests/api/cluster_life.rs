//! The life of a virtual cluster: paused and resumed, kept in snapshots, restored, cloned, carried elsewhere as manifests.
use crate::clusters::{base64_text, clusters, command, host, inside, phase};
use crate::support::{CONFIG_MAPS, SOON, config_map, names, pod};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::PathBuf;
use testkit::{Api, Server, wait_until};

const PODS: &str = "/api/v1/namespaces/default/pods";
const SERVICES: &str = "/api/v1/namespaces/default/services";
const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles";

/// A cluster of the namespace `team`, by its own administrator.
fn mine(server: &Server, api: &Api) -> Api {
    command(server, "cluster create mine -n team").ok();
    of(server, api, "mine")
}

fn of(server: &Server, api: &Api, name: &str) -> Api {
    let inner = Api::of_kubeconfig(&inside(server, api, "team", name).kubeconfig);
    wait_until("the service account is there", SOON, || inner.get("/api/v1/namespaces/default/serviceaccounts/default").code == 200);
    inner
}

/// The files of a server's snapshots.
fn files(server: &Server) -> Vec<PathBuf> {
    let directory = server.directory.path().join("data/server/cluster-snapshots");
    std::fs::read_dir(directory).map(|found| found.map(|entry| entry.unwrap().path()).collect()).unwrap_or_default()
}

fn uids(api: &Api, path: &str) -> BTreeSet<String> {
    api.get(path).ok()["items"].as_array().unwrap().iter().map(|item| item["metadata"]["uid"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_paused_cluster_can_be_read_and_nothing_of_it_runs_until_it_is_resumed() {
    let (mut server, api) = host();
    api.post("/api/v1/nodes", &json!({"metadata": {"name": "n1"}, "spec": {"unschedulable": true}})).ok();
    let a = mine(&server, &api);
    for name in ["running", "waiting"] {
        a.post(PODS, &pod(name)).ok();
    }
    let bind = |name: &str| a.post(&format!("{PODS}/{name}/binding"), &json!({"metadata": {"name": name}, "target": {"kind": "Node", "name": "n1"}}));
    bind("running").ok();
    let one = |name: &str| a.get(&format!("{PODS}/{name}")).ok();
    let before = one("running")["metadata"]["uid"].clone();

    command(&server, "cluster pause mine -n team").ok();
    let table = command(&server, "cluster list -n team").ok();
    assert!(table.contains("Paused"), "{table}");
    for name in ["running", "waiting"] {
        let held = one(name);
        assert_eq!((&held["spec"]["schedulingGates"], &held["status"]["phase"]), (&json!([{"name": "k8shost.io/paused"}]), &json!("Pending")), "{held}");
        assert!(held["spec"]["nodeName"].is_null());
    }
    assert_ne!(one("running")["metadata"]["uid"], before, "what runs again is another pod to its node");
    // Its administrators read, and ask what they may do; nothing they say changes anything.
    assert_eq!(names(&a.get(PODS).ok()), ["running", "waiting"]);
    let review = json!({"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}});
    assert_eq!(a.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", &review).ok()["status"]["allowed"], true);
    for reply in [
        a.post(CONFIG_MAPS, &config_map("m", &json!({}))),
        a.delete(&format!("{PODS}/waiting")),
        a.patch("merge", &format!("{PODS}/waiting"), &json!({"spec": {"schedulingGates": []}})),
        bind("waiting"),
        a.delete(PODS),
    ] {
        assert!(reply.code == 403 && reply.text().contains("is paused"), "{}", reply.text());
    }
    server.end(nix::sys::signal::Signal::SIGKILL);
    server.launch();
    assert_eq!(a.post(CONFIG_MAPS, &config_map("m", &json!({}))).code, 403, "it stays paused");

    command(&server, "cluster resume mine -n team").ok();
    for name in ["running", "waiting"] {
        assert!(one(name)["spec"]["schedulingGates"].is_null(), "{}", one(name));
    }
    bind("running").ok();
    a.post(CONFIG_MAPS, &config_map("m", &json!({}))).ok();
    assert!(api.get(&format!("{}/mine", clusters("team"))).ok()["status"]["paused"].is_null());
}

#[test]
fn a_snapshot_brings_back_what_was_and_nothing_else() {
    let (server, api) = host();
    let a = mine(&server, &api);
    let hidden = "a text that nobody reads on the disk";
    a.post("/api/v1/namespaces/default/secrets", &json!({"metadata": {"name": "s"}, "stringData": {"k": hidden}})).ok();
    a.post(CONFIG_MAPS, &config_map("kept", &json!({"x": "then"}))).ok();
    a.post(PODS, &pod("bare")).ok();
    let port = |port: u16| json!({"metadata": {"name": "s"}, "spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]}});
    a.post(SERVICES, &port(30123)).ok();
    a.delete(&format!("{ROLES}/view")).ok();
    a.patch("merge", &format!("{ROLES}/edit"), &json!({"metadata": {"labels": {"of": "then"}}})).ok();
    let uid = |name: &str| a.get(&format!("{CONFIG_MAPS}/{name}")).ok()["metadata"]["uid"].clone();
    let (map, bare) = (uid("kept"), uids(&a, PODS));

    assert_eq!(command(&server, "cluster snapshot create mine s1 -n team").ok(), "s1\n");
    let table = command(&server, "cluster snapshot list mine -n team").ok();
    assert!(table.contains("s1") && table.contains("Ready"), "{table}");
    let file = files(&server).pop().unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions()) & 0o777, 0o600);
    assert!(std::fs::read(&file).unwrap().starts_with(b"k8s:enc:"), "it is sealed");

    a.patch("merge", &format!("{CONFIG_MAPS}/kept"), &json!({"data": {"x": "now"}})).ok();
    a.post(CONFIG_MAPS, &config_map("later", &json!({}))).ok();
    a.post("/api/v1/namespaces", &json!({"metadata": {"name": "later"}})).ok();
    a.delete(&format!("{PODS}/bare?gracePeriodSeconds=0")).ok();
    a.delete(&format!("{SERVICES}/s")).ok();
    a.delete("/api/v1/namespaces/default/secrets/s").ok();
    a.delete(&format!("{ROLES}/admin")).ok();
    a.patch("merge", &format!("{ROLES}/edit"), &json!({"metadata": {"labels": {"of": "now"}}})).ok();
    // Somebody else takes the node port meanwhile.
    api.post(SERVICES, &port(30123)).ok();
    let revision = a.get(CONFIG_MAPS).ok()["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let mut watch = a.watch(&format!("{CONFIG_MAPS}?watch=1&resourceVersion={revision}"));

    command(&server, "cluster snapshot restore mine s1 -n team").ok();
    assert_eq!((&a.get(&format!("{CONFIG_MAPS}/kept")).ok()["data"]["x"], uid("kept")), (&json!("then"), map));
    assert_eq!(a.get(&format!("{CONFIG_MAPS}/later")).code, 404);
    assert_eq!(a.get("/api/v1/namespaces/later").code, 404);
    assert_eq!(base64_text(&a.get("/api/v1/namespaces/default/secrets/s").ok()["data"]["k"]), hidden);
    assert_eq!(names(&a.get(PODS).ok()), ["bare"]);
    assert_ne!(uids(&a, PODS), bare, "a pod begins anew");
    let service = a.get(&format!("{SERVICES}/s")).ok();
    let given = service["spec"]["ports"][0]["nodePort"].as_u64().unwrap();
    assert!(given != 30123 && (30000..=32767).contains(&given), "{service}");
    assert_eq!(a.get(&format!("{ROLES}/view")).code, 404, "what was deleted of what all start with");
    assert_eq!(a.get(&format!("{ROLES}/admin")).code, 200, "and what was not");
    assert_eq!(a.get(&format!("{ROLES}/edit")).ok()["metadata"]["labels"]["of"], "then");
    // Whoever watches sees it happen.
    let seen: BTreeSet<(String, String)> =
        (0..2).map(|_| watch.next().unwrap()).map(|(kind, object)| (kind, object["metadata"]["name"].as_str().unwrap().to_owned())).collect();
    assert_eq!(seen, [("DELETED", "later"), ("MODIFIED", "kept")].map(|(kind, name)| (kind.to_owned(), name.to_owned())).into());
    // Restored once: what happens from then on stays, also when the cluster is looked at again, and the port is still its own.
    a.post(CONFIG_MAPS, &config_map("later", &json!({}))).ok();
    api.patch("merge", &format!("{}/mine", clusters("team")), &json!({"spec": {"mirrorHostNodes": true}})).ok();
    wait_until("the change is served", SOON, || {
        let found = api.get(&format!("{}/mine", clusters("team"))).ok();
        found["status"]["conditions"][0]["observedGeneration"] == found["metadata"]["generation"]
    });
    assert_eq!(a.get(&format!("{CONFIG_MAPS}/later")).code, 200);
    // And again when it is asked for again.
    command(&server, "cluster snapshot restore mine s1 -n team").ok();
    assert_eq!(a.get(&format!("{CONFIG_MAPS}/later")).code, 404);
    assert_eq!(a.get(&format!("{SERVICES}/s")).code, 200);
    assert!(command(&server, "cluster snapshot restore mine none -n team").err().contains("snapshot \"none\" not found"));
    command(&server, "cluster snapshot delete mine s1 -n team").ok();
    wait_until("the snapshot's file is gone", SOON, || files(&server).is_empty());
    assert_eq!(a.get(&format!("{CONFIG_MAPS}/kept")).code, 200);
}

#[test]
fn a_clone_has_the_content_and_nothing_of_the_identity() {
    let (server, api) = host();
    let a = mine(&server, &api);
    a.post(CONFIG_MAPS, &config_map("kept", &json!({"x": "1"}))).ok();
    a.post(PODS, &pod("bare")).ok();
    a.post(SERVICES, &json!({"metadata": {"name": "s"}, "spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30123}]}})).ok();
    let deployment = json!({
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 1, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
        },
    });
    a.post("/apis/apps/v1/namespaces/default/deployments", &deployment).ok();
    wait_until("the deployment has its pod", SOON, || names(&a.get(PODS).ok()).len() == 2);
    // A quota of the host counts for what is cloned too.
    api.post("/api/v1/namespaces/team/resourcequotas", &json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "3"}}})).ok();
    command(&server, "cluster snapshot create mine s1 -n team").ok();
    command(&server, "cluster create copy -n team --from-snapshot s1").ok();
    let b = of(&server, &api, "copy");
    assert_eq!(b.get(&format!("{CONFIG_MAPS}/kept")).ok()["data"]["x"], "1");
    for path in [CONFIG_MAPS, "/api/v1/namespaces", "/api/v1/serviceaccounts", PODS] {
        assert!(uids(&a, path).is_disjoint(&uids(&b, path)), "{path}");
    }
    let set = |api: &Api| api.get("/apis/apps/v1/namespaces/default/replicasets").ok()["items"][0].clone();
    wait_until("the copy has as many pods as it may", SOON, || !names(&b.get(PODS).ok()).is_empty());
    assert_eq!(b.get("/apis/apps/v1/namespaces/default/deployments/web").ok()["metadata"]["uid"], set(&b)["metadata"]["ownerReferences"][0]["uid"]);
    assert_ne!(set(&a)["metadata"]["uid"], set(&b)["metadata"]["uid"]);
    let port = |api: &Api| api.get(&format!("{SERVICES}/s")).ok()["spec"]["ports"][0]["nodePort"].clone();
    assert!(port(&a) == 30123 && port(&b) != 30123);
    wait_until("the quota counts both", SOON, || api.get("/api/v1/namespaces/team/resourcequotas/q").ok()["status"]["used"]["pods"] == "3");
    assert_eq!(names(&b.get(PODS).ok()).len(), 1, "and lets no more in");
    // Each is let in where it belongs, and nowhere else.
    for (whose, other) in [(&a, "copy"), (&b, "mine")] {
        assert_eq!(whose.elsewhere(&format!("/clusters/{other}.team/api/v1/namespaces")).get("").code, 401);
    }
    command(&server, "cluster delete mine -n team").ok();
    assert_eq!(b.get(&format!("{CONFIG_MAPS}/kept")).code, 200);
    command(&server, "cluster create third -n team --from-snapshot s1").ok();
    let found = phase(&api, &format!("{}/third", clusters("team")), "Ready");
    assert_eq!(found["status"]["restoredFrom"], "s1");
    let refused = command(&server, "cluster create other -n team --from-snapshot s1 --service-cidr 10.43.0.0/16").err();
    assert!(refused.contains("the snapshot's Services have addresses of"), "{refused}");
}

#[test]
fn a_restore_that_is_cut_off_is_whole_or_not_there() {
    let (mut server, api) = host();
    let a = mine(&server, &api);
    let maps = (0..1500).map(|number| config_map(&format!("m{number}"), &json!({"x": "then"})));
    assert!(a.post_all(CONFIG_MAPS, maps).into_iter().all(|code| code == 201));
    a.post(PODS, &pod("bare")).ok();
    command(&server, "cluster snapshot create mine s1 -n team").ok();
    for number in 0..50 {
        a.delete(&format!("{CONFIG_MAPS}/m{number}")).ok();
    }
    a.post(CONFIG_MAPS, &config_map("later", &json!({}))).ok();
    let wish = json!({"metadata": {"annotations": {"k8shost.io/restore-from": "s1"}}});
    api.patch("merge", &format!("{}/mine", clusters("team")), &wish).ok();
    server.end(nix::sys::signal::Signal::SIGKILL);
    server.launch();
    let count = |api: &Api| names(&api.get(CONFIG_MAPS).ok()).iter().filter(|name| name.starts_with('m')).count();
    // One look at all of them: the restore goes on by itself.
    let seen = names(&a.get(CONFIG_MAPS).ok());
    let (found, later) = (seen.iter().filter(|name| name.starts_with('m')).count(), seen.iter().any(|name| name == "later"));
    assert!(matches!((found, later), (1450, true) | (1500, false)), "{found} {later}");
    wait_until("it is restored", SOON, || api.get(&format!("{}/mine", clusters("team"))).ok()["status"]["restoredFrom"] == "s1");
    assert_eq!((count(&a), a.get(&format!("{CONFIG_MAPS}/later")).code), (1500, 404));
    assert_eq!(names(&a.get(PODS).ok()), ["bare"]);
}

#[test]
fn a_clusters_manifests_make_the_same_of_another_cluster() {
    let (server, api) = host();
    let a = mine(&server, &api);
    let definition = json!({
        "metadata": {"name": "bells.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"plural": "bells", "kind": "Bell"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}],
        },
    });
    a.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition).ok();
    wait_until("the kind is served", SOON, || a.get("/apis/example.com/v1/bells").code == 200);
    a.post("/api/v1/namespaces", &json!({"metadata": {"name": "shop", "labels": {"tier": "a"}}})).ok();
    a.post("/apis/example.com/v1/namespaces/shop/bells", &json!({"apiVersion": "example.com/v1", "kind": "Bell", "metadata": {"name": "ding"}, "tone": "a'"}))
        .ok();
    a.post(CONFIG_MAPS, &config_map("kept", &json!({"text": "two\nlines: [and] signs\n"}))).ok();
    a.post("/api/v1/namespaces/default/secrets", &json!({"metadata": {"name": "s"}, "stringData": {"k": "v"}})).ok();
    a.post(SERVICES, &json!({"metadata": {"name": "s"}, "spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30123}]}})).ok();
    wait_until("the service account is there", SOON, || a.get("/api/v1/namespaces/shop/serviceaccounts/default").code == 200);
    a.post("/api/v1/namespaces/shop/pods", &pod("p")).ok();
    let file = server.directory.path().join("dump.yaml");
    command(&server, &format!("cluster export mine -n team -f {}", file.display())).ok();
    let text = std::fs::read_to_string(&file).unwrap();
    for own in ["resourceVersion", "managedFields", "creationTimestamp", "kube-root-ca.crt", "30123", "system:", "uid:"] {
        assert!(!text.contains(own), "{own} in {text}");
    }
    assert_eq!(text, command(&server, "cluster export mine -n team").ok(), "said twice, it is the same");

    let kubectl = |name: &str| inside(&server, &api, "team", name);
    let same = |name: &str| {
        let kubectl = kubectl(name);
        assert_eq!(kubectl.k("get bells.example.com ding -n shop -o jsonpath={.tone}").ok(), "a'");
        assert_eq!(kubectl.k("get configmap kept -o jsonpath={.data.text}").ok(), "two\nlines: [and] signs\n");
        assert_eq!(kubectl.k("get namespace shop -o jsonpath={.metadata.labels.tier}").ok(), "a");
        assert_eq!(kubectl.k("get pods -A -o name").ok(), "pod/p\n");
        assert_eq!(kubectl.k("get secret s -o jsonpath={.data.k}").ok(), "dg==");
        assert_eq!(kubectl.k("get service s -o jsonpath={.spec.ports[0].port}").ok(), "80");
    };
    command(&server, "cluster create second -n team").ok();
    command(&server, &format!("cluster import second {} -n team", file.display())).ok();
    same("second");
    // What it makes is exported as it was.
    assert_eq!(command(&server, "cluster export second -n team").ok(), text);
    command(&server, &format!("cluster import second {} -n team", file.display())).ok();
    // It needs no k8shost to read it.
    command(&server, "cluster create third -n team").ok();
    of(&server, &api, "third");
    let apply = || kubectl("third").k(&format!("apply -f {}", file.display()));
    wait_until("kubectl has applied all of it, kinds and accounts that come in a moment included", SOON, || apply().success);
    same("third");
    let broken = server.directory.path().join("broken.yaml");
    std::fs::write(&broken, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: first}\n---\nkind: ConfigMap\n").unwrap();
    assert!(command(&server, &format!("cluster import third {} -n team", broken.display())).err().contains("an object has no apiVersion"));
    assert!(!kubectl("third").k("get configmap first").success, "and nothing is applied");
}

#[test]
fn a_snapshot_waits_for_its_cluster_and_says_so() {
    let (_server, api) = host();
    let path = "/apis/k8shost.io/v1/namespaces/team/clustersnapshots";
    wait_until("there are snapshots", SOON, || api.get(path).code == 200);
    let snapshot = json!({"apiVersion": "k8shost.io/v1", "kind": "ClusterSnapshot", "metadata": {"name": "s"}, "spec": {"clusterName": "mine"}});
    api.post(path, &snapshot).ok();
    let told = |expected: &str| {
        let mut found = Value::Null;
        wait_until(&format!("the snapshot is {expected}"), SOON, || {
            found = api.get(&format!("{path}/s")).ok();
            found["status"]["phase"] == expected
        });
        found
    };
    assert_eq!(told("Pending")["status"]["message"], "cluster \"mine\" is not ready");
    crate::clusters::make(&api, "team", "mine", &json!({}));
    let taken = told("Ready");
    assert!(taken["status"]["message"].is_null() && taken["status"]["objects"].as_u64().unwrap() > 5, "{taken}");
    assert_eq!(api.patch("merge", &format!("{path}/s"), &json!({"spec": {"clusterName": "other"}})).code, 422);
}
