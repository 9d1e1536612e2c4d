//! Writes: generated names, system fields, optimistic concurrency, who wins a race.
use crate::support::{CONFIG_MAPS, config_map, deployment, names, pod, quiet};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use testkit::{Api, Ask};

#[test]
fn the_server_fills_in_what_is_its_own() {
    let (_server, api) = quiet();
    let mut sent = config_map("a", &json!({"k": "v"}));
    for (field, value) in [
        ("uid", json!("mine")),
        ("creationTimestamp", json!("2001-01-01T00:00:00Z")),
        ("deletionTimestamp", json!("2001-01-01T00:00:00Z")),
        ("generation", json!(7)),
    ] {
        sent["metadata"][field] = value;
    }
    let stored = api.post(CONFIG_MAPS, &sent).ok();
    let metadata = &stored["metadata"];
    assert_eq!((&metadata["namespace"], &metadata["name"]), (&json!("default"), &json!("a")));
    assert_ne!(metadata["uid"], "mine");
    assert!(metadata["creationTimestamp"].as_str().unwrap() > "2026");
    assert!(metadata.get("deletionTimestamp").is_none() && metadata.get("generation").is_none());
    assert_eq!(stored, api.get(&format!("{CONFIG_MAPS}/a")).ok(), "what is answered is what is stored");
    let made = api.post("/apis/apps/v1/namespaces/default/deployments", &deployment("web")).ok();
    assert_eq!((&made["metadata"]["generation"], &made["spec"]["strategy"]["type"]), (&json!(1), &json!("RollingUpdate")));
    assert_eq!(made["status"], json!({}));
    let path = "/apis/apps/v1/namespaces/default/deployments/web";
    let scaled = api.patch("merge", path, &json!({"spec": {"replicas": 3}})).ok();
    assert_eq!(scaled["metadata"]["generation"], 2);
    let labelled = api.patch("merge", path, &json!({"metadata": {"labels": {"a": "b"}}})).ok();
    assert_eq!(labelled["metadata"]["generation"], 2, "metadata is no new generation");
    // What changes nothing is no write.
    let again = api.patch("merge", path, &json!({"metadata": {"labels": {"a": "b"}}})).ok();
    assert_eq!(again["metadata"]["resourceVersion"], labelled["metadata"]["resourceVersion"]);
    let put = api.put(path, &again).ok();
    assert_eq!(put["metadata"]["resourceVersion"], labelled["metadata"]["resourceVersion"]);
}

#[test]
fn names_are_generated_and_never_twice() {
    let (_server, api) = quiet();
    let body = json!({"metadata": {"generateName": "made-"}});
    let made: Vec<String> = parallel(20, |_| api.post(CONFIG_MAPS, &body).ok()["metadata"]["name"].as_str().unwrap().to_owned());
    let unique: BTreeSet<&String> = made.iter().collect();
    assert_eq!(unique.len(), 20);
    assert!(made.iter().all(|name| name.len() == 10 && name.starts_with("made-")), "{made:?}");
    let long = api.post(CONFIG_MAPS, &json!({"metadata": {"generateName": "x".repeat(100)}})).ok();
    assert_eq!(long["metadata"]["name"].as_str().unwrap().len(), 63);
    assert_eq!(names(&api.get(CONFIG_MAPS).ok()).len(), 21);
}

/// Runs `task` so many times at once.
fn parallel<T: Send>(count: usize, task: impl Fn(usize) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..count)
            .map(|n| {
                scope.spawn({
                    let task = &task;
                    move || task(n)
                })
            })
            .collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn no_update_is_lost_and_of_equal_creates_one_wins() {
    let (_server, api) = quiet();
    let codes = parallel(16, |n| api.post(CONFIG_MAPS, &config_map("one", &json!({"by": n.to_string()}))).code);
    assert_eq!(codes.iter().filter(|code| **code == 201).count(), 1);
    assert_eq!(codes.iter().filter(|code| **code == 409).count(), 15);
    let one = format!("{CONFIG_MAPS}/one");
    // Patches of different keys all arrive, without anybody trying again.
    let codes = parallel(24, |n| api.patch("merge", &one, &json!({"data": {format!("k{n}"): "v"}})).code);
    assert_eq!(codes, [200; 24]);
    assert_eq!(api.get(&one).ok()["data"].as_object().unwrap().len(), 25);
    // Of those who write what they read, each either wins or is told.
    let count = |api: &Api| {
        loop {
            let mut read = api.get(&one).ok();
            let n: u64 = read["data"]["count"].as_str().unwrap_or("0").parse().unwrap();
            read["data"]["count"] = (n + 1).to_string().into();
            match api.put(&one, &read).code {
                200 => return,
                code => assert_eq!(code, 409),
            }
        }
    };
    parallel(12, |_| count(&api));
    assert_eq!(api.get(&one).ok()["data"]["count"], "12");
    // A write without a resourceVersion says nothing about what was before.
    let codes = parallel(8, |n| api.put(&one, &config_map("one", &json!({"last": n.to_string()}))).code);
    assert_eq!(codes, [200; 8]);
}

#[test]
fn some_kinds_can_be_put_where_they_are_not_and_must_be_put_as_they_were() {
    let (_server, api) = quiet();
    let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    let lease = json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": "me"}});
    let reply = api.put(&format!("{leases}/l"), &lease);
    assert_eq!((reply.code, &reply.ok()["spec"]["holderIdentity"]), (201, &json!("me")));
    let (code, reason, message) = api.put(&format!("{leases}/l"), &lease).refusal();
    assert_eq!((code, reason.as_str()), (422, "Invalid"));
    assert_eq!(message, "Lease.coordination.k8s.io \"l\" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified for an update");
    assert_eq!(api.put(&format!("{CONFIG_MAPS}/none"), &config_map("none", &json!({}))).refusal().0, 404);
    // Eight at once: one creates, the others are told that they come late.
    let codes: Vec<u16> = parallel(8, |_| api.put(&format!("{leases}/race"), &json!({"metadata": {"name": "race"}})).code);
    assert_eq!(codes.iter().filter(|code| **code == 201).count(), 1, "{codes:?}");
}

#[test]
fn yaml_is_as_good_as_json_and_a_bomb_is_not() {
    let (_server, api) = quiet();
    let yaml = |text: &str| api.send(&Ask::new("POST", CONFIG_MAPS).body("application/yaml", text));
    assert_eq!(yaml("metadata: {name: yaml}\ndata:\n  k: 'yes'\n").ok()["data"]["k"], "yes");
    let mut bomb = String::from("metadata: {name: bomb}\ndata:\n  a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for n in 1..10 {
        let row = vec![format!("*a{}", n - 1); 10].join(",");
        bomb.push_str(&format!("  a{n}: &a{n} [{row}]\n"));
    }
    assert_eq!(yaml(&bomb).refusal().0, 400);
}

#[test]
fn a_node_brings_its_status_and_a_pod_does_not() {
    let (_server, api) = quiet();
    let node = api.post("/api/v1/nodes", &json!({"metadata": {"name": "n"}, "status": {"capacity": {"cpu": "2"}}})).ok();
    assert_eq!(node["status"]["capacity"]["cpu"], "2");
    let mut with_status = pod("p");
    with_status["status"] = json!({"phase": "Running", "podIP": "10.0.0.1"});
    let stored: Value = api.post("/api/v1/namespaces/default/pods", &with_status).ok();
    assert_eq!((&stored["status"]["phase"], stored["status"].get("podIP")), (&json!("Pending"), None));
}

#[test]
fn owners_named_twice_are_kept_once_with_a_warning() {
    let (_server, api) = quiet();
    let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "1"});
    let mut object = config_map("owned", &json!({}));
    object["metadata"]["ownerReferences"] = json!([owner, owner, {"apiVersion": "v1", "kind": "Pod", "name": "other", "uid": "1"}]);
    let reply = api.post(CONFIG_MAPS, &object);
    assert_eq!(
        reply.warnings(),
        [
            "299 - \".metadata.ownerReferences contains duplicate entries; API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: 1\""
        ]
    );
    let stored = reply.ok();
    assert_eq!(stored["metadata"]["ownerReferences"].as_array().unwrap().len(), 2);
    // Two of one uid are left: they are owned together, and written back they are what they were.
    assert_eq!(stored["metadata"]["managedFields"][0]["fieldsV1"]["f:metadata"]["f:ownerReferences"], json!({".": {}, "k:{\"uid\":\"1\"}": {}}));
    assert_eq!(api.put(&format!("{CONFIG_MAPS}/owned"), &stored).ok(), stored);
    let patched = api.patch("merge", &format!("{CONFIG_MAPS}/owned"), &json!({"metadata": {"ownerReferences": [owner, owner]}}));
    assert!(patched.warnings()[0].contains("duplicate entries after mutating admission happens; API server"), "{:?}", patched.warnings());
    assert_eq!(patched.ok()["metadata"]["ownerReferences"], json!([owner]));
}
