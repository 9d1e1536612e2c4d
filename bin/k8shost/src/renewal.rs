//! Renewal: the certificates a server shows, replaced before they end.
use crate::certificates::Certificates;
use crate::server::{names, write_kubeconfig};
use anyhow::Result;
use clock::Clock;
use jiff::Timestamp;
use settings::ServerSettings;
use std::net::IpAddr;
use std::sync::Arc;

/// The certificates this process shows: to the API's clients, to the node's, and to nodes.
#[derive(Clone)]
pub struct Shown {
    pub serving: Arc<pki::Renewable>,
    pub node_serving: Arc<pki::Renewable>,
    pub node_client: Arc<pki::Renewable>,
    pub front_proxy: Arc<pki::Renewable>,
}

impl Shown {
    pub fn new(certificates: &Certificates) -> Result<Self> {
        let of = pki::Renewable::new;
        let (serving, node_serving) = (of(&certificates.serving)?, of(&certificates.node_serving)?);
        Ok(Self { serving, node_serving, node_client: of(&certificates.node_client)?, front_proxy: of(&certificates.front_proxy_client)? })
    }

    fn all(&self) -> [&Arc<pki::Renewable>; 4] {
        [&self.serving, &self.node_serving, &self.node_client, &self.front_proxy]
    }

    fn replace(&self, certificates: &Certificates) -> Result<()> {
        self.serving.replace(&certificates.serving)?;
        self.node_serving.replace(&certificates.node_serving)?;
        self.front_proxy.replace(&certificates.front_proxy_client)?;
        Ok(self.node_client.replace(&certificates.node_client)?)
    }
}

/// Issues certificates again before they end, and shows the new ones to who connects from then on.
pub async fn renewal(settings: ServerSettings, node_address: IpAddr, port: u16, due: Timestamp, shown: Shown, clock: Arc<dyn Clock>) {
    let renew = || {
        let renewed = Certificates::load_or_issue(&settings.data_dir.join("server").join("tls"), names(&settings, node_address), &*clock);
        let done = renewed.and_then(|renewed| {
            shown.replace(&renewed)?;
            write_kubeconfig(&settings, &renewed, port)?;
            renewed.renewed_from()
        });
        std::future::ready(done)
    };
    pki::keep_current(clock.clone(), &shown.all(), due, renew).await;
}
