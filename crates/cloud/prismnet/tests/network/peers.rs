//! Several nodes: pods reach each other over a shared link or through the tunnel, each as who it is.
use crate::node::{Machine, Node};
use prismnet::peers::Peer;
use prismnet::{NodeNetwork, VirtualClusters, node, peer_links};

/// A node at an address of its own network, with a router as its only neighbour.
fn node_at(number: u8, address: &str, gateway: &str) -> Node {
    let (machine, router, directory) = (Machine::new("node"), Machine::new("port"), tempfile::tempdir().unwrap());
    machine.sh(&format!("ip link set lo up; ip link add up0 type veth peer name eth0 netns {}; ip addr add {address}/24 dev up0; ip link set up0 up; ip route add default via {gateway}", router.name));
    let mut network = NodeNetwork::new(format!("10.244.{number}.0/24").parse().unwrap(), "10.244.0.0/16".parse().unwrap());
    network.has_peers = true;
    network.virtual_clusters = Some(VirtualClusters { range: "100.64.0.0/16".parse().unwrap(), api_port: 6443, dns_port: 53 });
    Node::on(machine, router, network, directory)
}

fn peer(number: u8, address: &str) -> Peer {
    Peer { address: address.parse().unwrap(), pod_cidr: format!("10.244.{number}.0/24").parse().unwrap(), second: None }
}

fn connect(node: &Node, own: Peer, others: &[Peer]) {
    node.machine.namespace.enter(|| peer_links::connect(&node.network, own, others).unwrap()).unwrap();
}

/// Two nodes that share no network; what connects them leads packets between theirs.
fn apart() -> (Node, Node, Peer, Peer) {
    let (one, two) = (node_at(1, "10.9.1.1", "10.9.1.254"), node_at(2, "10.9.2.1", "10.9.2.254"));
    let router = &one.outside;
    // The second node's neighbour is plugged into the first's.
    two.outside.sh(&format!("ip link set eth0 netns {} name eth1", router.name));
    router.sh(
        "sysctl -qw net.ipv4.ip_forward=1; ip addr add 10.9.1.254/24 dev eth0; ip addr add 10.9.2.254/24 dev eth1; ip link set eth0 up; ip link set eth1 up",
    );
    let (first, second) = (peer(1, "10.9.1.1"), peer(2, "10.9.2.1"));
    connect(&one, first, &[second]);
    connect(&two, second, &[first]);
    (one, two, first, second)
}

#[test]
fn pods_of_nodes_on_different_links_meet_through_the_tunnel() {
    let (one, two, first, second) = apart();
    let (a, b) = (Machine::new("a"), Machine::new("b"));
    let (a_address, b_address) = (one.add_to(0, &a), two.add_to(0, &b));
    let listener = b.listen("0.0.0.0:80");
    a.connect((b_address, 80).into()).unwrap();
    assert_eq!(listener.accept().unwrap().1.ip().to_string(), a_address.to_string(), "the pod's own address");
    assert!(a.sh("ip link show eth0").contains("mtu 1450"), "room for the tunnel's headers");
    // As much as fits, and more than that, in one go.
    let sizes = "for size in 1422 8000; do busybox ping -c1 -W2 -s $size";
    a.sh(&format!("{sizes} {b_address}; done"));
    one.machine.sh(&format!("busybox ping -c1 -W2 {b_address}"));
    // Again changes nothing; without the other node nothing is left of it.
    let routes = one.machine.sh("ip route; ip route show table 58; ip neigh show dev prism-vxlan nud permanent; bridge fdb show dev prism-vxlan");
    assert!(routes.contains("10.244.2.0/24 via 10.244.2.0 dev prism-vxlan") && routes.contains("0e:58:0a:09:02:01"), "{routes}");
    connect(&one, first, &[second]);
    assert_eq!(one.machine.sh("ip route; ip route show table 58; ip neigh show dev prism-vxlan nud permanent; bridge fdb show dev prism-vxlan"), routes);
    connect(&one, first, &[]);
    let left = one.machine.sh("ip route; ip route show table 58; ip neigh show dev prism-vxlan nud permanent; bridge fdb show dev prism-vxlan");
    assert!(!left.contains("10.244.2.") && !left.contains("0e:58:0a:09:02:01"), "{left}");
    one.machine.namespace.enter(|| node::teardown(&one.network).unwrap()).unwrap();
    let left = one.machine.sh("ip -br link; ip rule; nft list tables");
    assert!(!left.contains("prism-vxlan") && !left.contains("5800") && !left.contains("peers"), "{left}");
}

#[test]
fn a_packet_is_its_clusters_on_every_node() {
    let (one, two, ..) = apart();
    let pods: Vec<Machine> = ["a", "b", "c", "d", "e", "f"].map(Machine::new).into();
    // Cluster 1 and 2 on both nodes, and the host's.
    let here: Vec<_> = [(0, 1), (1, 2), (2, 0)].iter().map(|(at, number)| one.add_to(*number, &pods[*at])).collect();
    let there: Vec<_> = [(3, 1), (4, 2), (5, 0)].iter().map(|(at, number)| two.add_to(*number, &pods[*at])).collect();
    let _listeners: Vec<_> = pods.iter().map(|pod| pod.listen("0.0.0.0:80")).collect();
    for from in 0..3 {
        for to in 0..3 {
            assert_eq!(pods[from].reaches(there[to], 80), from == to, "{from} to {to}");
            assert_eq!(pods[3 + from].reaches(here[to], 80), from == to, "{from} to {to}");
        }
    }
    let listener = pods[3].listen("0.0.0.0:81");
    pods[0].connect((there[0], 81).into()).unwrap();
    assert_eq!(listener.accept().unwrap().1.ip().to_string(), here[0].to_string());
    // What acts for a cluster gets as far as its pods.
    assert!(one.machine.reaches_for(1, there[0], 80) && !one.machine.reaches_for(1, there[1], 80) && !one.machine.reaches_for(1, there[2], 80));
    // A tenant's pod does not reach other nodes.
    let _node = two.machine.listen("0.0.0.0:8080");
    assert!(!pods[0].reaches("10.9.2.1", 8080) && pods[2].reaches("10.9.2.1", 8080));
    // Nobody but a node speaks through the tunnel.
    let stranger = "ip link add fake type vxlan id 1 dstport 4789 remote 10.9.2.1 gbp dev eth1 && ip addr add 10.244.1.77/32 dev fake && ip link set fake address 02:00:00:00:00:01 up && ip route add 10.244.2.0/24 dev fake && ip neigh add 10.244.2.9 lladdr 0e:58:0a:09:02:01 dev fake";
    one.outside.sh(stranger);
    one.outside.sh(&format!("ip neigh replace {} lladdr 0e:58:0a:09:02:01 dev fake", there[2]));
    assert!(!one.outside.reaches(there[2], 80), "a stranger's tunnel");
}
