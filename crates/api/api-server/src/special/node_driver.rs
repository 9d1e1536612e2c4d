//! The way to a CSI driver on another machine: its agent leads a connection of the server's on to the driver's socket.
//!
//! So that what makes and attaches volumes writes to the API beside the API, and machines need no rights for it.
use super::node_stream::DIAL_TIMEOUT;
use crate::ApiServer;
use api_meta::{ClusterName, DRIVER_PATH, TUNNEL_PROTOCOL};
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::Empty;
use hyper::upgrade::Upgraded;
use std::io;

impl ApiServer {
    /// A connection to a driver that is registered on a node of the host cluster.
    ///
    /// # Errors
    /// When the node can't be reached, or has no such driver.
    pub async fn connect_to_driver(&self, node: &str, driver: &str) -> io::Result<Upgraded> {
        let connecting = tokio::time::timeout(DIAL_TIMEOUT, self.connect_to_driver_at_length(node, driver));
        connecting.await.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, format!("node {node:?} does not answer")))?
    }

    async fn connect_to_driver_at_length(&self, node: &str, driver: &str) -> io::Result<Upgraded> {
        let root = ClusterName::root();
        let address = self.node_address(&root, node).await.map_err(|status| io::Error::other(status.message))?;
        let mut sender = self.dial_node(&root, address).await?;
        let request = Request::get(format!("{DRIVER_PATH}{driver}"))
            .header(header::HOST, address.to_string())
            .header(header::CONNECTION, HeaderValue::from_static("Upgrade"))
            .header(header::UPGRADE, HeaderValue::from_static(TUNNEL_PROTOCOL))
            .body(Empty::<Bytes>::new())
            .map_err(io::Error::other)?;
        let answer = sender.send_request(request).await.map_err(io::Error::other)?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(io::Error::other(format!("node {node:?} answered {}", answer.status())));
        }
        hyper::upgrade::on(answer).await.map_err(io::Error::other)
    }
}
