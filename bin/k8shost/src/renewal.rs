//! Renewal: the certificates this process shows, replaced before they end.
use crate::certificates::Certificates;
use crate::server::{names, write_kubeconfig};
use anyhow::Result;
use clock::Clock;
use settings::ServerSettings;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// After a renewal that failed, whoever connects meanwhile.
const RETRY: Duration = Duration::from_secs(5);
/// Between two looks of a service that nobody connects to.
const LOOK: Duration = Duration::from_secs(24 * 3600);

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

    /// Has `tell` called when a connection finds that one of them is to be renewed.
    fn when_due(&self, clock: &Arc<dyn Clock>, tell: &Arc<Notify>) {
        for shown in [&self.serving, &self.node_serving, &self.node_client] {
            let tell = tell.clone();
            shown.when_due(clock.clone(), move || tell.notify_one());
        }
    }

    fn replace(&self, certificates: &Certificates) -> Result<()> {
        self.serving.replace(&certificates.serving)?;
        self.node_serving.replace(&certificates.node_serving)?;
        self.front_proxy.replace(&certificates.front_proxy_client)?;
        Ok(self.node_client.replace(&certificates.node_client)?)
    }
}

/// Issues certificates again before they end, and shows the new ones to who connects from then on.
pub async fn renewal(
    settings: ServerSettings,
    node_address: IpAddr,
    port: u16,
    mut certificates: Arc<Certificates>,
    shown: Shown,
    clock: Arc<dyn Clock>,
    shutdown: CancellationToken,
) {
    let due = Arc::new(Notify::new());
    shown.when_due(&clock, &due);
    loop {
        let wait = certificates.renewed_after(clock.now());
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = due.notified() => {}
            () = shutdown.cancelled() => return,
        }
        let renewed = Certificates::load_or_issue(&settings.data_dir.join("server").join("tls"), names(&settings, node_address), &*clock);
        let done = renewed.and_then(|renewed| {
            shown.replace(&renewed)?;
            certificates = Arc::new(renewed);
            write_kubeconfig(&settings, &certificates, port)
        });
        if let Err(error) = done {
            tracing::error!(error = &*error as &dyn std::error::Error, "renewing the certificates failed; it is tried again");
            if shutdown.run_until_cancelled(tokio::time::sleep(RETRY)).await.is_none() {
                return;
            }
        }
    }
}

/// Renews the certificate of a service that stands alone, for as long as the process runs: `issue` gives the one on disk
/// while that serves, and another then.
pub async fn kept_current(shown: Arc<pki::Renewable>, clock: Arc<dyn Clock>, issue: impl Fn(&dyn Clock) -> Result<pki::Issued>) {
    let due = Arc::new(Notify::new());
    let tell = due.clone();
    shown.when_due(clock.clone(), move || tell.notify_one());
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = due.notified() => {}
        }
        if let Err(error) = issue(&*clock).and_then(|issued| Ok(shown.replace(&issued)?)) {
            tracing::error!(error = &*error as &dyn std::error::Error, "renewing the certificate failed; it is tried again");
            tokio::time::sleep(RETRY).await;
        }
    }
}
