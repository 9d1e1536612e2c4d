//! Target: where the connection to a webhook goes, and the name its certificate must hold.
use super::client_config::Address;
use api_meta::{ClusterName, GroupResource};
use api_resource::Lookup;
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dial {
    /// Anything that resolves.
    Name(String, u16),
    At(SocketAddr),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// The name in the certificate.
    pub host: String,
    pub port: u16,
    /// With its leading slash.
    pub path: String,
    /// As errors show it, without the query.
    pub url: String,
}

impl Target {
    /// The error says why the address is none.
    pub fn of(address: &Address) -> Result<Self, String> {
        match address {
            Address::Service { namespace, name, path, port } => {
                let host = format!("{name}.{namespace}.svc");
                let path = if path.starts_with('/') { path.clone() } else { format!("/{path}") };
                Ok(Self { url: format!("https://{host}:{port}{path}"), host, port: *port, path })
            }
            Address::Url(url) => {
                let rest = url.strip_prefix("https://").ok_or_else(|| format!("unsupported protocol scheme in {url:?}"))?;
                let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
                let (host, port) = match authority.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) {
                    Some((host, port)) => (host, port.parse().map_err(|_| format!("invalid port {port:?} in {url:?}"))?),
                    None => (authority, 443),
                };
                let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
                let path = if path.is_empty() { "/".to_owned() } else { path.to_owned() };
                Ok(Self { url: format!("https://{authority}{path}"), host, port, path })
            }
        }
    }

    /// Where to connect. A Service is one of its ready endpoints, since its own address may not lead anywhere from here.
    pub async fn dial(&self, address: &Address, cluster: &ClusterName, lookup: &dyn Lookup) -> Result<Dial, String> {
        match address {
            Address::Url(_) => Ok(Dial::Name(self.host.clone(), self.port)),
            Address::Service { namespace, name, port, .. } => service_endpoint(namespace, name, *port, cluster, lookup).await,
        }
    }
}

/// One of the ready endpoints of a Service. The error says, as upstream does, why there is none.
pub async fn service_endpoint(namespace: &str, name: &str, port: u16, cluster: &ClusterName, lookup: &dyn Lookup) -> Result<Dial, String> {
    let found = lookup.get(cluster, &GroupResource::new("", "services"), namespace, name).await.map_err(|status| status.message)?;
    let service = found.ok_or_else(|| format!("service {name:?} not found"))?.to_value();
    if service["spec"]["type"] == "ExternalName" {
        return Ok(Dial::Name(service["spec"]["externalName"].as_str().unwrap_or_default().to_owned(), port));
    }
    let ports = crate::request::items(&service["spec"]["ports"]);
    let of_service = ports.iter().find(|entry| entry["port"] == port).ok_or_else(|| format!("no service port {port} found for service {name:?}"))?;
    let port_name = of_service["name"].as_str().unwrap_or_default();
    let slices = lookup.list(cluster, &GroupResource::new("discovery.k8s.io", "endpointslices"), Some(namespace)).await;
    let mut addresses = Vec::new();
    for slice in slices.map_err(|status| status.message)? {
        if api_meta::Labels::label(&slice.meta().labels, "kubernetes.io/service-name") == Some(name) {
            addresses.extend(ready_endpoints(&service, &slice.to_value(), port_name));
        }
    }
    // Kept in order, so that connections are used again; a refused one is not asked twice in a row.
    addresses.sort();
    let chosen = usize::from(u16::from_le_bytes(clock::random_bytes())).checked_rem(addresses.len());
    let chosen = chosen.ok_or_else(|| format!("no endpoints available for service {name:?}"))?;
    Ok(Dial::At(addresses[chosen]))
}

/// The ready endpoints that a slice has for a port of its Service, of that one's first family: the server may have no way to others.
pub fn ready_endpoints(service: &Value, slice: &Value, port_name: &str) -> Vec<SocketAddr> {
    if service["spec"]["ipFamilies"].get(0).is_some_and(|family| *family != slice["addressType"]) {
        return Vec::new();
    }
    let port = crate::request::items(&slice["ports"])
        .iter()
        .find(|port| port["name"].as_str().unwrap_or_default() == port_name)
        .and_then(|port| u16::try_from(port["port"].as_u64()?).ok());
    let Some(port) = port else { return Vec::new() };
    crate::request::items(&slice["endpoints"])
        .iter()
        .filter(|endpoint| endpoint["conditions"]["ready"] != false)
        .filter_map(|endpoint| endpoint["addresses"][0].as_str()?.parse().ok())
        .map(|ip: IpAddr| SocketAddr::new(ip, port))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_service_of_two_families_is_reached_by_the_first() {
        let slice =
            |family: &str, address: &str| json!({"addressType": family, "ports": [{"name": "http", "port": 80}], "endpoints": [{"addresses": [address]}]});
        let reached = |families: Value| {
            let service = json!({"spec": {"ipFamilies": families}});
            let slices = [slice("IPv4", "10.42.0.5"), slice("IPv6", "fd42::5")];
            slices.iter().flat_map(|slice| ready_endpoints(&service, slice, "http")).map(|address| address.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(reached(json!(["IPv4", "IPv6"])), ["10.42.0.5:80"]);
        assert_eq!(reached(json!(["IPv6"])), ["[fd42::5]:80"]);
        assert_eq!(reached(Value::Null), ["10.42.0.5:80", "[fd42::5]:80"]);
    }

    #[test]
    fn addresses_become_targets() {
        let of = |url: &str| Target::of(&Address::Url(url.into())).map(|t| (t.host, t.port, t.path));
        assert_eq!(of("https://a.example/x/y"), Ok(("a.example".into(), 443, "/x/y".into())));
        assert_eq!(of("https://[::1]:8443"), Ok(("::1".into(), 8443, "/".into())));
        assert!(of("http://a").is_err() && of("https://a:b/").is_err());
        let service = Address::Service { namespace: "n".into(), name: "s".into(), path: String::new(), port: 443 };
        assert_eq!(Target::of(&service).unwrap().url, "https://s.n.svc:443/");
    }
}
