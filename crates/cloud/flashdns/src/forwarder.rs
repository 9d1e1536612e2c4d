//! Forwarder: asks upstream servers for names that are not ours, and keeps what they say for as long as they allow.
use crate::engine::MAX_UDP_PAYLOAD;
use crate::metrics::METRICS;
use crate::settings::StubDomain;
use crate::zone_name::is_inside;
use clock::Clock;
use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RData};
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// Answers kept; the oldest goes first.
const MAX_KEPT: usize = 10_000;
const LONGEST_KEPT: Duration = Duration::from_secs(3600);
/// What does not exist is forgotten sooner (RFC 2308 allows up to three hours).
const LONGEST_KEPT_NEGATIVE: Duration = Duration::from_secs(300);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Question {
    query: Query,
    dnssec: bool,
    checking_disabled: bool,
}

struct Kept {
    answer: Arc<Message>,
    since: Instant,
    until: Instant,
}

#[derive(Default)]
struct Memory {
    answers: HashMap<Question, Kept>,
    order: VecDeque<Question>,
}

pub struct Forwarder {
    upstreams: Vec<SocketAddr>,
    /// The names of these are asked elsewhere.
    stubs: Vec<StubDomain>,
    patience: Duration,
    memory: Mutex<Memory>,
    clock: Arc<dyn Clock>,
}

impl Forwarder {
    pub fn new(upstreams: Vec<SocketAddr>, patience: Duration, clock: Arc<dyn Clock>) -> Self {
        Self { upstreams, stubs: Vec::new(), patience, memory: Mutex::default(), clock }
    }

    #[must_use]
    pub fn with_stubs(mut self, stubs: Vec<StubDomain>) -> Self {
        self.stubs = stubs;
        self
    }

    /// Who is asked for a name: the servers of the closest stub domain, else upstream.
    fn servers(&self, name: &Name) -> &[SocketAddr] {
        let text = name.to_ascii().trim_end_matches('.').to_ascii_lowercase();
        let closest = self.stubs.iter().filter(|stub| is_inside(&text, &stub.domain)).max_by_key(|stub| stub.domain.len());
        closest.map_or(&self.upstreams, |stub| &stub.servers)
    }

    /// Asks for `query` on behalf of `request`. `None` when no upstream gave an answer.
    ///
    /// Of the answer, id and question are upstream's; the caller takes code and sections.
    pub async fn ask(&self, query: &Query, request: &Message) -> Option<Message> {
        let dnssec = request.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok);
        let mut lower = query.clone();
        lower.set_name(query.name().to_lowercase());
        let question = Question { query: lower, dnssec, checking_disabled: request.metadata.checking_disabled };
        if let Some(kept) = self.remembered(&question) {
            METRICS.cache_hits.inc();
            return Some(kept);
        }
        METRICS.cache_misses.inc();
        let mut last = None;
        for upstream in self.servers(query.name()) {
            METRICS.forwarded(*upstream);
            match timeout(self.patience, exchange(*upstream, query, &question)).await {
                Ok(Ok(answer)) if matches!(answer.metadata.response_code, ResponseCode::NoError | ResponseCode::NXDomain) => {
                    self.remember(question, &answer);
                    return Some(answer);
                }
                // Another may know more.
                Ok(Ok(answer)) => last = Some(answer),
                Ok(Err(error)) => tracing::debug!(%upstream, %error, "an upstream name server failed"),
                Err(_) => tracing::debug!(%upstream, "an upstream name server did not answer"),
            }
        }
        last
    }

    fn remembered(&self, question: &Question) -> Option<Message> {
        let now = self.clock.instant();
        let (answer, age) = {
            let memory = self.memory.lock();
            let kept = memory.answers.get(question).filter(|kept| kept.until > now)?;
            (kept.answer.clone(), now.saturating_duration_since(kept.since))
        };
        let mut answer = Message::clone(&answer);
        let age = u32::try_from(age.as_secs()).unwrap_or(u32::MAX);
        for record in answer.answers.iter_mut().chain(&mut answer.authorities).chain(&mut answer.additionals) {
            record.ttl = record.ttl.saturating_sub(age);
        }
        Some(answer)
    }

    fn remember(&self, question: Question, answer: &Message) {
        let Some(time) = time_to_keep(answer) else { return };
        let now = self.clock.instant();
        let kept = Kept { answer: Arc::new(answer.clone()), since: now, until: now + time };
        let mut memory = self.memory.lock();
        if memory.answers.insert(question.clone(), kept).is_none() {
            memory.order.push_back(question);
        }
        while memory.answers.len() > MAX_KEPT {
            let Some(oldest) = memory.order.pop_front() else { break };
            memory.answers.remove(&oldest);
        }
    }
}

/// The shortest time any of the answer's records may be kept; `None`: not at all.
fn time_to_keep(answer: &Message) -> Option<Duration> {
    let seconds = |ttl: u32| Duration::from_secs(ttl.into());
    let negative = answer.answers.is_empty() || answer.metadata.response_code == ResponseCode::NXDomain;
    let time = if negative {
        let limit = answer.authorities.iter().find_map(|record| if let RData::SOA(soa) = &record.data { Some(record.ttl.min(soa.minimum)) } else { None })?;
        seconds(limit).min(LONGEST_KEPT_NEGATIVE)
    } else {
        seconds(answer.answers.iter().map(|record| record.ttl).min()?).min(LONGEST_KEPT)
    };
    (!time.is_zero()).then_some(time)
}

/// One question to one server; over TCP if the answer is too long for a datagram.
async fn exchange(upstream: SocketAddr, query: &Query, question: &Question) -> io::Result<Message> {
    // A random id and, with a socket of its own, a random port: what a forger must guess.
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.metadata.checking_disabled = question.checking_disabled;
    message.add_query(query.clone());
    let mut edns = Edns::new();
    edns.set_max_payload(MAX_UDP_PAYLOAD).set_version(0).set_dnssec_ok(question.dnssec);
    message.set_edns(edns);
    let bytes = message.to_vec().map_err(io::Error::other)?;

    let local: IpAddr = if upstream.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((local, 0)).await?;
    socket.connect(upstream).await?;
    socket.send(&bytes).await?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // Whatever is not the answer may be a forgery: the real one may follow.
        let Ok(answer) = Message::from_vec(&buffer[..length]) else { continue };
        if !is_answer(&answer, &message) {
            continue;
        }
        return if answer.metadata.truncation { exchange_over_tcp(upstream, &bytes, &message).await } else { Ok(answer) };
    }
}

async fn exchange_over_tcp(upstream: SocketAddr, bytes: &[u8], message: &Message) -> io::Result<Message> {
    let mut stream = TcpStream::connect(upstream).await?;
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), bytes].concat()).await?;
    let mut buffer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut buffer).await?;
    let answer = Message::from_vec(&buffer).map_err(io::Error::other)?;
    if is_answer(&answer, message) { Ok(answer) } else { Err(io::Error::other("the answer is to another question")) }
}

fn is_answer(answer: &Message, message: &Message) -> bool {
    answer.metadata.id == message.metadata.id && answer.metadata.message_type == hickory_proto::op::MessageType::Response && answer.queries == message.queries
}

#[cfg(test)]
mod tests {
    use super::*;
    use clock::ManualClock;
    use hickory_proto::rr::rdata::A;
    use hickory_proto::rr::{Record, RecordType};

    fn question(number: usize) -> Question {
        Question { query: Query::query(Name::from_ascii(format!("n{number}.example.")).unwrap(), RecordType::A), dnssec: false, checking_disabled: false }
    }

    fn answer(ttl: u32) -> Message {
        let mut message = Message::query();
        message.add_answer(Record::from_rdata(Name::from_ascii("n.example.").unwrap(), ttl, RData::A(A::new(192, 0, 2, 1))));
        message
    }

    #[test]
    fn answers_age_and_end() {
        let clock = ManualClock::at(jiff::Timestamp::UNIX_EPOCH);
        let forwarder = Forwarder::new(Vec::new(), Duration::from_secs(1), Arc::new(clock.clone()));
        forwarder.remember(question(1), &answer(30));
        forwarder.remember(question(2), &answer(0));
        clock.advance(Duration::from_secs(10));
        assert_eq!(forwarder.remembered(&question(1)).unwrap().answers[0].ttl, 20);
        assert!(forwarder.remembered(&question(2)).is_none());
        clock.advance(Duration::from_secs(21));
        assert!(forwarder.remembered(&question(1)).is_none());
    }

    #[test]
    fn names_of_stub_domains_are_asked_elsewhere() {
        let stubs = ["corp.example=192.0.2.1", "lab.corp.example=192.0.2.2:5353", "corp.example=192.0.2.3"].map(|text| StubDomain::parse(text).unwrap());
        let forwarder = Forwarder::new(vec!["192.0.2.9:53".parse().unwrap()], Duration::from_secs(1), Arc::new(ManualClock::at(jiff::Timestamp::UNIX_EPOCH)))
            .with_stubs(StubDomain::joined(stubs));
        let servers = |name: &str| forwarder.servers(&Name::from_ascii(name).unwrap()).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(servers("a.Corp.example."), ["192.0.2.1:53", "192.0.2.3:53"]);
        assert_eq!(servers("a.lab.corp.example."), ["192.0.2.2:5353"]);
        assert_eq!(servers("acorp.example."), ["192.0.2.9:53"]);
    }

    #[test]
    fn memory_is_bounded() {
        let forwarder = Forwarder::new(Vec::new(), Duration::from_secs(1), Arc::new(ManualClock::at(jiff::Timestamp::UNIX_EPOCH)));
        for number in 0..MAX_KEPT + 10 {
            forwarder.remember(question(number), &answer(30));
        }
        assert_eq!(forwarder.memory.lock().answers.len(), MAX_KEPT);
        assert!(forwarder.remembered(&question(0)).is_none());
        assert!(forwarder.remembered(&question(MAX_KEPT)).is_some());
    }
}
