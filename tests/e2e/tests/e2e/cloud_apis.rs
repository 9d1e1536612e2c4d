//! The cloud services' gRPC APIs: closed to whoever has no good token, and FlashDNS' zones, alone and inside a server.
use crate::SOON;
use crate::service_alone::{Alone, Issuer, channel, outside, with_token};
use flashdns::proto::dns_service_client::DnsServiceClient;
use flashdns::proto::{CreateRecordRequest, CreateZoneRequest, ListZonesRequest};
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use testkit::images::DIG;
use testkit::{Cluster, Server, ServerOptions, Tool, binary, wait_until};
use tonic::client::Grpc;
use tonic::transport::Channel;
use tonic::{Code, Request};

/// What the calls of a service need before they are answered.
struct Served {
    name: &'static str,
    descriptors: &'static [u8],
    /// Port of the API and arguments where it stands alone with keys of ours.
    alone: Option<(u16, &'static [&'static str])>,
    /// The setting that says where a server serves it too.
    inside: Option<&'static str>,
    /// Calls that prove who somebody is, and so are open to all.
    open: &'static [&'static str],
}

const CLOUD: &str = "--cloud-api-listen";

const SERVICES: &[Served] = &[
    Served { name: "fiberlb", descriptors: fiberlb::proto::DESCRIPTORS, alone: Some((7000, &["--external-ip-pool", "192.0.2.200"])), inside: None, open: &[] },
    Served { name: "flashdns", descriptors: flashdns::proto::DESCRIPTORS, alone: Some((6000, &[])), inside: Some(CLOUD), open: &[] },
    Served {
        name: "iam",
        descriptors: iam::v1::DESCRIPTORS,
        alone: None,
        inside: Some("--iam-listen"),
        open: &["/iam.v1.IamService/Login", "/iam.v1.IamService/Exchange"],
    },
    Served { name: "lightningstor", descriptors: lightningstor::v1::DESCRIPTORS, alone: Some((8000, &["--node-name", "n1"])), inside: None, open: &[] },
    Served { name: "prismnet", descriptors: prismnet::proto::DESCRIPTORS, alone: Some((5000, &[])), inside: Some(CLOUD), open: &[] },
];

impl Served {
    /// The paths of all calls that its descriptors declare.
    fn calls(&self) -> Vec<String> {
        let declared = prost_types::FileDescriptorSet::decode(self.descriptors).expect("descriptors decode");
        let mut calls = Vec::new();
        for file in &declared.file {
            for service in &file.service {
                calls.extend(service.method.iter().map(|method| format!("/{}.{}/{}", file.package(), service.name(), method.name())));
            }
        }
        calls
    }
}

/// Asks all calls of a service with each of the bad tokens, and then with a good one.
async fn refuses_all(served: &'static Served, channel: Channel, bad: &[Option<String>], good: &str) {
    let mut grpc = Grpc::new(channel);
    let calls = served.calls();
    assert!(calls.len() >= 5, "{}: {calls:?}", served.name);
    for call in calls.iter().filter(|call| !served.open.contains(&call.as_str())) {
        let path: http::uri::PathAndQuery = call.parse().expect("a path");
        for token in bad {
            let request = token.as_ref().map_or_else(|| Request::new(()), |token| with_token(token, ()));
            grpc.ready().await.expect("the service is there");
            let answered = grpc.unary::<_, (), _>(request, path.clone(), tonic_prost::ProstCodec::default()).await;
            assert_eq!(answered.expect_err("it is refused").code(), Code::Unauthenticated, "{call} with {token:?}");
        }
        // With a good one it is the service that answers, whatever it thinks of an empty request.
        grpc.ready().await.expect("the service is there");
        let answered = grpc.unary::<_, (), _>(with_token(good, ()), path.clone(), tonic_prost::ProstCodec::default()).await;
        let refused = answered.err().map(|status| status.code());
        assert!(!matches!(refused, Some(Code::Unauthenticated | Code::Unimplemented)), "{call}: {refused:?}");
    }
}

/// Every API that is written down is one whose calls are looked at.
#[test]
fn every_service_that_is_declared_is_in_the_table() {
    let cloud = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/cloud");
    let has_api = |directory: &std::path::Path| directory.join("proto").is_dir();
    let entries = std::fs::read_dir(cloud).expect("the crates are there").map(|entry| entry.expect("an entry").path());
    let declared: BTreeSet<String> =
        entries.filter(|path| has_api(path)).map(|path| path.file_name().expect("a name").to_string_lossy().into_owned()).collect();
    assert_eq!(declared, SERVICES.iter().map(|served| served.name.to_owned()).collect());
}

#[test]
fn no_call_of_any_service_is_answered_without_a_valid_token() {
    let (issuer, stranger) = (Issuer::new(), Issuer::new());
    let bad_ones = |good: &str| {
        // What an attacker who knows how tokens look would try: the same claims, "signed" by nothing.
        let claims = good.split('.').nth(1).expect("a token has three parts").to_owned();
        let unsigned = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{claims}.");
        let (expired, foreign) = (issuer.token("org-1", "proj-1", -3600), stranger.token("org-1", "proj-1", 3600));
        vec![None, Some("x".to_owned()), Some(unsigned), Some(expired), Some(foreign)]
    };
    for served in SERVICES {
        let Some((port, arguments)) = served.alone else { continue };
        let alone = Alone::new(served.name, port, arguments, &issuer);
        let _running = alone.start();
        let good = issuer.token("org-1", "proj-1", 3600);
        let bad = bad_ones(&good);
        alone.outside(async move |channel| refuses_all(served, channel, &bad, &good).await);
    }
    let listens: BTreeMap<&str, String> = SERVICES
        .iter()
        .filter_map(|served| served.inside)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .map(|setting| (setting, format!("127.0.0.1:{}", testkit::free_port())))
        .collect();
    let mut arguments = ["--disable-agent", "--disable", "scheduler"].map(str::to_owned).to_vec();
    arguments.extend(listens.iter().flat_map(|(setting, listen)| [(*setting).to_owned(), listen.clone()]));
    let server = Server::start(ServerOptions { arguments, is_host: true, ..ServerOptions::default() });
    k8shost(&server.tool(), "iam org create Acme --id org-1");
    k8shost(&server.tool(), "iam user create eve@example.com --org org-1");
    let good = k8shost(&server.tool(), "iam token create eve@example.com").trim().to_owned();
    let authority = std::fs::read_to_string(server.data_dir().join("server/tls/server-ca.crt")).expect("the server has an authority");
    let bad = bad_ones(&good);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for (served, setting) in SERVICES.iter().filter_map(|served| Some((served, served.inside?))) {
        runtime.block_on(async { refuses_all(served, channel(&listens[setting], "localhost", &authority).await, &bad, &good).await });
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
