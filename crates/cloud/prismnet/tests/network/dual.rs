//! Pods with an address of each family: what holds for IPv4 holds for IPv6, on one node and between nodes.
use crate::node::{Machine, Node};
use prismnet::peers::{Peer, SecondPeer};
use prismnet::{NodeNetwork, SecondRanges, VirtualClusters, node, peer_links};
use serde_json::json;
use std::io::ErrorKind;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

fn at(address: Ipv6Addr, port: u16) -> SocketAddr {
    SocketAddr::from((address, port))
}

fn reaches(from: &Machine, to: Ipv6Addr, port: u16) -> bool {
    from.reaches(format!("[{to}]"), port)
}

fn peer_of(listener: &TcpListener) -> String {
    listener.accept().unwrap().1.ip().to_string()
}

#[test]
fn pods_reach_each_other_their_node_and_the_outside_by_both_families() {
    let node = Node::dual();
    let (a, b) = (Machine::new("a"), Machine::new("b"));
    let mut conf = node.conf();
    let reply = node.call("ADD", &a, &conf);
    assert_eq!(reply.code, 0, "{reply:?}");
    let result = reply.body.unwrap();
    let gateways = ["10.244.1.1", "fd42:0:0:1::1"];
    assert_eq!(
        result["ips"],
        json!([{ "address": "10.244.1.2/32", "gateway": gateways[0], "interface": 1 }, { "address": "fd42:0:0:1::2/128", "gateway": gateways[1], "interface": 1 }])
    );
    assert_eq!(result["routes"], json!([{ "dst": "0.0.0.0/0", "gw": gateways[0] }, { "dst": "::/0", "gw": gateways[1] }]));
    let (_, a_address) = node.add_dual(0, &a);
    let (b_first, b_address) = node.add_dual(0, &b);
    // What ADD has answered can be used at once: no address waits for anything.
    let listener = b.listen("[::]:80");
    a.connect(at(b_address, 80)).unwrap();
    assert_eq!(peer_of(&listener), a_address.to_string(), "pods see each other's addresses");
    a.connect((b_first, 80).into()).unwrap();
    assert_eq!(listener.accept().unwrap().1.ip().to_canonical().to_string(), "10.244.1.2");
    node.machine.connect(at(b_address, 80)).unwrap();
    assert_eq!(peer_of(&listener), gateways[1], "the node speaks as the gateway");
    let listener = node.machine.listen("[fd42:0:0:1::1]:53");
    a.connect("[fd42:0:0:1::1]:53".parse().unwrap()).unwrap();
    assert_eq!(peer_of(&listener), a_address.to_string());
    let listener = node.outside.listen("[::]:80");
    a.connect("[2001:db8:9::2]:80".parse().unwrap()).unwrap();
    assert_eq!(peer_of(&listener), "2001:db8:9::1", "what leaves the cluster bears the node's address");
    let nobody = "[fd42:0:0:1::99]:80".parse().unwrap();
    let refused = a.namespace.enter(|| TcpStream::connect_timeout(&nobody, Duration::from_secs(60))).unwrap().unwrap_err();
    assert_ne!(refused.kind(), ErrorKind::TimedOut, "an address of no pod is refused");

    conf["cniVersion"] = json!("0.3.1");
    let old = node.call("ADD", &a, &conf).body.unwrap();
    assert_eq!((&old["ips"][0]["version"], &old["ips"][1]["version"]), (&json!("4"), &json!("6")));
    conf = node.conf();
    conf["prevResult"] = result;
    assert_eq!(node.call("CHECK", &a, &conf).code, 0);
    conf["prevResult"] = json!({ "ips": [{ "address": "10.244.1.2/32" }] });
    assert_eq!(node.call("CHECK", &a, &conf).code, 1, "both addresses must be told");
    for broken in ["ip -6 route del default", "ip -6 neigh del fd42:0:0:1::1 dev eth0", "ip -6 addr flush dev eth0"] {
        a.sh(broken);
        assert_eq!(node.call("CHECK", &a, &node.conf()).code, 1, "{broken}");
        node.add(&a);
        assert_eq!(node.call("CHECK", &a, &node.conf()).code, 0, "ADD mends it: {broken}");
        assert!(a.connect(at(b_address, 80)).is_ok(), "{broken}");
    }
    node.setup();
    assert!(a.connect(at(b_address, 80)).is_ok(), "a start disturbs nobody");
    assert_eq!(node.call("STATUS", &a, &node.conf()).code, 0);
    for pod in [&a, &b] {
        assert_eq!(node.call("DEL", pod, &node.conf()).code, 0);
    }
    assert!(!node.machine.sh("nft list table ip6 k8shost-prismnet").contains("elements"));
    node.machine.namespace.enter(|| node::teardown(&node.network).unwrap()).unwrap();
    let left = node.machine.sh("nft list tables; ip link; ip -6 route show table all");
    assert!(!left.contains("prism") && !left.contains("fd42") && !left.contains("fd43"), "{left}");
}

#[test]
fn a_pod_speaks_for_itself_alone() {
    let node = Node::dual();
    let (a, b) = (Machine::new("a"), Machine::new("b"));
    let ((_, a_address), (_, b_address)) = (node.add_dual(0, &a), node.add_dual(0, &b));
    let ears = node.machine.namespace.enter(|| UdpSocket::bind("[::]:5353").unwrap()).unwrap();
    ears.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    b.sh(&format!("ip addr add {a_address}/128 dev eth0 nodad; ip addr add fe80::99/64 dev eth0 nodad"));
    let device = b.sh("cat /proc/net/dev_mcast").lines().find(|line| line.contains("eth0")).unwrap().split_whitespace().next().unwrap().parse::<u32>().unwrap();
    let gateway: Ipv6Addr = "fd42:0:0:1::1".parse().unwrap();
    let everybody: Ipv6Addr = "ff02::1".parse().unwrap();
    let own_link: Ipv6Addr = "fe80::99".parse().unwrap();
    let send = |source: Ipv6Addr, to: Ipv6Addr, word: &str| {
        b.namespace
            .enter(|| {
                let socket = UdpSocket::bind(SocketAddrV6::new(source, 0, 0, device)).unwrap();
                // What can't be sent at all is not heard either.
                let _ = socket.send_to(word.as_bytes(), SocketAddrV6::new(to, 5353, 0, device));
            })
            .unwrap();
    };
    for (source, to) in [(a_address, gateway), (own_link, gateway), (own_link, everybody), (b_address, everybody)] {
        send(source, to, "lie");
    }
    // Nor with another hardware address than its own.
    let own = b.sh("ip -o link show eth0").split("link/ether ").nth(1).unwrap()[..17].to_owned();
    let neighbour = b.sh("ip -6 neigh show dev eth0 nud permanent").split_whitespace().nth(2).unwrap().to_owned();
    b.sh(&format!("ip link set eth0 address 02:00:00:00:00:01; ip -6 neigh replace {gateway} lladdr {neighbour} dev eth0 nud permanent"));
    send(b_address, gateway, "lie");
    b.sh(&format!("ip link set eth0 address {own}; ip -6 neigh replace {gateway} lladdr {neighbour} dev eth0 nud permanent"));
    send(b_address, gateway, "truth");
    let mut heard = [0; 16];
    let (length, from) = ears.recv_from(&mut heard).unwrap();
    assert_eq!((&heard[..length], from.ip()), (&b"truth"[..], b_address.into()), "a pod can't speak with another's address, nor to the link");

    // Neighbours need not ask, and are not answered: nobody can be told a wrong way.
    let _listener = node.machine.listen("[fd42:0:0:1::1]:80");
    assert!(reaches(&b, gateway, 80));
    b.sh(&format!("ip -6 neigh del {gateway} dev eth0"));
    assert!(!reaches(&b, gateway, 80), "nobody answers who asks for the gateway");
    let port = node.machine.sh("ip -o link show type veth");
    let port = port.lines().find(|line| line.contains(&b.name)).unwrap().split(": ").nth(1).unwrap().split('@').next().unwrap().to_owned();
    let sysctls = node.machine.sh(&format!("cd /proc/sys/net/ipv6/conf/{port}; cat accept_ra accept_redirects; ip -6 -o addr show dev {port}"));
    assert_eq!(sysctls.split_whitespace().collect::<Vec<_>>(), ["0", "0"], "the node takes no routes from a pod and has no address on its link");
}

#[test]
fn a_pod_of_a_single_family_has_no_ipv6() {
    let node = Node::new();
    let pod = Machine::new("pod");
    node.add_to(0, &pod);
    assert!(!pod.sh("ip -6 -o addr show scope global; ip -6 route").contains("default"));
    assert!(!node.machine.sh("nft list tables").contains("ip6"));
    assert_eq!(node.machine.sh("cat /proc/sys/net/ipv6/conf/all/forwarding").trim(), "0");
}

#[test]
fn clusters_are_kept_apart_by_both_families() {
    let mut node = Node::dual();
    node.network.virtual_clusters = Some(VirtualClusters { range: "100.64.0.0/16".parse().unwrap(), api_port: 6443, dns_port: 10053 });
    node.setup();
    let [a, b, c, root] = ["a", "b", "c", "root"].map(Machine::new);
    let pods: Vec<_> = [(&a, 1), (&b, 1), (&c, 2), (&root, 0)].map(|(pod, number)| (pod, node.add_dual(number, pod).1, number)).into();
    let _listeners: Vec<TcpListener> = pods.iter().map(|(pod, ..)| pod.listen("[::]:80")).collect();
    let apart = || {
        for (from, _, of) in &pods {
            for (_, to, its) in &pods {
                assert_eq!(reaches(from, *to, 80), of == its, "{} of {of} to {to} of {its}", from.name);
            }
        }
        assert!(pods.iter().all(|(_, to, _)| reaches(&node.machine, *to, 80)), "the node reaches all its pods");
    };
    apart();
    let _doors: Vec<TcpListener> = [6443, 10053, 10250].iter().map(|port| node.machine.listen(&format!("[::]:{port}"))).collect();
    let gateway: Ipv6Addr = "fd42:0:0:1::1".parse().unwrap();
    let node_address: Ipv6Addr = "2001:db8:9::1".parse().unwrap();
    for address in [gateway, node_address] {
        for port in [6443, 10053, 10250] {
            assert!(!reaches(&a, address, port) && reaches(&root, address, port), "[{address}]:{port}");
        }
    }
    assert!(a.reaches("100.64.0.1", 6443), "its API is where it was");
    let outside = node.outside.listen("[::]:443");
    a.connect("[2001:db8:9::2]:443".parse().unwrap()).unwrap();
    assert_eq!(peer_of(&outside), "2001:db8:9::1");
    node.outside.sh("ip route add fd42::/56 via 2001:db8:9::1");
    assert!(!reaches(&node.outside, pods[0].1, 80) && reaches(&node.outside, pods[3].1, 80), "who is outside reaches the host cluster's pods alone");
    assert_eq!(node.call("CHECK", &a, &node.conf()).code, 0);
    node.machine.sh("nft flush map ip6 k8shost-prismnet clusters");
    assert_eq!(node.call("CHECK", &a, &node.conf()).code, 1);
    node.setup();
    assert_eq!(node.call("CHECK", &a, &node.conf()).code, 0);
    apart();
    assert_eq!(node.call("DEL", &c, &node.conf()).code, 0);
    let rules = node.machine.sh("nft list table ip6 k8shost-prismnet");
    assert!(!rules.contains(&pods[2].1.to_string()) && rules.contains(&pods[0].1.to_string()), "{rules}");
}

/// A node of a dual cluster; what it is to others.
fn node_at(number: u8, machine: Machine, outside: Machine, address: &str, second: Option<&str>) -> (Node, Peer) {
    let mut network = NodeNetwork::new(format!("10.244.{number}.0/24").parse().unwrap(), "10.244.0.0/16".parse().unwrap());
    network.has_peers = true;
    network.virtual_clusters = Some(VirtualClusters { range: "100.64.0.0/16".parse().unwrap(), api_port: 6443, dns_port: 53 });
    let ranges = SecondRanges { pod_cidr: format!("fd42:0:0:{number}::/64").parse().unwrap(), cluster_cidr: "fd42::/56".parse().unwrap(), service_cidr: None };
    network.second = Some(ranges);
    let second = SecondPeer { pod_cidr: ranges.pod_cidr, address: second.map(|address| address.parse().unwrap()) };
    let peer = Peer { address: address.parse().unwrap(), pod_cidr: network.pod_cidr, second: Some(second) };
    (Node::on(machine, outside, network, tempfile::tempdir().unwrap()), peer)
}

fn connect(node: &Node, own: Peer, others: &[Peer]) {
    node.machine.namespace.enter(|| peer_links::connect(&node.network, own, others).unwrap()).unwrap();
}

#[test]
fn pods_of_two_nodes_meet_by_ipv6_over_the_link_and_through_the_tunnel() {
    let (first, second) = (Machine::new("one"), Machine::new("two"));
    first.sh(&format!("ip link set lo up; ip link add up0 type veth peer name up0 netns {}; ip addr add 10.9.1.1/24 dev up0; ip link set up0 up", second.name));
    second.sh("ip link set lo up; ip addr add 10.9.1.2/24 dev up0; ip link set up0 up");
    // One link, on which only IPv4 is spoken at first.
    let (one, own) = node_at(1, first, Machine::new("out"), "10.9.1.1", None);
    let (two, other) = node_at(2, second, Machine::new("out"), "10.9.1.2", None);
    connect(&one, own, &[other]);
    connect(&two, other, &[own]);
    let pods: Vec<Machine> = ["a", "b", "c", "d", "e", "f"].map(Machine::new).into();
    let here: Vec<_> = [(0, 1), (1, 2), (2, 0)].iter().map(|(at, number)| one.add_dual(*number, &pods[*at]).1).collect();
    let there: Vec<_> = [(3, 1), (4, 2), (5, 0)].iter().map(|(at, number)| two.add_dual(*number, &pods[*at]).1).collect();
    let _listeners: Vec<_> = pods.iter().map(|pod| pod.listen("[::]:80")).collect();
    let apart = |when: &str| {
        for from in 0..3 {
            for to in 0..3 {
                assert_eq!(reaches(&pods[from], there[to], 80), from == to, "{when}: {from} to {to}");
                assert_eq!(reaches(&pods[3 + from], here[to], 80), from == to, "{when}: back, {from} to {to}");
            }
        }
        assert!(reaches(&one.machine, there[2], 80), "{when}: the node reaches the host cluster's pods");
        // As much as fits, and more than that, in one go.
        pods[2].sh(&format!("for size in 1402 8000; do busybox ping -6 -c1 -W5 -s $size {}; done", there[2]));
        let listener = pods[5].listen("[::]:81");
        pods[2].connect(at(there[2], 81)).unwrap();
        assert_eq!(peer_of(&listener), here[2].to_string(), "{when}: the pod's own address");
    };
    let way = || one.machine.sh("ip -6 route show fd42:0:0:2::/64; ip -6 route show table 58; ip -6 neigh show dev prism-vxlan nud permanent");
    assert!(way().contains("fd42:0:0:2::/64 via fd42:0:0:2:: dev prism-vxlan"), "{}", way());
    apart("through the tunnel");
    let before = way();
    connect(&one, own, &[other]);
    assert_eq!(way(), before, "again changes nothing");

    one.machine.sh("ip addr add 2001:db8:9::1/64 dev up0 nodad");
    two.machine.sh("ip addr add 2001:db8:9::2/64 dev up0 nodad");
    let with = |peer: Peer, address: &str| Peer { second: peer.second.map(|second| SecondPeer { address: Some(address.parse().unwrap()), ..second }), ..peer };
    let (own, other) = (with(own, "2001:db8:9::1"), with(other, "2001:db8:9::2"));
    connect(&one, own, &[other]);
    connect(&two, other, &[own]);
    assert!(way().contains("fd42:0:0:2::/64 via 2001:db8:9::2 dev up0"), "{}", way());
    apart("over the link");
    let _node = two.machine.listen("[::]:8080");
    let node_address = "2001:db8:9::2".parse().unwrap();
    assert!(!reaches(&pods[0], node_address, 8080) && reaches(&pods[2], node_address, 8080), "a tenant's pod does not reach other nodes");
    connect(&one, own, &[]);
    assert!(!way().contains("fd42:0:0:2"), "{}", way());
    one.machine.namespace.enter(|| node::teardown(&one.network).unwrap()).unwrap();
    let left = one.machine.sh("ip -br link; ip -6 rule; nft list tables");
    assert!(!left.contains("prism-vxlan") && !left.contains("5800") && !left.contains("peers"), "{left}");
}
