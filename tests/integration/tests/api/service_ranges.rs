//! ServiceCIDRs: more addresses for Services, and what holds each of them put right.
use crate::support::SOON;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use testkit::{Api, Reply, Server, ServerOptions, wait_until};

const SERVICES: &str = "/api/v1/namespaces/default/services";
const RANGES: &str = "/apis/networking.k8s.io/v1/servicecidrs";
const ADDRESSES: &str = "/apis/networking.k8s.io/v1/ipaddresses";

fn service(api: &Api, name: &str, address: Option<&str>) -> Reply {
    api.post(SERVICES, &json!({"metadata": {"name": name}, "spec": {"ports": [{"port": 80}], "clusterIP": address}}))
}

fn ready(api: &Api, range: &str) -> Value {
    let found = api.get(&format!("{RANGES}/{range}")).ok();
    let conditions = found["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.into_iter().find(|condition| condition["type"] == "Ready").unwrap_or_default()
}

fn events(api: &Api, reason: &str) -> Vec<String> {
    let found = api.get(&format!("/api/v1/namespaces/default/events?fieldSelector=reason%3D{reason}")).ok();
    found["items"].as_array().unwrap().iter().map(|event| event["message"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_range_gives_addresses_until_it_goes() {
    let server = Server::start(ServerOptions {
        arguments: ["--disable-agent", "--service-cidr", "10.96.0.0/28"].map(Into::into).into(),
        is_host: true,
        ..ServerOptions::default()
    });
    let api = server.api();
    assert_eq!(ready(&api, "kubernetes")["status"], "True");
    assert_eq!(
        service(&api, "early", Some("10.97.0.5")).refusal().2.replace("Service \"early\" is invalid: ", ""),
        "spec.clusterIPs: Invalid value: [\"10.97.0.5\"]: failed to allocate IP 10.97.0.5: the provided network does not match the current range"
    );
    // The server's own range is small.
    let mut made = 0;
    let full = loop {
        match service(&api, &format!("s{made}"), None) {
            reply if reply.code == 201 => made += 1,
            reply => break reply,
        }
    };
    assert!((8..14).contains(&made) && full.refusal().2.contains("failed to allocate a serviceIP: range is full"), "{made} {}", full.text());
    api.post(RANGES, &json!({"metadata": {"name": "more"}, "spec": {"cidrs": ["10.97.0.0/28"]}})).ok();
    wait_until("the range is ready", SOON, || ready(&api, "more")["status"] == "True");
    let found = api.get(&format!("{RANGES}/more")).ok();
    assert_eq!(found["metadata"]["finalizers"], json!(["networking.k8s.io/service-cidr-finalizer"]));
    assert_eq!(ready(&api, "more")["message"], "Kubernetes Service CIDR is ready");
    let late = service(&api, "late", None).ok();
    assert!(late["spec"]["clusterIP"].as_str().unwrap().starts_with("10.97.0."), "{late}");
    service(&api, "chosen", Some("10.97.0.5")).ok();
    let held = api.get(&format!("{ADDRESSES}/10.97.0.5")).ok();
    assert_eq!(held["spec"]["parentRef"]["name"], "chosen");

    // While it goes it gives none, and it stays for those that have one.
    api.delete(&format!("{RANGES}/more")).ok();
    wait_until("it says why it stays", SOON, || ready(&api, "more")["reason"] == "Terminating");
    assert_eq!(ready(&api, "more")["message"], "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR");
    assert_eq!(service(&api, "too-late", Some("10.97.0.6")).refusal().0, 422);
    api.delete(&format!("{SERVICES}/chosen")).ok();
    // Another that contains it lets it go.
    api.post(RANGES, &json!({"metadata": {"name": "larger"}, "spec": {"cidrs": ["10.97.0.0/24"]}})).ok();
    wait_until("it goes", SOON, || api.get(&format!("{RANGES}/more")).code == 404);
    wait_until("the larger one is ready", SOON, || ready(&api, "larger")["status"] == "True");
    api.delete(&format!("{RANGES}/larger")).ok();
    wait_until("it says why it stays", SOON, || ready(&api, "larger")["reason"] == "Terminating");
    api.delete(&format!("{SERVICES}/late")).ok();
    wait_until("it goes with its last address", SOON, || api.get(&format!("{RANGES}/larger")).code == 404);
    assert_eq!(events(&api, "ClusterIPOutOfRange"), Vec::<String>::new());
    assert_eq!(events(&api, "ClusterIPNotAllocated"), Vec::<String>::new());
}

#[test]
fn what_holds_an_address_is_put_right() {
    let server = Server::control_plane();
    let api = server.api();
    let made = service(&api, "web", None).ok();
    let address = made["spec"]["clusterIP"].as_str().unwrap();
    let path = format!("{ADDRESSES}/{address}");
    let uid = api.get(&path).ok()["metadata"]["uid"].clone();
    api.delete(&path).ok();
    let again = || Some(api.get(&path)).filter(|reply| reply.code == 200).map(|reply| reply.json()).filter(|found| found["metadata"]["uid"] != uid);
    wait_until("it is held again", SOON, || again().is_some());
    let found = again().unwrap();
    assert_eq!(found["spec"]["parentRef"], json!({"group": "", "resource": "services", "namespace": "default", "name": "web"}));
    assert_eq!(found["metadata"]["labels"]["ipaddress.kubernetes.io/managed-by"], "ipallocator.k8s.io");
    let told = format!("Cluster IP [IPv4]: {address} is not allocated; repairing");
    wait_until("it is told", SOON, || events(&api, "ClusterIPNotAllocated").contains(&told));
    // What says another than its Service goes.
    let other = address.rsplit_once('.').map(|(net, last)| format!("{net}.{}", if last == "77" { "78" } else { "77" })).unwrap();
    let labels = json!({"ipaddress.kubernetes.io/ip-family": "IPv4", "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"});
    let parent = json!({"group": "", "resource": "services", "namespace": "default", "name": "web"});
    api.post(ADDRESSES, &json!({"metadata": {"name": other, "labels": labels}, "spec": {"parentRef": parent}})).ok();
    wait_until("it goes", SOON, || api.get(&format!("{ADDRESSES}/{other}")).code == 404);
    let told = format!("IPAddress: {other} for Service default/web has a wrong reference; cleaning up");
    wait_until("it is told", SOON, || events(&api, "IPAddressWrongReference").contains(&told));
    // One of somebody else's stays.
    let elsewhere = json!({"group": "example.com", "resource": "gateways", "namespace": "default", "name": "web"});
    api.post(ADDRESSES, &json!({"metadata": {"name": other}, "spec": {"parentRef": elsewhere}})).ok();
    api.delete(&format!("{SERVICES}/web")).ok();
    assert_eq!((api.get(&path).code, api.get(&format!("{ADDRESSES}/{other}")).code), (404, 200));
}

#[test]
fn node_ports_are_put_right_when_the_server_starts() {
    let mut server = Server::start(ServerOptions { arguments: vec!["--disable-agent".into()], is_host: true, ..ServerOptions::default() });
    let exposed = |api: &Api, name: &str, port: u16| {
        api.post(SERVICES, &json!({"metadata": {"name": name}, "spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]}}))
    };
    exposed(&server.api(), "web", 30_080).ok();
    server.end(Signal::SIGTERM);
    // Below the server, a port is recorded as taken that no Service has, instead of one that has been given.
    let database = rusqlite::Connection::open(server.data_dir().join("server/db/state.db")).unwrap();
    let changed = database.execute("UPDATE log SET key = replace(key, '30080', '30099') WHERE key LIKE '%/servicenodeports/%'", []).unwrap();
    assert_eq!(changed, 1);
    database.close().unwrap();
    server.launch();
    let api = server.api();
    wait_until("it is told", SOON, || events(&api, "PortNotAllocated") == ["Port 30080 is not allocated; repairing"]);
    assert!(exposed(&api, "thief", 30_080).refusal().2.contains("provided port is already allocated"));
    wait_until("the other is free", SOON, || exposed(&api, "heir", 30_099).code == 201);
}
