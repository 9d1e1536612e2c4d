//! More roads out of a virtual cluster: spellings of paths, headers, metrics, priorities, watches, volumes, finalizers.
use super::{A, B, tenants};
use crate::support::{CONFIG_MAPS, SOON, config_map, names};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use testkit::{Api, Ask, Reply, Server, Watch, wait_until};

const NAMESPACES: &str = "/api/v1/namespaces";
const PODS: &str = "/api/v1/namespaces/default/pods";
const CLASSES: &str = "/apis/scheduling.k8s.io/v1/priorityclasses";

#[test]
fn no_spelling_of_a_path_and_no_header_leads_elsewhere() {
    let (server, host, [a, b]) = tenants();
    for (api, marked) in [(&host, "of-the-host"), (&b, "of-team-b"), (&a, "of-team-a")] {
        api.post(NAMESPACES, &json!({"metadata": {"name": marked}})).ok();
    }
    let foreign = |text: &str| text.contains("of-the-host") || text.contains("of-team-b");
    let (port, list) = (server.port, "api/v1/namespaces");
    for path in [
        format!("{A}/../same.team-b/{list}"),
        format!("{A}/..%2fsame.team-b/{list}"),
        format!("{A}/%2e%2e/same.team-b/{list}"),
        format!("{A}/%2E%2E%2Fsame.team-b/{list}"),
        format!("{A}/%252e%252e/same.team-b/{list}"),
        format!("{A}/..;/same.team-b/{list}"),
        format!("{A}/.%00./same.team-b/{list}"),
        format!("{A}\\..\\same.team-b/{list}"),
        format!("{A}/../../{list}"),
        format!("{A}/%2e%2e/%2e%2e/{list}"),
        format!("{A}%2f..%2f..%2f{list}"),
        format!("{A}/{B}/{list}"),
        format!("{A}//clusters//same.team-b/{list}"),
        format!("/clusters/same%2eteam-b/{list}"),
        format!("/clusters/%73ame.team-b/{list}"),
        format!("/clusters/SAME.TEAM-B/{list}"),
        format!("/CLUSTERS/same.team-b/{list}"),
        format!("/clusters/same.team-b%00.team-a/{list}"),
        format!("/clusters/same.team-b;same.team-a/{list}"),
        format!("/clusters/same.team-a,same.team-b/{list}"),
        format!("/clusters/root/{list}"),
        format!("/clusters/base/{list}"),
        format!("/clusters/*/{list}"),
        format!("/clusters/%2a/{list}"),
        format!("/clusters/*.team-b/{list}"),
        format!("/clusters/./{list}"),
        format!("/clusters//{list}"),
        format!("//{list}"),
        format!("/{list}"),
        format!("https://127.0.0.1:{port}{B}/{list}"),
        format!("https://127.0.0.1:{port}/{list}"),
        format!("{A}/api/v1/namespaces/of-team-a/../../../../clusters/same.team-b/{list}"),
        format!("{A}/api/v1/namespaces/..%2f..%2f..%2fsame.team-b%2f{list}"),
        format!("{A}/{list}/of-team-b"),
        format!("{A}/{list}?cluster=same.team-b&namespace=of-team-b&cluster=*"),
    ] {
        let reply = a.elsewhere("").try_send(&Ask::new("GET", &path));
        // What is no request at all may end the connection.
        let Ok(reply) = reply else { continue };
        assert!(!foreign(&reply.text()) || reply.code == 404 && path.ends_with("of-team-b"), "{path}: {} {}", reply.code, reply.text());
        let own = reply.code == 200 && names(&reply.json()).contains(&"of-team-a".to_owned());
        assert!(own || matches!(reply.code, 400 | 401 | 403 | 404 | 405), "{path}: {} {}", reply.code, reply.text());
    }
    // Who somebody is, and where they want to go, is never told by a header.
    let original = format!("{B}/{list}");
    for (name, value) in [
        ("x-remote-user", "system:admin"),
        ("x-remote-group", "system:masters"),
        ("x-remote-uid", "0"),
        ("x-original-url", original.as_str()),
        ("x-rewrite-url", original.as_str()),
        ("x-forwarded-prefix", B),
        ("x-forwarded-host", "kubernetes.default.svc"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-kubernetes-cluster", "*"),
        ("x-cluster", "same.team-b"),
    ] {
        let with = a.with_header(name, value);
        let own = with.get(NAMESPACES);
        assert!(own.code == 200 && !foreign(&own.text()), "{name}: {}", own.text());
        for place in ["", B] {
            assert_eq!(with.elsewhere(place).get(NAMESPACES).code, 401, "{name} at {place:?}");
            assert_eq!(with.anonymous().with_header(name, value).elsewhere(place).get(NAMESPACES).code, 401, "{name} at {place:?}");
        }
    }
}

#[test]
fn the_hosts_metrics_tell_of_no_tenants_names_and_do_not_grow_with_them() {
    let (_server, host, [a, _]) = tenants();
    for path in ["/metrics", "/logs", "/logs/", "/debug/pprof", "/configz", "/statusz", "/flagz", "/metrics/slis", "/metrics/cadvisor"] {
        assert!(matches!(a.get(path).code, 403 | 404), "{path}: {}", a.get(path).code);
    }
    let series = |text: &str| text.lines().filter(|line| !line.starts_with('#')).count();
    let mut counts = Vec::new();
    for round in 0..4 {
        for number in 0..3 {
            let group = format!("secret-{round}-{number}.example.com");
            let version =
                json!({"name": "v1", "served": true, "storage": true, "subresources": {"status": {}}, "schema": {"openAPIV3Schema": {"type": "object"}}});
            let definition = json!({
                "metadata": {"name": format!("plans.{group}")},
                "spec": {"group": group, "scope": "Namespaced", "names": {"plural": "plans", "kind": "Plan"}, "versions": [version]},
            });
            a.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition).ok();
            let plans = format!("/apis/{group}/v1/namespaces/default/plans");
            wait_until("the kind is served", SOON, || a.get(&plans).code == 200);
            a.post(&plans, &json!({"apiVersion": format!("{group}/v1"), "kind": "Plan", "metadata": {"name": "p"}})).ok();
            a.patch("merge", &format!("{plans}/p/status"), &json!({"status": {}})).ok();
            a.watch(&format!("{plans}?watch=1")).next_event();
            a.get(&format!("{plans}/p/{group}"));
            a.get(&format!("/api/v1/namespaces/default/pods/p/{group}"));
            a.send(&Ask::new(&format!("MADE{round}{number}"), &plans));
            a.get(&format!("/{group}"));
            a.delete(&format!("{plans}/p")).ok();
        }
        let text = host.get("/metrics").text();
        assert!(!text.contains("secret-") && !text.contains("plans") && !text.contains("MADE"), "{text}");
        assert!(!text.contains("team-a") && !text.contains("team-b"), "{text}");
        assert!(text.contains("defined-by-virtual-clusters"), "what tenants define is counted together: {text}");
        counts.push(series(&text));
    }
    assert!(counts[3] <= counts[1] + 100, "the more kinds, the more series: {counts:?}");
}

fn asking(name: &str, cpu: &str, class: &str) -> Value {
    let mut pod = crate::support::pod(name);
    pod["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": cpu}});
    pod["spec"]["tolerations"] = json!([{"operator": "Exists"}]);
    if !class.is_empty() {
        pod["spec"]["priorityClassName"] = json!(class);
    }
    pod
}

#[test]
fn a_priority_is_worth_nothing_outside_its_cluster() {
    let (_server, host, [a, b]) = tenants();
    let amounts = json!({"cpu": "2", "memory": "4Gi", "pods": "110"});
    let node = json!({"metadata": {"name": "n1"}, "status": {"capacity": amounts, "allocatable": amounts}});
    host.post("/api/v1/nodes", &node).ok();
    host.patch("merge", "/api/v1/nodes/n1/status", &json!({"status": node["status"]})).ok();
    let node_of = |api: &Api, name: &str| api.get(&format!("{PODS}/{name}")).ok()["spec"]["nodeName"].clone();
    let condition = |name: &str| a.get(&format!("{PODS}/{name}")).ok()["status"]["conditions"][0].clone();
    b.post(PODS, &asking("holder", "1", "")).ok();
    host.post(PODS, &asking("of-host", "500m", "")).ok();
    for (api, name) in [(&b, "holder"), (&host, "of-host")] {
        wait_until("it has a node", SOON, || node_of(api, name) == "n1");
    }
    // What a class may be is upstream's to say, in every cluster.
    for (name, value, code) in [("huge", 1_000_000_000_i64, 201), ("beyond", 1_000_000_001, 422), ("beyond-all", 2_147_483_647, 422), ("system-mine", 1, 422)] {
        assert_eq!(a.post(CLASSES, &json!({"metadata": {"name": name}, "value": value})).code, code, "{name}");
    }
    let mut direct = asking("direct", "1", "");
    direct["spec"]["priority"] = json!(2_000_001_000);
    assert_eq!(a.post(PODS, &direct).code, 403);
    let classes = ["huge", "system-cluster-critical", "system-node-critical"];
    for class in classes {
        a.post(PODS, &asking(&format!("p-{class}"), "1", class)).ok();
    }
    for class in classes {
        let name = format!("p-{class}");
        wait_until("it was refused", SOON, || condition(&name)["reason"] == "Unschedulable");
        let message = condition(&name)["message"].as_str().unwrap_or_default().to_owned();
        assert!(message.contains("0/1 nodes are available") && message.contains("No preemption victims found"), "{class}: {message}");
        assert!(a.get(&format!("{PODS}/{name}")).ok()["status"]["nominatedNodeName"].is_null(), "{class}");
        // Said by its owner, it is believed by nobody.
        a.patch("merge", &format!("{PODS}/{name}/status"), &json!({"status": {"nominatedNodeName": "n1"}}));
    }
    // What is left is for who asks next, however important those are that wait for more.
    b.post(PODS, &asking("late", "400m", "")).ok();
    wait_until("the neighbour's next pod has a node", SOON, || node_of(&b, "late") == "n1");
    for (api, name) in [(&b, "holder"), (&host, "of-host"), (&b, "late")] {
        let found = api.get(&format!("{PODS}/{name}")).ok();
        assert!(found["metadata"]["deletionTimestamp"].is_null() && found["spec"]["nodeName"] == "n1", "{found}");
    }
    // In its own cluster it counts: who is in the way there has to go.
    b.post(CLASSES, &json!({"metadata": {"name": "urgent"}, "value": 1000})).ok();
    b.post(PODS, &asking("urgent", "1", "urgent")).ok();
    wait_until("its own victim goes", SOON, || {
        let holder = b.get(&format!("{PODS}/holder"));
        holder.code == 404 || !holder.json()["metadata"]["deletionTimestamp"].is_null()
    });
    assert_eq!(node_of(&host, "of-host"), "n1");
}

/// A figure of the server's process, in kilobytes.
fn memory(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// The slowest but two of two hundred reads.
fn slowest(api: &Api) -> Duration {
    let mut connection = api.connection();
    let mut took: Vec<Duration> = (0..200)
        .map(|_| {
            let asked = Instant::now();
            assert_eq!(connection.send(&Ask::new("GET", NAMESPACES)).code, 200);
            asked.elapsed()
        })
        .collect();
    took.sort_unstable();
    took[197]
}

/// As many watches as the cluster may have, and how one more is refused.
fn all_watches(api: &Api, path: &str) -> (Vec<Watch>, Reply) {
    let mut watches = Vec::new();
    loop {
        assert!(watches.len() <= 1000, "nobody says no");
        match api.try_watch(path) {
            Ok(watch) => watches.push(watch),
            Err(reply) => return (watches, reply),
        }
    }
}

#[test]
fn ten_thousand_watches_are_their_own_clusters_trouble() {
    let (server, host, [a, b]) = tenants();
    let path = format!("{CONFIG_MAPS}?watch=1");
    let before = memory(&server);
    let (mut watches, refusal) = all_watches(&a, &path);
    assert_eq!((refusal.code, refusal.header("retry-after")), (429, Some("1")), "{}", refusal.text());
    assert!(watches.len() >= 900, "{} watches", watches.len());
    // The other nine thousand are refused, each at once, while neighbours ask.
    let (asking, refused) = (a.clone(), Ask::new("GET", &path));
    let rest = std::thread::spawn(move || {
        let mut connection = asking.connection();
        (0..9000).filter(|_| connection.send(&refused).code == 429).count()
    });
    let (of_neighbour, of_host) = (slowest(&b), slowest(&host));
    assert_eq!(a.get(CONFIG_MAPS).code, 200, "and its other requests are served");
    assert_eq!(rest.join().unwrap(), 9000);
    assert!(of_neighbour < Duration::from_millis(500) && of_host < Duration::from_millis(500), "{of_neighbour:?} {of_host:?}");
    let mut watch = b.watch(&format!("{CONFIG_MAPS}?watch=1"));
    b.post(CONFIG_MAPS, &config_map("seen", &json!({}))).ok();
    while watch.next_short() != "ADDED seen" {}
    // Every one of the thousand hears of a change, and so the share is used and not only held.
    a.post(CONFIG_MAPS, &config_map("told", &json!({}))).ok();
    for watch in &mut watches {
        while watch.next_short() != "ADDED told" {}
    }
    let most = memory(&server);
    drop(watches);
    let watching = "apiserver_longrunning_requests{verb=\"WATCH\",group=\"\",version=\"v1\",resource=\"configmaps\"";
    wait_until("all of them have ended", SOON, || {
        a.post(CONFIG_MAPS, &config_map("told", &json!({})));
        let text = host.get("/metrics").text();
        let counted = text.lines().filter(|line| line.starts_with(watching)).filter_map(|line| line.rsplit(' ').next()?.parse::<u32>().ok());
        counted.sum::<u32>() < 100
    });
    // What they took is there for others: as many once more take next to nothing besides.
    let (again, _) = all_watches(&a, &path);
    assert!(again.len() >= 900, "{} watches", again.len());
    let (first, second) = (most.saturating_sub(before), memory(&server).saturating_sub(before));
    assert!(second <= first + first / 4 + 8_192, "{first} kB for the first thousand, {second} kB after the second");
}

#[test]
fn volumes_and_finalizers_hold_nothing_of_the_host() {
    let (_server, host, [a, b]) = tenants();
    // A volume by its name is one's own cluster's, or nobody's.
    let volume = json!({
        "metadata": {"name": "shared"},
        "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "nfs": {"server": "192.0.2.9", "path": "/"}, "storageClassName": "x"},
    });
    for api in [&host, &b] {
        api.post("/api/v1/persistentvolumes", &volume).ok();
    }
    let claim = json!({
        "metadata": {"name": "c"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "volumeName": "shared", "storageClassName": "x"},
    });
    a.post("/api/v1/namespaces/default/persistentvolumeclaims", &claim).ok();
    b.post("/api/v1/namespaces/default/persistentvolumeclaims", &claim).ok();
    let state = |api: &Api, path: &str| api.get(path).ok()["status"]["phase"].as_str().unwrap_or_default().to_owned();
    let claims = "/api/v1/namespaces/default/persistentvolumeclaims/c";
    wait_until("the owner's claim is bound", SOON, || state(&b, claims) == "Bound");
    assert_eq!(state(&a, claims), "Pending");
    assert_eq!(state(&host, "/api/v1/persistentvolumes/shared"), "Available");
    assert_eq!(a.get("/api/v1/persistentvolumes/shared").code, 404);

    // Everything that can be held is held, by a finalizer that nobody takes away.
    let held = ["example.com/never"];
    let definition = json!({
        "metadata": {"name": "plans.example.com", "finalizers": held},
        "spec": {
            "group": "example.com", "scope": "Cluster", "names": {"plural": "plans", "kind": "Plan"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}],
        },
    });
    a.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition).ok();
    wait_until("the kind is served", SOON, || a.get("/apis/example.com/v1/plans").code == 200);
    let mut pod = crate::support::pod("p");
    pod["metadata"]["finalizers"] = json!(held);
    for (path, object) in [
        ("/apis/example.com/v1/plans", json!({"apiVersion": "example.com/v1", "kind": "Plan", "metadata": {"name": "p", "finalizers": held}})),
        (NAMESPACES, json!({"metadata": {"name": "n", "finalizers": held}, "spec": {"finalizers": ["kubernetes", "example.com/never"]}})),
        ("/api/v1/namespaces/default/pods", pod),
        ("/api/v1/namespaces/default/secrets", json!({"metadata": {"name": "s", "finalizers": held}})),
        (
            "/api/v1/namespaces/default/services",
            json!({"metadata": {"name": "s", "finalizers": held}, "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}}),
        ),
    ] {
        a.post(path, &object).ok();
    }
    for path in [claims, "/apis/example.com/v1/plans/p", "/api/v1/namespaces/n", "/api/v1/namespaces/default/pods/p"] {
        a.delete(path);
    }
    assert_eq!(a.get("/apis/example.com/v1/plans/p").code, 200, "in its own cluster a finalizer holds");
    // With the namespace goes the Cluster, and with that all it holds.
    host.delete("/api/v1/namespaces/team-a");
    wait_until("the namespace is gone", SOON, || host.get("/api/v1/namespaces/team-a").code == 404);
    assert_eq!(a.get(NAMESPACES).code, 401);
    assert_eq!(b.get(NAMESPACES).code, 200);
}
