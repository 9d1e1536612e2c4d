//! Tables of what the endpoint slice controller does in which world.
use super::reconcile::reconcile;
use super::*;
use controller_kit::converges;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;

fn service(spec: Value) -> Arc<Service> {
    Arc::new(serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "n", "uid": "s", "labels": {"tier": "front"}}, "spec": spec})).unwrap())
}

fn plain() -> Value {
    json!({"selector": {"app": "web"}, "clusterIP": "10.0.0.1", "ipFamilies": ["IPv4"], "ports": [{"name": "http", "port": 80, "targetPort": "web", "protocol": "TCP"}]})
}

fn pod(n: usize, port: i32, ready: bool) -> Arc<Pod> {
    let value = json!({
        "metadata": {"name": format!("p{n:03}"), "namespace": "n", "uid": format!("u{n}")},
        "spec": {"nodeName": "node", "hostname": "h", "subdomain": "web", "containers": [{"name": "c", "ports": [{"name": "web", "containerPort": port}]}]},
        "status": {"phase": "Running", "podIPs": [{"ip": format!("10.1.0.{n}")}], "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]}
    });
    Arc::new(serde_json::from_value(value).unwrap())
}

fn world(spec: Value, pods: Vec<Arc<Pod>>) -> World {
    let node: Node = serde_json::from_value(json!({"metadata": {"name": "node", "labels": {"topology.kubernetes.io/zone": "z"}}})).unwrap();
    World { service: service(spec), pods, slices: vec![], nodes: HashMap::from([("node".into(), Arc::new(node))]), shares: None, max_per_slice: 3 }
}

fn settle(world: World) -> (World, usize) {
    let mut writes = 0;
    let end = converges(world, 5, reconcile, |world, action| {
        writes += usize::from(!matches!(action, Action::Tell { .. }));
        match action {
            Action::Tell { .. } => {}
            Action::Create(mut slice) => {
                slice.metadata.name = Some(format!("web-{writes}-{}", world.slices.len()));
                world.slices.push(Arc::new(*slice));
            }
            Action::Update(slice) => world.slices.iter_mut().filter(|s| s.metadata.name == slice.metadata.name).for_each(|s| *s = Arc::new((*slice).clone())),
            Action::Delete(slice) => world.slices.retain(|s| s.metadata.name != slice.metadata.name),
        }
    });
    (end, writes)
}

/// How many endpoints each slice has.
fn sizes(world: &World) -> Vec<usize> {
    let mut sizes: Vec<usize> = world.slices.iter().map(|slice| slice.endpoints.as_ref().map_or(0, Vec::len)).collect();
    sizes.sort_unstable();
    sizes
}

#[test]
fn an_endpoint_tells_all_of_its_pod() {
    let (world, _) = settle(world(plain(), vec![pod(1, 8080, true)]));
    let slice = serde_json::to_value(&*world.slices[0]).unwrap();
    assert_eq!(
        slice["endpoints"],
        json!([{"addresses": ["10.1.0.1"], "conditions": {"ready": true, "serving": true, "terminating": false}, "hostname": "h", "nodeName": "node",
            "targetRef": {"kind": "Pod", "namespace": "n", "name": "p001", "uid": "u1"}, "zone": "z"}])
    );
    assert_eq!(slice["ports"], json!([{"name": "http", "port": 8080, "protocol": "TCP"}]));
    assert_eq!(slice["metadata"]["labels"], json!({"tier": "front", SERVICE_NAME: "web", MANAGED_BY: MANAGER}));
    assert_eq!((&slice["metadata"]["generateName"], &slice["metadata"]["ownerReferences"][0]["uid"]), (&json!("web-"), &json!("s")));
}

#[test]
fn slices_fill_up_and_pods_with_other_ports_have_their_own() {
    let (world, _) = settle(world(plain(), (0..7).map(|n| pod(n, if n == 6 { 9090 } else { 8080 }, true)).collect()));
    assert_eq!(sizes(&world), [1, 3, 3]);
}

#[test]
fn one_more_pod_is_one_write_and_the_place_of_a_gone_one_is_reused() {
    let (mut world, _) = settle(world(plain(), (0..4).map(|n| pod(n, 8080, true)).collect()));
    world.pods.push(pod(5, 8080, true));
    let (mut world, writes) = settle(world);
    assert_eq!((sizes(&world), writes), (vec![2, 3], 1));
    world.pods.remove(0);
    world.pods.push(pod(6, 8080, true));
    let (world, writes) = settle(world);
    assert_eq!((sizes(&world), writes), (vec![2, 3], 1));
}

#[test]
fn readiness_termination_and_publishing_show_in_conditions() {
    let going = {
        let mut pod = (*pod(2, 8080, true)).clone();
        pod.metadata.deletion_timestamp = Some(controller_kit::whole_seconds(jiff::Timestamp::UNIX_EPOCH));
        Arc::new(pod)
    };
    let conditions = |spec| {
        let (world, _) = settle(world(spec, vec![pod(1, 8080, false), going.clone()]));
        let all = world.slices[0].endpoints.clone().unwrap();
        all.iter().map(|e| e.conditions.clone().unwrap()).map(|c| (c.ready.unwrap(), c.serving.unwrap(), c.terminating.unwrap())).collect::<Vec<_>>()
    };
    assert_eq!(conditions(plain()), [(false, false, false), (false, true, true)]);
    let mut publishing = plain();
    publishing["publishNotReadyAddresses"] = json!(true);
    assert_eq!(conditions(publishing), [(true, false, false), (true, true, true)]);
}

#[test]
fn a_service_without_pods_has_one_empty_slice_and_headless_ones_are_marked() {
    let (mut world, _) = settle(world(json!({"selector": {"app": "web"}, "clusterIP": "None", "ipFamilies": ["IPv4"]}), vec![]));
    assert_eq!(sizes(&world), [0]);
    assert_eq!(world.slices[0].metadata.labels.as_ref().unwrap()["service.kubernetes.io/headless"], "");
    world.pods.push(pod(1, 8080, true));
    let (mut world, _) = settle(world);
    assert_eq!((sizes(&world), world.slices[0].ports.clone()), (vec![1], Some(vec![])));
    world.pods.clear();
    assert_eq!(sizes(&settle(world).0), [0]);
}

#[test]
fn families_left_lose_their_slices() {
    let (mut world, _) = settle(world(plain(), vec![pod(1, 8080, true)]));
    let mut spec = plain();
    spec["ipFamilies"] = json!(["IPv6"]);
    world.service = service(spec);
    let (world, _) = settle(world);
    assert_eq!((world.slices.len(), world.slices[0].address_type.as_str(), sizes(&world)), (1, "IPv6", vec![0]));
}

#[test]
fn each_family_has_slices_of_its_own() {
    let with = |n: usize, addresses: &[&str]| {
        let mut pod = (*pod(n, 8080, true)).clone();
        let ips = addresses.iter().map(|ip| k8s_openapi::api::core::v1::PodIP { ip: (*ip).into() }).collect();
        pod.status.as_mut().unwrap().pod_ips = Some(ips);
        Arc::new(pod)
    };
    let mut spec = plain();
    spec["ipFamilies"] = json!(["IPv4", "IPv6"]);
    let shown = |world: &World| {
        let one = |slice: &Arc<EndpointSlice>| {
            let mut addresses: Vec<String> = slice.endpoints.iter().flatten().flat_map(|endpoint| endpoint.addresses.clone()).collect();
            addresses.sort();
            format!("{} {}", slice.address_type, addresses.join(","))
        };
        let mut all: Vec<String> = world.slices.iter().map(one).collect();
        all.sort();
        all
    };
    let pods = vec![with(1, &["10.1.0.1", "fd42::1"]), with(2, &["10.1.0.2"]), with(3, &["fd42::3", "10.1.0.3"])];
    let (mut world, _) = settle(world(spec.clone(), pods));
    assert_eq!(shown(&world), ["IPv4 10.1.0.1,10.1.0.2,10.1.0.3", "IPv6 fd42::1,fd42::3"]);
    let labels: Vec<_> = world.slices.iter().map(|slice| slice.metadata.labels.clone()).collect();
    assert_eq!(labels[0], labels[1]);
    // A change of one family is a write of that family.
    world.pods[1] = with(2, &["10.1.0.2", "fd42::2"]);
    let (mut world, writes) = settle(world);
    assert_eq!((shown(&world), writes), (vec!["IPv4 10.1.0.1,10.1.0.2,10.1.0.3".into(), "IPv6 fd42::1,fd42::2,fd42::3".into()], 1));
    world.pods = vec![with(2, &["10.1.0.2"])];
    let (mut world, _) = settle(world);
    assert_eq!(shown(&world), ["IPv4 10.1.0.2", "IPv6 "], "a family without pods has an empty slice");
    world.service = service(plain());
    assert_eq!(shown(&settle(world).0), ["IPv4 10.1.0.2"]);
}

#[test]
fn zones_are_hinted_at_where_asked_for_and_known() {
    let zoned = |n: usize, zone: &str| {
        let mut pod = (*pod(n, 8080, true)).clone();
        pod.spec.as_mut().unwrap().node_name = Some(zone.into());
        Arc::new(pod)
    };
    let node = |zone: &str| {
        let node: Node = serde_json::from_value(json!({"metadata": {"name": zone, "labels": {"topology.kubernetes.io/zone": zone}}})).unwrap();
        (zone.to_owned(), Arc::new(node))
    };
    let told = |world: &World| {
        let tell = |action: Action| if let Action::Tell { reason, message, .. } = action { Some(format!("{reason}: {message}")) } else { None };
        reconcile(world).actions.into_iter().find_map(tell)
    };
    let hints = |world: &World| {
        let mut all: Vec<_> = world.slices.iter().flat_map(|slice| slice.endpoints.clone().unwrap()).collect();
        all.sort_by_key(|endpoint| endpoint.addresses.clone());
        let zone = |endpoint: k8s_openapi::api::discovery::v1::Endpoint| endpoint.hints.map_or("-".into(), |hints| hints.for_zones.unwrap()[0].name.clone());
        all.into_iter().map(zone).collect::<Vec<String>>().join("")
    };
    let mut start = world(plain(), vec![zoned(1, "a"), zoned(2, "a"), zoned(3, "a"), zoned(4, "b")]);
    start.nodes = [node("a"), node("b")].into();
    start.shares = Some([("a".to_owned(), 0.5), ("b".to_owned(), 0.5)].into());
    let annotated = |mode: &str, mut spec: Value| {
        spec["trafficDistribution"] = json!("PreferSameZone");
        let mut service = (*service(spec)).clone();
        service.metadata.annotations = Some([("service.kubernetes.io/topology-mode".to_owned(), mode.to_owned())].into());
        Arc::new(service)
    };
    start.service = annotated("Auto", plain());
    assert_eq!(told(&start).unwrap(), "TopologyAwareHintsEnabled: Topology Aware Hints has been enabled, addressType: IPv4");
    let (mut world, _) = settle(start);
    assert_eq!((hints(&world).as_str(), told(&world)), ("baab", None));
    // With as many in each zone, each is for its own.
    world.pods.push(zoned(5, "b"));
    world.pods.push(zoned(6, "b"));
    let (mut world, _) = settle(world);
    assert_eq!((hints(&world).as_str(), told(&world)), ("aaabbb", None));
    world.shares = None;
    let why = "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes";
    assert_eq!(told(&world).unwrap(), format!("TopologyAwareHintsDisabled: {why}, addressType: IPv4"));
    let (mut world, _) = settle(world);
    assert_eq!(hints(&world), "------");
    // Without it, the Service's trafficDistribution counts.
    world.service = annotated("Disabled", plain());
    assert_eq!(hints(&settle(world).0), "aaabbb");
}
