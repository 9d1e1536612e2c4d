//! Metrics of the DNS server, among those of the process, by the names that CoreDNS has for them.
use hickory_proto::op::Message;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use std::net::{IpAddr, SocketAddr};
use std::sync::LazyLock;
use std::time::Duration;

/// How a question came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    proto: &'static str,
    /// 1: IPv4, 2: IPv6.
    family: u8,
    r#type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    rcode: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct To {
    to: String,
}

pub struct Metrics {
    requests: Family<Asked, Counter>,
    responses: Family<Answered, Counter>,
    durations: Histogram,
    forwarded: Family<To, Counter>,
    pub cache_hits: Counter,
    pub cache_misses: Counter,
}

pub static METRICS: LazyLock<Metrics> = LazyLock::new(|| {
    let metrics = Metrics {
        requests: Family::default(),
        responses: Family::default(),
        durations: Histogram::new(exponential_buckets(0.000_25, 2.0, 16)),
        forwarded: Family::default(),
        cache_hits: Counter::default(),
        cache_misses: Counter::default(),
    };
    telemetry::metrics::register("coredns_dns_requests", "DNS questions, by how they came and what they were for", metrics.requests.clone());
    telemetry::metrics::register("coredns_dns_responses", "DNS answers, by code", metrics.responses.clone());
    telemetry::metrics::register("coredns_dns_request_duration_seconds", "From a question to its answer", metrics.durations.clone());
    telemetry::metrics::register("coredns_forward_requests", "Questions that others were asked", metrics.forwarded.clone());
    telemetry::metrics::register("coredns_cache_hits", "Questions answered by what others said before", metrics.cache_hits.clone());
    telemetry::metrics::register("coredns_cache_misses", "Questions that others had to be asked", metrics.cache_misses.clone());
    metrics
});

impl Metrics {
    pub fn asked(&self, transport: Transport, client: IpAddr, request: &Message) {
        use hickory_proto::rr::RecordType as T;
        // Types that nobody knows the number of must not make as many series.
        let kind = match request.queries.first().map(|query| query.query_type()) {
            Some(T::A) => "A",
            Some(T::AAAA) => "AAAA",
            Some(T::CNAME) => "CNAME",
            Some(T::MX) => "MX",
            Some(T::NS) => "NS",
            Some(T::PTR) => "PTR",
            Some(T::SOA) => "SOA",
            Some(T::SRV) => "SRV",
            Some(T::TXT) => "TXT",
            Some(T::HTTPS) => "HTTPS",
            _ => "other",
        };
        let proto = if transport == Transport::Udp { "udp" } else { "tcp" };
        self.requests.get_or_create(&Asked { proto, family: if client.is_ipv4() { 1 } else { 2 }, r#type: kind }).inc();
    }

    pub fn answered(&self, reply: &Message, took: Duration) {
        self.told(reply.metadata.response_code);
        self.durations.observe(took.as_secs_f64());
    }

    /// A question that can't be read.
    pub fn malformed(&self) {
        self.told(hickory_proto::op::ResponseCode::FormErr);
    }

    fn told(&self, code: hickory_proto::op::ResponseCode) {
        use hickory_proto::op::ResponseCode as C;
        let rcode = match code {
            C::NoError => "NOERROR",
            C::FormErr => "FORMERR",
            C::ServFail => "SERVFAIL",
            C::NXDomain => "NXDOMAIN",
            C::NotImp => "NOTIMP",
            C::Refused => "REFUSED",
            C::BADVERS => "BADVERS",
            _ => "other",
        };
        self.responses.get_or_create(&Answered { rcode }).inc();
    }

    pub fn forwarded(&self, to: SocketAddr) {
        self.forwarded.get_or_create(&To { to: to.to_string() }).inc();
    }
}
