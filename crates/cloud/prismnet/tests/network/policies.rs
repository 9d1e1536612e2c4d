//! NetworkPolicies on the wire: what arrives is compared with a model of the API, policy by policy.
use crate::node::{Machine, Node};
use api_cache::ObjectKey;
use api_meta::{ClusterName, IpFamily};
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use prismnet::policy::{Direction, Isolation, PodFacts, Policies, Policy, Protocol};
use prismnet::{PodCluster, PodClusters};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const PORTS: [(Protocol, u16); 4] = [(Protocol::Tcp, 80), (Protocol::Tcp, 81), (Protocol::Udp, 53), (Protocol::Udp, 5353)];

/// A pod that listens on all ports.
struct Pod {
    machine: Machine,
    key: ObjectKey,
    facts: PodFacts,
    tcp: Vec<TcpListener>,
    udp: Vec<UdpSocket>,
}

impl Pod {
    fn start(node: &Node, namespace: &str, name: &str, labels: &[(&str, &str)]) -> Self {
        let machine = Machine::new(name);
        let address = node.add(&machine);
        let sockets = || {
            let tcp: Vec<_> = PORTS.iter().filter(|(p, _)| *p == Protocol::Tcp).map(|(_, port)| TcpListener::bind(("0.0.0.0", *port)).unwrap()).collect();
            let udp: Vec<_> = PORTS.iter().filter(|(p, _)| *p == Protocol::Udp).map(|(_, port)| UdpSocket::bind(("0.0.0.0", *port)).unwrap()).collect();
            tcp.iter().for_each(|socket| socket.set_nonblocking(true).unwrap());
            udp.iter().for_each(|socket| socket.set_nonblocking(true).unwrap());
            (tcp, udp)
        };
        let (tcp, udp) = machine.namespace.enter(sockets).unwrap();
        // The same name means another number in half of the pods.
        let web = if name.ends_with('1') { 81 } else { 80 };
        let facts = PodFacts {
            uid: name.into(),
            labels: labels.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
            addresses: vec![address.into()],
            ports: vec![("web".into(), Protocol::Tcp, web), ("dns".into(), Protocol::Udp, 53)],
            local: true,
        };
        Self { machine, key: ObjectKey::new(&ClusterName::root(), namespace, name), facts, tcp, udp }
    }
    fn address(&self) -> Ipv4Addr {
        self.facts.addresses.iter().find_map(|address| if let IpAddr::V4(address) = address { Some(*address) } else { None }).unwrap()
    }
}

fn nft(node: &Node, script: &str) {
    let mut child = Command::new("nsenter").args([&format!("--net={}", node.machine.path()), "nft", "-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "nft refused:\n{script}");
}

fn apply(node: &Node, policies: &mut Policies) {
    if let Some(update) = policies.commit() {
        nft(node, &update.script);
        nft(node, &update.cleaning);
    }
}

/// Which (from, to, protocol, port) get through. All are tried at once, so what is dropped costs nobody's patience.
fn on_the_wire(pods: &[Pod]) -> BTreeSet<(usize, usize, Protocol, u16)> {
    let mut through = BTreeSet::new();
    for pod in pods {
        for (socket, mut buffer) in pod.udp.iter().map(|socket| (socket, [0; 16])) {
            while socket.recv(&mut buffer).is_ok() {}
        }
        for socket in &pod.tcp {
            while socket.accept().is_ok() {}
        }
    }
    let mut attempts = Vec::new();
    for (from, pod) in pods.iter().enumerate() {
        let start = || {
            for (to, target) in pods.iter().enumerate() {
                for (protocol, port) in PORTS {
                    let at = std::net::SocketAddrV4::new(target.address(), port);
                    if protocol == Protocol::Udp {
                        UdpSocket::bind("0.0.0.0:0").unwrap().send_to(&[from as u8], at).unwrap();
                    } else {
                        attempts.push((from, to, port, connecting(at)));
                    }
                }
            }
        };
        pod.machine.namespace.enter(start).unwrap();
    }
    let deadline = Instant::now() + Duration::from_millis(150);
    while Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
        for (from, to, port, stream) in &attempts {
            if stream.peer_addr().is_ok() {
                through.insert((*from, *to, Protocol::Tcp, *port));
            }
        }
    }
    for (to, pod) in pods.iter().enumerate() {
        let numbers = PORTS.iter().filter(|(protocol, _)| *protocol == Protocol::Udp).map(|(_, port)| *port);
        for (socket, port) in pod.udp.iter().zip(numbers) {
            let mut buffer = [0; 16];
            while socket.recv(&mut buffer).is_ok() {
                through.insert((buffer[0].into(), to, Protocol::Udp, port));
            }
        }
    }
    through
}

/// A connection on its way.
fn connecting(to: std::net::SocketAddrV4) -> TcpStream {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, connect, socket};
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, None).unwrap();
    match connect(std::os::fd::AsRawFd::as_raw_fd(&socket), &SockaddrIn::from(to)) {
        Ok(()) | Err(nix::errno::Errno::EINPROGRESS) => TcpStream::from(socket),
        Err(error) => panic!("connecting to {to}: {error}"),
    }
}

/// The API's own words (NetworkPolicySpec), read plainly: no sets, no ranges merged, no state.
struct Model<'a> {
    pods: &'a [Pod],
    namespaces: &'a BTreeMap<String, BTreeMap<String, String>>,
    policies: &'a BTreeMap<(String, String), NetworkPolicy>,
}

impl Model<'_> {
    fn lets_through(&self, from: usize, to: usize, protocol: Protocol, port: u16) -> bool {
        let (source, target) = (&self.pods[from], &self.pods[to]);
        from == to
            || (self.allows(Direction::Egress, source, target, target, protocol, port)
                && self.allows(Direction::Ingress, target, source, target, protocol, port))
    }

    /// Whether `pod` may have traffic with `peer` that goes to this port of `target`.
    fn allows(&self, direction: Direction, pod: &Pod, peer: &Pod, target: &Pod, protocol: Protocol, port: u16) -> bool {
        let name = format!("{direction:?}");
        let mut isolated = false;
        for ((namespace, _), policy) in self.policies {
            let spec = policy.spec.as_ref().unwrap();
            let applies = **namespace == *pod.key.namespace && selects(spec.pod_selector.as_ref(), &pod.facts.labels);
            if !applies || !spec.policy_types.iter().flatten().any(|kind| *kind == name) {
                continue;
            }
            isolated = true;
            let rules: Vec<(Vec<NetworkPolicyPeer>, Vec<NetworkPolicyPort>)> = match direction {
                Direction::Ingress => {
                    spec.ingress.iter().flatten().map(|r| (r.from.clone().unwrap_or_default(), r.ports.clone().unwrap_or_default())).collect()
                }
                Direction::Egress => spec.egress.iter().flatten().map(|r| (r.to.clone().unwrap_or_default(), r.ports.clone().unwrap_or_default())).collect(),
            };
            for (peers, ports) in rules {
                let by_peer = peers.is_empty() || peers.iter().any(|each| self.means(each, namespace, peer));
                let by_port = ports.is_empty() || ports.iter().any(|each| matches(each, target, protocol, port));
                if by_peer && by_port {
                    return true;
                }
            }
        }
        !isolated
    }

    fn means(&self, peer: &NetworkPolicyPeer, namespace: &str, pod: &Pod) -> bool {
        if let Some(block) = &peer.ip_block {
            let within = |cidr: &String| cidr.parse::<ipnet::Ipv4Net>().unwrap().contains(&pod.address());
            return within(&block.cidr) && !block.except.iter().flatten().any(within);
        }
        let in_namespace = match &peer.namespace_selector {
            Some(selector) => selects(Some(selector), &self.namespaces[&*pod.key.namespace]),
            None => *pod.key.namespace == *namespace,
        };
        in_namespace && selects(peer.pod_selector.as_ref(), &pod.facts.labels)
    }
}

fn matches(wanted: &NetworkPolicyPort, target: &Pod, protocol: Protocol, port: u16) -> bool {
    if Protocol::of(wanted.protocol.as_deref()) != Some(protocol) {
        return false;
    }
    match &wanted.port {
        None => true,
        Some(IntOrString::Int(first)) => (*first..=wanted.end_port.unwrap_or(*first)).contains(&port.into()),
        Some(IntOrString::String(name)) => target.facts.ports.contains(&(name.clone(), protocol, port)),
    }
}

fn selects(selector: Option<&LabelSelector>, labels: &BTreeMap<String, String>) -> bool {
    let Some(selector) = selector else { return true };
    selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value))
        && selector.match_expressions.iter().flatten().all(|e| {
            let (value, values) = (labels.get(&e.key), e.values.clone().unwrap_or_default());
            match e.operator.as_str() {
                "In" => value.is_some_and(|value| values.contains(value)),
                "NotIn" => !value.is_some_and(|value| values.contains(value)),
                "Exists" => value.is_some(),
                _ => value.is_none(),
            }
        })
}

/// Chance that a seed decides.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % bound
    }
    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }
    fn some<T>(&mut self, most: usize, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(most + 1)).map(|_| make(self)).collect()
    }

    fn selector(&mut self) -> Value {
        self.one(&[
            json!({}),
            json!({"matchLabels": {"app": "web"}}),
            json!({"matchLabels": {"app": "db"}}),
            json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "api"]}]}),
            json!({"matchExpressions": [{"key": "tier", "operator": "Exists"}]}),
            json!({"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["back"]}]}),
            json!({"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}),
        ])
    }
    fn namespaces(&mut self) -> Value {
        self.one(&[json!({}), json!({"matchLabels": {"team": "red"}}), json!({"matchLabels": {"kubernetes.io/metadata.name": "b"}})])
    }
    fn peer(&mut self) -> Value {
        match self.below(5) {
            0 | 1 => json!({"podSelector": self.selector()}),
            2 => json!({"namespaceSelector": self.namespaces()}),
            3 => json!({"namespaceSelector": self.namespaces(), "podSelector": self.selector()}),
            _ => self.one(&[
                json!({"ipBlock": {"cidr": "10.244.0.0/16", "except": ["10.244.1.2/32", "10.244.1.4/31"]}}),
                json!({"ipBlock": {"cidr": "10.244.1.0/29"}}),
                json!({"ipBlock": {"cidr": "0.0.0.0/0"}}),
                json!({"ipBlock": {"cidr": "192.168.0.0/16"}}),
            ]),
        }
    }
    fn port(&mut self) -> Value {
        self.one(&[
            json!({"port": 80}),
            json!({"port": 80, "protocol": "TCP"}),
            json!({"port": 80, "endPort": 90}),
            json!({"port": 53, "protocol": "UDP"}),
            json!({"port": 1, "endPort": 60000, "protocol": "UDP"}),
            json!({"port": "web"}),
            json!({"port": "dns", "protocol": "UDP"}),
            json!({"protocol": "UDP"}),
            json!({"port": 5353, "protocol": "SCTP"}),
        ])
    }
    fn policy(&mut self) -> NetworkPolicy {
        let types = self.one(&[json!(["Ingress"]), json!(["Egress"]), json!(["Ingress", "Egress"])]);
        let ingress = self.some(2, |dice| json!({"from": dice.some(2, Self::peer), "ports": dice.some(2, Self::port)}));
        let egress = self.some(2, |dice| json!({"to": dice.some(2, Self::peer), "ports": dice.some(2, Self::port)}));
        serde_json::from_value(
            json!({"metadata": {"name": "p"}, "spec": {"podSelector": self.selector(), "policyTypes": types, "ingress": ingress, "egress": egress}}),
        )
        .unwrap()
    }
}

#[test]
fn what_arrives_is_what_the_api_says() {
    let node = Node::new();
    let mut pods = vec![
        Pod::start(&node, "a", "web0", &[("app", "web"), ("tier", "front")]),
        Pod::start(&node, "a", "db1", &[("app", "db"), ("tier", "back")]),
        Pod::start(&node, "a", "bare2", &[]),
        Pod::start(&node, "b", "web1", &[("app", "web")]),
        Pod::start(&node, "b", "api0", &[("app", "api"), ("tier", "back")]),
    ];
    let labels = |name: &str, team: &str| BTreeMap::from([("kubernetes.io/metadata.name".to_owned(), name.to_owned()), ("team".to_owned(), team.to_owned())]);
    let mut namespaces = BTreeMap::from([("a".to_owned(), labels("a", "red")), ("b".to_owned(), labels("b", "blue"))]);
    let root = ClusterName::root();
    let mut state = Policies::default();
    for (name, labels) in &namespaces {
        state.set_namespace(&ObjectKey::new(&root, "", name), Some(labels.clone()));
    }
    for pod in &pods {
        state.set_pod(&pod.key, Some(pod.facts.clone()));
    }
    nft(&node, &state.reload(&BTreeMap::new()).script);
    let mut policies: BTreeMap<(String, String), NetworkPolicy> = BTreeMap::new();
    let mut dice = Dice(20);
    let (mut written, mut seen) = (0, [0, 0]);
    for round in 0..56 {
        // Policies come, change and go; so do labels of pods and namespaces. Each round is one transaction on top of the last.
        for _ in 0..2 {
            let place = (dice.one(&["a", "b"]).to_owned(), format!("policy-{}", dice.below(4)));
            let policy = (dice.below(3) > 0).then(|| dice.policy());
            written += usize::from(policy.is_some());
            state.set_policy(&ObjectKey::new(&root, &place.0, &place.1), policy.as_ref().map(Policy::of));
            match policy {
                Some(policy) => policies.insert(place, policy),
                None => policies.remove(&place),
            };
        }
        if round % 4 == 1 {
            let pod = dice.below(pods.len());
            let app = dice.one(&["web", "db", "api"]);
            pods[pod].facts.labels.insert("app".into(), app.into());
            state.set_pod(&pods[pod].key, Some(pods[pod].facts.clone()));
        }
        if round % 5 == 2 {
            let (name, team) = (dice.one(&["a", "b"]), dice.one(&["red", "blue"]));
            namespaces.insert(name.into(), labels(name, team));
            state.set_namespace(&ObjectKey::new(&root, "", name), Some(namespaces[name].clone()));
        }
        if round % 15 == 14 {
            nft(&node, &state.reload(&BTreeMap::new()).script);
        }
        apply(&node, &mut state);
        let model = Model { pods: &pods, namespaces: &namespaces, policies: &policies };
        let [refused, through] = compare(&pods, &model, &format!("round {round}"));
        seen = [seen[0] + refused, seen[1] + through];
    }
    assert!(written >= 60 && seen.iter().all(|count| *count > 1_000), "{written} policies, {seen:?} refused and let through: too few to tell");
    // With the last policy gone nothing of any is left.
    for (namespace, name) in policies.keys() {
        state.set_policy(&ObjectKey::new(&root, namespace, name), None);
    }
    apply(&node, &mut state);
    let left = node.machine.sh("nft list table ip k8shost-policy");
    assert!(!left.contains("set-") && !left.contains("policy-1") && !left.contains("elements"), "{left}");
}

/// What arrives compared with the model, for every pair of pods and port. Gives how many are refused and let through.
fn compare(pods: &[Pod], model: &Model<'_>, when: &str) -> [usize; 2] {
    let (through, mut seen) = (on_the_wire(pods), [0, 0]);
    for from in 0..pods.len() {
        for to in 0..pods.len() {
            for (protocol, port) in PORTS {
                let (expected, got) = (model.lets_through(from, to, protocol, port), through.contains(&(from, to, protocol, port)));
                seen[usize::from(expected)] += 1;
                let names = (&pods[from].key.name, &pods[to].key.name);
                let all = || serde_json::to_string_pretty(&model.policies.values().collect::<Vec<_>>()).unwrap();
                assert_eq!(got, expected, "{when}: {names:?} {protocol:?} {port}\n{}", all());
            }
        }
    }
    seen
}

/// With sixty-four policies in force at once: all of them, and all but each one, so that what every policy does is seen.
#[test]
fn many_policies_at_once_add_up_as_the_api_says() {
    const POLICIES: usize = 64;
    let node = Node::new();
    let pod = |number: usize| {
        let (namespace, id) = (if number < 4 { "a" } else { "b" }, number.to_string());
        Pod::start(&node, namespace, &format!("pod{number}"), &[("id", id.as_str()), ("half", if number.is_multiple_of(2) { "even" } else { "odd" })])
    };
    let pods: Vec<Pod> = (0..8).map(pod).collect();
    let labels = |name: &str, team: &str| BTreeMap::from([("kubernetes.io/metadata.name".to_owned(), name.to_owned()), ("team".to_owned(), team.to_owned())]);
    let namespaces = BTreeMap::from([("a".to_owned(), labels("a", "red")), ("b".to_owned(), labels("b", "blue"))]);
    let (root, mut state, mut dice) = (ClusterName::root(), Policies::default(), Dice(64));
    for (name, labels) in &namespaces {
        state.set_namespace(&ObjectKey::new(&root, "", name), Some(labels.clone()));
    }
    for pod in &pods {
        state.set_pod(&pod.key, Some(pod.facts.clone()));
    }
    nft(&node, &state.reload(&BTreeMap::new()).script);
    // Each is about few pods, peers and ports: broad ones would hide all others.
    let few = |dice: &mut Dice| {
        let ids: Vec<String> = (0..=dice.below(2)).map(|_| dice.below(8).to_string()).collect();
        json!({"matchExpressions": [{"key": "id", "operator": "In", "values": ids}]})
    };
    let peer = |dice: &mut Dice| match dice.below(4) {
        0 => json!({"podSelector": few(dice)}),
        1 => json!({"namespaceSelector": dice.namespaces(), "podSelector": few(dice)}),
        2 => json!({"namespaceSelector": {"matchLabels": {"team": dice.one(&["red", "blue"])}}, "podSelector": {"matchLabels": {"half": "odd"}}}),
        _ => json!({"ipBlock": {"cidr": format!("10.244.1.{}/32", 2 + dice.below(8))}}),
    };
    let mut policies: BTreeMap<(String, String), NetworkPolicy> = BTreeMap::new();
    for number in 0..POLICIES {
        let direction = dice.one(&["Ingress", "Egress"]);
        let (rules, peers) = if direction == "Ingress" { ("ingress", "from") } else { ("egress", "to") };
        let rule: Vec<Value> = (0..=dice.below(3)).map(|_| json!({peers: [peer(&mut dice)], "ports": [dice.port()]})).collect();
        let spec = json!({"podSelector": few(&mut dice), "policyTypes": [direction], rules: rule});
        let policy = serde_json::from_value(json!({"metadata": {"name": format!("p{number}")}, "spec": spec})).unwrap();
        policies.insert((dice.one(&["a", "b"]).to_owned(), format!("policy-{number}")), policy);
    }
    assert_eq!(policies.len(), POLICIES);
    for ((namespace, name), policy) in &policies {
        state.set_policy(&ObjectKey::new(&root, namespace, name), Some(Policy::of(policy)));
    }
    apply(&node, &mut state);
    let compared = |policies: &BTreeMap<_, _>, when: &str| compare(&pods, &Model { pods: &pods, namespaces: &namespaces, policies }, when);
    let mut seen = compared(&policies, "with all");
    let mut matter = 0;
    let verdicts = |policies: &BTreeMap<_, _>| {
        let model = Model { pods: &pods, namespaces: &namespaces, policies };
        let all = (0..pods.len()).flat_map(|from| (0..pods.len()).map(move |to| (from, to)));
        all.flat_map(|(from, to)| PORTS.map(|(protocol, port)| model.lets_through(from, to, protocol, port))).collect::<Vec<_>>()
    };
    let with_all = verdicts(&policies);
    for place in policies.keys().cloned().collect::<Vec<_>>() {
        let key = ObjectKey::new(&root, &place.0, &place.1);
        let without = policies.remove(&place).unwrap();
        matter += usize::from(verdicts(&policies) != with_all);
        state.set_policy(&key, None);
        apply(&node, &mut state);
        let [refused, through] = compared(&policies, &format!("without {}", place.1));
        seen = [seen[0] + refused, seen[1] + through];
        state.set_policy(&key, Some(Policy::of(&without)));
        policies.insert(place, without);
    }
    apply(&node, &mut state);
    compared(&policies, "with all again");
    assert!(seen.iter().all(|count| *count > 1_000) && matter >= 8, "{seen:?} refused and let through, {matter} policies matter: too few to tell");
}

#[test]
fn flows_end_when_they_are_forbidden_and_answers_come_back() {
    let node = Node::new();
    let (client, server) = (Pod::start(&node, "a", "client", &[("app", "client")]), Pod::start(&node, "a", "server", &[("app", "server")]));
    let root = ClusterName::root();
    let mut state = Policies::default();
    for pod in [&client, &server] {
        state.set_pod(&pod.key, Some(pod.facts.clone()));
    }
    nft(&node, &state.reload(&BTreeMap::new()).script);
    let policy = |ingress: Value| -> Policy {
        let spec = json!({"podSelector": {"matchLabels": {"app": "server"}}, "policyTypes": ["Ingress", "Egress"], "ingress": ingress});
        Policy::of(&serde_json::from_value(json!({"spec": spec})).unwrap())
    };
    let key = ObjectKey::new(&root, "a", "server");
    state.set_policy(&key, Some(policy(json!([{"from": [{"podSelector": {"matchLabels": {"app": "client"}}}]}]))));
    apply(&node, &mut state);

    let mut stream = client.machine.connect((server.address(), 80).into()).unwrap();
    server.tcp[0].set_nonblocking(false).unwrap();
    let mut accepted = server.tcp[0].accept().unwrap().0;
    let mut exchange = || {
        stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        accepted.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let mut byte = [0];
        stream.write_all(b"?").is_ok() && accepted.read_exact(&mut byte).is_ok() && accepted.write_all(b"!").is_ok() && stream.read_exact(&mut byte).is_ok()
    };
    assert!(exchange(), "the server's answers need no egress rule");
    assert!(!server.machine.reaches(client.address(), 80), "but it may begin nothing");
    assert!(node.machine.reaches(server.address(), 80), "the node reaches its pods whatever policies say");
    assert!(server.machine.reaches(server.address(), 80), "and a pod itself");
    state.set_policy(&key, Some(policy(json!([]))));
    apply(&node, &mut state);
    assert!(!exchange(), "what was open is cut");
    state.set_policy(&key, None);
    apply(&node, &mut state);
    assert!(exchange(), "and goes on when it may again");
}

#[test]
fn a_pod_is_isolated_from_its_first_packet_until_its_policies_know_it() {
    let mut node = Node::new();
    node.network.virtual_clusters = Some(prismnet::VirtualClusters { range: "100.64.0.0/16".parse().unwrap(), api_port: 6443, dns_port: 10_053 });
    node.setup();
    let mut state = Policies::default();
    nft(&node, &state.reload(&BTreeMap::new()).script);
    let add = |machine: &Machine, isolation| -> Ipv4Addr {
        let pods = PodClusters::new(&node.network.state_dir);
        pods.expect(&machine.name, &PodCluster { number: 0, name: "root".into(), isolation }).unwrap();
        let address = node.add(machine);
        pods.forget(&machine.name).unwrap();
        address
    };
    let (other, pod) = (Machine::new("other"), Machine::new("pod"));
    let other_address = add(&other, Isolation::default());
    let address = add(&pod, Isolation { ingress: true, egress: false });
    let (_ears, _others) = (pod.listen("0.0.0.0:80"), other.listen("0.0.0.0:80"));
    assert!(!other.reaches(address, 80), "nobody may speak to it yet");
    assert!(pod.reaches(other_address, 80), "it is not isolated in this direction");
    let facts = PodFacts { uid: "u".into(), labels: BTreeMap::new(), addresses: vec![address.into()], ports: Vec::new(), local: true };
    let key = ObjectKey::new(&ClusterName::root(), "a", "pod");
    state.set_pod(&key, Some(facts));
    apply(&node, &mut state);
    assert!(other.reaches(address, 80), "no policy selects it after all");
    // The next pod with the address is held back in its turn, and DEL ends that.
    assert_eq!(node.call("DEL", &pod, &node.conf()).code, 0);
    add(&pod, Isolation { ingress: true, egress: true });
    assert!(node.machine.sh("nft list set ip k8shost-policy held-egress").contains("elements"));
    assert_eq!(node.call("DEL", &pod, &node.conf()).code, 0);
    assert!(!node.machine.sh("nft list set ip k8shost-policy held-egress").contains("elements"));
}

#[test]
fn policies_hold_for_both_families() {
    let node = Node::dual();
    let mut state = Policies::of(&IpFamily::BOTH);
    let start = |name: &str, labels: &[(&str, &str)]| {
        let machine = Machine::new(name);
        let (first, second) = node.add_dual(0, &machine);
        let labels = labels.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        let facts =
            PodFacts { uid: name.into(), labels, addresses: vec![first.into(), second.into()], ports: vec![("web".into(), Protocol::Tcp, 80)], local: true };
        (machine, facts, first, second)
    };
    let (server, friend, stranger) = (start("server", &[("app", "server")]), start("friend", &[("app", "friend")]), start("stranger", &[]));
    let key = |name: &str| ObjectKey::new(&ClusterName::root(), "a", name);
    for (name, pod) in [("server", &server), ("friend", &friend), ("stranger", &stranger)] {
        state.set_pod(&key(name), Some(pod.1.clone()));
    }
    nft(&node, &state.reload(&BTreeMap::new()).script);
    let _ears = (server.0.listen("[::]:80"), server.0.listen("[::]:81"), friend.0.listen("[::]:80"));
    let reached = |from: &Machine, port: u16| [from.reaches(server.2, port), from.reaches(format!("[{}]", server.3), port)];
    let mut policy = |spec: Option<Value>| {
        let policy = spec.map(|mut spec| {
            spec["podSelector"] = json!({"matchLabels": {"app": "server"}});
            Policy::of(&serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap())
        });
        state.set_policy(&key("p"), policy);
        apply(&node, &mut state);
    };
    assert_eq!(reached(&stranger.0, 80), [true, true]);
    policy(Some(json!({"policyTypes": ["Ingress", "Egress"]})));
    assert_eq!(reached(&friend.0, 80), [false, false], "nothing is let in");
    assert!(!server.0.reaches(friend.2, 80) && !server.0.reaches(format!("[{}]", friend.3), 80), "nor out");
    assert_eq!(reached(&node.machine, 80), [true, true], "the node reaches its pods");
    assert_eq!(reached(&server.0, 80), [true, true], "and a pod itself");
    policy(Some(json!({"ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "friend"}}}], "ports": [{"port": "web"}]}]})));
    assert_eq!((reached(&friend.0, 80), reached(&stranger.0, 80), reached(&friend.0, 81)), ([true, true], [false, false], [false, false]));
    let (friend_block, stranger_block) = (format!("{}/128", friend.3), format!("{}/128", stranger.3));
    policy(Some(json!({"ingress": [{"from": [{"ipBlock": {"cidr": "fd42:0:0:1::/64", "except": [friend_block]}}], "ports": [{"port": 80}]}]})));
    assert_eq!((reached(&friend.0, 80), reached(&stranger.0, 80)), ([false, false], [false, true]), "a block means its family alone");
    policy(Some(json!({"ingress": [{"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}, {"ipBlock": {"cidr": stranger_block}}]}]})));
    assert_eq!((reached(&friend.0, 81), reached(&stranger.0, 81)), ([true, false], [true, true]));
    policy(Some(json!({"policyTypes": ["Egress"], "egress": [{"to": [{"podSelector": {"matchLabels": {"app": "friend"}}}], "ports": [{"port": "web"}]}]})));
    assert!(server.0.reaches(friend.2, 80) && server.0.reaches(format!("[{}]", friend.3), 80));
    assert_eq!(reached(&stranger.0, 80), [true, true]);
    // What was let through ends when it is forbidden.
    policy(Some(json!({"ingress": [{}]})));
    let listener = server.0.listen("[::]:82");
    let mut stream = stranger.0.connect((server.3, 82).into()).unwrap();
    let mut accepted = listener.accept().unwrap().0;
    accepted.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    policy(Some(json!({"ingress": []})));
    stream.write_all(b"?").unwrap();
    assert!(accepted.read_exact(&mut [0]).is_err(), "what was open is cut");
    policy(None);
    accepted.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert!(accepted.read_exact(&mut [0]).is_ok(), "and goes on when it may again");
    for family in ["ip", "ip6"] {
        let left = node.machine.sh(&format!("nft list table {family} k8shost-policy"));
        assert!(!left.contains("set-") && !left.contains("policy-1") && !left.contains("elements"), "{left}");
    }
    // A pod is held back in both families until its policies know it.
    let mut node = node;
    node.network.virtual_clusters = Some(prismnet::VirtualClusters { range: "100.64.0.0/16".parse().unwrap(), api_port: 6443, dns_port: 10_053 });
    node.setup();
    nft(&node, &Policies::of(&IpFamily::BOTH).reload(&BTreeMap::new()).script);
    let pod = Machine::new("pod");
    let pods = PodClusters::new(&node.network.state_dir);
    pods.expect(&pod.name, &PodCluster { number: 0, name: "root".into(), isolation: Isolation { ingress: true, egress: false } }).unwrap();
    let mut conf = node.conf();
    conf["virtualClusterCIDR"] = json!("100.64.0.0/16");
    assert_eq!(node.call("ADD", &pod, &conf).code, 0);
    for family in ["ip", "ip6"] {
        assert!(node.machine.sh(&format!("nft list set {family} k8shost-policy held-ingress")).contains("elements"));
    }
    assert_eq!(node.call("DEL", &pod, &conf).code, 0);
    for family in ["ip", "ip6"] {
        assert!(!node.machine.sh(&format!("nft list set {family} k8shost-policy held-ingress")).contains("elements"));
    }
}
