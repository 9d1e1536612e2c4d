//! The cloud services' gRPC APIs: closed to whoever has no good token, and FlashDNS' zones, alone and inside a server.
use crate::SOON;
use crate::service_alone::{Issuer, Running, channel, listens, outside, with_token};
use flashdns::proto::dns_service_client::DnsServiceClient;
use flashdns::proto::{CreateRecordRequest, CreateZoneRequest, ListZonesRequest};
use std::process::Stdio;
use testkit::images::DIG;
use testkit::{Cluster, Host, Network, Tool, binary, wait_until};
use tonic::client::Grpc;
use tonic::transport::Channel;
use tonic::{Code, Request};

/// Name, port of the API, arguments, and the API as it is written.
const SERVICES: &[(&str, u16, &[&str], &str)] = &[
    ("fiberlb", 7000, &["--external-ip-pool", "192.0.2.200"], include_str!("../../../../crates/cloud/fiberlb/proto/fiberlb.proto")),
    ("flashdns", 6000, &[], include_str!("../../../../crates/cloud/flashdns/proto/flashdns.proto")),
    ("lightningstor", 8000, &["--node-name", "n1"], include_str!("../../../../crates/cloud/lightningstor/proto/lightningstor.proto")),
];

/// The paths of all calls that a .proto file declares.
fn calls(proto: &str) -> Vec<String> {
    let word = |line: &str, after: &str| line.trim().strip_prefix(after).map(|rest| rest.split(['(', ' ', '{', ';']).next().unwrap_or_default().to_owned());
    let package = proto.lines().find_map(|line| word(line, "package ")).expect("it names its package");
    let (mut service, mut calls) = (String::new(), Vec::new());
    for line in proto.lines() {
        service = word(line, "service ").unwrap_or(service);
        calls.extend(word(line, "rpc ").map(|call| format!("/{package}.{service}/{call}")));
    }
    calls
}

/// A service on a machine of its own, with keys that tokens may be signed with.
struct Alone {
    network: std::sync::Arc<Network>,
    host: Host,
    directory: tempfile::TempDir,
    arguments: Vec<String>,
    name: &'static str,
    port: u16,
}

impl Alone {
    fn new(name: &'static str, port: u16, arguments: &[&str], issuer: &Issuer) -> Self {
        let network = Network::new();
        let (host, directory) = (network.host(), tempfile::tempdir().expect("a directory"));
        std::fs::write(directory.path().join("jwks.json"), issuer.jwks()).expect("a file can be written");
        Self { network, host, directory, arguments: arguments.iter().map(|&argument| argument.into()).collect(), name, port }
    }
    fn start(&self) -> Running {
        let mut command = self.host.command(&binary().display().to_string());
        let path = |name: &str| self.directory.path().join(name).display().to_string();
        command.args([self.name, "--data-dir", &path("data"), "--iam-jwks", &path("jwks.json")]).args(&self.arguments);
        let running = Running(command.stdin(Stdio::null()).spawn().expect("the server's binary runs"));
        wait_until("the API listens", SOON, || !self.authority().is_empty() && listens(&self.network, &self.host.address, self.port));
        running
    }
    fn authority(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("data/tls/ca.crt")).unwrap_or_default()
    }
    /// Makes calls from another machine.
    fn outside<T: Send + 'static>(&self, calls: impl AsyncFnOnce(Channel) -> T + Send + 'static) -> T {
        let (address, name, authority) = (format!("{}:{}", self.host.address, self.port), self.name, self.authority());
        outside(&self.network, async move || calls(channel(&address, name, &authority).await).await)
    }
}

#[test]
fn no_call_of_any_service_is_answered_without_a_valid_token() {
    let (issuer, stranger) = (Issuer::new(), Issuer::new());
    let unsigned = {
        // What an attacker who knows how tokens look would try: the same claims, "signed" by nothing.
        let good = issuer.token("org-1", "proj-1", 3600);
        let claims = good.split('.').nth(1).expect("a token has three parts").to_owned();
        format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{claims}.")
    };
    let bad = vec![None, Some("x".to_owned()), Some(unsigned), Some(issuer.token("org-1", "proj-1", -3600)), Some(stranger.token("org-1", "proj-1", 3600))];
    for (name, port, arguments, proto) in SERVICES {
        let calls = calls(proto);
        assert!(calls.len() >= 5, "{name}: {calls:?}");
        let alone = Alone::new(name, *port, arguments, &issuer);
        let _running = alone.start();
        let (bad, good) = (bad.clone(), issuer.token("org-1", "proj-1", 3600));
        alone.outside(async move |channel| {
            let mut grpc = Grpc::new(channel);
            for call in calls {
                let path: http::uri::PathAndQuery = call.parse().expect("a path");
                for token in &bad {
                    let request = token.as_ref().map_or_else(|| Request::new(()), |token| with_token(token, ()));
                    grpc.ready().await.expect("the service is there");
                    let answered = grpc.unary::<_, (), _>(request, path.clone(), tonic_prost::ProstCodec::default()).await;
                    assert_eq!(answered.expect_err("it is refused").code(), Code::Unauthenticated, "{call} with {token:?}");
                }
                // With a good one it is the service that answers, whatever it thinks of an empty request.
                grpc.ready().await.expect("the service is there");
                let answered = grpc.unary::<_, (), _>(with_token(&good, ()), path.clone(), tonic_prost::ProstCodec::default()).await;
                let refused = answered.err().map(|status| status.code());
                assert!(!matches!(refused, Some(Code::Unauthenticated | Code::Unimplemented)), "{call}: {refused:?}");
            }
        });
    }
}

fn record(zone: &str, name: &str, kind: &str, value: &str) -> CreateRecordRequest {
    CreateRecordRequest { zone: zone.into(), name: name.into(), r#type: kind.into(), value: value.into(), ..Default::default() }
}

#[test]
fn a_zone_made_by_grpc_is_answered_and_outlives_the_service() {
    let issuer = Issuer::new();
    let alone = Alone::new("flashdns", 6000, &["--dns-delegation", "shop.example.org=org-1/proj-1"], &issuer);
    let running = alone.start();
    let ask = |question: &str| {
        let mut dig = std::process::Command::new("nsenter");
        dig.arg(format!("--net=/run/netns/{}", alone.network.namespace())).args(["dig", "+short", "+tries=1", "+time=2"]);
        let printed = dig.arg(format!("@{}", alone.host.address)).args(question.split(' ')).output().expect("dig is installed");
        String::from_utf8_lossy(&printed.stdout).trim().to_owned()
    };
    let (mine, theirs) = (issuer.token("org-1", "proj-1", 3600), issuer.token("org-1", "proj-2", 3600));
    alone.outside(async move |channel| {
        let mut client = DnsServiceClient::new(channel);
        let zone = CreateZoneRequest { name: "shop.example.org".into(), ..Default::default() };
        assert_eq!(client.create_zone(with_token(&theirs, zone.clone())).await.expect_err("it is another's").code(), Code::PermissionDenied);
        client.create_zone(with_token(&mine, zone)).await.expect("it is made");
        client.create_record(with_token(&mine, record("shop.example.org", "www", "A", "192.0.2.7"))).await.expect("it is made");
        let foreign = client.create_record(with_token(&theirs, record("shop.example.org", "evil", "A", "192.0.2.66"))).await;
        assert_eq!(foreign.expect_err("the zone is another's").code(), Code::NotFound);
        assert!(client.list_zones(with_token(&theirs, ListZonesRequest {})).await.expect("they are listed").into_inner().zones.is_empty());
    });
    for way in ["+notcp", "+tcp"] {
        wait_until("the record is answered", SOON, || ask(&format!("{way} www.shop.example.org A")) == "192.0.2.7");
    }
    assert_eq!(ask("evil.shop.example.org A"), "");
    // Killed, it answers the same when it is started again.
    drop(running);
    let _running = alone.start();
    wait_until("the record is answered again", SOON, || ask("www.shop.example.org A") == "192.0.2.7");
}

/// `k8shost ...` with the administrator's kubeconfig.
fn k8shost(tool: &Tool, line: &str) -> String {
    tool.sh(&format!("{} {line}", binary().display())).ok()
}

#[test]
fn pods_ask_for_the_zones_of_projects() {
    let arguments = ["--cloud-api-listen", "0.0.0.0:6000", "--dns-delegation", "example.org=org-a"];
    let cluster = Cluster::start_with(&arguments);
    cluster.import(&[DIG]);
    let kubectl = cluster.tool();
    kubectl.sh("kubectl run dig --image=dig:9.18 && kubectl wait --for=condition=Ready pod/dig --timeout=90s").ok();
    for line in ["iam org create Acme --id org-a", "iam project create shop --org org-a --id proj-shop", "iam service-account create ci --project proj-shop"] {
        k8shost(&kubectl, line);
    }
    let token = k8shost(&kubectl, "iam token create sa-ci@proj-shop --duration 10m").trim().to_owned();
    let authority = std::fs::read_to_string(cluster.server.data_dir().join("server/tls/server-ca.crt")).expect("the server has an authority");
    let address = format!("{}:6000", cluster.host.address);
    outside(&cluster.host.network, async move || {
        let mut client = DnsServiceClient::new(channel(&address, "localhost", &authority).await);
        let zone = |name: &str| CreateZoneRequest { name: name.into(), ..Default::default() };
        assert_eq!(client.create_zone(Request::new(zone("shop.example.org"))).await.expect_err("it has no token").code(), Code::Unauthenticated);
        assert_eq!(client.create_zone(with_token(&token, zone("github.com"))).await.expect_err("it is nobody's").code(), Code::PermissionDenied);
        let of_cluster = client.create_zone(with_token(&token, zone("x.svc.cluster.local"))).await;
        assert_eq!(of_cluster.expect_err("it is the cluster's").code(), Code::FailedPrecondition);
        client.create_zone(with_token(&token, zone("shop.example.org"))).await.expect("it is made");
        for (name, kind, value) in [("www", "A", "192.0.2.7"), ("api", "CNAME", "kubernetes.default.svc.cluster.local")] {
            client.create_record(with_token(&token, record("shop.example.org", name, kind, value))).await.expect("it is made");
        }
    });
    kubectl.until_it_prints("kubectl exec dig -- dig +short www.shop.example.org", "192.0.2.7");
    let api = kubectl.sh("kubectl get service kubernetes -o jsonpath='{.spec.clusterIP}'").ok();
    let followed = kubectl.sh("kubectl exec dig -- dig +short api.shop.example.org").ok();
    assert!(followed.trim().ends_with(&api), "an alias leads into the cluster: {followed}");
    let denied = kubectl.sh("kubectl exec dig -- dig nobody.shop.example.org").ok();
    assert!(denied.contains("NXDOMAIN") && denied.contains("shop.example.org."), "{denied}");
}
