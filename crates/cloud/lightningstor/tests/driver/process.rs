//! A driver in a process of its own, which can be killed in the middle of anything.
use crate::rig::{NODE, Place};
use csi::v1::controller_client::ControllerClient;
use csi::v1::node_client::NodeClient;
use lightningstor::{Driver, Engine, FileEngine, LightningStorSettings};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// The first argument of this program where it is to be the driver.
pub const SERVE: &str = "serve";

pub struct Process {
    pub place: Arc<Place>,
    pub controller: ControllerClient<Channel>,
    pub node: NodeClient<Channel>,
    child: Child,
}

impl Process {
    pub async fn start(place: Arc<Place>) -> Self {
        let socket = place.socket();
        let program = std::env::current_exe().unwrap();
        let mut child = Command::new(program).arg(SERVE).arg(place.path("data")).arg(&socket).spawn().unwrap();
        while tokio::net::UnixStream::connect(&socket).await.is_err() {
            assert!(child.try_wait().unwrap().is_none(), "the driver does not start over what there is");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let channel = csi::channel(&socket);
        Self { place, controller: ControllerClient::new(channel.clone()), node: NodeClient::new(channel), child }
    }

    /// The driver dies where it stands, and another takes over.
    pub async fn killed(self) -> Self {
        let place = self.place.clone();
        drop(self);
        Self::start(place).await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended already needs no more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The driver itself, until it is killed, or whoever started it ends.
pub fn serve(data: &Path, socket: &Path) {
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let settings = LightningStorSettings::under(data, NODE);
    let engine: Arc<dyn Engine> = Arc::new(FileEngine::open(settings, Arc::new(clock::SystemClock)).unwrap());
    runtime.block_on(lightningstor::serve(Driver::new(engine, NODE), socket, None, CancellationToken::new())).unwrap();
}
