//! Engine: what a question gets, from the zones in memory. It knows no sockets and asks nobody.
use crate::record::{Record as ZoneRecord, RecordData, address_of_reverse};
use crate::settings::DnsSettings;
use crate::zone::{Found, Zone};
use api_cache::ObjectKey;
use api_meta::ClusterName;
use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use parking_lot::RwLock;
use std::collections::HashMap;

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
}

impl Engine {
    pub fn new(settings: DnsSettings) -> Self {
        let clusters = settings.listen.iter().map(|listener| listener.cluster.clone());
        let zones = clusters.map(|cluster| (cluster, Zone::new(&settings.domain, settings.cluster_dns))).collect();
        Self { settings, zones: RwLock::new(zones) }
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
        let zones = self.zones.read();
        // Never another cluster's names, nor that there are none.
        let Some(zone) = zones.get(cluster) else { return fail(ResponseCode::ServFail) };
        let inside = is_inside(&name, zone.domain());
        match zone.find(&name) {
            Found::Missing if inside => Outcome::Reply(self.negative(request, zone, zone.domain(), ResponseCode::NXDomain)),
            Found::Missing => match address_of_reverse(&name).filter(|address| self.settings.cluster_cidrs.iter().any(|cidr| cidr.contains(address))) {
                Some(address) => {
                    Outcome::Reply(self.negative(request, zone, if address.is_ipv4() { "in-addr.arpa" } else { "ip6.arpa" }, ResponseCode::NXDomain))
                }
                None => Outcome::Ask,
            },
            // Part of an address: only those below may be ours.
            Found::Nothing if !inside => Outcome::Ask,
            _ => self.found(request, query, &name, zone),
        }
    }

    fn found(&self, request: &Message, query: &Query, name: &str, zone: &Zone) -> Outcome {
        let mut reply = self.reply(request, ResponseCode::NoError);
        reply.metadata.authoritative = true;
        let (mut owner, mut at, wanted) = (query.name().clone(), name.to_owned(), query.query_type());
        for _ in 0..MAX_ALIASES {
            let mut data = match zone.find(&at) {
                Found::Records(data) => data.to_vec(),
                Found::Address(address) => vec![RecordData::address(address)],
                Found::Nothing | Found::Missing => Vec::new(),
            };
            // Two Services may say the same of an address.
            data.sort_unstable();
            data.dedup();
            let alias = data.iter().find_map(|data| if let RecordData::Cname(target) = data { Some(target) } else { None });
            if let Some(target) = alias.filter(|_| !matches!(wanted, RecordType::CNAME | RecordType::ANY)) {
                let Some(target_name) = to_name(target) else { break };
                reply.add_answer(Record::from_rdata(owner, self.ttl(), RData::CNAME(CNAME(target_name.clone()))));
                if !is_inside(target, zone.domain()) {
                    return Outcome::Follow(reply, Query::query(target_name, wanted));
                }
                (owner, at) = (target_name, target.to_string());
                continue;
            }
            let mut answers: Vec<Record> = data
                .iter()
                .filter_map(to_rdata)
                .filter(|data| matches!(wanted, RecordType::ANY) || data.record_type() == wanted)
                .map(|data| Record::from_rdata(owner.clone(), self.ttl(), data))
                .collect();
            if at == zone.domain() && matches!(wanted, RecordType::SOA | RecordType::ANY) {
                answers.push(self.start_of_authority(zone, zone.domain(), self.ttl()));
            }
            // Clients take the first; which one that is changes from question to question.
            let count = answers.len().max(1);
            answers.rotate_left(usize::from(request.metadata.id) % count);
            if wanted == RecordType::SRV {
                let additionals = self.addresses_of(&answers, zone);
                reply.add_additionals(additionals);
            }
            if answers.is_empty() {
                reply.add_authority(self.start_of_authority(zone, zone.domain(), self.negative_ttl()));
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

    fn negative(&self, request: &Message, zone: &Zone, owner: &str, code: ResponseCode) -> Message {
        let mut reply = self.reply(request, code);
        reply.metadata.authoritative = true;
        reply.add_authority(self.start_of_authority(zone, owner, self.negative_ttl()));
        reply
    }

    fn start_of_authority(&self, zone: &Zone, owner: &str, ttl: u32) -> Record {
        let name = |text: &str| to_name(text).unwrap_or_default();
        let soa = SOA::new(
            name(&format!("ns.dns.{}", zone.domain())),
            name(&format!("hostmaster.{}", zone.domain())),
            zone.serial(),
            7200,
            1800,
            86400,
            self.negative_ttl(),
        );
        Record::from_rdata(name(owner), ttl, RData::SOA(soa))
    }

    /// The addresses of the hosts that answers name, so that clients need not ask for them.
    fn addresses_of(&self, answers: &[Record], zone: &Zone) -> Vec<Record> {
        let mut additionals = Vec::new();
        for answer in answers {
            let RData::SRV(srv) = &answer.data else { continue };
            let Some(Found::Records(data)) = lower(&srv.target).map(|name| zone.find(&name)) else { continue };
            let addresses = data.iter().filter(|data| matches!(data, RecordData::A(_) | RecordData::Aaaa(_))).filter_map(to_rdata);
            additionals.extend(addresses.map(|data| Record::from_rdata(srv.target.clone(), self.ttl(), data)));
        }
        additionals.dedup();
        additionals
    }

    fn ttl(&self) -> u32 {
        u32::try_from(self.settings.ttl.as_secs()).unwrap_or(u32::MAX)
    }

    fn negative_ttl(&self) -> u32 {
        u32::try_from(self.settings.negative_ttl.as_secs()).unwrap_or(u32::MAX)
    }
}

fn is_inside(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
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
        RecordData::Txt(text) => RData::TXT(TXT::new(vec![text.to_string()])),
    })
}
