//! Two address families: Services, nodes and endpoints of a cluster with an IPv4 and an IPv6 range.
use crate::support::{SOON, names};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use testkit::{Api, Reply, Server, ServerOptions, wait_until};

const SERVICES: &str = "/api/v1/namespaces/default/services";
const ADDRESSES: &str = "/apis/networking.k8s.io/v1/ipaddresses";
const PODS: &str = "/api/v1/namespaces/default/pods";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
const RANGE: &str = "/apis/networking.k8s.io/v1/servicecidrs/kubernetes";
const BOTH: [&str; 4] = ["--cluster-cidr", "10.42.0.0/16,fd42::/56", "--service-cidr", "10.43.0.0/16,fd43::/112"];

fn server(disabled: &str) -> (Server, Api) {
    let arguments = ["--disable-agent", "--disable", disabled].into_iter().chain(BOTH).map(Into::into).collect();
    let server = Server::start(ServerOptions { arguments, is_host: true, ..ServerOptions::default() });
    let api = server.api();
    (server, api)
}

fn service(name: &str, spec: &Value) -> Value {
    let mut all = json!({"ports": [{"port": 80}], "selector": {"app": "web"}});
    all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": all})
}

fn make(api: &Api, name: &str, spec: Value) -> Reply {
    api.post(SERVICES, &service(name, &spec))
}

fn change(api: &Api, name: &str, spec: Value) -> Reply {
    api.patch("merge", &format!("{SERVICES}/{name}"), &json!({"spec": spec}))
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// `policy families addresses`, each address as the range it is of.
fn stacks(service: &Value) -> String {
    let spec = &service["spec"];
    let addresses = texts(&spec["clusterIPs"]);
    assert_eq!(spec["clusterIP"].as_str(), addresses.first().map(String::as_str), "{service}");
    let of = |address: &String| match address {
        v4 if v4.starts_with("10.43.") => "4",
        v6 if v6.starts_with("fd43::") => "6",
        other => panic!("{other} is of no range"),
    };
    let shown: Vec<&str> = if spec["clusterIP"] == "None" { vec!["None"] } else { addresses.iter().map(of).collect() };
    format!("{} {} {}", spec["ipFamilyPolicy"].as_str().unwrap(), texts(&spec["ipFamilies"]).join(","), shown.join(","))
}

fn why(reply: &Reply, name: &str) -> String {
    let (code, _, message) = reply.refusal();
    assert_eq!(code, 422, "{message}");
    message.replace(&format!("Service \"{name}\" is invalid: "), "")
}

fn taken(api: &Api) -> BTreeSet<String> {
    names(&api.get(ADDRESSES).ok()).into_iter().filter(|name| name != "10.43.0.1").collect()
}

#[test]
fn a_service_has_an_address_of_each_family_it_is_in() {
    let (_server, api) = server("controllers,scheduler,hosting,iam");
    assert_eq!(api.get(RANGE).ok()["spec"]["cidrs"], json!(["10.43.0.0/16", "fd43::/112"]));
    let own = api.get(&format!("{SERVICES}/kubernetes")).ok();
    assert_eq!((stacks(&own).as_str(), &own["spec"]["clusterIP"]), ("SingleStack IPv4 4", &json!("10.43.0.1")));
    for (name, spec, want) in [
        ("plain", json!({}), "SingleStack IPv4 4"),
        ("single", json!({"ipFamilyPolicy": "SingleStack"}), "SingleStack IPv4 4"),
        ("prefer", json!({"ipFamilyPolicy": "PreferDualStack"}), "PreferDualStack IPv4,IPv6 4,6"),
        ("require", json!({"ipFamilyPolicy": "RequireDualStack"}), "RequireDualStack IPv4,IPv6 4,6"),
        ("turned", json!({"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6", "IPv4"]}), "RequireDualStack IPv6,IPv4 6,4"),
        ("six", json!({"ipFamilies": ["IPv6"]}), "SingleStack IPv6 6"),
        ("six-first", json!({"ipFamilies": ["IPv6"], "ipFamilyPolicy": "PreferDualStack"}), "PreferDualStack IPv6,IPv4 6,4"),
        ("given", json!({"clusterIP": "fd43::77", "clusterIPs": ["fd43::77"], "ipFamilyPolicy": "RequireDualStack"}), "RequireDualStack IPv6,IPv4 6,4"),
        ("port", json!({"type": "NodePort", "ipFamilyPolicy": "PreferDualStack"}), "PreferDualStack IPv4,IPv6 4,6"),
        ("balanced", json!({"type": "LoadBalancer", "ipFamilyPolicy": "RequireDualStack"}), "RequireDualStack IPv4,IPv6 4,6"),
        ("headless", json!({"clusterIP": "None"}), "SingleStack IPv4 None"),
        ("headless-both", json!({"clusterIP": "None", "ipFamilyPolicy": "PreferDualStack"}), "PreferDualStack IPv4,IPv6 None"),
        ("own-endpoints", json!({"clusterIP": "None", "selector": null}), "RequireDualStack IPv4,IPv6 None"),
    ] {
        assert_eq!(stacks(&make(&api, name, spec).ok()), want, "{name}");
    }
    // Each address is held, by whom shows, and none twice.
    let all = api.get(SERVICES).ok();
    let given: Vec<String> = all["items"].as_array().unwrap().iter().flat_map(|service| texts(&service["spec"]["clusterIPs"])).collect();
    let given: Vec<String> = given.into_iter().filter(|address| address != "None" && address != "10.43.0.1").collect();
    assert_eq!((taken(&api), given.len()), (given.iter().cloned().collect(), taken(&api).len()));
    let held = api.get(&format!("{ADDRESSES}/fd43::77")).ok();
    assert_eq!((&held["spec"]["parentRef"]["name"], &held["metadata"]["labels"]["ipaddress.kubernetes.io/ip-family"]), (&json!("given"), &json!("IPv6")));
    for (spec, want) in [
        (
            json!({"ipFamilies": ["IPv4", "IPv6"]}),
            "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified",
        ),
        (json!({"ipFamilies": ["IPv4", "IPv4"]}), "spec.ipFamilies[1]: Duplicate value: \"IPv4\""),
        (json!({"ipFamilies": ["IPv5"]}), "spec.ipFamilies[0]: Unsupported value: \"IPv5\": supported values: \"IPv4\", \"IPv6\""),
        (
            json!({"ipFamilyPolicy": "Both"}),
            "spec.ipFamilyPolicy: Unsupported value: \"Both\": supported values: \"PreferDualStack\", \"RequireDualStack\", \"SingleStack\"",
        ),
        (
            json!({"clusterIP": "10.43.7.7", "clusterIPs": ["10.43.7.7"], "ipFamilies": ["IPv6"]}),
            "spec.clusterIPs[0]: Invalid value: \"10.43.7.7\": expected an IPv6 value as indicated by `ipFamilies[0]`",
        ),
        (
            json!({"clusterIP": "10.43.7.7", "clusterIPs": ["10.43.7.7", "10.43.7.8"], "ipFamilyPolicy": "RequireDualStack"}),
            "spec.clusterIPs: Invalid value: [\"10.43.7.7\",\"10.43.7.8\"]: may specify no more than one IP for each IP family",
        ),
        (
            json!({"clusterIP": "10.43.7.7", "clusterIPs": ["10.43.7.7", "fd43::77"], "ipFamilyPolicy": "RequireDualStack"}),
            "spec.clusterIPs: Invalid value: [\"10.43.7.7\",\"fd43::77\"]: failed to allocate IP fd43::77: provided IP is already allocated",
        ),
        (
            json!({"clusterIP": "fd44::1", "ipFamilyPolicy": "PreferDualStack"}),
            "spec.clusterIPs: Invalid value: [\"fd44::1\",\"\"]: failed to allocate IP fd44::1: the provided network does not match the current range",
        ),
    ] {
        let before = taken(&api);
        assert_eq!(why(&make(&api, "x", spec.clone()), "x"), want, "{spec}");
        assert_eq!(taken(&api), before, "{spec}");
    }
    for name in ["given", "prefer", "balanced", "headless"] {
        let had = texts(&api.get(&format!("{SERVICES}/{name}")).ok()["spec"]["clusterIPs"]);
        api.delete(&format!("{SERVICES}/{name}")).ok();
        assert!(had.iter().all(|address| !taken(&api).contains(address)), "{name}: {had:?}");
    }
}

#[test]
fn the_second_address_comes_and_goes_with_the_policy() {
    let (_server, api) = server("controllers,scheduler,hosting,iam");
    let made = make(&api, "web", json!({})).ok();
    let first = texts(&made["spec"]["clusterIPs"]).remove(0);
    let grown = change(&api, "web", json!({"ipFamilyPolicy": "PreferDualStack"})).ok();
    assert_eq!(stacks(&grown), "PreferDualStack IPv4,IPv6 4,6");
    let both = texts(&grown["spec"]["clusterIPs"]);
    assert_eq!((&both[0], taken(&api)), (&first, both.iter().cloned().collect()));
    // What says nothing of it changes nothing of it, also a manifest of one who never heard of it.
    let labelled = api.patch("merge", &format!("{SERVICES}/web"), &json!({"metadata": {"labels": {"a": "b"}}})).ok();
    assert_eq!(labelled["spec"], grown["spec"]);
    let mut plain = service("web", &json!({}));
    plain["metadata"]["resourceVersion"] = labelled["metadata"]["resourceVersion"].clone();
    assert_eq!(texts(&api.put(&format!("{SERVICES}/web"), &plain).ok()["spec"]["clusterIPs"]), both);
    for (spec, want) in [
        (
            json!({"clusterIPs": [first]}),
            "spec.ipFamilyPolicy: Invalid value: \"PreferDualStack\": must be 'SingleStack' to release the secondary cluster IP".to_owned(),
        ),
        (
            json!({"ipFamilies": ["IPv4"]}),
            "spec.ipFamilyPolicy: Invalid value: \"PreferDualStack\": must be 'SingleStack' to release the secondary IP family".into(),
        ),
        (json!({"clusterIPs": [first, "fd43::55"]}), format!("spec.clusterIPs[1]: Invalid value: [\"{first}\",\"fd43::55\"]: may not change once set")),
        (json!({"ipFamilies": ["IPv6", "IPv4"]}), "spec.ipFamilies[0]: Invalid value: [\"IPv6\",\"IPv4\"]: may not change once set".into()),
    ] {
        assert!(why(&change(&api, "web", spec.clone()), "web").contains(&want), "{spec}: {}", change(&api, "web", spec.clone()).text());
    }
    // A dry run shows what would be, and nothing is.
    let dry = api.patch("merge", &format!("{SERVICES}/web?dryRun=All"), &json!({"spec": {"ipFamilyPolicy": "SingleStack"}})).ok();
    assert_eq!((stacks(&dry).as_str(), taken(&api).len()), ("SingleStack IPv4 4", 2));
    let shrunk = change(&api, "web", json!({"ipFamilyPolicy": "SingleStack"})).ok();
    assert_eq!((stacks(&shrunk).as_str(), taken(&api)), ("SingleStack IPv4 4", [first.clone()].into()));
    // The address that was given back can be had by name, by this one or another.
    let again = change(&api, "web", json!({"ipFamilyPolicy": "RequireDualStack", "clusterIPs": both, "ipFamilies": ["IPv4", "IPv6"]})).ok();
    assert_eq!((stacks(&again).as_str(), texts(&again["spec"]["clusterIPs"])), ("RequireDualStack IPv4,IPv6 4,6", both.clone()));
    let thief = json!({"clusterIP": both[1], "ipFamilies": ["IPv6"]});
    assert!(why(&make(&api, "thief", thief.clone()), "thief").ends_with("provided IP is already allocated"));
    let named = json!({"type": "ExternalName", "externalName": "example.com", "clusterIP": "", "clusterIPs": null, "ipFamilies": null, "ipFamilyPolicy": null});
    let named = change(&api, "web", named).ok();
    assert!(["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"].iter().all(|field| named["spec"].get(field).is_none()), "{named}");
    assert_eq!(taken(&api), BTreeSet::new());
    make(&api, "thief", thief).ok();
    let back = change(&api, "web", json!({"type": "ClusterIP", "externalName": null, "ipFamilyPolicy": "PreferDualStack"})).ok();
    assert_eq!(stacks(&back), "PreferDualStack IPv4,IPv6 4,6");
    // A headless one may change its families as it likes.
    make(&api, "peers", json!({"clusterIP": "None"})).ok();
    let peers = change(&api, "peers", json!({"ipFamilyPolicy": "PreferDualStack"})).ok();
    assert_eq!(stacks(&peers), "PreferDualStack IPv4,IPv6 None");
    let peers = change(&api, "peers", json!({"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv6"]})).ok();
    assert_eq!(stacks(&peers), "SingleStack IPv6 None");
}

fn run(api: &Api, name: &str, addresses: &[&str]) {
    let pod = json!({"metadata": {"name": name, "labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    api.post(PODS, &pod).ok();
    let addresses: Vec<Value> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
    let ready = [json!({"type": "Ready", "status": "True"})];
    let status = json!({"phase": "Running", "podIP": addresses[0]["ip"], "podIPs": addresses, "conditions": ready});
    api.patch("merge", &format!("{PODS}/{name}/status"), &json!({"status": status})).ok();
}

/// Of the slices of a Service: family and addresses, in order.
fn endpoints(api: &Api, service: &str) -> Vec<(String, Vec<String>)> {
    let found = api.get(&format!("{SLICES}?labelSelector=kubernetes.io%2Fservice-name%3D{service}")).ok();
    let slices = found["items"].as_array().unwrap().iter().map(|slice| {
        let mut addresses: Vec<String> = slice["endpoints"].as_array().into_iter().flatten().flat_map(|endpoint| texts(&endpoint["addresses"])).collect();
        addresses.sort();
        (slice["addressType"].as_str().unwrap().to_owned(), addresses)
    });
    let mut slices: Vec<_> = slices.collect();
    slices.sort();
    slices
}

#[test]
fn nodes_and_endpoints_are_of_both_families() {
    let (_server, api) = server("scheduler,hosting,iam");
    wait_until("the service account is there", SOON, || api.get("/api/v1/namespaces/default/serviceaccounts/default").code == 200);
    for name in ["n1", "n2"] {
        api.post("/api/v1/nodes", &json!({"metadata": {"name": name}})).ok();
    }
    let ranges = |name: &str| texts(&api.get(&format!("/api/v1/nodes/{name}")).ok()["spec"]["podCIDRs"]);
    wait_until("each node has its ranges", SOON, || ranges("n1").len() == 2 && ranges("n2").len() == 2);
    let all: BTreeSet<String> = ["n1", "n2"].iter().flat_map(|name| ranges(name)).collect();
    assert_eq!(all, ["10.42.0.0/24", "10.42.1.0/24", "fd42:0:0:1::/64", "fd42::/64"].map(str::to_owned).into());
    assert_eq!(api.get("/api/v1/nodes/n1").ok()["spec"]["podCIDR"].as_str(), ranges("n1").first().map(String::as_str));

    // As a node agent writes them.
    let own = json!([{"$patch": "replace"}, {"type": "InternalIP", "address": "192.0.2.1"}, {"type": "InternalIP", "address": "2001:db8::1"}]);
    let told = api.patch("strategic-merge", "/api/v1/nodes/n1/status", &json!({"status": {"addresses": own}})).ok();
    assert_eq!(
        told["status"]["addresses"].as_array().unwrap().iter().map(|address| address["address"].as_str().unwrap()).collect::<Vec<_>>(),
        ["192.0.2.1", "2001:db8::1"]
    );

    run(&api, "a", &["10.42.0.5", "fd42::5"]);
    run(&api, "b", &["10.42.0.6"]);
    make(&api, "both", json!({"ipFamilyPolicy": "PreferDualStack"})).ok();
    make(&api, "six", json!({"ipFamilies": ["IPv6"]})).ok();
    make(&api, "four", json!({})).ok();
    make(&api, "peers", json!({"clusterIP": "None", "ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6", "IPv4"]})).ok();
    let (v4, v6) = (|| ("IPv4".to_owned(), vec!["10.42.0.5".to_owned(), "10.42.0.6".into()]), || ("IPv6".to_owned(), vec!["fd42::5".to_owned()]));
    for (name, want) in [("both", vec![v4(), v6()]), ("six", vec![v6()]), ("four", vec![v4()]), ("peers", vec![v4(), v6()])] {
        wait_until(&format!("{name} has its endpoints"), SOON, || endpoints(&api, name) == want);
    }
    // The elder kind has the first family alone.
    let elder = |name: &str| {
        let found = api.get(&format!("/api/v1/namespaces/default/endpoints/{name}"));
        let subsets = if found.code == 200 { found.json()["subsets"].clone() } else { Value::Null };
        let addresses = subsets[0]["addresses"].as_array().cloned().unwrap_or_default();
        addresses.iter().map(|address| address["ip"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for (name, want) in [("both", v4().1), ("six", v6().1), ("peers", v6().1)] {
        wait_until(&format!("{name} has its Endpoints"), SOON, || elder(name) == want);
    }
    // Those kept by hand are mirrored by family.
    make(&api, "outside", json!({"selector": null, "ipFamilyPolicy": "PreferDualStack"})).ok();
    let subset = json!({"addresses": [{"ip": "192.0.2.1"}, {"ip": "2001:db8::1"}], "ports": [{"port": 80}]});
    api.post("/api/v1/namespaces/default/endpoints", &json!({"metadata": {"name": "outside"}, "subsets": [subset]})).ok();
    let want = [("IPv4".to_owned(), vec!["192.0.2.1".to_owned()]), ("IPv6".to_owned(), vec!["2001:db8::1".into()])];
    wait_until("they are mirrored", SOON, || endpoints(&api, "outside") == want);

    // A family that a Service leaves takes its endpoints along; a pod's new family brings some.
    let both = texts(&api.get(&format!("{SERVICES}/both")).ok()["spec"]["clusterIPs"]);
    change(&api, "both", json!({"ipFamilyPolicy": "SingleStack"})).ok();
    wait_until("one family is left", SOON, || endpoints(&api, "both") == [v4()]);
    let addresses = json!([{"ip": "10.42.0.6"}, {"ip": "fd42::6"}]);
    api.patch("merge", &format!("{PODS}/b/status"), &json!({"status": {"podIPs": addresses}})).ok();
    let more = [("IPv6".to_owned(), vec!["fd42::5".to_owned(), "fd42::6".into()])];
    wait_until("the pod's other address is there", SOON, || endpoints(&api, "six") == more);
    // An address of the second range that somebody takes away is put back, and one that leaked goes.
    let held = texts(&api.get(&format!("{SERVICES}/six")).ok()["spec"]["clusterIPs"]).remove(0);
    api.delete(&format!("{ADDRESSES}/{held}")).ok();
    wait_until("it is held again", SOON, || api.get(&format!("{ADDRESSES}/{held}")).code == 200);
    let labels = json!({"ipaddress.kubernetes.io/ip-family": "IPv6", "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"});
    let parent = json!({"group": "", "resource": "services", "namespace": "default", "name": "both"});
    api.post(ADDRESSES, &json!({"metadata": {"name": both[1], "labels": labels}, "spec": {"parentRef": parent}})).ok();
    wait_until("it goes", SOON, || api.get(&format!("{ADDRESSES}/{}", both[1])).code == 404);
}

#[test]
fn a_cluster_becomes_one_of_two_families() {
    let config = tempfile::NamedTempFile::new().unwrap();
    let settle = |cluster: &str, service: &str| std::fs::write(config.path(), format!("cluster-cidr: {cluster}\nservice-cidr: {service}\n")).unwrap();
    settle("10.42.0.0/16", "10.43.0.0/16");
    let arguments = ["--disable-agent", "--disable", "scheduler,iam", "--config"].map(str::to_owned).into_iter().chain([config.path().display().to_string()]);
    let mut server = Server::start(ServerOptions { arguments: arguments.collect(), is_host: true, ..ServerOptions::default() });
    let api = server.api();
    make(&api, "prefer", json!({"ipFamilyPolicy": "PreferDualStack"})).ok();
    make(&api, "free", json!({"clusterIP": "None", "selector": null})).ok();
    let refusals = |api: &Api| {
        for (spec, want) in [
            (
                json!({"ipFamilyPolicy": "RequireDualStack"}),
                "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services",
            ),
            (json!({"ipFamilies": ["IPv6"]}), "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster"),
            (json!({"clusterIP": "fd43::7"}), "spec.clusterIPs[0]: Invalid value: [\"fd43::7\"]: IPv6 is not configured on this cluster"),
        ] {
            assert_eq!(why(&make(api, "x", spec), "x"), want);
        }
    };
    refusals(&api);
    api.post("/api/v1/nodes", &json!({"metadata": {"name": "old"}})).ok();
    let ranges = |api: &Api, name: &str| texts(&api.get(&format!("/api/v1/nodes/{name}")).ok()["spec"]["podCIDRs"]);
    wait_until("the node has its range", SOON, || ranges(&api, "old") == ["10.42.0.0/24"]);
    server.end(Signal::SIGTERM);
    settle("10.42.0.0/16,fd42::/56", "10.43.0.0/16,fd43::/112");
    server.launch();
    let api = server.api();
    assert_eq!(api.get(RANGE).ok()["spec"]["cidrs"], json!(["10.43.0.0/16", "fd43::/112"]));
    let found = |name: &str| stacks(&api.get(&format!("{SERVICES}/{name}")).ok());
    // What is there stays as it is, until somebody says more.
    assert_eq!((found("prefer").as_str(), found("free").as_str()), ("PreferDualStack IPv4 4", "RequireDualStack IPv4,IPv6 None"));
    assert_eq!(stacks(&change(&api, "prefer", json!({"sessionAffinity": "ClientIP"})).ok()), "PreferDualStack IPv4 4");
    assert_eq!(stacks(&change(&api, "prefer", json!({"ipFamilies": ["IPv4", "IPv6"]})).ok()), "PreferDualStack IPv4,IPv6 4,6");
    make(&api, "require", json!({"ipFamilyPolicy": "RequireDualStack"})).ok();
    api.post("/api/v1/nodes", &json!({"metadata": {"name": "new"}})).ok();
    wait_until("a new node has both", SOON, || ranges(&api, "new") == ["10.42.1.0/24", "fd42::/64"]);
    assert_eq!(ranges(&api, "old"), ["10.42.0.0/24"]);
    // Virtual clusters have one.
    let tenant = Api::of_kubeconfig(&server.virtual_cluster("team", "one").kubeconfig);
    refusals(&tenant);
    let made = make(&tenant, "prefer", json!({"ipFamilyPolicy": "PreferDualStack"})).ok();
    assert_eq!(texts(&made["spec"]["ipFamilies"]), ["IPv4"]);
}
