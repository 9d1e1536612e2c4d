//! The proxy at work: real connections through real rules, in network namespaces of the test's own.
#![allow(clippy::unwrap_used, reason = "a test may")]
use api_cache::{Selection, Source, SourceEvent};
use api_meta::{ClusterName, IpFamily};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use serde_json::{Value, json};
use service_proxy::{ProxySettings, run, teardown};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{broadcast, oneshot};

/// A network namespace that goes when the test ends.
struct Machine(String);

impl Machine {
    fn new(role: &str) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("sp{}-{}-{role}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        sh(&format!("ip netns add {name}; nsenter --net=/run/netns/{name} ip link set lo up"));
        Self(name)
    }
    fn sh(&self, command: &str) -> String {
        sh(&format!("nsenter --net=/run/netns/{} sh -c '{command}'", self.0))
    }
    /// Runs on a thread inside.
    fn enter<T: Send + 'static>(&self, action: impl FnOnce() -> T + Send + 'static) -> std::thread::JoinHandle<T> {
        let file = File::open(format!("/run/netns/{}", self.0)).unwrap();
        std::thread::spawn(move || {
            nix::sched::setns(&file, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            action()
        })
    }
    fn within<T: Send + 'static>(&self, action: impl FnOnce() -> T + Send + 'static) -> T {
        self.enter(action).join().unwrap()
    }
    /// Who answers at an address: its name and who it takes us for.
    fn ask(&self, to: &str) -> std::io::Result<(String, String)> {
        let to: SocketAddr = to.parse().unwrap();
        self.within(move || {
            let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(1))?;
            stream.set_read_timeout(Some(Duration::from_secs(2)))?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            let (name, client) = answer.split_once(' ').unwrap();
            Ok((name.to_owned(), client.to_owned()))
        })
    }
    /// As a process that acts for a cluster asks.
    fn ask_for(&self, mark: u32, to: &str) -> Option<String> {
        use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, connect, setsockopt, socket, sockopt};
        let to: std::net::SocketAddrV4 = to.parse().unwrap();
        self.within(move || {
            let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
            setsockopt(&socket, sockopt::Mark, &mark).unwrap();
            setsockopt(&socket, sockopt::SendTimeout, &nix::sys::time::TimeVal::new(1, 0)).unwrap();
            connect(std::os::fd::AsRawFd::as_raw_fd(&socket), &SockaddrIn::from(to)).ok()?;
            let mut answer = String::new();
            TcpStream::from(socket).read_to_string(&mut answer).ok()?;
            Some(answer.split_once(' ')?.0.to_owned())
        })
    }
    fn asks(&self, to: &str, times: usize) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for _ in 0..times {
            *counts.entry(self.ask(to).unwrap().0).or_default() += 1;
        }
        counts
    }
    /// Serves TCP (name and client's address) and UDP (name) until the process ends.
    fn serve(&self, name: &'static str, port: u16) {
        self.serve_at("0.0.0.0", name, port);
    }
    fn serve_at(&self, address: &'static str, name: &'static str, port: u16) {
        let (listener, socket) = self.within(move || (TcpListener::bind((address, port)).unwrap(), UdpSocket::bind((address, port)).unwrap()));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let client = stream.peer_addr().unwrap().ip();
                write!(stream, "{name} {client}").unwrap();
            }
        });
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((_, from)) = socket.recv_from(&mut buffer) {
                socket.send_to(name.as_bytes(), from).unwrap();
            }
        });
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        sh(&format!("ip netns del {}", self.0));
    }
}

fn sh(command: &str) -> String {
    let output = Command::new("sh").args(["-ec", command]).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

type Feed = (Vec<(ClusterName, String, Bytes)>, broadcast::Sender<(String, SourceEvent)>);

/// Objects in memory, as the server's store feeds them.
#[derive(Clone)]
struct Objects(Arc<Mutex<Feed>>);

impl Objects {
    fn new() -> Self {
        Self(Arc::new(Mutex::new((Vec::new(), broadcast::channel(65536).0))))
    }
    fn apply(&self, resource: &str, object: Value) {
        self.apply_in(&ClusterName::root(), resource, object);
    }
    fn apply_in(&self, cluster: &ClusterName, resource: &str, mut object: Value) {
        static VERSION: AtomicUsize = AtomicUsize::new(1);
        object["metadata"]["resourceVersion"] = VERSION.fetch_add(1, Ordering::Relaxed).to_string().into();
        let bytes = Bytes::from(object.to_string());
        let mut feed = self.0.lock().unwrap();
        feed.0.push((cluster.clone(), resource.into(), bytes.clone()));
        // Nobody may follow yet.
        let _ = feed.1.send((resource.into(), SourceEvent::Applied { cluster: cluster.clone(), object: bytes }));
    }
    fn service(&self, name: &str, spec: Value) {
        self.apply("services", json!({ "metadata": { "name": name, "namespace": "default" }, "spec": spec }));
    }
    fn endpoints(&self, name: &str, port: u16, addresses: &[(&str, &str)]) {
        self.endpoints_in(&ClusterName::root(), name, port, addresses);
    }
    fn endpoints_in(&self, cluster: &ClusterName, name: &str, port: u16, addresses: &[(&str, &str)]) {
        let endpoints: Vec<Value> =
            addresses.iter().map(|(address, node)| json!({ "addresses": [address], "nodeName": node, "conditions": { "ready": true } })).collect();
        let metadata = json!({ "name": name, "namespace": "default", "labels": { "kubernetes.io/service-name": name } });
        let ports = json!([{ "name": "tcp", "port": port, "protocol": "TCP" }, { "name": "udp", "port": port, "protocol": "UDP" }]);
        self.apply_in(cluster, "endpointslices", json!({ "metadata": metadata, "addressType": "IPv4", "ports": ports, "endpoints": endpoints }));
    }
    /// The same Service's endpoints of the second family.
    fn second_endpoints(&self, name: &str, port: u16, addresses: &[(&str, &str)]) {
        let endpoints: Vec<Value> = addresses.iter().map(|(address, node)| json!({ "addresses": [address], "nodeName": node })).collect();
        let metadata = json!({ "name": format!("{name}-second"), "namespace": "default", "labels": { "kubernetes.io/service-name": name } });
        let ports = json!([{ "name": "tcp", "port": port, "protocol": "TCP" }, { "name": "udp", "port": port, "protocol": "UDP" }]);
        self.apply("endpointslices", json!({ "metadata": metadata, "addressType": "IPv6", "ports": ports, "endpoints": endpoints }));
    }
}

impl Source for Objects {
    fn follow(&self, selection: Selection) -> BoxStream<'static, SourceEvent> {
        let feed = self.0.lock().unwrap();
        let live = feed.1.subscribe();
        let resource = selection.resource.clone();
        let listed: Vec<SourceEvent> = feed
            .0
            .iter()
            .filter(|(_, of, _)| *of == resource)
            .map(|(cluster, _, object)| SourceEvent::Applied { cluster: cluster.clone(), object: object.clone() })
            .collect();
        let start = futures::stream::iter([SourceEvent::Restart].into_iter().chain(listed).chain([SourceEvent::Listed]));
        let live = futures::stream::unfold(live, |mut live| async { live.recv().await.ok().map(|event| (event, live)) });
        start.chain(live.filter_map(move |(of, event)| futures::future::ready((of == resource).then_some(event)))).boxed()
    }
}

/// A node with two pods, a client pod, and a machine outside; the proxy runs on the node.
struct Cluster {
    node: Machine,
    pods: Vec<Machine>,
    client: Machine,
    outside: Machine,
    objects: Objects,
    dual: bool,
    stop: Option<oneshot::Sender<()>>,
    proxy: Option<std::thread::JoinHandle<()>>,
}

impl Cluster {
    fn new() -> Self {
        Self::of(false)
    }
    /// As the other, with fd42::2 to ::4 for the pods and the client besides, and fd09::1 and ::2 for node and outside.
    fn dual() -> Self {
        Self::of(true)
    }
    fn of(dual: bool) -> Self {
        let node = Machine::new("node");
        node.sh("sysctl -qw net.ipv4.ip_forward=1");
        let pods = ["a", "b"].map(Machine::new).into();
        let mut cluster =
            Self { client: Machine::new("client"), outside: Machine::new("out"), node, pods, objects: Objects::new(), dual, stop: None, proxy: None };
        for (at, machine) in cluster.pods.iter().chain([&cluster.client]).enumerate() {
            let address = format!("10.244.0.{}", at + 2);
            cluster.node.sh(&format!("ip link add p{at} type veth peer name eth0 netns {}; ip link set p{at} up; ip route add {address} dev p{at}", machine.0));
            machine.sh(&format!("ip addr add {address}/32 dev eth0; ip link set eth0 up; ip route add 10.9.0.1 dev eth0; ip route add default via 10.9.0.1"));
        }
        cluster.node.sh(&format!(
            "ip link add up0 type veth peer name eth0 netns {}; ip addr add 10.9.0.1/24 dev up0; ip link set up0 up; ip route add default via 10.9.0.2",
            cluster.outside.0
        ));
        cluster.outside.sh("ip addr add 10.9.0.2/24 dev eth0; ip link set eth0 up; ip route add default via 10.9.0.1");
        cluster.pods[0].serve("a", 8080);
        cluster.pods[1].serve("b", 8080);
        if dual {
            cluster.add_second();
        }
        cluster.start();
        cluster
    }
    fn add_second(&self) {
        self.node.sh("sysctl -qw net.ipv6.conf.all.forwarding=1; ip addr add fd09::1/64 dev up0 nodad; ip route add default via fd09::2");
        self.outside.sh("ip addr add fd09::2/64 dev eth0 nodad; ip route add default via fd09::1");
        for (at, machine) in self.pods.iter().chain([&self.client]).enumerate() {
            let address = format!("fd42::{}", at + 2);
            self.node.sh(&format!("ip addr add fe80::1/64 dev p{at} nodad; ip route add {address} dev p{at}"));
            machine.sh(&format!("ip addr add {address}/128 dev eth0 nodad; ip route add default via fe80::1 dev eth0"));
        }
        for (at, name) in ["a", "b"].into_iter().enumerate() {
            self.pods[at].serve_at(["fd42::2", "fd42::3"][at], name, 8080);
        }
    }
    fn start(&mut self) {
        let dual = self.dual;
        let (stop, stopped) = oneshot::channel::<()>();
        let objects = self.objects.clone();
        self.proxy = Some(self.node.enter(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let mut settings = ProxySettings::new("n1", "10.244.0.0/16".parse().unwrap());
            settings.virtual_cluster_cidr = Some("100.64.0.0/16".parse().unwrap());
            settings.second_cluster_cidr = dual.then(|| "fd42::/56".parse().unwrap());
            runtime.block_on(run(settings, Arc::new(objects), async { stopped.await.unwrap_or_default() })).unwrap();
        }));
        self.stop = Some(stop);
    }
    /// The table's number: another one says that all was made anew.
    fn table(&self) -> String {
        self.node.sh("nft -a list tables")
    }
    fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        self.proxy.take().unwrap().join().unwrap();
    }
    fn service(&self, name: &str, spec: Value) {
        let mut spec = spec;
        spec["ports"] = spec.get("ports").cloned().unwrap_or(json!([{ "name": "tcp", "port": 80 }]));
        self.objects.service(name, spec);
    }
    fn both(&self, name: &str) {
        self.objects.endpoints(name, 8080, &[("10.244.0.2", "n1"), ("10.244.0.3", "n1")]);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.stop.is_some() {
            self.stop();
        }
    }
}

#[track_caller]
fn eventually(mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < end, "it never came true");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn connections_are_balanced_and_follow_the_endpoints() {
    let mut cluster = Cluster::new();
    eventually(|| !cluster.table().is_empty());
    let table = cluster.table();
    cluster.service("web", json!({ "clusterIP": "10.96.0.1" }));
    cluster.both("web");
    eventually(|| cluster.client.ask("10.96.0.1:80").is_ok());
    let counts = cluster.client.asks("10.96.0.1:80", 100);
    assert!(counts["a"] > 25 && counts["b"] > 25, "{counts:?}");
    assert_eq!(cluster.client.ask("10.96.0.1:80").unwrap().1, "10.244.0.4", "pods see each other");
    assert_eq!(cluster.node.asks("10.96.0.1:80", 20).len(), 2, "the node's own connections are led too");
    assert_eq!(cluster.outside.ask("10.96.0.1:80").unwrap().1, "10.9.0.1", "who is outside comes as the node");

    // A pod that reaches itself through its Service sees the node, or it would answer itself past the node.
    let own: Vec<(String, String)> = (0..40).map(|_| cluster.pods[0].ask("10.96.0.1:80").unwrap()).collect();
    assert!(own.contains(&("a".into(), "10.9.0.1".into())) && own.contains(&("b".into(), "10.244.0.2".into())), "{own:?}");

    // Another port of a Service's address is refused, not lost.
    assert_eq!(cluster.client.ask("10.96.0.1:81").unwrap_err().kind(), ErrorKind::ConnectionRefused);

    cluster.objects.endpoints("web", 8080, &[("10.244.0.3", "n1")]);
    eventually(|| cluster.client.asks("10.96.0.1:80", 10) == BTreeMap::from([("b".into(), 10)]));
    cluster.objects.endpoints("web", 8080, &[]);
    eventually(|| cluster.client.ask("10.96.0.1:80").is_err());
    for from in [&cluster.client, &cluster.node, &cluster.outside] {
        let before = Instant::now();
        assert_eq!(from.ask("10.96.0.1:80").unwrap_err().kind(), ErrorKind::ConnectionRefused);
        assert!(before.elapsed() < Duration::from_millis(500), "refused at once");
    }

    assert_eq!(cluster.table(), table, "every change was taken as one");

    // A restart serves on with the old rules, then with the new, without a connection lost.
    cluster.both("web");
    eventually(|| cluster.client.ask("10.96.0.1:80").is_ok());
    cluster.stop();
    assert_eq!(cluster.client.asks("10.96.0.1:80", 20).len(), 2);
    cluster.start();
    assert_eq!(cluster.client.asks("10.96.0.1:80", 100).len(), 2);
    cluster.stop();
    cluster.node.within(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(teardown(&IpFamily::BOTH, "k8shost-proxy")).unwrap();
    });
    assert_eq!(cluster.node.sh("nft list tables"), "");
}

#[test]
fn clients_keep_their_backend_until_it_goes() {
    let cluster = Cluster::new();
    eventually(|| !cluster.table().is_empty());
    let table = cluster.table();
    cluster.service(
        "web",
        json!({ "clusterIP": "10.96.0.1", "type": "NodePort", "sessionAffinity": "ClientIP", "ports": [{ "name": "tcp", "port": 80, "nodePort": 30080 }] }),
    );
    cluster.both("web");
    eventually(|| cluster.client.ask("10.96.0.1:80").is_ok());
    for (from, to) in [(&cluster.client, "10.96.0.1:80"), (&cluster.node, "10.96.0.1:80"), (&cluster.outside, "10.9.0.1:30080")] {
        let counts = from.asks(to, 20);
        assert_eq!(counts.len(), 1, "{counts:?}");
    }
    let held = cluster.client.ask("10.96.0.1:80").unwrap().0;
    let (other, address) = if held == "a" { ("b", "10.244.0.3") } else { ("a", "10.244.0.2") };
    cluster.objects.endpoints("web", 8080, &[(address, "n1")]);
    for (from, to) in [(&cluster.client, "10.96.0.1:80"), (&cluster.outside, "10.9.0.1:30080")] {
        eventually(|| from.ask(to).is_ok_and(|(name, _)| name == other));
        assert_eq!(from.asks(to, 20), BTreeMap::from([(other.into(), 20)]));
    }
    cluster.both("web");
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(cluster.client.asks("10.96.0.1:80", 20), BTreeMap::from([(other.into(), 20)]), "one that comes takes no clients away");
    assert_eq!(cluster.table(), table, "every change was taken as one");
}

#[test]
fn outside_addresses_and_ports_lead_in() {
    let cluster = Cluster::new();
    eventually(|| !cluster.table().is_empty());
    let table = cluster.table();
    cluster.service(
        "web",
        json!({ "clusterIP": "10.96.0.1", "type": "NodePort", "externalIPs": ["10.9.0.77"], "ports": [{ "name": "tcp", "port": 80, "nodePort": 30080 }] }),
    );
    cluster.both("web");
    cluster.service(
        "local",
        json!({ "clusterIP": "10.96.0.2", "type": "NodePort", "externalTrafficPolicy": "Local", "ports": [{ "name": "tcp", "port": 80, "nodePort": 30081 }] }),
    );
    cluster.objects.endpoints("local", 8080, &[("10.244.0.2", "n1"), ("10.244.0.3", "n2")]);
    cluster.service(
        "remote",
        json!({ "clusterIP": "10.96.0.3", "type": "NodePort", "externalTrafficPolicy": "Local", "ports": [{ "name": "tcp", "port": 80, "nodePort": 30082 }] }),
    );
    cluster.objects.endpoints("remote", 8080, &[("10.244.0.3", "n2")]);
    cluster.service("empty", json!({ "clusterIP": "10.96.0.4", "type": "NodePort", "ports": [{ "name": "tcp", "port": 80, "nodePort": 30083 }] }));
    let status = json!({ "loadBalancer": { "ingress": [{ "ip": "10.9.0.78" }] } });
    let spec =
        json!({ "clusterIP": "10.96.0.5", "type": "LoadBalancer", "loadBalancerSourceRanges": ["10.9.0.3/32"], "ports": [{ "name": "tcp", "port": 80 }] });
    cluster.objects.apply("services", json!({ "metadata": { "name": "balanced", "namespace": "default" }, "spec": spec, "status": status }));
    cluster.both("balanced");
    let pod = json!({ "containers": [{ "name": "c", "ports": [{ "containerPort": 8080, "hostPort": 8888 }] }] });
    cluster
        .objects
        .apply("pods", json!({ "metadata": { "name": "p", "namespace": "default" }, "spec": pod, "status": { "podIP": "10.244.0.3", "phase": "Running" } }));
    eventually(|| cluster.outside.ask("10.9.0.1:8888").is_ok());
    eventually(|| cluster.outside.ask("10.9.0.1:30081").is_ok());

    assert_eq!(cluster.outside.asks("10.9.0.1:30080", 20).len(), 2);
    assert_eq!(cluster.outside.ask("10.9.0.1:30080").unwrap().1, "10.9.0.1");
    assert_eq!(cluster.node.asks("10.9.0.1:30080", 20).len(), 2);
    assert_eq!(cluster.client.asks("10.9.0.1:30080", 20).len(), 2);
    assert!(cluster.node.ask("127.0.0.1:30080").is_err(), "not on loopback");
    cluster.outside.sh("ip route add 10.9.0.77 via 10.9.0.1; ip route add 10.9.0.78 via 10.9.0.1");
    assert!(cluster.outside.ask("10.9.0.77:80").is_ok());

    assert_eq!(cluster.outside.asks("10.9.0.1:30081", 20), BTreeMap::from([("a".into(), 20)]), "only what is local");
    assert_eq!(cluster.outside.ask("10.9.0.1:30081").unwrap().1, "10.9.0.2", "and it sees the client");
    assert_eq!(cluster.client.asks("10.9.0.1:30081", 20).len(), 2, "pods reach all of them");
    assert_eq!(cluster.node.asks("10.9.0.1:30081", 20).len(), 2, "and so does the node");
    assert_eq!(cluster.outside.ask("10.9.0.1:30082").unwrap_err().kind(), ErrorKind::TimedOut, "nobody local: dropped");
    assert!(cluster.client.ask("10.9.0.1:30082").is_ok());
    assert_eq!(cluster.outside.ask("10.9.0.1:30083").unwrap_err().kind(), ErrorKind::ConnectionRefused);

    assert!(cluster.outside.ask("10.9.0.78:80").is_err(), "not in the source ranges");
    cluster.outside.sh("ip addr del 10.9.0.2/24 dev eth0; ip addr add 10.9.0.3/24 dev eth0; ip route add 10.9.0.78 via 10.9.0.1");
    assert!(cluster.outside.ask("10.9.0.78:80").is_ok());
    assert_eq!(cluster.outside.ask("10.9.0.1:8888").unwrap(), ("b".into(), "10.9.0.3".into()), "host ports show the client");
    assert_eq!(cluster.table(), table, "every change was taken as one");
}

#[test]
fn what_holds_for_ipv4_holds_for_ipv6() {
    let mut cluster = Cluster::dual();
    eventually(|| cluster.table().contains("ip6 k8shost-proxy"));
    let table = cluster.table();
    let (a, b) = (("fd42::2", "n1"), ("fd42::3", "n1"));
    let ports = json!([{ "name": "tcp", "port": 80, "nodePort": 30080 }, { "name": "udp", "port": 53, "protocol": "UDP" }]);
    cluster.service(
        "web",
        json!({ "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "fd43::1"], "type": "NodePort", "externalIPs": ["fd09::77"], "ports": ports }),
    );
    cluster.both("web");
    cluster.objects.second_endpoints("web", 8080, &[a, b]);
    eventually(|| cluster.client.ask("[fd43::1]:80").is_ok());
    let counts = cluster.client.asks("[fd43::1]:80", 100);
    assert!(counts["a"] > 25 && counts["b"] > 25, "{counts:?}");
    assert_eq!(cluster.client.ask("[fd43::1]:80").unwrap().1, "fd42::4", "pods see each other");
    assert_eq!(cluster.node.asks("[fd43::1]:80", 20).len(), 2, "the node's own connections are led too");
    assert_eq!(cluster.outside.ask("[fd43::1]:80").unwrap().1, "fd09::1", "who is outside comes as the node");
    let own: Vec<(String, String)> = (0..40).map(|_| cluster.pods[0].ask("[fd43::1]:80").unwrap()).collect();
    assert!(own.iter().all(|(name, client)| (name == "b") == (client == "fd42::2")), "a pod that reaches itself sees the node: {own:?}");
    assert!(own.iter().any(|(name, _)| name == "a"), "{own:?}");
    assert_eq!(cluster.client.ask("[fd43::1]:81").unwrap_err().kind(), ErrorKind::ConnectionRefused);
    for from in [&cluster.outside, &cluster.node, &cluster.client] {
        assert_eq!(from.asks("[fd09::1]:30080", 20).len(), 2);
        assert_eq!(from.asks("10.9.0.1:30080", 20).len(), 2);
    }
    assert!(cluster.node.ask("[::1]:30080").is_err(), "not on loopback");
    cluster.outside.sh("ip route add fd09::77 via fd09::1; ip route add fd09::78 via fd09::1");
    assert!(cluster.outside.ask("[fd09::77]:80").is_ok());

    // Each family has its own endpoints.
    cluster.objects.second_endpoints("web", 8080, &[b]);
    eventually(|| cluster.client.asks("[fd43::1]:80", 10) == BTreeMap::from([("b".into(), 10)]));
    assert_eq!(cluster.client.asks("10.96.0.1:80", 40).len(), 2);
    let socket = cluster.client.within(|| UdpSocket::bind("[::]:0").unwrap());
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let datagram = || -> Option<String> {
        let mut buffer = [0; 64];
        // Refusals are news too late.
        let _ = socket.send_to(b"?", "[fd43::1]:53");
        socket.recv_from(&mut buffer).ok().map(|(length, _)| String::from_utf8_lossy(&buffer[..length]).into_owned())
    };
    eventually(|| datagram().as_deref() == Some("b"));
    cluster.objects.second_endpoints("web", 8080, &[a]);
    eventually(|| datagram().as_deref() == Some("a"));
    cluster.objects.second_endpoints("web", 8080, &[]);
    for from in [&cluster.client, &cluster.node, &cluster.outside] {
        eventually(|| from.ask("[fd43::1]:80").is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused));
    }
    assert!(cluster.client.ask("10.96.0.1:80").is_ok());

    // Policies, source ranges, affinity and host ports.
    let local = json!([{ "name": "tcp", "port": 80, "nodePort": 30081 }]);
    cluster.service("local", json!({ "clusterIP": "fd43::2", "type": "NodePort", "externalTrafficPolicy": "Local", "ports": local }));
    cluster.objects.second_endpoints("local", 8080, &[a, ("fd42::3", "n2")]);
    let status = json!({ "loadBalancer": { "ingress": [{ "ip": "fd09::78" }] } });
    let spec = json!({ "clusterIP": "fd43::3", "type": "LoadBalancer", "loadBalancerSourceRanges": ["10.9.0.0/24", "fd09::3/128"], "ports": [{ "name": "tcp", "port": 80 }] });
    cluster.objects.apply("services", json!({ "metadata": { "name": "balanced", "namespace": "default" }, "spec": spec, "status": status }));
    cluster.objects.second_endpoints("balanced", 8080, &[a, b]);
    let pod = json!({ "containers": [{ "name": "c", "ports": [{ "containerPort": 8080, "hostPort": 8888 }] }] });
    let status = json!({ "podIP": "10.244.0.3", "podIPs": [{ "ip": "10.244.0.3" }, { "ip": "fd42::3" }], "phase": "Running" });
    cluster.objects.apply("pods", json!({ "metadata": { "name": "p", "namespace": "default" }, "spec": pod, "status": status }));
    cluster.service("sticky", json!({ "clusterIP": "fd43::4", "sessionAffinity": "ClientIP" }));
    cluster.objects.second_endpoints("sticky", 8080, &[a, b]);
    eventually(|| cluster.outside.ask("[fd09::1]:30081").is_ok() && cluster.outside.ask("[fd09::1]:8888").is_ok());
    eventually(|| cluster.client.ask("[fd43::4]:80").is_ok());
    assert_eq!(cluster.outside.asks("[fd09::1]:30081", 20), BTreeMap::from([("a".into(), 20)]), "only what is local");
    assert_eq!(cluster.outside.ask("[fd09::1]:30081").unwrap().1, "fd09::2", "and it sees the client");
    assert_eq!(cluster.client.asks("[fd09::1]:30081", 20).len(), 2, "pods reach all of them");
    assert_eq!(cluster.outside.ask("[fd09::1]:8888").unwrap(), ("b".into(), "fd09::2".into()), "host ports show the client");
    assert!(cluster.outside.ask("[fd09::78]:80").is_err(), "not in the source ranges");
    cluster.outside.sh("ip addr add fd09::3/64 dev eth0 nodad; ip addr del fd09::2/64 dev eth0");
    assert!(cluster.outside.ask("[fd09::78]:80").is_ok());
    let held = cluster.client.asks("[fd43::4]:80", 20);
    assert_eq!(held.len(), 1, "{held:?}");
    let (other, address) = if held.contains_key("a") { ("b", b) } else { ("a", a) };
    cluster.objects.second_endpoints("sticky", 8080, &[address]);
    eventually(|| cluster.client.ask("[fd43::4]:80").is_ok_and(|(name, _)| name == other));
    assert_eq!(cluster.client.asks("[fd43::4]:80", 20), BTreeMap::from([(other.into(), 20)]));
    assert_eq!(cluster.table(), table, "every change was taken as one");
    cluster.stop();
    cluster.node.within(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(teardown(&IpFamily::BOTH, "k8shost-proxy")).unwrap();
    });
    assert_eq!(cluster.node.sh("nft list tables"), "");
}

#[test]
fn a_service_may_lead_to_the_node_itself() {
    let cluster = Cluster::new();
    cluster.node.serve("node", 10053);
    cluster.service("dns", json!({ "clusterIP": "10.96.0.10", "ports": [{ "name": "tcp", "port": 53 }, { "name": "udp", "port": 53, "protocol": "UDP" }] }));
    cluster.objects.endpoints("dns", 10053, &[("10.9.0.1", "n1")]);
    eventually(|| cluster.client.ask("10.96.0.10:53").is_ok());
    assert_eq!(cluster.client.ask("10.96.0.10:53").unwrap(), ("node".into(), "10.244.0.4".into()));
    assert!(cluster.node.ask("10.96.0.10:53").is_ok());
    let answer = cluster.client.within(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        // Connected: an answer from another address than was asked would not be heard.
        socket.connect("10.96.0.10:53").unwrap();
        socket.send(b"?").unwrap();
        let mut buffer = [0; 64];
        socket.recv(&mut buffer).map(|length| buffer[..length].to_vec())
    });
    assert_eq!(answer.unwrap(), b"node");
}

#[test]
fn a_udp_client_that_never_pauses_reaches_the_new_endpoint() {
    let cluster = Cluster::new();
    cluster.service("dns", json!({ "clusterIP": "10.96.0.1", "ports": [{ "name": "udp", "port": 53, "protocol": "UDP" }] }));
    cluster.objects.endpoints("dns", 8080, &[("10.244.0.2", "n1")]);
    let socket = cluster.client.within(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let ask = || -> Option<String> {
        let mut buffer = [0; 64];
        // Refusals are news too late.
        let _ = socket.send_to(b"?", "10.96.0.1:53");
        socket.recv_from(&mut buffer).ok().map(|(length, _)| String::from_utf8_lossy(&buffer[..length]).into_owned())
    };
    eventually(|| ask().as_deref() == Some("a"));
    cluster.objects.endpoints("dns", 8080, &[("10.244.0.3", "n1")]);
    eventually(|| ask().as_deref() == Some("b"));
}

#[test]
fn one_change_among_5000_services_is_small() {
    let cluster = Cluster::new();
    for number in 0..5000 {
        let name = format!("s{number}");
        cluster.service(&name, json!({ "clusterIP": format!("10.96.{}.{}", number / 250 + 1, number % 250 + 1) }));
        cluster.both(&name);
    }
    let before = Instant::now();
    cluster.service("web", json!({ "clusterIP": "10.96.0.1" }));
    cluster.both("web");
    eventually(|| cluster.client.ask("10.96.0.1:80").is_ok());
    println!("5,000 services took {:?}", before.elapsed());
    let table = cluster.table();
    let mut times: Vec<Duration> = (0..20)
        .map(|round| {
            let (name, address) = if round % 2 == 0 { ("a", "10.244.0.2") } else { ("b", "10.244.0.3") };
            let before = Instant::now();
            cluster.objects.endpoints("web", 8080, &[(address, "n1")]);
            eventually(|| cluster.client.ask("10.96.0.1:80").is_ok_and(|(answered, _)| answered == name));
            before.elapsed()
        })
        .collect();
    times.sort();
    assert_eq!(cluster.table(), table, "every change was taken as one");
    println!("change to packets: median {:?}, slowest {:?}", times[10], times[19]);
}

/// What the pod network does: packets bear their pod's cluster, and go where that may go.
const MARKS: &str = "table ip net { \
    map clusters { type ipv4_addr : mark; elements = { 10.244.0.2 : 0x10000, 10.244.0.4 : 0x10000, 10.244.0.3 : 0x20000 }; }; \
    set members { type mark . ipv4_addr; elements = { 0x10000 . 10.244.0.2, 0x10000 . 10.244.0.4, 0x20000 . 10.244.0.3 }; }; \
    chain marking { type filter hook prerouting priority mangle; meta mark set ip saddr map @clusters; }; \
    chain forward { type filter hook forward priority filter - 5; ct direction reply accept; meta mark & 0xffff0000 . ip daddr @members accept; ip daddr 10.244.0.0/16 drop; }; }";

#[test]
fn clusters_with_the_same_addresses_reach_their_own() {
    let cluster = Cluster::new();
    cluster.node.sh(&format!("nft \"{MARKS}\""));
    let hosted = |name: &str, number: u8| {
        let status = json!({ "address": format!("100.64.0.{number}") });
        cluster.objects.apply("clusters", json!({ "metadata": { "name": name, "namespace": "team" }, "status": status }));
        ClusterName::hosted("team", name).unwrap()
    };
    let service = |of: &ClusterName, name: &str, mut spec: Value, endpoints: &[(&str, &str)]| {
        if spec.get("ports").is_none() {
            spec["ports"] = json!([{ "name": "tcp", "port": 80 }, { "name": "udp", "port": 80, "protocol": "UDP" }]);
        }
        cluster.objects.apply_in(of, "services", json!({ "metadata": { "name": name, "namespace": "default" }, "spec": spec }));
        cluster.objects.endpoints_in(of, name, 8080, endpoints);
    };
    let (a, b, root) = (("10.244.0.2", "n1"), ("10.244.0.3", "n1"), ClusterName::root());
    // Services come before their cluster's number is known, and after.
    let x = ClusterName::hosted("team", "x").unwrap();
    service(&x, "web", json!({ "clusterIP": "10.96.0.1" }), &[a]);
    service(&root, "web", json!({ "clusterIP": "10.96.0.1" }), &[b]);
    eventually(|| cluster.node.ask("10.96.0.1:80").is_ok());
    assert!(cluster.client.ask("10.96.0.1:80").is_err());
    let table = cluster.table();
    hosted("x", 1);
    let y = hosted("y", 2);
    service(
        &y,
        "web",
        json!({ "clusterIP": "10.96.0.1", "type": "NodePort", "ports": [{ "name": "tcp", "port": 80, "nodePort": 30080 }, { "name": "udp", "port": 80, "nodePort": 30080, "protocol": "UDP" }] }),
        &[b],
    );
    eventually(|| cluster.client.ask("10.96.0.1:80").is_ok() && cluster.pods[1].ask("10.96.0.1:80").is_ok());
    assert_eq!(cluster.client.asks("10.96.0.1:80", 10), BTreeMap::from([("a".into(), 10)]));
    assert_eq!(cluster.client.ask("10.96.0.1:80").unwrap().1, "10.244.0.4");
    assert_eq!(cluster.pods[1].asks("10.96.0.1:80", 10), BTreeMap::from([("b".into(), 10)]));
    assert_eq!(cluster.node.asks("10.96.0.1:80", 10), BTreeMap::from([("b".into(), 10)]), "the machine sees the host cluster's");
    assert_eq!(cluster.node.ask_for(0x10000, "10.96.0.1:80").as_deref(), Some("a"), "and for a cluster that cluster's");
    assert_eq!(cluster.node.ask_for(0x20000, "10.96.0.1:80").as_deref(), Some("b"));
    // An address that only one has, and one that only the host cluster has.
    service(&x, "only", json!({ "clusterIP": "10.96.0.2" }), &[a]);
    service(&root, "own", json!({ "clusterIP": "10.96.0.3" }), &[b]);
    eventually(|| cluster.client.ask("10.96.0.2:80").is_ok() && cluster.node.ask("10.96.0.3:80").is_ok());
    assert!(cluster.pods[1].ask("10.96.0.2:80").is_err() && cluster.node.ask("10.96.0.2:80").is_err());
    assert!(cluster.client.ask("10.96.0.3:80").is_err());
    assert_eq!(cluster.client.ask("10.96.0.1:81").unwrap_err().kind(), ErrorKind::ConnectionRefused);

    // A node port is everybody's, and leads on in its own cluster's name: also in datagrams that nobody answered yet.
    eventually(|| cluster.outside.ask("10.9.0.1:30080").is_ok());
    for from in [&cluster.outside, &cluster.client, &cluster.node] {
        assert_eq!(from.ask("10.9.0.1:30080").unwrap().0, "b");
    }
    assert_eq!(cluster.node.ask_for(0x10000, "10.9.0.1:30080").as_deref(), Some("b"));
    assert!(cluster.node.ask_for(0x20000, "10.96.0.2:80").is_none());
    let answers = cluster.client.within(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        socket.connect("10.9.0.1:30080").unwrap();
        let mut buffer = [0; 64];
        (0..3).for_each(|_| assert_eq!(socket.send(b"?").unwrap(), 1));
        (0..3).filter(|_| socket.recv(&mut buffer).is_ok()).count()
    });
    assert_eq!(answers, 3);

    // Nobody leads traffic to another cluster's pods, nor takes traffic that is not theirs.
    service(
        &x,
        "thief",
        json!({ "clusterIP": "10.96.0.4", "externalIPs": ["10.9.0.2"], "type": "NodePort", "ports": [{ "name": "tcp", "port": 80, "nodePort": 30081 }] }),
        &[b],
    );
    service(&x, "taker", json!({ "clusterIP": "10.96.0.5", "externalIPs": ["10.9.0.77"] }), &[a]);
    eventually(|| cluster.client.ask("10.9.0.77:80").is_ok());
    assert!(cluster.client.ask("10.96.0.4:80").is_err() && cluster.outside.ask("10.9.0.1:30081").is_err());
    assert!(cluster.node.ask("10.9.0.77:80").is_err() && cluster.pods[1].ask("10.9.0.77:80").is_err());

    // Affinity, and clusters without endpoints and without number, leave the others alone.
    service(&x, "sticky", json!({ "clusterIP": "10.96.0.6", "sessionAffinity": "ClientIP" }), &[a]);
    eventually(|| cluster.client.ask("10.96.0.6:80").is_ok());
    assert!(cluster.node.sh("nft list map ip k8shost-proxy affinity").contains("10.244.0.4 . 10.96.0.6"));
    service(&x, "sticky", json!({ "clusterIP": "10.96.0.6", "sessionAffinity": "ClientIP" }), &[]);
    eventually(|| cluster.client.ask("10.96.0.6:80").is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused));
    eventually(|| !cluster.node.sh("nft list map ip k8shost-proxy affinity").contains("10.96.0.6"));
    cluster.objects.apply("clusters", json!({ "metadata": { "name": "x", "namespace": "team" } }));
    eventually(|| cluster.client.ask("10.96.0.1:80").is_err());
    assert_eq!(cluster.pods[1].ask("10.96.0.1:80").unwrap().0, "b");
    assert_eq!(cluster.table(), table, "every change was taken as one");
}

#[test]
fn datagrams_follow_their_own_clusters_endpoints() {
    let cluster = Cluster::new();
    cluster.node.sh(&format!("nft \"{MARKS}; flush chain ip net forward; add rule ip net forward accept\""));
    let clusters = [("x", 1), ("y", 2)].map(|(name, number)| {
        let status = json!({ "address": format!("100.64.0.{number}") });
        cluster.objects.apply("clusters", json!({ "metadata": { "name": name, "namespace": "team" }, "status": status }));
        ClusterName::hosted("team", name).unwrap()
    });
    let dns = |of: &ClusterName, endpoint: &str| {
        let spec = json!({ "clusterIP": "10.96.0.1", "ports": [{ "name": "udp", "port": 53, "protocol": "UDP" }] });
        cluster.objects.apply_in(of, "services", json!({ "metadata": { "name": "dns", "namespace": "default" }, "spec": spec }));
        cluster.objects.endpoints_in(of, "dns", 8080, &[(endpoint, "n1")]);
    };
    let asker = |from: &Machine| {
        let socket = from.within(|| UdpSocket::bind("0.0.0.0:0").unwrap());
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        move || -> Option<String> {
            let mut buffer = [0; 64];
            // Refusals are news too late.
            let _ = socket.send_to(b"?", "10.96.0.1:53");
            socket.recv_from(&mut buffer).ok().map(|(length, _)| String::from_utf8_lossy(&buffer[..length]).into_owned())
        }
    };
    dns(&clusters[0], "10.244.0.2");
    dns(&clusters[1], "10.244.0.2");
    let (of_x, of_y) = (asker(&cluster.client), asker(&cluster.pods[1]));
    eventually(|| of_x().as_deref() == Some("a") && of_y().as_deref() == Some("a"));
    dns(&clusters[0], "10.244.0.3");
    eventually(|| of_x().as_deref() == Some("b"));
    assert_eq!(of_y().as_deref(), Some("a"));
}
