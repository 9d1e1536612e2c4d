//! `k8shost agent`: this machine as a node of a cluster whose server is elsewhere.
use crate::node::{Node, NodeFacts, NodeIdentity, NodeSettings, PodRanges, address_towards};
use crate::notify::notify;
use crate::own_driver::OwnDriver;
use crate::server::wait_for_signal;
use anyhow::{Context, Result, anyhow};
use api_cache::{HostedClusters, RemoteSource, Source};
use api_client::join::{JoinError, Joiner, Membership};
use api_client::{Clients, Tunnels};
use api_meta::ClusterName;
use clock::{Clock, SystemClock};
use k8s_openapi::api::core::v1::Taint;
use settings::{AgentArgs, AgentSettings};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// Between two tries to join a server that can't be reached.
const RETRY: Duration = Duration::from_secs(2);

pub fn main(args: AgentArgs) -> Result<()> {
    telemetry::init();
    let settings = AgentSettings::load(&args)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let result = runtime.block_on(run(settings));
    runtime.shutdown_timeout(Duration::from_secs(5));
    result
}

async fn run(settings: AgentSettings) -> Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let directory = settings.data_dir.join("agent");
    let node_ips = match &settings.node_ips[..] {
        [] => vec![address_towards(server_address(&settings.server)?)],
        given => given.to_vec(),
    };
    let joiner =
        Joiner { server: settings.server.clone(), token: settings.token.clone(), node_name: settings.node_name.clone(), directory: directory.join("identity") };
    let Some(membership) = joined(&joiner, node_ips[0], &*clock).await? else { return Ok(()) };
    let membership = Arc::new(membership);
    let clients = membership.clients(&settings.server)?;
    // A node of a virtual cluster knows that one alone.
    let across = membership.config.address.is_none();
    let source: Arc<dyn Source> = Arc::new(RemoteSource::new(clients.cluster(&ClusterName::root()), across));
    let mut node_settings = NodeSettings::new(&NodeFacts {
        node_name: &settings.node_name,
        addresses: &node_ips,
        data_dir: &settings.data_dir,
        config: &membership.config,
        disable: &[],
        container_runtime_endpoint: settings.container_runtime_endpoint.as_deref(),
        kubelet_arg: &settings.kubelet_arg,
        pod_cidr: None,
        last_pod_cidr: PodRanges::of(&membership.known_pod_cidrs()),
    })?;
    node_settings.agent.labels.extend(settings.node_labels.clone());
    if across {
        node_settings.balance_by_label()?;
    }
    node_settings.agent.taints = settings.node_taints.iter().map(taint).collect();
    let identity = NodeIdentity { serving: membership.serving.clone(), client_ca_pem: membership.config.client_ca_pem.clone() };
    let known = membership.clone();
    let remember = move |ranges: PodRanges| {
        if let Err(error) = known.remember_pod_cidrs(&ranges.all()) {
            tracing::warn!(error = &error as &dyn std::error::Error, "the range of this node's pods could not be kept");
        }
    };
    // The volumes of the host's classes are the host's: a tenant's own machine has none of them.
    let storage = if across && !settings.disable.iter().any(|disabled| disabled == "lightningstor") {
        Some(OwnDriver::start(&settings.data_dir, &settings.lightningstor_dirs, &settings.node_name, clock.clone()).await?)
    } else {
        None
    };
    let node = Node::start(node_settings, identity, clients, source.clone(), clock.clone(), Box::new(remember)).await?;
    let tunnels = tokio::spawn(lead_to_apis(settings.server.clone(), membership.clone(), source));
    let renewal = tokio::spawn({
        let (joiner, membership, clock) = (joiner.clone(), membership.clone(), clock.clone());
        async move { joiner.keep_current(membership, clock).await }
    });
    notify("READY=1");
    tracing::info!(server = settings.server, node = settings.node_name, "this machine is a node");

    let stop_pods = wait_for_signal().await?;
    tracing::info!(stop_pods, "k8shost is stopping");
    notify("STOPPING=1");
    renewal.abort();
    tunnels.abort();
    node.stop(stop_pods).await;
    if let Some(storage) = storage {
        storage.stop(stop_pods).await;
    }
    tracing::info!("k8shost has stopped");
    Ok(())
}

/// Joins, as soon as the server can be reached; `None` if told to end before that.
async fn joined(joiner: &Joiner, node_ip: IpAddr, clock: &dyn Clock) -> Result<Option<Membership>> {
    let joining = async {
        loop {
            match joiner.join(node_ip, clock).await {
                Err(error) if error.is_transient() => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "joining again in {RETRY:?}");
                    tokio::time::sleep(RETRY).await;
                }
                other => return other,
            }
        }
    };
    tokio::select! {
        membership = joining => membership.map(Some).map_err(|error: JoinError| anyhow!(error)),
        signal = wait_for_signal() => signal.map(|_| None),
    }
}

/// Takes in what pods send to their cluster's API at its own address, for the server to serve.
async fn lead_to_apis(server: String, membership: Arc<Membership>, source: Arc<dyn Source>) {
    let opened = async {
        let tls = pki::client_config_renewable(&membership.ca_pem, membership.client.clone())?;
        let tunnels = Tunnels::new(&server, tls).with_context(|| format!("{server:?} is no address of a server"))?;
        let at = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), membership.config.port);
        let listener = TcpListener::bind(at).await.with_context(|| format!("listening on {at}"))?;
        anyhow::Ok((tunnels, listener))
    };
    let (tunnels, listener) = match opened.await {
        Ok(opened) => opened,
        Err(error) => return tracing::error!("pods of virtual clusters do not reach their API from this node: {error:#}"),
    };
    match membership.config.address {
        Some(own) => tunnels.serve(listener, move |arrived| (arrived == own).then(ClusterName::root)).await,
        None => {
            let clusters = HostedClusters::start(&*source, membership.config.virtual_cluster_cidr);
            let cluster_at = move |arrived| match arrived {
                IpAddr::V4(address) => clusters.cluster_at(address),
                IpAddr::V6(_) => None,
            };
            tunnels.serve(listener, cluster_at).await;
        }
    }
}

fn server_address(server: &str) -> Result<IpAddr> {
    let uri: http::Uri = server.parse().with_context(|| format!("server {server:?}"))?;
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let mut addresses = (host, 0).to_socket_addrs().with_context(|| format!("looking up the server {host:?}"))?;
    addresses.next().map(|address| address.ip()).with_context(|| format!("the server's name {host:?} has no address"))
}

fn taint(taint: &settings::Taint) -> Taint {
    Taint { key: taint.key.clone(), value: taint.value.clone(), effect: taint.effect.clone(), time_added: None }
}
