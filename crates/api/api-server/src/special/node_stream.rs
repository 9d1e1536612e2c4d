//! Logs, exec, attach and port-forward: the client's connection is tunnelled to the pod's node.
//!
//! The node speaks what the client speaks (WebSocket, SPDY), so an upgraded connection is copied byte by byte.
use crate::ApiServer;
use crate::body::{self, Answer, Body};
use crate::context::Context;
use api_admission::Way;
use api_meta::{ClusterName, Status};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header, request::Parts};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::SendRequest;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio_rustls::TlsConnector;

/// How long a node gets to accept a connection.
pub(crate) const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

impl ApiServer {
    pub(crate) async fn node_stream<B>(&self, context: &Context<'_>, parts: &mut Parts, _incoming: B) -> Result<Answer, Status> {
        let route = context.route;
        let pod = self.pod(context).await?;
        let query = self.connecting(context, parts.uri.query().unwrap_or_default()).await?;
        let node_name = pod["spec"]["nodeName"].as_str().filter(|n| !n.is_empty());
        let Some(node_name) = node_name else {
            return match route.subresource.as_str() {
                // Upstream answers an unscheduled pod's log with nothing.
                "log" => Ok(body::text(StatusCode::OK, "")),
                _ => Err(Status::bad_request(format!("pod {} does not have a host assigned", route.name))),
            };
        };
        let container = if route.subresource == "portforward" { String::new() } else { container(&pod, context.query.get("container"), &route.subresource)? };
        let address = self.node_address(context.cluster, node_name).await?;
        let path = node_path(context, &self.known_to_nodes(context.cluster), &container, &query);
        let mut request = Request::builder().method(parts.method.clone()).uri(path).body(Empty::<Bytes>::new()).map_err(Status::internal)?;
        if route.subresource == "log" {
            *request.method_mut() = Method::GET;
        }
        for (name, value) in &parts.headers {
            let passes = name == header::CONNECTION
                || name == header::UPGRADE
                || name.as_str().starts_with("sec-websocket")
                || name.as_str().starts_with("x-stream-protocol");
            if passes {
                request.headers_mut().append(name, value.clone());
            }
        }
        request.headers_mut().insert(header::HOST, HeaderValue::from_str(&address.to_string()).map_err(Status::internal)?);
        let unreachable = |error: &dyn std::fmt::Display| Status::internal(format!("error dialing backend: {error}"));
        let mut sender = self.dial_node(context.cluster, address).await.map_err(|error| unreachable(&error))?;
        let upgrade = hyper::upgrade::on(Request::from_parts(parts.clone(), ()));
        let mut answer = sender.send_request(request).await.map_err(|e| unreachable(&e))?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            let (parts, incoming) = answer.into_parts();
            if parts.status.is_client_error() || parts.status.is_server_error() {
                return Err(refusal(parts.status, incoming).await);
            }
            let body: Body = incoming.map_err(std::io::Error::other).boxed_unsync();
            return Ok(Answer::from_parts(parts, body));
        }
        let node_side = hyper::upgrade::on(&mut answer);
        tokio::spawn(joined(upgrade, node_side));
        let (parts, _) = answer.into_parts();
        Ok(Answer::from_parts(parts, body::full(Bytes::new())))
    }

    /// A connection to a node that runs a cluster's pods, for one request.
    pub(crate) async fn dial_node(&self, cluster: &ClusterName, address: SocketAddr) -> io::Result<SendRequest<Empty<Bytes>>> {
        let tls = self.node_tls(cluster).await.map_err(|status| io::Error::other(status.message))?;
        let connecting = tokio::time::timeout(DIAL_TIMEOUT, self.way_to_node(cluster).connect_to(address)).await;
        let stream = connecting.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "i/o timeout"))??;
        stream.set_nodelay(true)?;
        let name = rustls::pki_types::ServerName::IpAddress(address.ip().into());
        let stream = TlsConnector::from(tls).connect(name, stream).await?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        tokio::spawn(connection.with_upgrades());
        Ok(sender)
    }

    /// What the nodes that run a cluster's pods call it: to a cluster's own nodes there is no other.
    pub(crate) fn known_to_nodes(&self, cluster: &ClusterName) -> ClusterName {
        if self.has_own_nodes(cluster) { ClusterName::root() } else { cluster.clone() }
    }

    /// How a node that runs a cluster's pods is connected to: where a cluster's own nodes are is the cluster's word.
    pub(super) fn way_to_node(&self, cluster: &ClusterName) -> Way {
        if self.has_own_nodes(cluster) { self.tenants.way(cluster) } else { Way::Host }
    }

    /// Where the streaming server of a node that runs a cluster's pods listens.
    pub(crate) async fn node_address(&self, cluster: &ClusterName, name: &str) -> Result<SocketAddr, Status> {
        use api_resource::Lookup;
        let resource = api_meta::GroupResource::new("", "nodes");
        let root = ClusterName::root();
        let found = Lookup::get(self, if self.has_own_nodes(cluster) { cluster } else { &root }, &resource, "", name).await?;
        let node = found.ok_or_else(|| Status::not_found("", "nodes", name))?.to_value();
        let addresses = node["status"]["addresses"].as_array();
        let address: Option<IpAddr> = addresses.into_iter().flatten().filter(|a| a["type"] == "InternalIP").find_map(|a| a["address"].as_str()?.parse().ok());
        let port = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"].as_u64().and_then(|p| u16::try_from(p).ok());
        match (address, port) {
            (Some(address), Some(port)) => Ok(SocketAddr::new(address, port)),
            _ => Err(Status::internal(format!("node {name:?} has no address to reach it at"))),
        }
    }
}

/// Copies between two connections once both have changed their protocol, until they end.
pub(crate) async fn joined(one: OnUpgrade, other: OnUpgrade) {
    let (one, other) = match tokio::try_join!(one, other) {
        Ok(both) => both,
        Err(error) => return tracing::debug!(%error, "a stream could not be upgraded"),
    };
    if let Err(error) = tokio::io::copy_bidirectional(&mut TokioIo::new(one), &mut TokioIo::new(other)).await {
        tracing::debug!(%error, "a stream broke off");
    }
}

fn node_path(context: &Context, cluster: &ClusterName, container: &str, query: &str) -> String {
    let route = context.route;
    let action = match route.subresource.as_str() {
        "log" => "containerLogs",
        "portforward" => "portForward",
        other => other,
    };
    let segment = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let mut path = format!("/clusters/{cluster}/{action}/{}/{}", segment(&route.namespace), segment(&route.name));
    if !container.is_empty() {
        path.push('/');
        path.push_str(&segment(container));
    }
    if !query.is_empty() {
        path.push('?');
        path.push_str(query);
    }
    path
}

/// The node refuses in plain text; clients are told in a Status.
async fn refusal(code: StatusCode, body: hyper::body::Incoming) -> Status {
    let text = match http_body_util::Limited::new(body, 64 << 10).collect().await {
        Ok(collected) => String::from_utf8_lossy(&collected.to_bytes()).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    match code {
        StatusCode::BAD_REQUEST => Status::bad_request(text),
        StatusCode::NOT_FOUND => Status::new(404, "NotFound", text),
        StatusCode::INTERNAL_SERVER_ERROR => Status::internal(text),
        other => Status::new(other.as_u16(), "", text),
    }
}

/// The container asked for, or the only one there is; upstream's words when that isn't clear.
fn container(pod: &Value, asked: Option<&str>, action: &str) -> Result<String, Status> {
    let pod_name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let names = |field: &str| -> Vec<&str> { pod["spec"][field].as_array().into_iter().flatten().filter_map(|c| c["name"].as_str()).collect() };
    let (own, init, ephemeral) = (names("containers"), names("initContainers"), names("ephemeralContainers"));
    if let Some(asked) = asked {
        if own.contains(&asked) || init.contains(&asked) || ephemeral.contains(&asked) {
            return Ok(asked.to_owned());
        }
        return Err(Status::bad_request(format!("container {asked} is not valid for pod {pod_name}")));
    }
    if let Some(default) = pod["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"].as_str().filter(|d| own.contains(d)) {
        return Ok(default.to_owned());
    }
    match own[..] {
        [only] => Ok(only.to_owned()),
        [] => Err(Status::bad_request(format!("a container name must be specified for pod {pod_name}"))),
        [first, ..] if action != "log" => Ok(first.to_owned()),
        _ => {
            let mut message = format!("a container name must be specified for pod {pod_name}, choose one of: [{}]", own.join(" "));
            if !init.is_empty() {
                message.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
            }
            Err(Status::bad_request(message))
        }
    }
}
