//! Driver: the CSI services over an engine, and the sockets they are served on.
mod capabilities;
mod controller;
mod identity;
mod node;

use crate::turns::Turns;
use crate::{DRIVER, Engine};
use csi::registration::registration_server::{Registration, RegistrationServer};
use csi::registration::{InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse};
use csi::v1::controller_server::ControllerServer;
use csi::v1::identity_server::IdentityServer;
use csi::v1::node_server::NodeServer;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

/// The CSI driver of one node. Cheap to clone.
#[derive(Clone)]
pub struct Driver {
    engine: Arc<dyn Engine>,
    node_id: Arc<str>,
    turns: Arc<Turns>,
}

impl Driver {
    pub fn new(engine: Arc<dyn Engine>, node_id: &str) -> Self {
        Self { engine, node_id: node_id.into(), turns: Arc::default() }
    }
}

/// Serves the driver on its socket until `stop`, and tells the node's agent of it through a socket in `registry`.
///
/// # Errors
/// When a socket can't be made or served.
pub async fn serve(driver: Driver, socket: &Path, registry: Option<&Path>, stop: CancellationToken) -> io::Result<()> {
    let listener = csi::listen(socket)?;
    let own_socket = inode(socket);
    let services = Server::builder()
        .add_service(IdentityServer::new(driver.clone()))
        .add_service(ControllerServer::new(driver.clone()))
        .add_service(NodeServer::new(driver));
    let serving = services.serve_with_incoming_shutdown(UnixListenerStream::new(listener), stop.clone().cancelled_owned());
    let registered = async {
        let Some(registry) = registry else { return Ok(()) };
        // Only now: the agent calls back as soon as it sees this one.
        let own = registry.join(format!("{DRIVER}-reg.sock"));
        let listener = csi::listen(&own)?;
        let own_inode = inode(&own);
        let server = Server::builder().add_service(RegistrationServer::new(Registered { endpoint: socket.to_owned() }));
        let served = server.serve_with_incoming_shutdown(UnixListenerStream::new(listener), stop.cancelled_owned()).await;
        remove(&own, own_inode);
        served.map_err(io::Error::other)
    };
    let (served, registered) = tokio::join!(serving, registered);
    remove(socket, own_socket);
    served.map_err(io::Error::other)?;
    registered
}

fn inode(socket: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    std::fs::symlink_metadata(socket).ok().map(|metadata| metadata.ino())
}

/// Removes a socket, unless another driver has taken its place meanwhile.
fn remove(socket: &Path, own: Option<u64>) {
    if own.is_none() || inode(socket) != own {
        return;
    }
    if let Err(error) = std::fs::remove_file(socket)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(socket = %socket.display(), %error, "a socket can't be removed");
    }
}

struct Registered {
    endpoint: PathBuf,
}

#[tonic::async_trait]
impl Registration for Registered {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        Ok(Response::new(PluginInfo {
            r#type: "CSIPlugin".into(),
            name: DRIVER.into(),
            endpoint: self.endpoint.display().to_string(),
            supported_versions: vec!["1.0.0".into()],
        }))
    }

    async fn notify_registration_status(&self, request: Request<RegistrationStatus>) -> Result<Response<RegistrationStatusResponse>, Status> {
        let status = request.into_inner();
        if !status.plugin_registered {
            tracing::error!(error = status.error, "the node's agent refused the driver");
        }
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}
