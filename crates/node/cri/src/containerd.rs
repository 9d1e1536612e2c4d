//! containerd's own services, beside CRI on the same socket: content, images, leases, events.
use crate::{CriError, channel};
use std::path::Path;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;

macro_rules! generated {
    ($($name:ident => $package:literal),*) => {$(
        #[allow(clippy::all, clippy::unwrap_used, clippy::disallowed_methods, rustdoc::all, reason = "generated code")]
        pub mod $name {
            tonic::include_proto!($package);
        }
    )*};
}
generated!(
    content => "containerd.services.content.v1",
    images => "containerd.services.images.v1",
    leases => "containerd.services.leases.v1",
    events => "containerd.services.events.v1"
);

/// The containerd namespace that CRI's images and containers live in.
pub const NAMESPACE: &str = "k8s.io";

/// A connection to containerd itself. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Containerd {
    channel: Channel,
}

impl Containerd {
    /// Connects to containerd's socket.
    pub async fn connect(socket: &Path) -> Result<Self, CriError> {
        Ok(Self { channel: channel::connect(socket).await? })
    }
    pub fn content(&self) -> content::content_client::ContentClient<Channel> {
        content::content_client::ContentClient::new(self.channel.clone())
    }
    pub fn images(&self) -> images::images_client::ImagesClient<Channel> {
        images::images_client::ImagesClient::new(self.channel.clone())
    }
    pub fn leases(&self) -> leases::leases_client::LeasesClient<Channel> {
        leases::leases_client::LeasesClient::new(self.channel.clone())
    }
    pub fn events(&self) -> events::events_client::EventsClient<Channel> {
        events::events_client::EventsClient::new(self.channel.clone())
    }
}

/// A request in CRI's namespace, under a lease if one is given.
pub fn request<T>(message: T, lease: Option<&str>) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("containerd-namespace", MetadataValue::from_static(NAMESPACE));
    if let Some(lease) = lease.and_then(|lease| lease.parse().ok()) {
        request.metadata_mut().insert("containerd-lease", lease);
    }
    request
}
