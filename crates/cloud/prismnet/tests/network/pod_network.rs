//! The pod network in real network namespaces: addresses, ports, the router, and clusters kept apart.
use crate::node::{Machine, Node};
use prismnet::cni::Reply;
use prismnet::{VirtualClusters, node};
use serde_json::json;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::time::{Duration, Instant};

fn peer_of(listener: &TcpListener) -> String {
    listener.accept().unwrap().1.ip().to_string()
}

#[test]
fn pods_reach_each_other_their_node_and_the_outside() {
    let node = Node::new();
    let (a, b) = (Machine::new("a"), Machine::new("b"));
    let before = Instant::now();
    let a_address = node.add(&a);
    println!("ADD took {:?}", before.elapsed());
    let b_address = node.add(&b);
    assert_eq!((a_address.to_string(), b_address.to_string()), ("10.244.1.2".into(), "10.244.1.3".into()));
    assert!(a.sh("ip link show eth0").contains("mtu 1400"), "the uplink's MTU");
    assert!(node.machine.sh("ip link").contains(&format!("alias k8s-shop/{}-{}", a.name, a.name)));

    let listener = b.listen("0.0.0.0:80");
    a.connect((b_address, 80).into()).unwrap();
    assert_eq!(peer_of(&listener), a_address.to_string(), "pods see each other's addresses");
    b.connect((b_address, 80).into()).unwrap();
    b.connect("127.0.0.1:80".parse().unwrap()).expect("loopback is up");
    let listener = b.listen("0.0.0.0:81");
    node.machine.connect((b_address, 81).into()).unwrap();
    assert_eq!(peer_of(&listener), "10.244.1.1", "the node speaks as the gateway");

    let listener = node.machine.listen("10.244.1.1:53");
    a.connect("10.244.1.1:53".parse().unwrap()).unwrap();
    assert_eq!(peer_of(&listener), a_address.to_string());
    let listener = node.outside.listen("0.0.0.0:80");
    a.connect("10.9.0.2:80".parse().unwrap()).unwrap();
    assert_eq!(peer_of(&listener), "10.9.0.1", "what leaves the cluster bears the node's address");

    let before = Instant::now();
    assert!(a.connect("10.244.1.200:80".parse().unwrap()).is_err());
    assert!(before.elapsed() < Duration::from_secs(1), "an address of no pod is refused at once");

    let ears = node.machine.namespace.enter(|| UdpSocket::bind("10.244.1.1:5353").unwrap()).unwrap();
    ears.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    b.sh(&format!("ip addr add {a_address}/32 dev eth0"));
    for (source, word) in [(a_address, "lie"), (b_address, "truth")] {
        b.namespace.enter(|| UdpSocket::bind((source, 0)).unwrap().send_to(word.as_bytes(), "10.244.1.1:5353").unwrap()).unwrap();
    }
    let mut heard = [0; 16];
    let (length, from) = ears.recv_from(&mut heard).unwrap();
    assert_eq!((&heard[..length], from.ip().to_string()), (&b"truth"[..], b_address.to_string()), "a pod can't speak with another's address");

    // Nor with another hardware address than its own.
    let own = b.sh("cat /proc/net/arp >/dev/null; ip -o link show eth0").split("link/ether ").nth(1).unwrap()[..17].to_owned();
    for (hardware, word) in [("02:00:00:00:00:01", "lie"), (own.as_str(), "truth")] {
        b.sh(&format!("ip link set eth0 address {hardware}; ip neigh replace 10.244.1.1 lladdr {} dev eth0", gateway_of(&node, &b)));
        b.namespace.enter(|| UdpSocket::bind((b_address, 0)).unwrap().send_to(word.as_bytes(), "10.244.1.1:5353").unwrap()).unwrap();
    }
    let (length, _) = ears.recv_from(&mut heard).unwrap();
    assert_eq!(&heard[..length], b"truth", "what bears another hardware address is dropped");
}

/// The hardware address of the node's end of a pod's port.
fn gateway_of(node: &Node, pod: &Machine) -> String {
    let links = node.machine.sh("ip -o link show type veth");
    let line = links.lines().find(|line| line.contains(&pod.name)).unwrap_or_else(|| panic!("{} has no port in {links}", pod.name));
    line.split("link/ether ").nth(1).unwrap()[..17].to_owned()
}

#[test]
fn a_pods_bandwidth_is_what_its_annotations_say() {
    let node = Node::new();
    let (slow, free) = (Machine::new("slow"), Machine::new("free"));
    let mut conf = node.conf();
    assert_eq!(conf["capabilities"], json!({ "bandwidth": true }), "the runtime is told to pass it");
    // As containerd passes the annotations: bits a second, and bursts of all that fits.
    let rates = json!({ "ingressRate": 8_000_000, "ingressBurst": u32::MAX, "egressRate": 4_000_000, "egressBurst": u32::MAX });
    conf["runtimeConfig"] = json!({ "bandwidth": rates });
    let reply = node.call("ADD", &slow, &conf);
    assert_eq!(reply.code, 0, "{reply:?}");
    let address: Ipv4Addr = reply.body.unwrap()["ips"][0]["address"].as_str().unwrap().strip_suffix("/32").unwrap().parse().unwrap();
    let free_address = node.add(&free);
    let queues = || node.machine.sh("tc -s qdisc show | grep -A1 tbf || true");
    assert!(queues().contains("rate 8Mbit") && queues().contains("rate 4Mbit"), "{}", queues());
    assert_eq!(queues().matches("tbf").count(), 2, "nobody else is limited: {}", queues());
    assert_eq!(node.call("ADD", &slow, &conf).code, 0);
    assert_eq!(queues().matches("tbf").count(), 2, "a repeated call changes nothing");

    // More than a bucket holds, both ways: all of it arrives, through the queues.
    for (from, to, at) in [(&free, &slow, address), (&slow, &free, free_address)] {
        let listener = to.listen("0.0.0.0:80");
        let mut sending = from.connect((at, 80).into()).unwrap();
        let writing = std::thread::spawn(move || std::io::Write::write_all(&mut sending, &[7; 600_000]).unwrap());
        let mut got = Vec::new();
        std::io::Read::read_to_end(&mut listener.accept().unwrap().0, &mut got).unwrap();
        writing.join().unwrap();
        assert_eq!(got.len(), 600_000);
    }
    let sent: Vec<u64> = queues().lines().filter_map(|line| line.trim().strip_prefix("Sent ")?.split(' ').next()?.parse().ok()).collect();
    assert!(sent.len() == 2 && sent.iter().all(|bytes| *bytes > 600_000), "{}", queues());
    assert_eq!(queues().matches("overlimits 0").count(), 0, "both had to wait: {}", queues());

    for (rates, why) in [(json!({ "egressRate": 999 }), "unreasonably small"), (json!({ "ingressRate": 1_000_000_000_000_001u64 }), "unreasonably large")] {
        let mut wrong = node.conf();
        wrong["runtimeConfig"] = json!({ "bandwidth": rates });
        assert!(node.call("ADD", &Machine::new("wrong"), &wrong).body.unwrap()["msg"].as_str().unwrap().contains(why));
    }
    assert_eq!(node.call("DEL", &slow, &conf).code, 0);
    let left = node.machine.sh("ip -o link; nft list tables; tc qdisc show");
    assert!(!left.contains("prifb") && !left.contains("tbf"), "{left}");
}

#[test]
fn calls_may_be_repeated() {
    let node = Node::new();
    let pod = Machine::new("pod");
    let address = node.add(&pod);
    let listener = pod.listen("0.0.0.0:80");
    let stream = node.machine.connect((address, 80).into()).unwrap();
    let index = pod.sh("cat /sys/class/net/eth0/ifindex || ip -o link show eth0");
    assert_eq!(node.add(&pod), address, "the same container keeps its address");
    assert_eq!(pod.sh("cat /sys/class/net/eth0/ifindex || ip -o link show eth0"), index, "and its device");
    node.setup();
    assert_eq!(peer_of(&listener), stream.local_addr().unwrap().ip().to_string());

    let mut conf = node.conf();
    assert_eq!(node.call("CHECK", &pod, &conf).code, 0);
    conf["prevResult"] = json!({ "ips": [{ "address": "10.244.1.77/32" }] });
    assert_eq!(node.call("CHECK", &pod, &conf).code, 1, "a previous result with another address is no match");
    pod.sh("ip route del default");
    let reply = node.call("CHECK", &pod, &node.conf());
    assert!(reply.body.unwrap()["msg"].as_str().unwrap().contains("default route"));
    assert_eq!(node.add(&pod), address, "ADD mends what CHECK found");
    assert_eq!(node.call("CHECK", &pod, &node.conf()).code, 0);

    for _ in 0..2 {
        assert_eq!(node.call("DEL", &pod, &node.conf()), Reply { code: 0, body: None });
        assert_eq!((node.leases(), node.ports()), (0, 0));
    }
    assert_eq!(node.call("STATUS", &pod, &node.conf()).code, 0);
    node.machine.namespace.enter(|| node::teardown(&node.network).unwrap()).unwrap();
    assert_eq!(node.call("STATUS", &pod, &node.conf()).body.unwrap()["code"], 50);
    assert!(node.call("ADD", &pod, &node.conf()).body.unwrap()["msg"].as_str().unwrap().contains("not set up"));
    assert!(!node.machine.sh("nft list tables; ip link").contains("prism"));
    assert_eq!(node.leases(), 0);
}

#[test]
fn nothing_is_leaked_by_the_dead() {
    let node = Node::new();
    let (gone, kept, collected) = (Machine::new("gone"), Machine::new("kept"), Machine::new("collected"));
    for pod in [&gone, &kept, &collected] {
        node.add(pod);
    }
    drop(gone);
    assert_eq!(node.leases(), 3);
    node.setup();
    assert_eq!((node.leases(), node.ports()), (2, 2), "a start ends what no runtime gave back");
    let mut conf = node.conf();
    conf["cni.dev/valid-attachments"] = json!([{ "containerID": kept.name, "ifname": "eth0" }]);
    assert_eq!(node.call("GC", &kept, &conf).code, 0);
    assert_eq!((node.leases(), node.ports()), (1, 1));
    assert_eq!(node.call("CHECK", &kept, &node.conf()).code, 0);
}

#[test]
fn a_failed_add_leaves_nothing() {
    let node = Node::new();
    let pod = Machine::new("pod");
    pod.sh("ip link add eth0 type veth peer name other");
    let reply = node.call("ADD", &pod, &node.conf());
    assert_eq!(reply.code, 1);
    assert!(reply.body.unwrap()["msg"].as_str().unwrap().contains("File exists"));
    assert_eq!((node.leases(), node.ports()), (0, 0));
}

#[test]
fn many_pods_at_once_get_addresses_of_their_own() {
    let node = Node::new();
    let pods: Vec<Machine> = (0..16).map(|_| Machine::new("pod")).collect();
    let before = Instant::now();
    let mut addresses: Vec<Ipv4Addr> = std::thread::scope(|scope| {
        let threads: Vec<_> = pods.iter().map(|pod| scope.spawn(|| node.add(pod))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    println!("16 ADDs at once took {:?}", before.elapsed());
    addresses.sort();
    addresses.dedup();
    assert_eq!((addresses.len(), node.ports()), (16, 16));
}

#[test]
fn services_work_on_a_node_without_default_route() {
    let mut node = Node::new();
    node.network.service_cidr = Some("10.96.0.0/12".parse().unwrap());
    node.setup();
    let (server, client) = (Machine::new("server"), Machine::new("client"));
    let (server_address, client_address) = (node.add(&server), node.add(&client));
    node.machine.sh("ip route del default");
    node.machine.sh(&format!(
        "nft \"add table ip t; add chain ip t pre {{ type nat hook prerouting priority dstnat; }}; add chain ip t out {{ type nat hook output priority -100; }}; \
         add rule ip t pre ip daddr 10.96.0.1 dnat to {server_address}; add rule ip t out ip daddr 10.96.0.1 dnat to {server_address}\""
    ));
    let listener = server.listen("0.0.0.0:80");
    client.connect("10.96.0.1:80".parse().unwrap()).unwrap();
    assert_eq!(peer_of(&listener), client_address.to_string());
    node.machine.connect("10.96.0.1:80".parse().unwrap()).unwrap();
    assert_eq!(peer_of(&listener), "10.244.1.1");
}

#[test]
fn clusters_are_kept_apart() {
    let mut node = Node::new();
    node.network.virtual_clusters = Some(VirtualClusters { range: "100.64.0.0/16".parse().unwrap(), api_port: 6443, dns_port: 10053 });
    node.setup();
    let [a, b, c, root, stranger] = ["a", "b", "c", "root", "stranger"].map(Machine::new);
    let reply = node.call("ADD", &stranger, &node.conf());
    assert!(reply.body.unwrap()["msg"].as_str().unwrap().contains("is not known"), "a pod nobody told of gets no port");
    assert_eq!((node.leases(), node.ports()), (0, 0));
    let (a_address, b_address, c_address, root_address) = (node.add_to(1, &a), node.add_to(1, &b), node.add_to(2, &c), node.add_to(0, &root));
    assert!(node.machine.sh("ip link").contains(&format!("alias k8s-shop@c1.team/{}-{}", a.name, a.name)));
    let pods = [(&a, a_address, 1), (&b, b_address, 1), (&c, c_address, 2), (&root, root_address, 0)];
    let _listeners: Vec<TcpListener> = pods.iter().map(|(pod, ..)| pod.listen("0.0.0.0:80")).collect();
    let held = a.connect((b_address, 80).into()).unwrap();
    let apart = || {
        for (from, _, of) in pods {
            for (_, to, its) in pods {
                assert_eq!(from.reaches(to, 80), of == its, "{} of {of} to {to} of {its}", from.name);
            }
        }
        assert!(pods.iter().all(|(_, to, _)| node.machine.reaches(to, 80)), "the node reaches all its pods");
    };
    apart();

    // What of the node itself they reach.
    let _doors: Vec<TcpListener> = [6443, 10053, 10250].iter().map(|port| node.machine.listen(&format!("0.0.0.0:{port}"))).collect();
    let outside = node.outside.listen("0.0.0.0:443");
    assert!(a.reaches("100.64.0.1", 6443) && a.reaches("100.64.0.1", 10053) && c.reaches("100.64.0.2", 6443));
    for (address, port) in [("100.64.0.2", 6443), ("100.64.0.3", 6443), ("100.64.0.1", 10250), ("10.244.1.1", 6443), ("10.244.1.1", 10053), ("10.9.0.1", 6443)]
    {
        assert!(!a.reaches(address, port), "{address}:{port}");
    }
    assert!(root.reaches("10.244.1.1", 6443) && root.reaches("10.9.0.1", 10250) && !root.reaches("100.64.0.1", 6443));
    assert!(node.machine.reaches("100.64.0.2", 6443), "the machine reaches all of itself");
    for (to, port, reached) in
        [("10.9.0.2", 443, true), ("100.64.0.1", 6443, true), ("100.64.0.2", 6443, false), ("100.64.0.1", 10250, false), ("10.9.0.1", 10250, false)]
    {
        assert_eq!(node.machine.reaches_for(1, to, port), reached, "the machine, for cluster 1, to {to}:{port}");
    }
    assert!(node.machine.reaches_for(1, a_address, 80) && !node.machine.reaches_for(1, c_address, 80) && !node.machine.reaches_for(1, root_address, 80));
    let lead = "type nat hook prerouting priority dstnat; ip daddr 10.9.0.1 tcp dport 30001 dnat to 100.64.0.2:6443; ip daddr 10.9.0.1 tcp dport 30002 dnat to 100.64.0.2:10053;";
    node.machine.sh(&format!("nft \"table ip exposed {{ chain pre {{ {lead} }}; }}\""));
    assert!(node.outside.reaches("10.9.0.1", 30001) && root.reaches("10.9.0.1", 30001), "whom the host cluster exposes is reached");
    assert!(!a.reaches("10.9.0.1", 30001) && c.reaches("10.9.0.1", 30001) && !root.reaches("10.9.0.1", 30002));
    node.outside.sh("ip route add default via 10.9.0.1");
    assert!(!node.outside.reaches("100.64.0.1", 6443) && !node.outside.reaches(a_address, 80) && node.outside.reaches(root_address, 80));
    a.connect("10.9.0.2:443".parse().unwrap()).unwrap();
    assert_eq!(peer_of(&outside), "10.9.0.1");
    let links = node.machine.sh("ip -o -6 addr show");
    assert!(
        links.lines().filter(|line| line.contains("prism") && !line.contains("prism0")).count() <= 1,
        "only the host cluster's pods have a link-local way to the node: {links}"
    );

    // A start makes the rules anew from the leases; what runs goes on, and what ended is not let in again.
    assert_eq!(node.call("CHECK", &a, &node.conf()).code, 0);
    node.machine.sh("nft flush map ip k8shost-prismnet clusters");
    assert_eq!(node.call("CHECK", &a, &node.conf()).code, 1);
    node.setup();
    assert_eq!(node.call("CHECK", &a, &node.conf()).code, 0);
    apart();
    std::io::Write::write_all(&mut &held, b"still here").unwrap();
    assert_eq!(node.call("DEL", &c, &node.conf()).code, 0);
    let rules = node.machine.sh("nft list table ip k8shost-prismnet");
    assert!(!rules.contains(&c_address.to_string()) && !rules.contains("100.64.0.2") && rules.contains("100.64.0.1"), "{rules}");
    drop(b);
    node.setup();
    assert!(!node.machine.sh("nft list table ip k8shost-prismnet").contains(&b_address.to_string()));
    node.machine.namespace.enter(|| node::teardown(&node.network).unwrap()).unwrap();
    assert!(!node.machine.sh("nft list tables; ip route show table local").contains("100.64"));
    assert_eq!(node.call("DEL", &a, &node.conf()).code, 0, "a pod that outlives the rules can be taken down");
}

#[test]
fn pods_of_many_clusters_come_and_go_at_once() {
    let mut node = Node::new();
    node.network.virtual_clusters = Some(VirtualClusters { range: "100.64.0.0/16".parse().unwrap(), api_port: 6443, dns_port: 10053 });
    node.setup();
    let pods: Vec<(u16, Machine)> = (0..12).map(|n| (n % 4, Machine::new("pod"))).collect();
    let conf = node.conf();
    let addresses: Vec<Ipv4Addr> = std::thread::scope(|scope| {
        let threads: Vec<_> = pods.iter().map(|(number, pod)| scope.spawn(|| node.add_to(*number, pod))).collect();
        node.machine.namespace.enter(|| node::reap(&node.network).unwrap()).unwrap();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let rules = node.machine.sh("nft list table ip k8shost-prismnet");
    for ((number, pod), address) in pods.iter().zip(&addresses) {
        assert_eq!(rules.contains(&format!("{:#010x} . {address}", u32::from(*number) << 16)), *number != 0, "{rules}");
        assert_eq!(node.call("CHECK", pod, &conf).code, 0);
    }
    std::thread::scope(|scope| {
        for (_, pod) in &pods {
            scope.spawn(|| assert_eq!(node.call("DEL", pod, &conf).code, 0));
        }
    });
    let rules = node.machine.sh("nft list table ip k8shost-prismnet");
    assert!(!rules.contains("elements"), "{rules}");
    assert_eq!((node.leases(), node.ports()), (0, 0));
}
