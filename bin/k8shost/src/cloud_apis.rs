//! The gRPC APIs of the cloud services that run inside the server, at one address, for tokens of its own IAM.
use crate::flashdns_alone::delegations;
use crate::renewal::Shown;
use anyhow::{Context, Result};
use api_client::Clients;
use api_meta::ClusterName;
use cloud_api::TokenVerifier;
use controller_kit::Kit;
use flashdns::{DnsZones, ZoneObject, ZoneRules};
use prismnet::pod_network::{PodNetwork, PodNetworkView, Watched};
use settings::ServerSettings;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

/// Serves them until `shutdown`, if the settings ask for it. They keep what is theirs in the host cluster, or show what follows from it.
pub async fn serve(
    settings: &ServerSettings,
    shown: &Shown,
    clients: &dyn Clients,
    kit: &Kit,
    verifier: Arc<dyn TokenVerifier>,
    shutdown: &CancellationToken,
) -> Result<Option<JoinHandle<()>>> {
    // Wrong ones are told even where nobody asks for zones.
    let rules = ZoneRules { delegations: delegations(&settings.dns_delegation)?, cluster_domain: Some(settings.cluster_domain.to_ascii_lowercase()) };
    let Some(address) = settings.cloud_api_listen else { return Ok(None) };
    let mut routes = Routes::default();
    if !settings.is_disabled("flashdns") {
        let zones = ZoneObject::new(clients.cluster(&ClusterName::root()));
        routes = routes.add_service(DnsZones::new(Arc::new(zones), rules).service());
    }
    if !settings.is_disabled("prismnet") {
        let watched = Watched { namespaces: kit.cache(), pods: kit.cache(), policies: kit.cache(), nodes: kit.cache(), services: kit.cache() };
        routes = routes.add_service(PodNetwork::new(PodNetworkView::new(watched), settings.cluster_cidr).service());
    }
    let listener = TcpListener::bind(address).await.with_context(|| format!("cloud-api-listen: listening on {address}"))?;
    let tls = pki::server_config_for_any_client(shown.serving.clone(), &[b"h2"])?;
    tracing::info!(%address, "serving the cloud services' APIs");
    Ok(Some(tokio::spawn(cloud_api::serve(listener, Arc::new(tls), routes, verifier, shutdown.clone()))))
}
