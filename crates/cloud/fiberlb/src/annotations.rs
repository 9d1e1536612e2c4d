//! What annotations of Services say, `fiberlb.plasmacloud.io/*`. Pure.
use crate::{Algorithm, BackendProtocol, BackendTls, HealthCheck, ProxyProtocol};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::net::Ipv4Addr;
use std::time::Duration;

/// What all annotations begin with.
pub const PREFIX: &str = "fiberlb.plasmacloud.io/";
/// Written by the controller.
pub const LOAD_BALANCER_ID: &str = "fiberlb.plasmacloud.io/load-balancer-id";

const INTERVAL: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(5);
const RETRIES: u32 = 3;

/// What a Service wants of its load balancer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// `None`: nothing is said.
    pub algorithm: Option<Algorithm>,
    pub client_affinity: bool,
    pub health_check: Option<HealthCheck>,
    pub address: Option<Ipv4Addr>,
    pub sharing_key: Option<String>,
    pub protocol: Option<BackendProtocol>,
    /// How its pods are spoken to over TLS, if they are.
    pub tls: Option<BackendTls>,
    pub proxy_protocol: Option<ProxyProtocol>,
}

impl Wishes {
    /// Reads an object's annotations; an error names the first that can't be right.
    pub fn of(metadata: &ObjectMeta) -> Result<Self, String> {
        let annotation = |name: &str| metadata.annotations.as_ref().and_then(|all| all.get(&format!("{PREFIX}{name}"))).map(|text| text.trim());
        let wrong = |name: &str, text: &str, wanted: &str| format!("annotation \"{PREFIX}{name}\" is {text:?}, which is not {wanted}");
        let duration = |name: &str, default: Duration| match annotation(name) {
            None => Ok(default),
            Some(text) => parse_duration(text).ok_or_else(|| wrong(name, text, "a duration of 1ms to 1h such as \"10s\"")),
        };
        let mut wishes = Self::default();
        if let Some(text) = annotation("algorithm") {
            let parsed = Algorithm::parse(text).ok_or_else(|| wrong("algorithm", text, "one of \"round-robin\", \"least-conn\", \"ip-hash\""));
            wishes.algorithm = Some(parsed?);
        }
        match annotation("session-affinity") {
            None | Some("none" | "") => {}
            Some("client-ip") => wishes.client_affinity = true,
            Some(text) => return Err(wrong("session-affinity", text, "one of \"client-ip\", \"none\"")),
        }
        let path = annotation("health-check-path");
        if let Some(text) = path.filter(|text| !text.starts_with('/') || text.bytes().any(|byte| byte <= b' ' || byte == 127)) {
            return Err(wrong("health-check-path", text, "a path such as \"/health\""));
        }
        if path.is_some() || ["health-check-interval", "health-check-timeout", "health-check-retries"].iter().any(|name| annotation(name).is_some()) {
            let retries = match annotation("health-check-retries") {
                None => RETRIES,
                Some(text) => {
                    text.parse().ok().filter(|count| (1..=100).contains(count)).ok_or_else(|| wrong("health-check-retries", text, "a number of 1 to 100"))?
                }
            };
            let (interval, timeout) = (duration("health-check-interval", INTERVAL)?, duration("health-check-timeout", TIMEOUT)?);
            wishes.health_check = Some(HealthCheck { path: path.map(str::to_owned), interval, timeout, retries });
        }
        if let Some(text) = annotation("load-balancer-ip") {
            wishes.address = Some(text.parse().map_err(|_| wrong("load-balancer-ip", text, "an IPv4 address"))?);
        }
        wishes.sharing_key = annotation("sharing-key").filter(|key| !key.is_empty()).map(str::to_owned);
        let secure = match annotation("backend-protocol") {
            None => false,
            Some(text) => {
                let (protocol, secure) =
                    protocol_of(text).ok_or_else(|| wrong("backend-protocol", text, "one of \"http\", \"https\", \"h2c\", \"grpc\", \"grpcs\""))?;
                wishes.protocol = Some(protocol);
                secure
            }
        };
        let (authority, name) = (annotation("backend-ca"), annotation("backend-name"));
        if secure {
            let own = format!("{}.{}.svc", metadata.name.as_deref().unwrap_or_default(), metadata.namespace.as_deref().unwrap_or_default());
            let http2 = wishes.protocol == Some(BackendProtocol::Http2);
            let tls = BackendTls::new(authority, Some(name.unwrap_or(&own)), http2);
            wishes.tls = Some(tls.map_err(|why| format!("annotation \"{PREFIX}backend-ca\" or \"{PREFIX}backend-name\" can't be right: {why}"))?);
        } else if let Some(name) = [("backend-ca", authority), ("backend-name", name)].into_iter().find_map(|(name, text)| text.map(|_| name)) {
            return Err(format!("annotation \"{PREFIX}{name}\" needs \"{PREFIX}backend-protocol\" to be \"https\" or \"grpcs\""));
        }
        wishes.proxy_protocol = match annotation("proxy-protocol") {
            None | Some("" | "none") => None,
            Some(text) => Some(ProxyProtocol::parse(text).ok_or_else(|| wrong("proxy-protocol", text, "one of \"v1\", \"v2\", \"none\""))?),
        };
        Ok(wishes)
    }

    /// Whether TCP connections are to go through a process, because packet rules can't do what is wanted.
    pub fn need_proxy(&self) -> bool {
        self.health_check.is_some()
            || self.client_affinity
            || self.proxy_protocol.is_some()
            || self.algorithm.is_some_and(|algorithm| algorithm != Algorithm::RoundRobin)
    }

    /// The algorithm to use.
    pub fn algorithm(&self) -> Algorithm {
        if self.client_affinity { Algorithm::IpHash } else { self.algorithm.unwrap_or_default() }
    }
}

/// What pods are said to speak, and whether over TLS.
fn protocol_of(text: &str) -> Option<(BackendProtocol, bool)> {
    Some(match text {
        "http" | "http1" => (BackendProtocol::Http1, false),
        "https" => (BackendProtocol::Http1, true),
        "h2c" | "grpc" => (BackendProtocol::Http2, false),
        "grpcs" => (BackendProtocol::Http2, true),
        _ => return None,
    })
}

/// Whether requests may only go over TLS, whatever else is said.
pub fn wants_tls(metadata: &ObjectMeta) -> bool {
    let said = metadata.annotations.as_ref().and_then(|all| all.get(&format!("{PREFIX}backend-protocol")));
    said.and_then(|text| protocol_of(text.trim())).is_some_and(|(_, secure)| secure)
}

/// Of `500ms`, `10s`, `1m`, `1m30s`.
fn parse_duration(text: &str) -> Option<Duration> {
    let (mut rest, mut total) = (text, Duration::ZERO);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).filter(|digits| (1..=7).contains(digits))?;
        let (number, unit) = (rest[..digits].parse::<u64>().ok()?, &rest[digits..]);
        let (one, length) = match unit {
            unit if unit.starts_with("ms") => (Duration::from_millis(1), 2),
            unit if unit.starts_with('s') => (Duration::from_secs(1), 1),
            unit if unit.starts_with('m') => (Duration::from_secs(60), 1),
            unit if unit.starts_with('h') => (Duration::from_secs(3600), 1),
            _ => return None,
        };
        total += one * u32::try_from(number).ok()?;
        rest = &unit[length..];
    }
    (Duration::from_millis(1)..=Duration::from_secs(3600)).contains(&total).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wishes(all: &[(&str, &str)]) -> Result<Wishes, String> {
        let annotations = all.iter().map(|(name, text)| (format!("{PREFIX}{name}"), (*text).to_owned())).collect();
        Wishes::of(&ObjectMeta { name: Some("web".into()), namespace: Some("shop".into()), annotations: Some(annotations), ..ObjectMeta::default() })
    }

    #[test]
    fn annotations_are_read_as_the_specification_has_them() {
        let all = wishes(&[
            ("algorithm", "least-conn"),
            ("health-check-path", "/health"),
            ("health-check-interval", "1m30s"),
            ("health-check-timeout", "500ms"),
            ("health-check-retries", "2"),
        ]);
        let check = HealthCheck { path: Some("/health".into()), interval: Duration::from_secs(90), timeout: Duration::from_millis(500), retries: 2 };
        assert_eq!(all, Ok(Wishes { algorithm: Some(Algorithm::LeastConnections), health_check: Some(check), ..Wishes::default() }));
        assert!(wishes(&[("session-affinity", "client-ip")]).unwrap().algorithm() == Algorithm::IpHash);
        assert!(!wishes(&[("algorithm", "round-robin"), ("load-balancer-id", "lb-1")]).unwrap().need_proxy());
        let only_retries = wishes(&[("health-check-retries", "1")]).unwrap().health_check.unwrap();
        assert_eq!((only_retries.path, only_retries.interval, only_retries.timeout), (None, INTERVAL, TIMEOUT));
    }

    #[test]
    fn pods_are_spoken_to_over_tls_and_told_who_connects() {
        let secure = wishes(&[("backend-protocol", "grpcs"), ("backend-name", "api.example.com")]).unwrap();
        assert_eq!((secure.protocol, secure.tls), (Some(BackendProtocol::Http2), BackendTls::new(None, Some("api.example.com"), true).ok()));
        let own = wishes(&[("backend-protocol", "https")]).unwrap();
        assert!(own.tls.is_some() && own.protocol == Some(BackendProtocol::Http1) && !own.need_proxy());
        let told = wishes(&[("proxy-protocol", "v2")]).unwrap();
        assert!(told.need_proxy() && told.proxy_protocol == Some(ProxyProtocol::V2));
        assert_eq!(wishes(&[("proxy-protocol", "none")]), Ok(Wishes::default()));
        for (all, why) in [
            (&[("backend-ca", "x")][..], "needs"),
            (&[("backend-protocol", "http"), ("backend-name", "x")], "needs"),
            (&[("backend-protocol", "https"), ("backend-ca", "x")], "the authority can't be used"),
            (&[("backend-protocol", "https"), ("backend-name", "a b")], "no name of a server"),
        ] {
            let message = wishes(all).unwrap_err();
            assert!(message.contains(why), "{message}");
        }
    }

    #[test]
    fn what_cant_be_right_is_named() {
        for (name, text) in [
            ("algorithm", "random"),
            ("session-affinity", "cookie"),
            ("health-check-path", "health"),
            ("health-check-path", "/a b"),
            ("health-check-interval", "10"),
            ("health-check-interval", "0s"),
            ("health-check-interval", "99999999999s"),
            ("health-check-timeout", "2d"),
            ("health-check-retries", "0"),
            ("load-balancer-ip", "::1"),
            ("backend-protocol", "spdy"),
            ("proxy-protocol", "v3"),
        ] {
            let message = wishes(&[(name, text)]).unwrap_err();
            assert!(message.starts_with(&format!("annotation \"{PREFIX}{name}\" is {text:?}, which is not ")), "{message}");
        }
    }
}
