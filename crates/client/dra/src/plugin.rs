//! A driver as it is asked, in the newest version it speaks.
use crate::{v1, v1beta1};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tonic::Status;
use tonic::transport::Channel;

/// The versions that are spoken here, the best first.
pub const VERSIONS: [&str; 2] = ["v1.DRAPlugin", "v1beta1.DRAPlugin"];
/// A driver that takes longer is asked again.
const ANSWERS_WITHIN: Duration = Duration::from_secs(45);

#[derive(Clone, Debug)]
pub struct Plugin {
    pub socket: PathBuf,
    channel: Channel,
    is_old: bool,
}

impl Plugin {
    /// `None` where none of its versions is spoken here. Drivers that only say a number mean the old one.
    pub fn new(socket: &Path, versions: &[String]) -> Option<Self> {
        let spoken = VERSIONS.iter().position(|known| versions.iter().any(|version| version == known));
        let is_old = match spoken {
            Some(at) => at > 0,
            None if versions.iter().any(|version| version.starts_with("1.") || version.starts_with("v1beta1")) => true,
            None => return None,
        };
        Some(Self { socket: socket.to_owned(), channel: csi::channel(socket), is_old })
    }

    /// Makes a claim's devices ready for containers.
    ///
    /// # Errors
    /// What the driver says, or why it could not be asked.
    pub async fn prepare(&self, claim: v1::Claim) -> Result<Vec<v1::Device>, Status> {
        let uid = claim.uid.clone();
        let answer = if self.is_old {
            let claims = vec![v1beta1::Claim { namespace: claim.namespace, uid: claim.uid, name: claim.name }];
            let mut client = v1beta1::dra_plugin_client::DraPluginClient::new(self.channel.clone());
            let asked = in_time(client.node_prepare_resources(v1beta1::NodePrepareResourcesRequest { claims })).await?;
            asked.into_inner().claims.remove(&uid).map(|answer| (answer.devices.into_iter().map(newer).collect(), answer.error))
        } else {
            let mut client = v1::dra_plugin_client::DraPluginClient::new(self.channel.clone());
            let asked = in_time(client.node_prepare_resources(v1::NodePrepareResourcesRequest { claims: vec![claim] })).await?;
            asked.into_inner().claims.remove(&uid).map(|answer| (answer.devices, answer.error))
        };
        match answer {
            Some((devices, error)) if error.is_empty() => Ok(devices),
            Some((_, error)) => Err(Status::unknown(error)),
            None => Err(Status::unknown("NodePrepareResources skipped the claim")),
        }
    }

    /// The opposite. What was never prepared is no error.
    ///
    /// # Errors
    /// What the driver says, or why it could not be asked.
    pub async fn unprepare(&self, claim: v1::Claim) -> Result<(), Status> {
        let uid = claim.uid.clone();
        let error = if self.is_old {
            let claims = vec![v1beta1::Claim { namespace: claim.namespace, uid: claim.uid, name: claim.name }];
            let mut client = v1beta1::dra_plugin_client::DraPluginClient::new(self.channel.clone());
            let asked = in_time(client.node_unprepare_resources(v1beta1::NodeUnprepareResourcesRequest { claims })).await?;
            asked.into_inner().claims.remove(&uid).map(|answer| answer.error)
        } else {
            let mut client = v1::dra_plugin_client::DraPluginClient::new(self.channel.clone());
            let asked = in_time(client.node_unprepare_resources(v1::NodeUnprepareResourcesRequest { claims: vec![claim] })).await?;
            asked.into_inner().claims.remove(&uid).map(|answer| answer.error)
        };
        match error {
            Some(error) if error.is_empty() => Ok(()),
            Some(error) => Err(Status::unknown(error)),
            None => Err(Status::unknown("NodeUnprepareResources skipped the claim")),
        }
    }
}

async fn in_time<T>(asked: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    tokio::time::timeout(ANSWERS_WITHIN, asked).await.unwrap_or_else(|_| Err(Status::deadline_exceeded("context deadline exceeded")))
}

fn newer(device: v1beta1::Device) -> v1::Device {
    v1::Device { request_names: device.request_names, pool_name: device.pool_name, device_name: device.device_name, cdi_device_ids: device.cdi_device_ids }
}
