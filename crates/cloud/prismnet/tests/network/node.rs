//! A node of real network namespaces: the node, its pods, and a machine outside the cluster.
use prismnet::cni::{self, Parameters, Reply};
use prismnet::{AddressFile, NetworkNamespace, NodeNetwork, PodCluster, PodClusters, SecondRanges, node};
use serde_json::Value;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A network namespace that goes when the test ends.
pub struct Machine {
    pub name: String,
    pub namespace: NetworkNamespace,
}

impl Machine {
    pub fn new(role: &str) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("pn{}-{}-{role}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        sh(&format!("ip netns add {name}"));
        Self { namespace: NetworkNamespace::open(format!("/run/netns/{name}")).unwrap(), name }
    }
    pub fn path(&self) -> String {
        format!("/run/netns/{}", self.name)
    }
    pub fn sh(&self, command: &str) -> String {
        sh(&format!("nsenter --net={} sh -c '{command}'", self.path()))
    }
    pub fn listen(&self, at: &str) -> TcpListener {
        self.namespace.enter(|| TcpListener::bind(at).unwrap()).unwrap()
    }
    /// Whether there is an answer, soon.
    pub fn reaches(&self, address: impl std::fmt::Display, port: u16) -> bool {
        let to = format!("{address}:{port}").parse().unwrap();
        self.namespace.enter(|| TcpStream::connect_timeout(&to, Duration::from_millis(300))).unwrap().is_ok()
    }
    /// The same for a process that acts for a cluster.
    pub fn reaches_for(&self, number: u16, address: impl std::fmt::Display, port: u16) -> bool {
        use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, connect, setsockopt, socket, sockopt};
        let to: std::net::SocketAddrV4 = format!("{address}:{port}").parse().unwrap();
        let attempt = || {
            let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
            setsockopt(&socket, sockopt::Mark, &prismnet::isolation::mark(number)).unwrap();
            setsockopt(&socket, sockopt::SendTimeout, &nix::sys::time::TimeVal::new(0, 300_000)).unwrap();
            connect(std::os::fd::AsRawFd::as_raw_fd(&socket), &SockaddrIn::from(to)).is_ok()
        };
        self.namespace.enter(attempt).unwrap()
    }
    pub fn connect(&self, to: SocketAddr) -> std::io::Result<TcpStream> {
        self.namespace.enter(|| TcpStream::connect_timeout(&to, Duration::from_secs(2))).unwrap()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        sh(&format!("ip netns del {}", self.name));
    }
}

pub fn sh(command: &str) -> String {
    let output = Command::new("sh").args(["-c", command]).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A node with an uplink to a machine outside, 10.9.0.1 to 10.9.0.2.
pub struct Node {
    pub machine: Machine,
    pub outside: Machine,
    pub network: NodeNetwork,
    pub directory: tempfile::TempDir,
    conf: OnceLock<Value>,
}

impl Node {
    pub fn new() -> Self {
        let (machine, outside, directory) = (Machine::new("node"), Machine::new("out"), tempfile::tempdir().unwrap());
        machine.sh(&format!("ip link set lo up; ip link add up0 mtu 1400 type veth peer name eth0 mtu 1400 netns {}; ip addr add 10.9.0.1/24 dev up0; ip link set up0 up; ip route add default via 10.9.0.2", outside.name));
        outside.sh("ip link set lo up; ip addr add 10.9.0.2/24 dev eth0; ip link set eth0 up");
        let network = NodeNetwork::new("10.244.1.0/24".parse().unwrap(), "10.244.0.0/16".parse().unwrap());
        Self::on(machine, outside, network, directory)
    }
    /// A node whose pods have addresses of both families. Its uplink has 2001:db8:9::1 besides, the machine outside ::2.
    pub fn dual() -> Self {
        let mut node = Self::new();
        node.machine.sh("ip addr add 2001:db8:9::1/64 dev up0 nodad; ip route add default via 2001:db8:9::2");
        node.outside.sh("ip addr add 2001:db8:9::2/64 dev eth0 nodad");
        let second = SecondRanges {
            pod_cidr: "fd42:0:0:1::/64".parse().unwrap(),
            cluster_cidr: "fd42::/56".parse().unwrap(),
            service_cidr: Some("fd43::/112".parse().unwrap()),
        };
        node.network.second = Some(second);
        node.setup();
        node
    }
    /// A node on a machine that has its links.
    pub fn on(machine: Machine, outside: Machine, mut network: NodeNetwork, directory: tempfile::TempDir) -> Self {
        network.state_dir = directory.path().join("state");
        let node = Self { machine, outside, network, directory, conf: OnceLock::new() };
        node.setup();
        node
    }
    pub fn setup(&self) {
        self.machine.namespace.enter(|| node::setup(&self.network).unwrap()).unwrap();
    }
    /// The plugin's own configuration, as a runtime passes it on from the list. The node writes it once.
    pub fn conf(&self) -> Value {
        self.conf.get_or_init(|| self.write_conf()).clone()
    }
    fn write_conf(&self) -> Value {
        let (conf_dir, bin_dir) = (self.directory.path().join("net.d"), self.directory.path().join("bin"));
        let path = self.machine.namespace.enter(|| node::write_conf(&conf_dir, &bin_dir, "/bin/k8shost".as_ref(), &self.network).unwrap()).unwrap();
        assert_eq!(std::fs::read_link(bin_dir.join("prismnet")).unwrap().to_str(), Some("/bin/k8shost"));
        let list: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let mut conf = list["plugins"][0].clone();
        conf["cniVersion"] = list["cniVersion"].clone();
        conf["name"] = list["name"].clone();
        conf
    }
    pub fn call(&self, command: &str, pod: &Machine, input: &Value) -> Reply {
        let parameters = Parameters {
            command: command.into(),
            container: pod.name.clone(),
            namespace: pod.path(),
            interface: "eth0".into(),
            arguments: format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME={};K8S_POD_UID={}", pod.name, pod.name),
        };
        self.machine.namespace.enter(|| cni::main(&parameters, input.to_string().as_bytes())).unwrap()
    }
    pub fn add(&self, pod: &Machine) -> Ipv4Addr {
        let reply = self.call("ADD", pod, &self.conf());
        assert_eq!(reply.code, 0, "{reply:?}");
        let address = reply.body.unwrap()["ips"][0]["address"].as_str().unwrap().to_owned();
        address.strip_suffix("/32").unwrap().parse().unwrap()
    }
    /// Its address of each family.
    pub fn add_dual(&self, number: u16, pod: &Machine) -> (Ipv4Addr, Ipv6Addr) {
        let first = self.add_to(number, pod);
        let leases = AddressFile::new(&self.network.state_dir).read().unwrap();
        (first, leases.addresses(first).second.expect("the port has an address of each family"))
    }
    pub fn add_to(&self, number: u16, pod: &Machine) -> Ipv4Addr {
        let pods = PodClusters::new(&self.network.state_dir);
        pods.expect(&pod.name, &PodCluster { number, name: format!("c{number}.team"), isolation: Default::default() }).unwrap();
        let address = self.add(pod);
        pods.forget(&pod.name).unwrap();
        address
    }
    pub fn leases(&self) -> usize {
        AddressFile::new(&self.network.state_dir).read().unwrap().leases.len()
    }
    pub fn ports(&self) -> usize {
        self.machine.sh("ip -br link show type veth").lines().filter(|line| line.starts_with("prism")).count()
    }
}
