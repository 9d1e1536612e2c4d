//! Tunnels: a node leads its pods' connections to their cluster's API, as if they had arrived at the cluster's address.
//!
//! The address means the cluster only where the server runs. On other nodes the agent listens there, and brings each
//! connection here inside one of its own; what comes through is TLS between the pod and this server.
use crate::body::{self, Answer};
use crate::server::{ApiServer, Sender};
use api_meta::{ClusterName, Status, TUNNEL_PROTOCOL};
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header, request::Parts};
use hyper_util::rt::TokioIo;
use std::net::IpAddr;
use std::sync::Arc;

impl ApiServer {
    /// Who asks has been let in by the roles of nodes.
    pub(crate) fn tunnel(self: &Arc<Self>, cluster: &ClusterName, parts: &Parts) -> Result<Answer, Status> {
        let asks = parts.headers.get(header::UPGRADE).is_some_and(|protocol| protocol == TUNNEL_PROTOCOL);
        if !asks {
            return Err(Status::bad_request(format!("Upgrade request required: {TUNNEL_PROTOCOL}")));
        }
        let address = self.tenants.get(cluster).and_then(|tenant| self.tenants.address(tenant.number));
        let address = address.ok_or_else(|| Status::bad_request("the cluster has no address of its own"))?;
        let door = self.door.get().cloned().ok_or_else(|| Status::service_unavailable("the server does not serve yet"))?;
        let peer = Sender::connection(parts).ok_or_else(|| Status::bad_request("a tunnel needs a connection"))?.peer;
        let upgrade = hyper::upgrade::on(Request::from_parts(parts.clone(), ()));
        let server = self.clone();
        door.connections.clone().spawn(async move {
            match upgrade.await {
                Ok(upgraded) => door.enter(server, TokioIo::new(upgraded), peer, IpAddr::V4(address)).await,
                Err(error) => tracing::debug!(%error, "a tunnel could not be opened"),
            }
        });
        let mut answer = body::text(StatusCode::SWITCHING_PROTOCOLS, "");
        *answer.body_mut() = body::full(Bytes::new());
        answer.headers_mut().clear();
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        answer.headers_mut().insert(header::UPGRADE, HeaderValue::from_static(TUNNEL_PROTOCOL));
        Ok(answer)
    }
}
