//! Claims on a node: who may use them, what is remembered of them, and what containers get.
use super::record::{Device, Record, Records};
use super::{cdi, claim_names, knows_cdi, wanted};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::resource::v1::ResourceClaim;
use serde_json::json;

fn pod() -> Pod {
    let claims = json!([{"name": "own", "resourceClaimTemplateName": "t"}, {"name": "shared", "resourceClaimName": "common"}]);
    let status = json!({"resourceClaimStatuses": [{"name": "own", "resourceClaimName": "p-own-x"}]});
    serde_json::from_value(
        json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": {"containers": [], "resourceClaims": claims}, "status": status}),
    )
    .unwrap()
}

#[test]
fn claims_are_found_by_the_pods_names_for_them() {
    let names = |pod: &Pod| claim_names(pod).map(|names| names.into_iter().map(|(name, claim)| format!("{name}={claim}")).collect::<Vec<_>>().join(" "));
    assert_eq!(names(&pod()), Ok("own=p-own-x shared=common".into()));
    assert_eq!(names(&Pod { status: None, ..pod() }), Err("pod \"n/p\": ResourceClaim not created yet".into()));
}

#[test]
fn a_claim_is_prepared_for_those_it_is_reserved_for() {
    let claim =
        |status| -> ResourceClaim { serde_json::from_value(json!({"metadata": {"name": "common", "uid": "c"}, "spec": {}, "status": status})).unwrap() };
    let result = |driver: &str| json!({"request": "r", "driver": driver, "pool": "n1", "device": "d"});
    let allocation = json!({"devices": {"results": [result("a.example.com"), result("b.example.com"), result("a.example.com")]}});
    let user = |uid: &str| json!([{"resource": "pods", "name": "p", "uid": uid}]);
    assert_eq!(wanted(&claim(json!({})), &pod()).unwrap_err(), "ResourceClaim common is not allocated");
    let others = wanted(&claim(json!({"allocation": allocation, "reservedFor": user("other")})), &pod());
    assert_eq!(others.unwrap_err(), "pod p(u) is not allowed to use resource claim common(c)");
    let ours = wanted(&claim(json!({"allocation": allocation, "reservedFor": user("u")})), &pod()).unwrap();
    assert_eq!(ours.drivers.into_iter().collect::<Vec<_>>(), ["a.example.com", "b.example.com"]);
}

#[test]
fn what_was_prepared_is_known_to_the_next_run() {
    let directory = tempfile::tempdir().unwrap();
    let device = Device { requests: vec!["r".into()], names: vec!["example.com/gpu=a".into()] };
    let record = Record {
        namespace: "n".into(),
        name: "common".into(),
        uid: "c".into(),
        pods: ["u".to_owned()].into(),
        drivers: ["a.example.com".to_owned()].into(),
        devices: vec![device],
        is_ready: true,
    };
    Records::open(directory.path()).unwrap().write(record.clone()).unwrap();
    let next = Records::open(directory.path()).unwrap();
    assert_eq!(next.get("c"), Some(Record { is_ready: false, ..record.clone() }), "the drivers are asked again");
    assert_eq!((next.of_pod("u"), next.of_pod("other").len()), (vec!["c".to_owned()], 0));
    next.remove("c").unwrap();
    assert!(Records::open(directory.path()).unwrap().pods().is_empty());
    assert!(next.write(Record { uid: "../c".into(), ..record }).is_err());
}

#[test]
fn devices_go_to_the_requests_they_are_for() {
    let device = |requests: &[&str]| Device { requests: requests.iter().map(|r| (*r).to_owned()).collect(), names: Vec::new() };
    for (requests, wanted, is_for) in
        [(&["a"][..], Some("a"), true), (&["a"], Some("b"), false), (&["a/x"], Some("a"), true), (&[], Some("b"), true), (&["a"], None, true)]
    {
        assert_eq!(device(requests).is_for(wanted), is_for, "{requests:?} {wanted:?}");
    }
}

#[test]
fn descriptions_of_devices_become_parts_of_containers() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let write = |directory: &tempfile::TempDir, name: &str, text: serde_json::Value| std::fs::write(directory.path().join(name), text.to_string()).unwrap();
    let device = |name: &str, value: &str| json!({"name": name, "containerEdits": {"env": [format!("GPU={value}")]}});
    write(
        &first,
        "a.json",
        json!({"cdiVersion": "0.6.0", "kind": "example.com/gpu", "devices": [device("a", "old"), device("b", "b")],
        "containerEdits": {"env": ["ALL=1"]}}),
    );
    write(
        &second,
        "b.json",
        json!({"cdiVersion": "0.6.0", "kind": "example.com/gpu", "devices": [{"name": "a", "containerEdits": {"env": ["GPU=a=b"],
        "deviceNodes": [{"path": "/dev/gpu", "hostPath": "/dev/null"}, {"path": "/dev/zero", "permissions": "r"}],
        "mounts": [{"hostPath": "/opt/gpu", "containerPath": "/gpu", "options": ["ro", "bind"]}]}}]}),
    );
    write(&second, "broken.json", json!({"kind": 1}));
    write(
        &second,
        "hooked.json",
        json!({"kind": "example.com/hooked", "devices": [{"name": "a", "containerEdits": {"hooks": [{"hookName": "createContainer"}]}}]}),
    );
    let directories = [first.path().to_owned(), second.path().to_owned()];
    let resolve = |names: &[&str]| cdi::resolve(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>(), &directories);
    let found = resolve(&["example.com/gpu=a", "example.com/gpu=b"]).unwrap();
    let variables: Vec<String> = found.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(variables, ["GPU=a=b", "GPU=b", "ALL=1"]);
    let devices: Vec<String> = found.devices.iter().map(|d| format!("{}:{}:{}", d.host_path, d.container_path, d.permissions)).collect();
    assert_eq!(devices, ["/dev/null:/dev/gpu:rwm", "/dev/zero:/dev/zero:r"]);
    assert!(found.mounts[0].readonly && found.mounts[0].container_path == "/gpu");
    assert_eq!(resolve(&["example.com/gpu=c"]).unwrap_err(), "CDI device injection failed: unresolvable CDI devices example.com/gpu=c");
    assert!(resolve(&["example.com/hooked=a"]).unwrap_err().contains("has hooks"));
}

#[test]
fn runtimes_know_cdi_from_some_version_on() {
    for (name, version, knows) in
        [("containerd", "1.6.20~ds1", false), ("containerd", "v1.7.2", true), ("containerd", "2.0.0", true), ("cri-o", "1.30.0", true)]
    {
        assert_eq!(knows_cdi(name, version), knows, "{name} {version}");
    }
}
