//! The DNS server at work: real questions over real sockets on loopback, and a second server as its upstream.
#![allow(clippy::unwrap_used, reason = "a test may")]
use api_cache::{Selection, Source, SourceEvent};
use api_meta::ClusterName;
use bytes::Bytes;
use flashdns::{DnsSettings, run};
use futures::StreamExt;
use futures::stream::BoxStream;
use hickory_proto::op::{Edns, Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RecordType};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::broadcast;

/// Objects in memory, as the server's store feeds them.
#[derive(Clone)]
struct Objects(broadcast::Sender<(String, SourceEvent)>);

impl Objects {
    fn event(&self, resource: &str, event: SourceEvent) {
        self.0.send((resource.into(), event)).unwrap();
    }
    fn apply(&self, resource: &str, object: Value) {
        self.apply_in(&ClusterName::root(), resource, object);
    }
    fn apply_in(&self, cluster: &ClusterName, resource: &str, mut object: Value) {
        static VERSION: AtomicUsize = AtomicUsize::new(1);
        object["metadata"]["resourceVersion"] = VERSION.fetch_add(1, Ordering::Relaxed).to_string().into();
        self.event(resource, SourceEvent::Applied { cluster: cluster.clone(), object: Bytes::from(object.to_string()) });
    }
    fn cluster(&self, name: &str, address: &str) -> ClusterName {
        self.apply("clusters", json!({ "metadata": { "name": name, "namespace": "team" }, "status": { "address": address } }));
        ClusterName::hosted("team", name).unwrap()
    }
    fn service(&self, name: &str, spec: Value) {
        self.apply("services", json!({ "metadata": { "name": name, "namespace": "default" }, "spec": spec }));
    }
    fn endpoints(&self, service: &str, addresses: &[String]) {
        let endpoints: Vec<Value> = addresses.iter().map(|address| json!({ "addresses": [address] })).collect();
        let metadata = json!({ "name": service, "namespace": "default", "labels": { "kubernetes.io/service-name": service } });
        self.apply("endpointslices", json!({ "metadata": metadata, "addressType": "IPv4", "ports": [{ "name": "http", "port": 80 }], "endpoints": endpoints }));
    }
}

impl Source for Objects {
    fn follow(&self, selection: Selection) -> BoxStream<'static, SourceEvent> {
        let live = futures::stream::unfold(self.0.subscribe(), |mut live| async { live.recv().await.ok().map(|event| (event, live)) });
        let live = live.filter_map(move |(of, event)| futures::future::ready((of == selection.resource).then_some(event)));
        futures::stream::iter([SourceEvent::Restart, SourceEvent::Listed]).chain(live).boxed()
    }
}

struct Server {
    address: SocketAddr,
    objects: Objects,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn new(domain: &str, upstreams: Vec<SocketAddr>) -> Self {
        Self::with_views(domain, upstreams, None).await
    }
    async fn with_views(domain: &str, upstreams: Vec<SocketAddr>, virtual_clusters: Option<&str>) -> Self {
        // A port that is free for both protocols; it is let go and taken again at once.
        let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let mut settings = DnsSettings::new(domain, [address]);
        settings.virtual_cluster_cidr = virtual_clusters.map(|range| range.parse().unwrap());
        settings.upstreams = upstreams;
        settings.upstream_timeout = Duration::from_millis(300);
        settings.cluster_cidrs = ["10.0.0.0/8", "fd43::/112"].map(|range| range.parse().unwrap()).into();
        settings.cluster_dns = Some("10.96.0.10".parse().unwrap());
        let objects = Objects(broadcast::channel(4096).0);
        let source = Arc::new(objects.clone());
        let task = tokio::spawn(async move { run(settings, source, std::future::pending()).await.unwrap() });
        let server = Self { address, objects, task };
        server.eventually(&format!("dns-version.{domain}"), RecordType::TXT, &["1.1.0"]).await;
        server
    }
    async fn ask(&self, name: &str, kind: RecordType) -> Message {
        udp(self.address, &question(name, kind)).await.unwrap()
    }
    #[track_caller]
    fn check<'a>(&'a self, name: &'a str, kind: RecordType, expected: &'a [&'a str]) -> impl Future<Output = ()> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            let reply = self.ask(name, kind).await;
            assert_eq!(
                (show(&reply), reply.metadata.response_code),
                (expected.iter().map(ToString::to_string).collect(), ResponseCode::NoError),
                "{name} at {caller}"
            );
        }
    }
    async fn eventually(&self, name: &str, kind: RecordType, expected: &[&str]) {
        for _ in 0..500 {
            if let Some(reply) = udp(self.address, &question(name, kind)).await
                && show(&reply) == expected
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{name} never gave {expected:?}");
    }
}

/// The answers' data, sorted.
fn show(reply: &Message) -> Vec<String> {
    let mut shown: Vec<String> = reply.answers.iter().map(|record| record.data.to_string()).collect();
    shown.sort();
    shown
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(format!("{name}.")).unwrap(), kind));
    message
}

async fn udp(to: SocketAddr, message: &Message) -> Option<Message> {
    let reply = raw(to, &message.to_vec().unwrap()).await?;
    assert_eq!(reply.metadata.id, message.metadata.id);
    Some(reply)
}

async fn raw(to: SocketAddr, bytes: &[u8]) -> Option<Message> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(to).await.unwrap();
    socket.send(bytes).await.unwrap();
    let mut buffer = [0; 4096];
    let length = tokio::time::timeout(Duration::from_secs(3), socket.recv(&mut buffer)).await.ok()?.ok()?;
    Some(Message::from_vec(&buffer[..length]).unwrap())
}

async fn tcp(to: SocketAddr, messages: &[Message]) -> Vec<Message> {
    let mut stream = TcpStream::connect(to).await.unwrap();
    for message in messages {
        let bytes = message.to_vec().unwrap();
        stream.write_u16(bytes.len().try_into().unwrap()).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
    }
    let mut replies = Vec::new();
    for _ in messages {
        let mut buffer = vec![0; stream.read_u16().await.unwrap().into()];
        stream.read_exact(&mut buffer).await.unwrap();
        replies.push(Message::from_vec(&buffer).unwrap());
    }
    replies
}

#[tokio::test]
async fn services_answer_by_name_address_and_port() {
    let server = Server::new("cluster.local", Vec::new()).await;
    server
        .objects
        .service("kubernetes", json!({ "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "fd00::1"], "ports": [{ "name": "https", "port": 443 }] }));
    let name = "kubernetes.default.svc.cluster.local";
    server.eventually(name, RecordType::A, &["10.96.0.1"]).await;
    server.check(name, RecordType::AAAA, &["fd00::1"]).await;
    server.check("_https._tcp.kubernetes.default.svc.cluster.local", RecordType::SRV, &["0 100 443 kubernetes.default.svc.cluster.local."]).await;
    server.check("1.0.96.10.in-addr.arpa", RecordType::PTR, &["kubernetes.default.svc.cluster.local."]).await;
    server.check("10-244-1-5.default.pod.cluster.local", RecordType::A, &["10.244.1.5"]).await;
    server.check("cluster.local", RecordType::NS, &["ns.dns.cluster.local."]).await;
    server.check("ns.dns.cluster.local", RecordType::A, &["10.96.0.10"]).await;
    assert_eq!(server.ask("cluster.local", RecordType::SOA).await.answers.len(), 1);

    let reply = server.ask("Kubernetes.DEFAULT.svc.Cluster.Local", RecordType::A).await;
    assert_eq!(reply.answers[0].name.to_ascii(), "Kubernetes.DEFAULT.svc.Cluster.Local.", "the question's own spelling");
    assert_eq!((reply.answers[0].ttl, reply.metadata.authoritative), (30, true));
    let reply = server.ask("_https._tcp.kubernetes.default.svc.cluster.local", RecordType::SRV).await;
    assert_eq!(reply.additionals.len(), 2, "with its target's addresses");

    server.objects.event(
        "services",
        SourceEvent::Deleted { cluster: ClusterName::root(), object: Bytes::from(r#"{"metadata":{"name":"kubernetes","namespace":"default"}}"#) },
    );
    server.eventually(name, RecordType::A, &[]).await;
    assert_eq!(server.ask(name, RecordType::A).await.metadata.response_code, ResponseCode::NXDomain);
}

#[tokio::test]
async fn both_families_answer_by_name_address_and_port() {
    let server = Server::new("cluster.local", Vec::new()).await;
    let https = json!([{ "name": "https", "port": 443 }]);
    server.objects.service("web", json!({ "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7", "fd43::7"], "ports": https }));
    server.objects.service("six", json!({ "clusterIP": "fd43::8", "clusterIPs": ["fd43::8"] }));
    server.objects.service("peers", json!({ "clusterIP": "None", "clusterIPs": ["None"] }));
    for (family, address) in [("IPv4", "10.1.0.5"), ("IPv6", "fd42::5")] {
        let metadata = json!({ "name": format!("peers-{family}"), "namespace": "default", "labels": { "kubernetes.io/service-name": "peers" } });
        let endpoint = json!({ "addresses": [address], "hostname": "peer-0" });
        let ports = json!([{ "name": "raft", "port": 7000 }]);
        server.objects.apply("endpointslices", json!({ "metadata": metadata, "addressType": family, "ports": ports, "endpoints": [endpoint] }));
    }
    let (web, six, peers) = ("web.default.svc.cluster.local", "six.default.svc.cluster.local", "peers.default.svc.cluster.local");
    server.eventually(peers, RecordType::AAAA, &["fd42::5"]).await;
    server.eventually(six, RecordType::AAAA, &["fd43::8"]).await;
    server.check(six, RecordType::A, &[]).await;
    server.check(web, RecordType::A, &["10.96.0.7"]).await;
    server.check(web, RecordType::AAAA, &["fd43::7"]).await;
    server.check(peers, RecordType::A, &["10.1.0.5"]).await;
    let peer = "peer-0.peers.default.svc.cluster.local";
    server.check(peer, RecordType::A, &["10.1.0.5"]).await;
    server.check(peer, RecordType::AAAA, &["fd42::5"]).await;
    server.check("fd42--5.default.pod.cluster.local", RecordType::AAAA, &["fd42::5"]).await;
    // Ports lead to names, which come with the addresses of both.
    for (name, address) in [(format!("_https._tcp.{web}"), ["10.96.0.7", "fd43::7"]), (format!("_raft._tcp.{peers}"), ["10.1.0.5", "fd42::5"])] {
        let reply = server.ask(&name, RecordType::SRV).await;
        let mut additionals: Vec<String> = reply.additionals.iter().map(|record| record.data.to_string()).collect();
        additionals.sort();
        assert_eq!((reply.answers.len(), additionals), (1, address.map(str::to_owned).into()), "{name}");
    }
    let reverse = |nibbles: &str, network: &str| format!("{nibbles}.{}{network}.ip6.arpa", "0.".repeat(32 - 4 - nibbles.split('.').count()));
    server.check(&reverse("7", "3.4.d.f"), RecordType::PTR, &["web.default.svc.cluster.local."]).await;
    server.check(&reverse("5", "2.4.d.f"), RecordType::PTR, &["peer-0.peers.default.svc.cluster.local."]).await;
    // A name of the second range that nobody has is nobody else's to answer for.
    let missing = server.ask(&reverse("9.9", "3.4.d.f"), RecordType::PTR).await;
    assert_eq!((missing.metadata.response_code, missing.authorities[0].name.to_ascii().as_str()), (ResponseCode::NXDomain, "ip6.arpa."));
}

#[tokio::test]
async fn what_does_not_exist_is_denied_for_five_seconds() {
    let server = Server::new("cluster.local", Vec::new()).await;
    server.objects.service("web", json!({ "clusterIP": "10.96.0.1" }));
    server.eventually("web.default.svc.cluster.local", RecordType::A, &["10.96.0.1"]).await;
    for (name, kind, code, zone) in [
        ("nobody.default.svc.cluster.local", RecordType::A, ResponseCode::NXDomain, "cluster.local."),
        ("web.default.svc.cluster.local", RecordType::AAAA, ResponseCode::NoError, "cluster.local."),
        ("default.svc.cluster.local", RecordType::A, ResponseCode::NoError, "cluster.local."),
        ("web.default.svc.cluster.local.default.svc.cluster.local", RecordType::A, ResponseCode::NXDomain, "cluster.local."),
        ("9.9.96.10.in-addr.arpa", RecordType::PTR, ResponseCode::NXDomain, "in-addr.arpa."),
    ] {
        let reply = server.ask(name, kind).await;
        assert_eq!((reply.metadata.response_code, show(&reply).len()), (code, 0), "{name}");
        let soa = &reply.authorities[0];
        assert_eq!((soa.record_type(), soa.ttl, soa.name.to_ascii().as_str()), (RecordType::SOA, 5, zone), "{name}");
    }
    assert_eq!(server.ask("example.com", RecordType::A).await.metadata.response_code, ResponseCode::ServFail, "there is no upstream");
}

#[tokio::test]
async fn long_answers_are_cut_over_udp_and_whole_over_tcp() {
    let server = Server::new("cluster.local", Vec::new()).await;
    server.objects.service("many", json!({ "clusterIP": "None" }));
    let addresses: Vec<String> = (0..120).map(|n| format!("10.244.0.{n}")).collect();
    server.objects.endpoints("many", &addresses);
    let name = "many.default.svc.cluster.local";
    server.eventually("10-244-0-7.many.default.svc.cluster.local", RecordType::A, &["10.244.0.7"]).await;
    let reply = server.ask(name, RecordType::A).await;
    assert!(reply.metadata.truncation && reply.answers.is_empty());
    let replies = tcp(server.address, &[question(name, RecordType::A), question(name, RecordType::SRV), question("x.cluster.local", RecordType::A)]).await;
    assert_eq!((replies[0].answers.len(), replies[0].metadata.truncation), (120, false));
    assert_eq!(replies[2].metadata.response_code, ResponseCode::NXDomain);

    server.objects.endpoints("many", &addresses[..60]);
    let mut message = question(name, RecordType::A);
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    message.set_edns(edns);
    let mut reply = udp(server.address, &message).await.unwrap();
    while reply.answers.is_empty() {
        reply = udp(server.address, &message).await.unwrap();
    }
    assert_eq!((reply.answers.len(), reply.edns.unwrap().max_payload()), (60, 1232), "EDNS makes room");
    let mut first: Vec<String> = Vec::new();
    for _ in 0..8 {
        first.push(
            udp(server.address, &{
                let mut again = message.clone();
                again.metadata.id = Message::query().metadata.id;
                again
            })
            .await
            .unwrap()
            .answers[0]
                .data
                .to_string(),
        );
    }
    first.sort();
    first.dedup();
    assert!(first.len() > 1, "the first answer changes");
}

#[tokio::test]
async fn other_names_come_from_upstream() {
    let upstream = Server::new("example.org", Vec::new()).await;
    upstream.objects.service("db", json!({ "clusterIP": "192.0.2.7" }));
    upstream.objects.service("many", json!({ "clusterIP": "None" }));
    upstream.objects.endpoints("many", &(0..120).map(|n| format!("192.0.2.{n}")).collect::<Vec<_>>());
    upstream.eventually("5.2.0.192.in-addr.arpa", RecordType::PTR, &["192-0-2-5.many.default.svc.example.org."]).await;
    // The first answers nobody; the second is asked instead.
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let server = Server::new("cluster.local", vec![silent.local_addr().unwrap(), upstream.address]).await;
    server.check("db.default.svc.example.org", RecordType::A, &["192.0.2.7"]).await;
    let reply = server.ask("nobody.default.svc.example.org", RecordType::A).await;
    assert_eq!((reply.metadata.response_code, reply.authorities.len(), reply.metadata.authoritative), (ResponseCode::NXDomain, 1, false));
    let replies = tcp(server.address, &[question("many.default.svc.example.org", RecordType::A)]).await;
    assert_eq!(replies[0].answers.len(), 120, "upstream's long answer comes over TCP");

    server.objects.service("alias", json!({ "type": "ExternalName", "externalName": "db.default.svc.example.org" }));
    server.objects.service("web", json!({ "clusterIP": "10.96.0.1" }));
    server.objects.service("near", json!({ "type": "ExternalName", "externalName": "web.default.svc.cluster.local" }));
    server.eventually("near.default.svc.cluster.local", RecordType::A, &["10.96.0.1", "web.default.svc.cluster.local."]).await;
    server.check("alias.default.svc.cluster.local", RecordType::CNAME, &["db.default.svc.example.org."]).await;
    server.check("alias.default.svc.cluster.local", RecordType::A, &["192.0.2.7", "db.default.svc.example.org."]).await;

    drop(upstream);
    tokio::time::sleep(Duration::from_millis(50)).await;
    server.check("db.default.svc.example.org", RecordType::A, &["192.0.2.7"]).await;
    assert_eq!(server.ask("new.example.org", RecordType::A).await.metadata.response_code, ResponseCode::ServFail);
}

#[tokio::test]
async fn bad_questions_get_errors_and_answers_get_nothing() {
    let server = Server::new("cluster.local", Vec::new()).await;
    let good = question("dns-version.cluster.local", RecordType::TXT);
    let mut bad = good.clone();
    bad.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(udp(server.address, &bad).await.unwrap().metadata.response_code, ResponseCode::Refused);
    let mut bad = good.clone();
    bad.metadata.op_code = OpCode::Notify;
    assert_eq!(udp(server.address, &bad).await.unwrap().metadata.response_code, ResponseCode::NotImp);
    let mut bad = good.clone();
    bad.add_query(good.queries[0].clone());
    assert_eq!(udp(server.address, &bad).await.unwrap().metadata.response_code, ResponseCode::FormErr);
    let mut bad = good.clone();
    let mut edns = Edns::new();
    edns.set_version(1);
    bad.set_edns(edns);
    let reply = udp(server.address, &bad).await.unwrap();
    assert_eq!(reply.edns.unwrap().rcode_high(), 1, "BADVERS");
    assert_eq!(server.ask("cluster.local", RecordType::AXFR).await.metadata.response_code, ResponseCode::Refused);

    let mut cut = good.to_vec().unwrap();
    cut.truncate(20);
    assert_eq!(raw(server.address, &cut).await.unwrap().metadata.response_code, ResponseCode::FormErr);
    let mut answer = good.to_vec().unwrap();
    answer[2] |= 0x80;
    for ignored in [&answer[..], b"x"] {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.send_to(ignored, server.address).await.unwrap();
        socket.send_to(&good.to_vec().unwrap(), server.address).await.unwrap();
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).await.unwrap();
        assert_eq!(Message::from_vec(&buffer[..length]).unwrap().metadata.id, good.metadata.id, "the first reply is to the question");
    }
}

#[tokio::test]
async fn each_cluster_is_asked_at_an_address_of_its_own() {
    let upstream = Server::new("example.org", Vec::new()).await;
    upstream.objects.service("db", json!({ "clusterIP": "192.0.2.7" }));
    let server = Server::with_views("cluster.local", vec![upstream.address], Some("127.64.0.0/16")).await;
    let at = |address: &str| SocketAddr::new(address.parse().unwrap(), server.address.port());
    let (a, b) = (server.objects.cluster("a", "127.64.0.1"), server.objects.cluster("b", "127.64.0.2"));
    server.objects.service("web", json!({ "clusterIP": "10.96.0.1" }));
    let service = |cluster: &ClusterName, namespace: &str, name: &str, address: &str| {
        let object = json!({ "metadata": { "name": name, "namespace": namespace }, "spec": { "clusterIP": address } });
        server.objects.apply_in(cluster, "services", object);
    };
    service(&a, "kube-system", "kube-dns", "10.43.0.10");
    service(&a, "default", "web", "10.43.0.1");
    service(&b, "default", "web", "10.43.0.2");
    let web = "web.default.svc.cluster.local";
    server.eventually(web, RecordType::A, &["10.96.0.1"]).await;
    let ask = async |address: &str, name: &str, kind: RecordType| {
        let message = question(name, kind);
        let over_udp = udp(at(address), &message).await.unwrap();
        let over_tcp = tcp(at(address), &[message]).await.remove(0);
        assert_eq!((show(&over_udp), over_udp.metadata.response_code), (show(&over_tcp), over_tcp.metadata.response_code), "{name} at {address}");
        (show(&over_udp).join(" "), over_udp.metadata.response_code)
    };
    for _ in 0..500 {
        if ask("127.64.0.2", web, RecordType::A).await.1 == ResponseCode::NoError {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let found = |text: &str| (text.to_owned(), ResponseCode::NoError);
    let denied = (String::new(), ResponseCode::NXDomain);
    assert_eq!(ask("127.64.0.1", web, RecordType::A).await, found("10.43.0.1"));
    assert_eq!(ask("127.64.0.2", web, RecordType::A).await, found("10.43.0.2"));
    assert_eq!(ask("127.64.0.1", "1.0.43.10.in-addr.arpa", RecordType::PTR).await, found("web.default.svc.cluster.local."));
    assert_eq!(ask("127.64.0.2", "1.0.96.10.in-addr.arpa", RecordType::PTR).await, denied, "the host cluster's Services are not its own");
    assert_eq!(ask("127.64.0.1", "ns.dns.cluster.local", RecordType::A).await, found("10.43.0.10"));
    assert_eq!(ask("127.64.0.2", "kube-dns.kube-system.svc.cluster.local", RecordType::A).await, denied);
    assert_eq!(ask("127.64.0.2", "db.default.svc.example.org", RecordType::A).await, found("192.0.2.7"), "other names are everybody's");
    assert_eq!(ask("127.0.0.1", web, RecordType::A).await, found("10.96.0.1"));

    // Nobody's address, and a cluster of which nothing is known yet: never another's names.
    server.objects.cluster("new", "127.64.0.3");
    for address in ["127.64.0.9", "127.64.0.3"] {
        assert_eq!(ask(address, web, RecordType::A).await, (String::new(), ResponseCode::ServFail), "{address}");
    }
    let quiet = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    quiet.send_to(&question(web, RecordType::A).to_vec().unwrap(), at("127.0.0.2")).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(200), quiet.recv(&mut [0; 512])).await.is_err(), "an address of nobody's is not answered at");

    let gone = r#"{"metadata":{"name":"web","namespace":"default"}}"#;
    server.objects.event("services", SourceEvent::Deleted { cluster: b, object: Bytes::from(gone) });
    for _ in 0..500 {
        if ask("127.64.0.2", web, RecordType::A).await.1 == ResponseCode::ServFail {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("a cluster without Services is still answered for");
}
