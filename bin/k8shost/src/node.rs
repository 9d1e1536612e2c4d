//! This machine as a node: pod network, DNS, Service proxy and agent, started and stopped in order.
use crate::balancing::Balancing;
use crate::certificates::Certificates;
use crate::pod_network::PrismnetPods;
use anyhow::{Context, Result, anyhow};
use api_cache::Source;
use api_client::Clients;
use clock::Clock;
use flashdns::DnsSettings;
use ipnet::{IpNet, Ipv4Net};
use node_agent::{AgentSettings, EvictionThresholds, OnShutdown};
use prismnet::policy::{self, PolicySettings, PolicyView};
use prismnet::{NodeNetwork, PodClusters, VirtualClusters};
use serde_json::Value;
use service_proxy::ProxySettings;
use settings::ServerSettings;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The prefix length of a node's share of the cluster's pod range.
const NODE_PREFIX: u8 = 24;
pub const KUBELET_PORT: u16 = 10250;
/// Not 53, which a resolver of the machine may hold on every address.
const DNS_PORT: u16 = 10_053;
/// How long the node agent waits for policies before it looks after its pods.
const POLICIES_SOON: Duration = Duration::from_secs(5);
/// How long pods get when everything is stopped.
const STOP_GRACE: Duration = Duration::from_secs(10);

pub struct NodeSettings {
    agent: AgentSettings,
    network: Option<NodeNetwork>,
    policies: PolicyView,
    dns: Option<DnsSettings>,
    proxy: Option<ProxySettings>,
    balancing: Option<fiberlb::NodeSettings>,
    cluster_dns: IpAddr,
}

impl NodeSettings {
    pub fn of(settings: &ServerSettings, address: IpAddr, balancing: Option<&Balancing>) -> Result<Self> {
        let IpNet::V4(cluster_cidr) = settings.cluster_cidr else {
            return Err(anyhow!("the pod network is IPv4 only: cluster-cidr {}", settings.cluster_cidr));
        };
        let pod_cidr = node_range(cluster_cidr);
        let directory = settings.data_dir.join("agent");
        let mut network = NodeNetwork::new(pod_cidr, cluster_cidr);
        network.state_dir = directory.join("prismnet");
        if let IpNet::V4(services) = settings.service_cidr {
            network.service_cidr = Some(services);
        }
        let range = settings.virtual_cluster_cidr;
        network.virtual_clusters = Some(VirtualClusters { range, api_port: settings.https_listen_port, dns_port: DNS_PORT });
        let gateway = IpAddr::V4(network.gateway());
        let mut dns = DnsSettings::new(&settings.cluster_domain, [SocketAddr::new(gateway, DNS_PORT)]);
        dns.cluster_cidrs = vec![settings.cluster_cidr, settings.service_cidr];
        dns.cluster_dns = Some(settings.cluster_dns);
        dns.upstreams = flashdns::upstreams_of(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default(), &[gateway, settings.cluster_dns]);
        let mut agent = AgentSettings::new(&settings.node_name, address, &directory);
        let policies = PolicyView::default();
        let mut proxy = ProxySettings::new(&settings.node_name, cluster_cidr);
        let mut balancing = match (balancing, address) {
            (Some(balancing), IpAddr::V4(address)) => Some(fiberlb::NodeSettings::new(&settings.node_name, address, balancing.pool().clone())),
            _ => None,
        };
        // Without our own pod network nothing keeps clusters apart, so none but the host's own is served here.
        if !settings.is_disabled("prismnet") {
            dns.virtual_cluster_cidr = Some(range);
            proxy.virtual_cluster_cidr = Some(range);
            agent.virtual_cluster_cidr = Some(range);
            agent.pod_network = Some(Arc::new(PrismnetPods { clusters: PodClusters::new(&network.state_dir), policies: policies.clone() }));
            balancing.iter_mut().for_each(|balancing| balancing.virtual_cluster_cidr = Some(range));
        }
        agent.cluster_dns = vec![settings.cluster_dns];
        agent.cluster_domain = settings.cluster_domain.clone();
        agent.pod_cidr = Some(IpNet::V4(pod_cidr));
        agent.container_runtime_endpoint = settings.container_runtime_endpoint.as_ref().map(|endpoint| PathBuf::from(endpoint.trim_start_matches("unix://")));
        agent.streaming_address = SocketAddr::new(address, KUBELET_PORT);
        for (name, value) in &settings.kubelet_arg {
            match name.as_str() {
                "cgroup-root" => agent.cgroup_parent = value.clone(),
                "port" => agent.streaming_address.set_port(value.parse().with_context(|| format!("kubelet-arg port={value}"))?),
                "eviction-hard" => agent.eviction = EvictionThresholds::parse(value).map_err(|why| anyhow!("kubelet-arg eviction-hard: {why}"))?,
                "max-pods" => agent.max_pods = value.parse().with_context(|| format!("kubelet-arg max-pods={value}"))?,
                "resolv-conf" => agent.resolv_conf = value.into(),
                "node-labels" => agent.labels.extend(value.split(',').filter_map(|label| label.split_once('=')).map(|(key, value)| (key.into(), value.into()))),
                other => {
                    return Err(anyhow!(
                        "kubelet-arg {other}: there is no such argument; there are cgroup-root, eviction-hard, max-pods, node-labels, port, resolv-conf"
                    ));
                }
            }
        }
        let enabled = |component: &str| !settings.is_disabled(component);
        Ok(Self {
            agent,
            dns: enabled("flashdns").then_some(dns),
            proxy: enabled("service-proxy").then_some(proxy),
            network: enabled("prismnet").then_some(network),
            policies,
            balancing,
            cluster_dns: settings.cluster_dns,
        })
    }

    /// The DNS Service and its endpoint on this node.
    pub fn dns_objects(&self) -> Vec<Value> {
        let Some(listener) = self.dns.as_ref().and_then(|dns| dns.listen.first()) else { return Vec::new() };
        dns_objects(self.cluster_dns, listener.address, Some(&self.agent.node_name))
    }

    /// The same of a virtual cluster, given its DNS address and the one that means it on this machine.
    pub fn dns_objects_of_clusters(&self) -> Box<dyn Fn(IpAddr, IpAddr) -> Vec<Value> + Send + Sync> {
        match &self.dns {
            Some(_) => Box::new(|cluster_dns, endpoint| dns_objects(cluster_dns, SocketAddr::new(endpoint, DNS_PORT), None)),
            None => Box::new(|_, _| Vec::new()),
        }
    }
}

fn dns_objects(cluster_dns: IpAddr, endpoint: SocketAddr, node_name: Option<&str>) -> Vec<Value> {
    let (service, slice) = flashdns::kubernetes::objects(cluster_dns, endpoint.ip(), endpoint.port(), node_name);
    [serde_json::to_value(service), serde_json::to_value(slice)].into_iter().map(|object| object.expect("a typed object encodes")).collect()
}

/// A running node.
pub struct Node {
    agent: JoinHandle<()>,
    stop_agent: oneshot::Sender<OnShutdown>,
    services: Vec<JoinHandle<()>>,
    stop_services: CancellationToken,
    network: Option<NodeNetwork>,
    proxy_table: Option<String>,
    /// FiberLB's table and device.
    balancing: Option<(String, String)>,
}

impl Node {
    pub async fn start(
        settings: NodeSettings,
        certificates: &Certificates,
        clients: Arc<dyn Clients>,
        source: Arc<dyn Source>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let NodeSettings { mut agent, network, policies, dns, proxy, balancing, .. } = settings;
        if let Some(network) = &network {
            let executable = std::env::current_exe().context("finding this executable")?;
            let (network, conf_dir, bin_dir) = (network.clone(), agent.cni_conf_dir.clone(), agent.cni_bin_dir.clone());
            tokio::task::spawn_blocking(move || set_up(&network, &conf_dir, &bin_dir, &executable)).await??;
        }
        let stop_services = CancellationToken::new();
        let mut services = Vec::new();
        if let Some(dns) = dns {
            let stop = stop_services.clone();
            services.push(watched("flashdns", flashdns::run(dns, source.clone(), async move { stop.cancelled().await })));
        }
        if let Some(network) = &network {
            let stop = stop_services.clone();
            let settings = PolicySettings { node_name: agent.node_name.clone(), state_dir: network.state_dir.clone() };
            services.push(watched("network policies", policy::run(settings, policies.clone(), source.clone(), async move { stop.cancelled().await })));
            if tokio::time::timeout(POLICIES_SOON, policies.ready()).await.is_err() {
                // Those that run are looked after all the same; new ones wait.
                tracing::warn!("no pod is started until the network policies are known");
            }
        }
        let proxy_table = proxy.as_ref().map(|proxy| proxy.table.clone());
        if let Some(proxy) = proxy {
            let stop = stop_services.clone();
            services.push(watched("service-proxy", service_proxy::run(proxy, source.clone(), async move { stop.cancelled().await })));
        }
        let balanced = balancing.as_ref().map(|balancing| (balancing.table.clone(), balancing.device.clone()));
        if let Some(balancing) = balancing {
            let stop = stop_services.clone();
            services.push(watched("fiberlb", fiberlb::run(balancing, source.clone(), clock.clone(), async move { stop.cancelled().await })));
        }
        agent.serving_certificate_pem = certificates.node_serving.certificate_pem.clone();
        agent.serving_key_pem = certificates.node_serving.key_pem.clone();
        agent.client_ca_pem = certificates.client_ca.certificate_pem().to_owned();
        let (stop_agent, stopped) = oneshot::channel();
        // A sender that is gone without a word means the process ends hard: pods run on.
        let shutdown = async move { stopped.await.unwrap_or(OnShutdown::LeavePods) };
        let agent = watched("node-agent", node_agent::run(agent, clients, source, clock, shutdown));
        Ok(Self { agent, stop_agent, services, stop_services, network, proxy_table, balancing: balanced })
    }

    /// Stops the node; with `stop_pods` nothing of it stays on the machine.
    pub async fn stop(self, stop_pods: bool) {
        let how = if stop_pods { OnShutdown::StopPods { grace: STOP_GRACE } } else { OnShutdown::LeavePods };
        if self.stop_agent.send(how).is_err() {
            tracing::warn!("the node agent had already ended");
        }
        join(self.agent).await;
        self.stop_services.cancel();
        for service in self.services {
            join(service).await;
        }
        if !stop_pods {
            return;
        }
        if let Some(table) = self.proxy_table
            && let Err(error) = service_proxy::teardown(&table).await
        {
            tracing::error!(error = &error as &dyn std::error::Error, "taking down the Service rules failed");
        }
        if let Some((table, device)) = self.balancing
            && let Err(error) = fiberlb::teardown(&table, &device).await
        {
            tracing::error!(error = &error as &dyn std::error::Error, "taking down the load balancers' addresses failed");
        }
        if let Some(network) = self.network {
            match tokio::task::spawn_blocking(move || prismnet::node::teardown(&network)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(error = &error as &dyn std::error::Error, "taking down the pod network failed"),
                Err(error) => tracing::error!(%error, "taking down the pod network panicked"),
            }
        }
    }
}

fn set_up(network: &NodeNetwork, conf_dir: &Path, bin_dir: &Path, executable: &Path) -> Result<()> {
    prismnet::node::setup(network).context("setting up the pod network")?;
    prismnet::node::write_conf(conf_dir, bin_dir, executable, network).context("writing the CNI configuration")?;
    Ok(())
}

fn watched<E: std::error::Error + Send + 'static>(name: &'static str, run: impl Future<Output = Result<(), E>> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(async move {
        if let Err(error) = run.await {
            tracing::error!(error = &error as &dyn std::error::Error, "{name} has ended");
        }
    })
}

async fn join(task: JoinHandle<()>) {
    if let Err(error) = task.await {
        tracing::error!(%error, "a component panicked");
    }
}

/// The first of the cluster's pod range's node ranges: the server's own.
fn node_range(cluster: Ipv4Net) -> Ipv4Net {
    cluster.subnets(NODE_PREFIX).ok().and_then(|mut ranges| ranges.next()).unwrap_or(cluster)
}

/// The address this machine is reached at: the source address of its default route, else loopback.
pub fn address() -> IpAddr {
    // Connecting a datagram socket sends nothing; it only asks the kernel for a route (an address reserved for documentation).
    let routed = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        socket.local_addr()
    });
    routed.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| address.ip())
}
