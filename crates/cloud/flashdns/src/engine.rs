//! Engine: what a question gets, from the zones in memory. It knows no sockets and asks nobody.
use crate::hosted::{Data, HostedZones};
use crate::record::{Record as ZoneRecord, RecordData, address_of_reverse};
use crate::settings::DnsSettings;
use crate::zone::{Found, Zone};
use crate::zone_name::is_inside;
use api_cache::ObjectKey;
use api_meta::ClusterName;
use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, MX, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use parking_lot::RwLock;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// What we take over UDP; more than this is fragmented on its way (DNS flag day 2020).
pub const MAX_UDP_PAYLOAD: u16 = 1232;
/// Aliases are followed so far inside the zone.
const MAX_ALIASES: usize = 8;

/// What to do with a question.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Reply(Message),
    /// The name is not ours: its answer comes from upstream.
    Ask,
    /// The answer begins with an alias that leads out; the rest comes from upstream.
    Follow(Message, Query),
}

/// The zones of all clusters.
#[derive(Debug)]
pub struct Engine {
    settings: DnsSettings,
    zones: RwLock<HashMap<ClusterName, Zone>>,
    /// Those made by the API, which all clusters see.
    hosted: RwLock<Arc<HostedZones>>,
}

impl Engine {
    pub fn new(settings: DnsSettings) -> Self {
        // Where there is no domain, there is no cluster.
        let clusters = settings.listen.iter().filter(|_| !settings.domain.is_empty()).map(|listener| listener.cluster.clone());
        let zones = clusters.map(|cluster| (cluster, Zone::new(&settings.domain, settings.cluster_dns))).collect();
        Self { settings, zones: RwLock::new(zones), hosted: RwLock::default() }
    }

    pub fn settings(&self) -> &DnsSettings {
        &self.settings
    }

    /// Puts a Service's records in place of those it had, in its cluster's zone.
    pub fn replace(&self, service: &ObjectKey, records: Vec<ZoneRecord>) {
        let mut zones = self.zones.write();
        if records.is_empty() && !zones.contains_key(&service.cluster) {
            return;
        }
        // A virtual cluster's DNS address is a record of its DNS Service.
        let zone = zones.entry(service.cluster.clone()).or_insert_with(|| Zone::new(&self.settings.domain, None));
        zone.replace(service, records);
        // What is left of a cluster that went, or has not begun: a zone without a Service knows nothing.
        if !service.cluster.is_root() && zone.is_empty() {
            zones.remove(&service.cluster);
        }
    }

    /// Answers from these zones from now on.
    pub fn host(&self, zones: HostedZones) {
        *self.hosted.write() = Arc::new(zones);
    }

    /// All Services with records, of all clusters.
    pub fn services(&self) -> Vec<ObjectKey> {
        self.zones.read().values().flat_map(|zone| zone.services().cloned()).collect()
    }

    /// What a client of `cluster` gets.
    pub fn answer(&self, cluster: &ClusterName, request: &Message) -> Outcome {
        let fail = |code| Outcome::Reply(self.reply(request, code));
        if request.metadata.op_code != OpCode::Query {
            return fail(ResponseCode::NotImp);
        }
        let [query] = &request.queries[..] else { return fail(ResponseCode::FormErr) };
        if request.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
            return fail(ResponseCode::BADVERS);
        }
        if query.query_class() != DNSClass::IN || matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR) {
            return fail(ResponseCode::Refused);
        }
        let Some(name) = lower(query.name()) else { return Outcome::Ask };
        let (zones, hosted) = (self.zones.read(), self.hosted.read().clone());
        let names = match zones.get(cluster) {
            zone @ Some(_) => Names { zone, hosted: &hosted, ttl: self.ttl() },
            // There is no cluster at all, only what was made by the API.
            None if self.settings.domain.is_empty() => Names { zone: None, hosted: &hosted, ttl: self.ttl() },
            // Never another cluster's names, nor that there are none.
            None => return fail(ResponseCode::ServFail),
        };
        match names.find(&name) {
            At::Missing(start) => Outcome::Reply(self.negative(request, &start, ResponseCode::NXDomain)),
            At::Data(..) => self.found(request, query, &name, &names),
            At::Elsewhere => {
                match (names.zone, address_of_reverse(&name).filter(|address| self.settings.cluster_cidrs.iter().any(|cidr| cidr.contains(address)))) {
                    (Some(zone), Some(address)) => {
                        let start = Start { name: reverse_top(address).into(), serial: zone.serial() };
                        Outcome::Reply(self.negative(request, &start, ResponseCode::NXDomain))
                    }
                    _ => Outcome::Ask,
                }
            }
        }
    }

    fn found(&self, request: &Message, query: &Query, name: &str, names: &Names<'_>) -> Outcome {
        let mut reply = self.reply(request, ResponseCode::NoError);
        reply.metadata.authoritative = true;
        let (mut owner, mut at, wanted) = (query.name().clone(), name.to_owned(), query.query_type());
        for _ in 0..MAX_ALIASES {
            let (mut data, start) = match names.find(&at) {
                At::Data(data, start) => (data, start),
                // An alias to what is ours and is not there (RFC 6604): its name's own code is told.
                At::Missing(start) => {
                    reply.metadata.response_code = ResponseCode::NXDomain;
                    reply.add_authority(self.start_of_authority(&start, self.negative_ttl()));
                    break;
                }
                At::Elsewhere => return Outcome::Follow(reply, Query::query(owner, wanted)),
            };
            // Two Services may say the same of an address.
            data.sort_unstable();
            data.dedup();
            let alias = data.iter().find_map(|(data, ttl)| if let RecordData::Cname(target) = data { Some((target, *ttl)) } else { None });
            if let Some((target, ttl)) = alias.filter(|_| !matches!(wanted, RecordType::CNAME | RecordType::ANY)) {
                let Some(target_name) = to_name(target) else { break };
                reply.add_answer(Record::from_rdata(owner, ttl, RData::CNAME(CNAME(target_name.clone()))));
                (owner, at) = (target_name, target.to_string());
                continue;
            }
            let mut answers: Vec<Record> = data
                .iter()
                .filter_map(|(data, ttl)| Some((to_rdata(data)?, *ttl)))
                .filter(|(data, _)| matches!(wanted, RecordType::ANY) || data.record_type() == wanted)
                .map(|(data, ttl)| Record::from_rdata(owner.clone(), ttl, data))
                .collect();
            if at == start.name && matches!(wanted, RecordType::SOA | RecordType::ANY) {
                answers.push(self.start_of_authority(&start, self.ttl()));
            }
            // Clients take the first; which one that is changes from question to question.
            let count = answers.len().max(1);
            answers.rotate_left(usize::from(request.metadata.id) % count);
            if wanted == RecordType::SRV {
                let additionals = addresses_of(&answers, names);
                reply.add_additionals(additionals);
            }
            if answers.is_empty() {
                reply.add_authority(self.start_of_authority(&start, self.negative_ttl()));
            }
            reply.add_answers(answers);
            break;
        }
        Outcome::Reply(reply)
    }

    /// An empty reply to a request, with its question, and EDNS if it had that.
    pub fn reply(&self, request: &Message, code: ResponseCode) -> Message {
        let mut reply = Message::new(request.metadata.id, MessageType::Response, request.metadata.op_code);
        reply.metadata = Metadata::response_from_request(&request.metadata);
        reply.metadata.recursion_available = !self.settings.upstreams.is_empty();
        reply.metadata.response_code = code;
        reply.add_queries(request.queries.iter().cloned());
        if request.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(MAX_UDP_PAYLOAD).set_version(0).set_rcode_high(code.high());
            reply.set_edns(edns);
        }
        reply
    }

    fn negative(&self, request: &Message, start: &Start, code: ResponseCode) -> Message {
        let mut reply = self.reply(request, code);
        reply.metadata.authoritative = true;
        reply.add_authority(self.start_of_authority(start, self.negative_ttl()));
        reply
    }

    fn start_of_authority(&self, start: &Start, ttl: u32) -> Record {
        let name = |text: &str| to_name(text).unwrap_or_default();
        let server = if self.settings.domain.is_empty() { &start.name } else { &self.settings.domain };
        let soa = SOA::new(name(&format!("ns.dns.{server}")), name(&format!("hostmaster.{server}")), start.serial, 7200, 1800, 86400, self.negative_ttl());
        Record::from_rdata(name(&start.name), ttl, RData::SOA(soa))
    }

    fn ttl(&self) -> u32 {
        u32::try_from(self.settings.ttl.as_secs()).unwrap_or(u32::MAX)
    }

    fn negative_ttl(&self) -> u32 {
        u32::try_from(self.settings.negative_ttl.as_secs()).unwrap_or(u32::MAX)
    }
}

/// All names that are ours, as one cluster sees them.
struct Names<'a> {
    zone: Option<&'a Zone>,
    hosted: &'a HostedZones,
    /// Of what follows from Services.
    ttl: u32,
}

/// Where a zone begins, for its SOA.
struct Start {
    name: String,
    serial: u32,
}

enum At {
    /// The name exists, if only without data.
    Data(Data, Start),
    Missing(Start),
    /// Not a name of ours.
    Elsewhere,
}

impl Names<'_> {
    fn find(&self, name: &str) -> At {
        let found = self.zone.map_or(Found::Missing, |zone| zone.find(name));
        if let Some(zone) = self.zone {
            let inside = is_inside(name, zone.domain());
            let start = || Start { name: zone.domain().to_owned(), serial: zone.serial() };
            match found {
                Found::Records(data) => return At::Data(data.iter().map(|data| (data.clone(), self.ttl)).collect(), start()),
                Found::Address(address) => return At::Data(vec![(RecordData::address(address), self.ttl)], start()),
                Found::Nothing if inside => return At::Data(Data::new(), start()),
                Found::Missing if inside => return At::Missing(start()),
                // Part of an address, of which only those below may be ours; or nothing of the cluster's.
                Found::Nothing | Found::Missing => {}
            }
        }
        let hosted = self.hosted.zone_of(name).map(|zone| (zone.find(name), Start { name: zone.name.clone(), serial: zone.serial }));
        match hosted {
            Some((Some(data), start)) if !data.is_empty() => return At::Data(data.clone(), start),
            _ => {}
        }
        if let Some((address, data)) = address_of_reverse(name).and_then(|address| Some((address, self.hosted.reverse(address)?))) {
            return At::Data(vec![data], Start { name: reverse_top(address).into(), serial: 1 });
        }
        match hosted {
            Some((Some(data), start)) => At::Data(data.clone(), start),
            Some((None, start)) => At::Missing(start),
            None => At::Elsewhere,
        }
    }
}

/// The addresses of the hosts that answers name, so that clients need not ask for them.
fn addresses_of(answers: &[Record], names: &Names<'_>) -> Vec<Record> {
    let mut additionals = Vec::new();
    for answer in answers {
        let RData::SRV(srv) = &answer.data else { continue };
        let Some(At::Data(data, _)) = lower(&srv.target).map(|name| names.find(&name)) else { continue };
        let addresses = data.iter().filter(|(data, _)| matches!(data, RecordData::A(_) | RecordData::Aaaa(_)));
        additionals.extend(addresses.filter_map(|(data, ttl)| Some(Record::from_rdata(srv.target.clone(), *ttl, to_rdata(data)?))));
    }
    additionals.dedup();
    additionals
}

fn reverse_top(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "in-addr.arpa" } else { "ip6.arpa" }
}

/// A name as zones spell it; `None` for one with a dot inside a label, which none of theirs has.
fn lower(name: &Name) -> Option<String> {
    let mut text = String::with_capacity(name.len());
    for label in name.iter() {
        if !text.is_empty() {
            text.push('.');
        }
        for byte in label {
            if !byte.is_ascii_graphic() || *byte == b'.' {
                return None;
            }
            text.push(char::from(byte.to_ascii_lowercase()));
        }
    }
    Some(text)
}

fn to_name(text: &str) -> Option<Name> {
    let mut name = Name::from_labels(text.split('.').map(str::as_bytes)).ok()?;
    name.set_fqdn(true);
    Some(name)
}

fn to_rdata(data: &RecordData) -> Option<RData> {
    Some(match data {
        RecordData::A(address) => RData::A(A(*address)),
        RecordData::Aaaa(address) => RData::AAAA(AAAA(*address)),
        RecordData::Cname(name) => RData::CNAME(CNAME(to_name(name)?)),
        RecordData::Ptr(name) => RData::PTR(PTR(to_name(name)?)),
        RecordData::Ns(name) => RData::NS(NS(to_name(name)?)),
        RecordData::Srv { priority, weight, port, target } => RData::SRV(SRV::new(*priority, *weight, *port, to_name(target)?)),
        RecordData::Mx { preference, exchange } => RData::MX(MX::new(*preference, to_name(exchange)?)),
        RecordData::Txt(text) => RData::TXT(TXT::new(vec![text.to_string()])),
    })
}
