//! The gRPC API: who may do what, and zones that are kept before an answer.
use crate::proto::dns_service_server::{DnsService, DnsServiceServer};
use crate::proto::{
    CreateRecordRequest, CreateReverseZoneRequest, CreateZoneRequest, DeleteRecordRequest, DeleteReverseZoneRequest, DeleteZoneRequest, DnsRecord, Empty,
    ListRecordsRequest, ListRecordsResponse, ListReverseZonesRequest, ListReverseZonesResponse, ListZonesRequest, ListZonesResponse, ReverseZone,
    UpdateRecordRequest, Zone,
};
use crate::zone_keeper::{KeepError, ZoneKeeper};
use crate::zones::{KeptRecord, KeptReverse, RecordWish, ZoneRules, Zones, ttl};
use cloud_api::{Caller, Ownership, Refusal};
use ipnet::IpNet;
use std::sync::Arc;
use tokio::sync::Mutex;
use tonic::{Request, Response, Status};

/// How often a decision is made again because another was faster.
const TRIES: usize = 8;

/// The service behind the API. Cheap to clone.
#[derive(Clone)]
pub struct DnsZones {
    keeper: Arc<dyn ZoneKeeper>,
    rules: Arc<ZoneRules>,
    /// Changes of one process don't have to compete.
    turn: Arc<Mutex<()>>,
}

impl DnsZones {
    pub fn new(keeper: Arc<dyn ZoneKeeper>, rules: ZoneRules) -> Self {
        Self { keeper, rules: Arc::new(rules), turn: Arc::default() }
    }

    /// As a part of what a server answers.
    pub fn service(&self) -> DnsServiceServer<Self> {
        DnsServiceServer::new(self.clone())
    }

    /// Changes the zones: kept first, then answered. What is refused changes nothing.
    async fn change<T>(&self, decide: impl Fn(&mut Zones) -> Result<T, Refusal>) -> Result<T, Status> {
        let _turn = self.turn.lock().await;
        for _ in 0..TRIES {
            let (zones, version) = self.keeper.read().await.map_err(unavailable)?;
            let mut next = zones.clone();
            let outcome = decide(&mut next)?;
            if next == zones || self.keeper.write(&next, &version).await.map_err(unavailable)? {
                return Ok(outcome);
            }
        }
        Err(Status::aborted("the zones change too quickly; try again"))
    }

    async fn zones(&self) -> Result<Zones, Status> {
        self.keeper.read().await.map(|(zones, _)| zones).map_err(unavailable)
    }
}

fn unavailable(error: KeepError) -> Status {
    tracing::error!(error = &error as &dyn std::error::Error, "the zones can't be read or written");
    Status::unavailable("the zones can't be read or written now")
}

fn signed(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn told_record(id: &str, zone: &str, record: &KeptRecord) -> DnsRecord {
    DnsRecord {
        id: id.to_owned(),
        zone: zone.to_owned(),
        name: record.name.clone(),
        r#type: record.kind.clone(),
        value: record.value.clone(),
        ttl: signed(record.ttl),
        labels: record.labels.clone().into_iter().collect(),
    }
}

fn told_zone(name: &str, owner: &Ownership, serial: u32) -> Zone {
    Zone { name: name.to_owned(), org_id: owner.org_id.clone(), project_id: owner.project_id.clone(), serial }
}

fn told_reverse(network: &IpNet, zone: &KeptReverse) -> ReverseZone {
    ReverseZone {
        cidr: network.to_string(),
        ptr_pattern: zone.pattern.clone(),
        ttl: signed(zone.ttl),
        org_id: zone.owner.org_id.clone(),
        project_id: zone.owner.project_id.clone(),
    }
}

#[tonic::async_trait]
impl DnsService for DnsZones {
    async fn create_record(&self, request: Request<CreateRecordRequest>) -> Result<Response<DnsRecord>, Status> {
        let caller = Caller::of(&request)?.clone();
        let CreateRecordRequest { zone, name, r#type: kind, value, ttl, labels } = request.into_inner();
        let wish = RecordWish { zone, name, kind, value, ttl, labels: labels.into_iter().collect() };
        let id = clock::random_bytes::<8>().iter().fold("record-".to_owned(), |id, byte| format!("{id}{byte:02x}"));
        let made = self.change(|zones| {
            zones.create_record(&caller, &id, wish.clone())?;
            let (zone, record) = zones.record(&caller, &id)?;
            Ok(told_record(&id, &zone, record))
        });
        Ok(Response::new(made.await?))
    }

    async fn update_record(&self, request: Request<UpdateRecordRequest>) -> Result<Response<DnsRecord>, Status> {
        let caller = Caller::of(&request)?.clone();
        let UpdateRecordRequest { id, value, ttl, labels } = request.into_inner();
        let changed = self.change(|zones| {
            zones.update_record(&caller, &id, &value, ttl, labels.clone().into_iter().collect())?;
            let (zone, record) = zones.record(&caller, &id)?;
            Ok(told_record(&id, &zone, record))
        });
        Ok(Response::new(changed.await?))
    }

    async fn delete_record(&self, request: Request<DeleteRecordRequest>) -> Result<Response<Empty>, Status> {
        let caller = Caller::of(&request)?.clone();
        let id = request.into_inner().id;
        self.change(|zones| zones.delete_record(&caller, &id)).await?;
        Ok(Response::new(Empty {}))
    }

    async fn list_records(&self, request: Request<ListRecordsRequest>) -> Result<Response<ListRecordsResponse>, Status> {
        let (caller, wanted, zones) = (Caller::of(&request)?, request.get_ref(), self.zones().await?);
        let (name, zone) = zones.zone(caller, &wanted.zone)?;
        let of_name =
            |record: &KeptRecord| wanted.name.as_deref().is_none_or(|name| record.name == name.to_ascii_lowercase() || record.name.is_empty() && name == "@");
        let labelled = |record: &KeptRecord| wanted.labels.iter().all(|(key, value)| record.labels.get(key) == Some(value));
        let wanted_type = |record: &KeptRecord| wanted.r#type.is_empty() || record.kind == wanted.r#type;
        let mut records: Vec<_> = zone.records.iter().filter(|(_, record)| of_name(record) && wanted_type(record) && labelled(record)).collect();
        records.sort_by_key(|(_, record)| (&record.name, &record.kind, &record.value));
        Ok(Response::new(ListRecordsResponse { records: records.into_iter().map(|(id, record)| told_record(id, &name, record)).collect() }))
    }

    async fn create_zone(&self, request: Request<CreateZoneRequest>) -> Result<Response<Zone>, Status> {
        let caller = Caller::of(&request)?.clone();
        let CreateZoneRequest { name, org_id, project_id } = request.into_inner();
        let owner = Ownership::named(&caller, org_id, project_id)?;
        let made = self.change(|zones| {
            let name = zones.create_zone(&self.rules, &caller, &name, owner.clone())?;
            Ok(told_zone(&name, &owner, zones.zones[&name].serial))
        });
        Ok(Response::new(made.await?))
    }

    async fn delete_zone(&self, request: Request<DeleteZoneRequest>) -> Result<Response<Empty>, Status> {
        let caller = Caller::of(&request)?.clone();
        let name = request.into_inner().name;
        self.change(|zones| zones.delete_zone(&caller, &name)).await?;
        Ok(Response::new(Empty {}))
    }

    async fn list_zones(&self, request: Request<ListZonesRequest>) -> Result<Response<ListZonesResponse>, Status> {
        let (caller, zones) = (Caller::of(&request)?, self.zones().await?);
        let own = zones.zones.iter().filter(|(_, zone)| zone.owner.is_usable_by(caller));
        Ok(Response::new(ListZonesResponse { zones: own.map(|(name, zone)| told_zone(name, &zone.owner, zone.serial)).collect() }))
    }

    async fn create_reverse_zone(&self, request: Request<CreateReverseZoneRequest>) -> Result<Response<ReverseZone>, Status> {
        let caller = Caller::of(&request)?.clone();
        let wanted = request.into_inner();
        let owner = Ownership::named(&caller, wanted.org_id, wanted.project_id)?;
        let zone = KeptReverse { owner, pattern: wanted.ptr_pattern, ttl: ttl(wanted.ttl)? };
        let made = self.change(|zones| {
            let network = zones.create_reverse_zone(&self.rules, &caller, &wanted.cidr, zone.clone())?;
            Ok(told_reverse(&network, &zone))
        });
        Ok(Response::new(made.await?))
    }

    async fn delete_reverse_zone(&self, request: Request<DeleteReverseZoneRequest>) -> Result<Response<Empty>, Status> {
        let caller = Caller::of(&request)?.clone();
        let cidr = request.into_inner().cidr;
        self.change(|zones| zones.delete_reverse_zone(&caller, &cidr)).await?;
        Ok(Response::new(Empty {}))
    }

    async fn list_reverse_zones(&self, request: Request<ListReverseZonesRequest>) -> Result<Response<ListReverseZonesResponse>, Status> {
        let (caller, zones) = (Caller::of(&request)?, self.zones().await?);
        let own = zones.reverse.iter().filter(|(_, zone)| zone.owner.is_usable_by(caller));
        Ok(Response::new(ListReverseZonesResponse { reverse_zones: own.map(|(network, zone)| told_reverse(network, zone)).collect() }))
    }
}
