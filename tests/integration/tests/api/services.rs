//! Services: addresses and node ports, never handed out twice, given back in the end.
use crate::support::{names, quiet};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use testkit::Api;

const SERVICES: &str = "/api/v1/namespaces/default/services";
const ADDRESSES: &str = "/apis/networking.k8s.io/v1/ipaddresses";

fn service(name: &str, spec: Value) -> Value {
    let mut all = json!({"ports": [{"port": 80}]});
    all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": all})
}

fn address(service: &Value) -> &str {
    service["spec"]["clusterIP"].as_str().unwrap()
}

fn node_port(service: &Value) -> u64 {
    service["spec"]["ports"][0]["nodePort"].as_u64().unwrap()
}

/// The addresses that are taken, besides the API's own.
fn taken(api: &Api) -> BTreeSet<String> {
    names(&api.get(ADDRESSES).ok()).into_iter().filter(|name| name != "10.96.0.1").collect()
}

#[test]
fn fifty_services_at_once_get_fifty_addresses_and_ports_and_give_them_back() {
    let (_server, api) = quiet();
    let made: Vec<Value> = std::thread::scope(|scope| {
        let made: Vec<_> = (0..50)
            .map(|n| {
                let api = &api;
                scope.spawn(move || api.post(SERVICES, &service(&format!("s{n}"), json!({"type": "NodePort"}))).ok())
            })
            .collect();
        made.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let addresses: BTreeSet<String> = made.iter().map(|service| address(service).to_owned()).collect();
    let ports: BTreeSet<u64> = made.iter().map(node_port).collect();
    assert_eq!((addresses.len(), ports.len()), (50, 50));
    assert!(ports.iter().all(|port| (30000..=32767).contains(port)), "{ports:?}");
    assert_eq!(taken(&api), addresses);
    let parent = &api.get(&format!("{ADDRESSES}/{}", address(&made[7]))).ok()["spec"]["parentRef"];
    assert_eq!(parent, &json!({"group": "", "resource": "services", "namespace": "default", "name": made[7]["metadata"]["name"]}));
    std::thread::scope(|scope| {
        for n in 0..50 {
            let api = &api;
            scope.spawn(move || api.delete(&format!("{SERVICES}/s{n}")).ok());
        }
    });
    assert_eq!(taken(&api), BTreeSet::new());
    // Each of the ports can be had again.
    for (n, port) in ports.iter().take(5).enumerate() {
        api.post(SERVICES, &service(&format!("again{n}"), json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]}))).ok();
    }
}

#[test]
fn what_is_asked_for_is_given_or_refused() {
    let (_server, api) = quiet();
    let first = api.post(SERVICES, &service("first", json!({"clusterIP": "10.96.7.7", "type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]}))).ok();
    assert_eq!((address(&first), node_port(&first)), ("10.96.7.7", 30080));
    assert_eq!(first["spec"]["clusterIPs"], json!(["10.96.7.7"]));
    let before = (api.get(SERVICES).ok()["items"].clone(), taken(&api));
    let refused = |spec: Value| {
        let (code, reason, message) = api.post(SERVICES, &service("x", spec)).refusal();
        assert_eq!((code, reason.as_str()), (422, "Invalid"));
        message.replace("Service \"x\" is invalid: ", "")
    };
    assert_eq!(
        refused(json!({"clusterIP": "10.96.7.7"})),
        "spec.clusterIPs: Invalid value: [\"10.96.7.7\"]: failed to allocate IP 10.96.7.7: provided IP is already allocated"
    );
    assert_eq!(
        refused(json!({"clusterIP": "192.168.1.1"})),
        "spec.clusterIPs: Invalid value: [\"192.168.1.1\"]: failed to allocate IP 192.168.1.1: the provided network does not match the current range"
    );
    assert_eq!(
        refused(json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]})),
        "spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated"
    );
    assert_eq!(
        refused(json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 80}]})),
        "spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767"
    );
    assert!(refused(json!({"clusterIP": "nonsense"})).starts_with("spec.clusterIPs[0]: Invalid value: \"nonsense\": must be a valid IP address"));
    assert_eq!((api.get(SERVICES).ok()["items"].clone(), taken(&api)), before);
    // Of many who want the same one gets it.
    let codes: Vec<u16> = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..10)
            .map(|n| {
                let api = &api;
                scope.spawn(move || api.post(SERVICES, &service(&format!("r{n}"), json!({"clusterIP": "10.96.8.8"}))).code)
            })
            .collect();
        asked.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!((codes.iter().filter(|c| **c == 201).count(), codes.iter().filter(|c| **c == 422).count()), (1, 9));
}

#[test]
fn addresses_and_ports_follow_the_type() {
    let (_server, api) = quiet();
    let path = format!("{SERVICES}/web");
    let made = api.post(SERVICES, &service("web", json!({}))).ok();
    assert_eq!(
        (&made["spec"]["type"], &made["spec"]["ipFamilies"], &made["spec"]["ipFamilyPolicy"]),
        (&json!("ClusterIP"), &json!(["IPv4"]), &json!("SingleStack"))
    );
    let own = address(&made).to_owned();
    // A replacement that does not mention them keeps them.
    let mut put = service("web", json!({"ports": [{"port": 81}]}));
    put["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"].clone();
    assert_eq!(address(&api.put(&path, &put).ok()), own);
    let (code, _, message) = api.patch("merge", &path, &json!({"spec": {"clusterIP": "10.96.9.9", "clusterIPs": ["10.96.9.9"]}})).refusal();
    assert_eq!(code, 422);
    assert!(message.contains("spec.clusterIPs[0]: Invalid value: [\"10.96.9.9\"]: may not change once set"), "{message}");
    let exposed = api.patch("merge", &path, &json!({"spec": {"type": "NodePort"}})).ok();
    let port = node_port(&exposed);
    assert_eq!(address(&exposed), own);
    let taken_port = |name: &str| api.post(SERVICES, &service(name, json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]})));
    assert_eq!(taken_port("thief").code, 422);
    let back = api.patch("merge", &path, &json!({"spec": {"type": "ClusterIP"}})).ok();
    assert!(back["spec"]["ports"][0].get("nodePort").is_none());
    taken_port("heir").ok();
    let named = api.patch("merge", &path, &json!({"spec": {"type": "ExternalName", "externalName": "example.com", "clusterIP": "", "clusterIPs": null}})).ok();
    assert!(named["spec"].get("clusterIP").is_none());
    assert!(!taken(&api).contains(&own));
    let headless = api.post(SERVICES, &service("headless", json!({"clusterIP": "None"}))).ok();
    assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
    let balanced = api.post(SERVICES, &service("lb", json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local"}))).ok();
    assert!(node_port(&balanced) >= 30000 && balanced["spec"]["healthCheckNodePort"].as_u64().unwrap() >= 30000);
}
