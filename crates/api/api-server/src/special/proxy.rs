//! `/proxy` of pods, services and nodes: a request handed on to what runs behind the name.
use crate::ApiServer;
use crate::body::{Answer, Body};
use crate::context::Context;
use crate::protobuf::PassedOn;
use api_admission::Way;
use api_meta::{GroupResource, Status};
use api_resource::Lookup;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Uri, header, request::Parts};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use std::net::{IpAddr, SocketAddr};
use tokio_rustls::TlsConnector;

/// Headers that belong to one connection and are not handed on.
pub(crate) const HOP_BY_HOP: [HeaderName; 6] =
    [header::CONNECTION, header::PROXY_AUTHENTICATE, header::PROXY_AUTHORIZATION, header::TE, header::TRANSFER_ENCODING, header::UPGRADE];

/// `[scheme:]name[:port]`, as upstream's SplitSchemeNamePort reads it.
#[derive(Debug, PartialEq, Eq)]
struct Target<'a> {
    https: bool,
    name: &'a str,
    port: &'a str,
}

impl<'a> Target<'a> {
    fn parse(text: &'a str) -> Result<Self, Status> {
        let (https, name, port) = match text.split(':').collect::<Vec<_>>()[..] {
            [name] => (false, name, ""),
            [name, port] => (false, name, port),
            ["http" | "", name, port] => (false, name, port),
            ["https", name, port] => (true, name, port),
            _ => return Err(Status::bad_request(format!("invalid proxy target {text:?}"))),
        };
        if name.is_empty() {
            return Err(Status::bad_request(format!("invalid proxy target {text:?}")));
        }
        Ok(Self { https, name, port })
    }
}

impl ApiServer {
    pub(crate) async fn proxy<B>(&self, context: &Context<'_>, parts: &Parts, incoming: B) -> Result<Answer, Status>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let target = Target::parse(&context.route.name)?;
        self.connecting(context, parts.uri.query().unwrap_or_default()).await?;
        let (address, kubelet) = match context.route.resource.as_str() {
            "nodes" => (self.node_address(context.cluster, target.name).await?, true),
            "services" => (self.endpoint(context, &target).await?, false),
            _ => (self.pod_endpoint(context, &target).await?, false),
        };
        // The server's own loopback and link-local services are nobody's business.
        let local = match address.ip() {
            IpAddr::V4(ip) => ip.is_loopback() || ip.is_link_local() || ip.is_multicast() || ip.is_unspecified(),
            IpAddr::V6(ip) => ip.is_loopback() || ip.is_unicast_link_local() || ip.is_multicast() || ip.is_unspecified(),
        };
        if local && !kubelet {
            return Err(Status::forbidden("", &context.route.resource, &context.route.name, "address not allowed"));
        }
        let path = format!("/{}", context.route.rest);
        let query = parts.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        let uri: Uri = format!("{}{query}", encoded(&path)).parse().map_err(|error| Status::bad_request(format!("invalid path: {error}")))?;
        let mut request = Request::builder().method(parts.method.clone()).uri(uri).body(incoming).map_err(Status::internal)?;
        for (name, value) in parts.headers.iter().filter(|(name, _)| !HOP_BY_HOP.contains(name) && *name != header::HOST) {
            request.headers_mut().append(name, value.clone());
        }
        request.headers_mut().insert(header::HOST, HeaderValue::from_str(&address.to_string()).map_err(Status::internal)?);
        let unreachable = |error: &dyn std::fmt::Display| Status::service_unavailable(format!("error trying to reach service: {error}"));
        let way: Way = if kubelet { self.way_to_node(context.cluster) } else { self.tenants.way(context.cluster) };
        let connecting = tokio::time::timeout(super::node_stream::DIAL_TIMEOUT, way.connect_to(address)).await;
        let stream = connecting.map_err(|_| unreachable(&"i/o timeout"))?.map_err(|error| unreachable(&error))?;
        let answer = if kubelet {
            let name = rustls::pki_types::ServerName::IpAddress(address.ip().into());
            let stream = TlsConnector::from(self.node_tls(context.cluster).await?).connect(name, stream).await.map_err(|error| unreachable(&error))?;
            exchange(stream, request).await
        } else if target.https {
            return Err(Status::bad_request("proxying over TLS needs certificates of the target that this server has no way to check"));
        } else {
            exchange(stream, request).await
        };
        let (mut parts, body) = answer.map_err(|error| unreachable(&error))?.into_parts();
        for name in HOP_BY_HOP {
            parts.headers.remove(name);
        }
        let body: Body = body.map_err(std::io::Error::other).boxed_unsync();
        parts.extensions.insert(PassedOn);
        Ok(Answer::from_parts(parts, body))
    }

    async fn pod_endpoint(&self, context: &Context<'_>, target: &Target<'_>) -> Result<SocketAddr, Status> {
        let found = Lookup::get(self, context.cluster, &GroupResource::new("", "pods"), &context.route.namespace, target.name).await?;
        let pod = found.ok_or_else(|| Status::not_found("", "pods", target.name))?.to_value();
        let address: IpAddr =
            pod["status"]["podIP"].as_str().and_then(|ip| ip.parse().ok()).ok_or_else(|| Status::bad_request("address not allowed: the pod has no address"))?;
        let ports = pod["spec"]["containers"].as_array().into_iter().flatten().flat_map(|c| c["ports"].as_array().into_iter().flatten());
        let port = match target.port {
            "" => ports.clone().find_map(|p| p["containerPort"].as_u64()).unwrap_or(80),
            text => match text.parse() {
                Ok(port) => port,
                Err(_) => ports
                    .clone()
                    .find(|p| p["name"] == text)
                    .and_then(|p| p["containerPort"].as_u64())
                    .ok_or_else(|| Status::bad_request(format!("no port {text:?} in pod {:?}", target.name)))?,
            },
        };
        Ok(SocketAddr::new(address, u16::try_from(port).map_err(|_| Status::bad_request(format!("{port} is no port")))?))
    }

    /// A ready endpoint of a Service, at random.
    async fn endpoint(&self, context: &Context<'_>, target: &Target<'_>) -> Result<SocketAddr, Status> {
        let namespace = &context.route.namespace;
        let found = Lookup::get(self, context.cluster, &GroupResource::new("", "services"), namespace, target.name).await?;
        let service = found.ok_or_else(|| Status::not_found("", "services", target.name))?.to_value();
        let wanted = service["spec"]["ports"].as_array().into_iter().flatten().find(|port| match target.port {
            "" => true,
            text => port["name"] == text || text.parse::<u64>().is_ok_and(|number| port["port"] == number),
        });
        let no_endpoint = || Status::service_unavailable(format!("no endpoints available for service {:?}", context.route.name));
        let port_name =
            wanted.ok_or_else(|| Status::service_unavailable(format!("no service port {:?} found for service {:?}", target.port, target.name)))?["name"]
                .as_str()
                .unwrap_or_default();
        let slices = Lookup::list(self, context.cluster, &GroupResource::new("discovery.k8s.io", "endpointslices"), Some(namespace)).await?;
        let own = slices.iter().filter(|slice| api_meta::Labels::label(&slice.meta().labels, "kubernetes.io/service-name") == Some(target.name));
        let mut addresses = Vec::new();
        for slice in own.map(|slice| slice.to_value()) {
            addresses.extend(api_admission::ready_endpoints(&service, &slice, port_name));
        }
        let chosen = usize::from(u16::from_le_bytes(clock::random_bytes())).checked_rem(addresses.len()).ok_or_else(no_endpoint)?;
        Ok(addresses[chosen])
    }
}

fn encoded(path: &str) -> String {
    const KEPT: percent_encoding::AsciiSet = percent_encoding::CONTROLS.add(b' ').add(b'"').add(b'#').add(b'<').add(b'>').add(b'?').add(b'%');
    percent_encoding::utf8_percent_encode(path, &KEPT).to_string()
}

pub(crate) async fn exchange<S, B>(stream: S, request: Request<B>) -> Result<http::Response<hyper::body::Incoming>, hyper::Error>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a proxied connection broke off");
        }
    });
    // B's body is not Unpin, which sending needs.
    let (parts, body) = request.into_parts();
    sender.send_request(Request::from_parts(parts, Box::pin(body))).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_have_a_scheme_and_a_port_if_they_like() {
        let target = |https, name, port| Target { https, name, port };
        for (text, want) in [
            ("web", target(false, "web", "")),
            ("web:80", target(false, "web", "80")),
            ("http:web:http", target(false, "web", "http")),
            ("https:web:", target(true, "web", "")),
        ] {
            assert_eq!(Target::parse(text).unwrap(), want, "{text}");
        }
        for bad in ["", "ftp:web:1", "a:b:c:d", ":80"] {
            assert!(Target::parse(bad).is_err(), "{bad}");
        }
    }
}
