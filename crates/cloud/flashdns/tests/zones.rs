//! Zones from the API to DNS: made by calls, answered over real sockets on loopback, and there after a restart.
#![allow(clippy::unwrap_used, reason = "a test may")]
use cloud_api::Caller;
use flashdns::proto::dns_service_server::DnsService;
use flashdns::proto::*;
use flashdns::{Delegation, DnsSettings, DnsZones, StubDomain, ZoneFile, ZoneRules, run_alone};
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinHandle;
use tonic::Code;

struct Service {
    zones: DnsZones,
    dns: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Service {
    async fn start(directory: &Path, change: impl FnOnce(&mut DnsSettings)) -> Self {
        // A port that is free for both protocols; it is let go and taken again at once.
        let dns = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let file = Arc::new(ZoneFile::open(directory.join("zones.json")).unwrap());
        let latest = file.subscribe();
        let delegations = ["shop.example.org=org-1/proj-1", "lab.example.org=org-1/proj-2", "198.51.100.0/24=org-1/proj-1"];
        let rules = ZoneRules { delegations: delegations.map(|text| Delegation::parse(text).unwrap()).into(), cluster_domain: None };
        let mut settings = DnsSettings::new("", [dns]);
        change(&mut settings);
        let task = tokio::spawn(async move { run_alone(settings, latest, std::future::pending()).await.unwrap() });
        let service = Self { zones: DnsZones::new(file, rules), dns, task };
        for _ in 0..500 {
            if service.asked("example.com", RecordType::A).await.is_some() {
                return service;
            }
        }
        panic!("DNS is not answered");
    }
    async fn asked(&self, name: &str, kind: RecordType) -> Option<Message> {
        let mut message = Message::query();
        message.add_query(Query::query(Name::from_ascii(format!("{name}.")).unwrap(), kind));
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(self.dns).await.unwrap();
        socket.send(&message.to_vec().unwrap()).await.ok()?;
        let mut buffer = [0; 4096];
        let length = tokio::time::timeout(Duration::from_secs(1), socket.recv(&mut buffer)).await.ok()?.ok()?;
        Some(Message::from_vec(&buffer[..length]).unwrap())
    }
    /// The answers' data, sorted, with the code.
    async fn answer(&self, name: &str, kind: RecordType) -> (Vec<String>, ResponseCode) {
        let reply = self.asked(name, kind).await.unwrap();
        let mut shown: Vec<String> = reply.answers.iter().map(|record| record.data.to_string()).collect();
        shown.sort();
        (shown, reply.metadata.response_code)
    }
    async fn eventually(&self, name: &str, kind: RecordType, expected: &[&str]) {
        for _ in 0..500 {
            if self.answer(name, kind).await.0 == expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{name} never gave {expected:?}");
    }
    async fn record(&self, name: &str, kind: &str, value: &str) -> Result<DnsRecord, tonic::Status> {
        let request =
            CreateRecordRequest { zone: "shop.example.org".into(), name: name.into(), r#type: kind.into(), value: value.into(), ..Default::default() };
        self.zones.create_record(project(1).call(request)).await.map(tonic::Response::into_inner)
    }
    async fn zone(&self, caller: &Caller, name: &str) -> Result<Zone, tonic::Status> {
        self.zones.create_zone(caller.call(CreateZoneRequest { name: name.into(), ..Default::default() })).await.map(tonic::Response::into_inner)
    }
}

fn project(number: u32) -> Caller {
    Caller { org_id: "org-1".into(), project_id: format!("proj-{number}"), ..Caller::default() }
}

#[tokio::test]
async fn records_made_by_the_api_are_answered_and_kept() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start(directory.path(), |_| {}).await;
    service.zone(&project(1), "shop.example.org").await.unwrap();
    let www = service.record("www", "A", "192.0.2.1").await.unwrap();
    assert_eq!((www.zone.as_str(), www.name.as_str(), www.ttl), ("shop.example.org", "www", 30));
    service.record("@", "MX", "10 mail.shop.example.org").await.unwrap();
    service.record("_http._tcp", "SRV", "0 50 80 www.shop.example.org").await.unwrap();
    service.record("alias", "CNAME", "www.shop.example.org.").await.unwrap();
    service.record("*.dev", "AAAA", "2001:db8::1").await.unwrap();
    service.record("text", "TXT", "a text; with \"marks\"").await.unwrap();
    let reverse = CreateReverseZoneRequest { cidr: "198.51.100.0/24".into(), ptr_pattern: "{1}-{2}-{3}-{4}.shop.example.org".into(), ..Default::default() };
    service.zones.create_reverse_zone(project(1).call(reverse)).await.unwrap();
    service.eventually("7.100.51.198.in-addr.arpa", RecordType::PTR, &["198-51-100-7.shop.example.org."]).await;

    let found = |data: &[&str]| (data.iter().map(ToString::to_string).collect::<Vec<_>>(), ResponseCode::NoError);
    let denied = (Vec::new(), ResponseCode::NXDomain);
    let all = async |service: &Service| {
        assert_eq!(service.answer("www.Shop.example.org", RecordType::A).await, found(&["192.0.2.1"]));
        assert_eq!(service.answer("shop.example.org", RecordType::MX).await, found(&["10 mail.shop.example.org."]));
        assert_eq!(service.answer("_http._tcp.shop.example.org", RecordType::SRV).await, found(&["0 50 80 www.shop.example.org."]));
        assert_eq!(service.answer("alias.shop.example.org", RecordType::A).await, found(&["192.0.2.1", "www.shop.example.org."]));
        assert_eq!(service.answer("x.dev.shop.example.org", RecordType::AAAA).await, found(&["2001:db8::1"]));
        assert_eq!(service.answer("text.shop.example.org", RecordType::TXT).await.0.len(), 1);
        assert_eq!(service.answer("www.shop.example.org", RecordType::AAAA).await, found(&[]), "it has none of that type");
        assert_eq!(service.answer("_tcp.shop.example.org", RecordType::A).await, found(&[]), "there is something below it");
        assert_eq!(service.answer("nobody.shop.example.org", RecordType::A).await, denied);
        assert_eq!(service.answer("7.100.51.198.in-addr.arpa", RecordType::PTR).await, found(&["198-51-100-7.shop.example.org."]));
        assert_eq!(service.answer("example.org", RecordType::A).await.1, ResponseCode::ServFail, "others' names are nobody's to ask");
    };
    all(&service).await;
    let reply = service.asked("nobody.shop.example.org", RecordType::A).await.unwrap();
    assert!(reply.metadata.authoritative && reply.authorities[0].name.to_ascii() == "shop.example.org.");

    drop(service);
    let service = Service::start(directory.path(), |_| {}).await;
    all(&service).await;
    let request = UpdateRecordRequest { id: www.id.clone(), value: "192.0.2.2".into(), ttl: 60, ..Default::default() };
    service.zones.update_record(project(1).call(request)).await.unwrap();
    service.eventually("www.shop.example.org", RecordType::A, &["192.0.2.2"]).await;
    service.zones.delete_record(project(1).call(DeleteRecordRequest { id: www.id })).await.unwrap();
    service.eventually("www.shop.example.org", RecordType::A, &[]).await;
    service.zones.delete_zone(project(1).call(DeleteZoneRequest { name: "shop.example.org".into() })).await.unwrap();
    for _ in 0..500 {
        if service.answer("text.shop.example.org", RecordType::TXT).await.1 == ResponseCode::ServFail {
            return;
        }
    }
    panic!("the zone is still answered");
}

#[tokio::test]
async fn what_is_others_is_not_there() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start(directory.path(), |_| {}).await;
    service.zone(&project(1), "shop.example.org").await.unwrap();
    let record = service.record("www", "A", "192.0.2.1").await.unwrap();
    assert_eq!(service.zone(&project(2), "x.shop.example.org").await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(service.zone(&project(2), "github.com").await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(service.zone(&project(2), "shop.example.org").await.unwrap_err().code(), Code::PermissionDenied);
    let of_others = CreateZoneRequest { name: "lab.example.org".into(), org_id: "org-1".into(), project_id: "proj-1".into() };
    assert_eq!(service.zones.create_zone(project(2).call(of_others)).await.unwrap_err().code(), Code::PermissionDenied);
    let list = ListRecordsRequest { zone: "shop.example.org".into(), ..Default::default() };
    assert_eq!(service.zones.list_records(project(2).call(list.clone())).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(service.zones.delete_record(project(2).call(DeleteRecordRequest { id: record.id })).await.unwrap_err().code(), Code::NotFound);
    assert!(service.zones.list_zones(project(2).call(ListZonesRequest {})).await.unwrap().into_inner().zones.is_empty());
    assert_eq!(service.zones.list_records(project(1).call(list)).await.unwrap().into_inner().records.len(), 1);
    // A request that nobody let in.
    assert_eq!(service.zones.list_zones(tonic::Request::new(ListZonesRequest {})).await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn stub_domains_and_limits_hold() {
    let (directory, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // At all addresses, as one that stands alone listens.
    let corp = Service::start(other.path(), |settings| settings.listen[0].address.set_ip([0, 0, 0, 0].into())).await;
    corp.zone(&project(1), "shop.example.org").await.unwrap();
    corp.record("www", "A", "192.0.2.1").await.unwrap();
    corp.eventually("www.shop.example.org", RecordType::A, &["192.0.2.1"]).await;
    let stub = StubDomain::parse(&format!("shop.example.org={}", corp.dns)).unwrap();
    let service = Service::start(directory.path(), |settings| {
        settings.stubs = vec![stub];
        settings.queries_per_second = 20;
    })
    .await;
    assert_eq!(service.answer("www.shop.example.org", RecordType::A).await.0, ["192.0.2.1"]);
    let mut refused = 0;
    for _ in 0..40 {
        refused += usize::from(service.asked("www.shop.example.org", RecordType::A).await.is_none());
        if refused > 0 {
            break;
        }
    }
    assert!(refused > 0, "a client that asks too much is left without answers");
}
