//! This machine as a node: pod network, DNS, Service proxy and agent, started and stopped in order.
use crate::balancing::Balancing;
use crate::flashdns_alone::forward;
use crate::pod_network::PrismnetPods;
use anyhow::{Context, Result, anyhow};
use api_cache::{Cache, Selection, Source};
use api_client::Clients;
use api_meta::{ClusterName, IpFamily, NodeConfig};
use clock::Clock;
use fiberlb::AddressPool;
use flashdns::DnsSettings;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use k8s_openapi::api::core::v1::Node as KubernetesNode;
use node_agent::{AgentSettings, EvictionThresholds, OnShutdown};
use pki::Renewable;
use prismnet::policy::{self, PolicySettings, PolicyView};
use prismnet::{NodeNetwork, PodClusters, SecondRanges, VirtualClusters};
use serde_json::Value;
use service_proxy::ProxySettings;
use settings::{NODE_PREFIX_V6, ServerSettings};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The prefix length of a node's share of the cluster's pod range.
pub const NODE_PREFIX: u8 = 24;
pub const KUBELET_PORT: u16 = 10250;
/// Not 53, which a resolver of the machine may hold on every address.
pub const DNS_PORT: u16 = 10_053;
/// How long the node agent waits for policies before it looks after its pods.
const POLICIES_SOON: Duration = Duration::from_secs(5);
/// How long the cluster gets to tell the range of a node's pods before the last one counts.
const RANGE_SOON: Duration = Duration::from_secs(5);
/// How long pods get when everything is stopped.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// What a node is started with, on the server's own machine and on one that joined.
pub struct NodeFacts<'a> {
    pub node_name: &'a str,
    /// Of each family it has, the first first.
    pub addresses: &'a [IpAddr],
    pub data_dir: &'a Path,
    pub config: &'a NodeConfig,
    pub disable: &'a [String],
    pub container_runtime_endpoint: Option<&'a str>,
    pub kubelet_arg: &'a [(String, String)],
    /// `None`: the range that the cluster gives the node, once it has registered.
    pub pod_cidr: Option<PodRanges>,
    /// The range it had last, which counts while nobody can tell.
    pub last_pod_cidr: Option<PodRanges>,
}

/// The ranges of a node's pods: the second where the cluster has both families.
#[derive(Clone, Copy, Debug)]
pub struct PodRanges {
    pub first: Ipv4Net,
    pub second: Option<Ipv6Net>,
}

impl PodRanges {
    /// `None` where there is none of IPv4.
    pub fn of(ranges: &[IpNet]) -> Option<Self> {
        let first = ranges.iter().find_map(|range| if let IpNet::V4(range) = range { Some(*range) } else { None })?;
        let second = ranges.iter().find_map(|range| if let IpNet::V6(range) = range { Some(*range) } else { None });
        Some(Self { first, second })
    }

    fn of_node(node: &KubernetesNode) -> Option<Self> {
        let spec = node.spec.as_ref()?;
        let ranges: Vec<IpNet> = spec.pod_cidr.iter().chain(spec.pod_cidrs.iter().flatten()).filter_map(|range| range.parse().ok()).collect();
        Self::of(&ranges)
    }

    /// In the order that a Node's `podCIDRs` has them.
    pub fn all(&self) -> Vec<IpNet> {
        std::iter::once(IpNet::V4(self.first)).chain(self.second.map(IpNet::V6)).collect()
    }
}

pub struct NodeSettings {
    pub agent: AgentSettings,
    config: NodeConfig,
    cluster_cidr: Ipv4Net,
    disable: Vec<String>,
    pod_cidr: Option<PodRanges>,
    last_pod_cidr: Option<PodRanges>,
    policies: PolicyView,
    balancing: Option<fiberlb::NodeSettings>,
    /// Whether it balances only while the operator's label says so.
    balancing_by_label: bool,
}

impl NodeSettings {
    /// Of the server's own machine.
    pub fn of(settings: &ServerSettings, config: &NodeConfig, address: IpAddr, balancing: Option<&Balancing>) -> Result<Self> {
        let mut node = Self::new(&NodeFacts {
            node_name: &settings.node_name,
            addresses: &[Some(address), settings.second_node_ip.map(IpAddr::V6)].into_iter().flatten().collect::<Vec<_>>(),
            data_dir: &settings.data_dir,
            config,
            disable: &settings.disable,
            container_runtime_endpoint: settings.container_runtime_endpoint.as_deref(),
            kubelet_arg: &settings.kubelet_arg,
            pod_cidr: Some(PodRanges { first: own_range(ipv4(config.cluster_cidr)?), second: config.second_cluster_cidr.map(own_range_v6) }),
            last_pod_cidr: None,
        })?;
        if let (Some(balancing), IpAddr::V4(address)) = (balancing, address) {
            let mut balancing = fiberlb::NodeSettings::new(&settings.node_name, address, balancing.pool().clone());
            balancing.virtual_cluster_cidr = node.agent.virtual_cluster_cidr;
            node.agent.labels.insert(fiberlb::BALANCES.into(), "true".into());
            node.balancing = Some(balancing);
        }
        Ok(node)
    }

    pub fn new(facts: &NodeFacts<'_>) -> Result<Self> {
        let NodeFacts { config, addresses, .. } = *facts;
        let address = *addresses.first().context("a node has an address")?;
        let cluster_cidr = ipv4(config.cluster_cidr)?;
        let directory = facts.data_dir.join("agent");
        let mut agent = AgentSettings::new(facts.node_name, address, &directory);
        agent.node_ips = addresses.to_vec();
        let policies = PolicyView::default();
        let is_disabled = |component: &str| facts.disable.iter().any(|disabled| disabled == component);
        // Without our own pod network nothing keeps clusters apart, so none but the node's own is served here.
        if !is_disabled("prismnet") {
            agent.virtual_cluster_cidr = Some(config.virtual_cluster_cidr).filter(|_| config.address.is_none());
            agent.pod_network = Some(Arc::new(PrismnetPods { clusters: PodClusters::new(&directory.join("prismnet")), policies: policies.clone() }));
        }
        agent.cluster_dns = vec![config.cluster_dns];
        agent.cluster_domain = config.cluster_domain.clone();
        agent.pod_cidrs = facts.pod_cidr.map(|ranges| ranges.all()).unwrap_or_default();
        agent.container_runtime_endpoint = facts.container_runtime_endpoint.map(|endpoint| PathBuf::from(endpoint.trim_start_matches("unix://")));
        agent.streaming_address = SocketAddr::new(address, KUBELET_PORT);
        kubelet_arguments(&mut agent, facts.kubelet_arg)?;
        Ok(Self {
            agent,
            config: config.clone(),
            cluster_cidr,
            disable: facts.disable.to_vec(),
            pod_cidr: facts.pod_cidr,
            last_pod_cidr: facts.last_pod_cidr,
            policies,
            balancing: None,
            balancing_by_label: false,
        })
    }

    /// Of a machine that joined the host cluster: it balances while its Node has the label for that, which the operator gives.
    pub fn balance_by_label(&mut self) -> Result<()> {
        let IpAddr::V4(address) = self.agent.node_ips[0] else { return Ok(()) };
        let pool = AddressPool::parse(&self.config.external_ip_pool).context("the server's external-ip-pool")?;
        let mut balancing = fiberlb::NodeSettings::new(&self.agent.node_name, address, pool);
        balancing.virtual_cluster_cidr = self.agent.virtual_cluster_cidr;
        (self.balancing, self.balancing_by_label) = (Some(balancing), true);
        Ok(())
    }

    /// Whether pods have an address of each family.
    fn dual(&self) -> bool {
        self.config.second_cluster_cidr.is_some()
    }

    fn enabled(&self, component: &str) -> bool {
        !self.disable.iter().any(|disabled| disabled == component)
    }

    fn network(&self, ranges: PodRanges) -> Option<NodeNetwork> {
        let mut network = NodeNetwork::new(ranges.first, self.cluster_cidr);
        let second = ranges.second.zip(self.config.second_cluster_cidr);
        network.second = second.map(|(pod_cidr, cluster_cidr)| SecondRanges { pod_cidr, cluster_cidr, service_cidr: self.config.second_service_cidr });
        network.state_dir = self.agent.data_dir.join("prismnet");
        network.has_peers = true;
        if let IpNet::V4(services) = self.config.service_cidr {
            network.service_cidr = Some(services);
        }
        if let Some(range) = self.agent.virtual_cluster_cidr {
            network.virtual_clusters = Some(VirtualClusters { range, api_port: self.config.port, dns_port: DNS_PORT });
        }
        if let Some(IpAddr::V4(address)) = self.config.address {
            network.own_addresses = vec![address];
        }
        self.enabled("prismnet").then_some(network)
    }

    fn dns(&self, pod_cidr: Ipv4Net) -> Result<Option<DnsSettings>> {
        let config = &self.config;
        let gateway = IpAddr::V4(NodeNetwork::new(pod_cidr, self.cluster_cidr).gateway());
        let mut dns = DnsSettings::new(&config.cluster_domain, [gateway].into_iter().chain(config.address).map(|address| SocketAddr::new(address, DNS_PORT)));
        dns.cluster_cidrs = vec![config.cluster_cidr, config.service_cidr];
        dns.cluster_cidrs.extend([config.second_cluster_cidr, config.second_service_cidr].into_iter().flatten().map(IpNet::V6));
        dns.cluster_dns = Some(config.cluster_dns);
        dns.upstreams = flashdns::upstreams_of(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default(), &[gateway, config.cluster_dns]);
        dns.virtual_cluster_cidr = self.agent.virtual_cluster_cidr;
        dns.queries_per_second = config.dns_rate_limit;
        forward(&mut dns, &config.dns_forward)?;
        Ok(self.enabled("flashdns").then_some(dns))
    }

    fn proxy(&self) -> Option<ProxySettings> {
        let mut proxy = ProxySettings::new(&self.agent.node_name, self.cluster_cidr);
        proxy.second_cluster_cidr = self.config.second_cluster_cidr;
        proxy.virtual_cluster_cidr = self.agent.virtual_cluster_cidr;
        self.enabled("service-proxy").then_some(proxy)
    }

    /// The DNS Service and its endpoint on this node.
    pub fn dns_objects(&self) -> Vec<Value> {
        let Some(PodRanges { first: range, .. }) = self.pod_cidr.filter(|_| self.enabled("flashdns")) else { return Vec::new() };
        let gateway = IpAddr::V4(NodeNetwork::new(range, self.cluster_cidr).gateway());
        dns_objects(self.config.cluster_dns, SocketAddr::new(gateway, DNS_PORT), Some(&self.agent.node_name))
    }

    /// The same of a virtual cluster, given its DNS address and the one that means it on this machine.
    pub fn dns_objects_of_clusters(&self) -> Box<dyn Fn(IpAddr, IpAddr) -> Vec<Value> + Send + Sync> {
        if !self.enabled("flashdns") {
            return Box::new(|_, _| Vec::new());
        }
        Box::new(|cluster_dns, endpoint| dns_objects(cluster_dns, SocketAddr::new(endpoint, DNS_PORT), None))
    }
}

fn kubelet_arguments(agent: &mut AgentSettings, arguments: &[(String, String)]) -> Result<()> {
    for (name, value) in arguments {
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
    Ok(())
}

fn ipv4(cluster_cidr: IpNet) -> Result<Ipv4Net> {
    match cluster_cidr {
        IpNet::V4(range) => Ok(range),
        IpNet::V6(range) => Err(anyhow!("the pod network is IPv4 only: cluster-cidr {range}")),
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
    network: Arc<OnceLock<NodeNetwork>>,
    /// The Service proxy's table, and whether there is one of each family.
    proxy_table: Option<(String, bool)>,
    /// FiberLB's table and device.
    balancing: Option<(String, String)>,
}

/// What a node shows its callers, and whom it lets in.
pub struct NodeIdentity {
    pub serving: Arc<Renewable>,
    pub client_ca_pem: String,
}

impl Node {
    /// `remember` is told the range of the node's pods once that is known.
    pub async fn start(
        settings: NodeSettings,
        identity: NodeIdentity,
        clients: Arc<dyn Clients>,
        source: Arc<dyn Source>,
        clock: Arc<dyn Clock>,
        remember: Box<dyn FnOnce(PodRanges) + Send>,
    ) -> Result<Self> {
        let settings = Arc::new(settings);
        let stop_services = CancellationToken::new();
        let mut services = Vec::new();
        let network = Arc::new(OnceLock::new());
        let pods = PodRange { settings: settings.clone(), source: source.clone(), stop: stop_services.clone(), network: network.clone() };
        if settings.enabled("prismnet") {
            let (policies, stop) = (settings.policies.clone(), stop_services.clone());
            let of_node =
                PolicySettings { node_name: settings.agent.node_name.clone(), state_dir: settings.agent.data_dir.join("prismnet"), dual: settings.dual() };
            services.push(watched("network policies", policy::run(of_node, policies.clone(), source.clone(), async move { stop.cancelled().await })));
            if tokio::time::timeout(POLICIES_SOON, policies.ready()).await.is_err() {
                // Those that run are looked after all the same; new ones wait.
                tracing::warn!("no pod is started until the network policies are known");
            }
        }
        // A Node keeps the ranges it has: whether there is a second one, it alone can tell.
        match settings.pod_cidr.filter(|ranges| ranges.second.is_none()) {
            Some(range) => services.extend(pods.serve(range).await?),
            // The agent registers the node meanwhile; without a network it is not ready.
            None => services.push(tokio::spawn(async move {
                let last = pods.settings.last_pod_cidr;
                let range = match tokio::time::timeout(RANGE_SOON, pods.assigned()).await {
                    Ok(range) => range,
                    // The server is away, and pods run on.
                    Err(_) if last.is_some() => last,
                    Err(_) => pods.assigned().await,
                };
                let Some(range) = range else { return };
                tracing::info!(range = %range.first, "this node's pods have their addresses");
                remember(range);
                match pods.serve(range).await {
                    Ok(parts) => drop(futures::future::join_all(parts).await),
                    Err(error) => tracing::error!("{error:#}"),
                }
            })),
        }
        let proxy = settings.proxy();
        let proxy_table = proxy.as_ref().map(|proxy| (proxy.table.clone(), settings.dual()));
        if let Some(proxy) = proxy {
            let stop = stop_services.clone();
            services.push(watched("service-proxy", service_proxy::run(proxy, source.clone(), async move { stop.cancelled().await })));
        }
        let balancing = settings.balancing.clone();
        let balanced = balancing.as_ref().map(|balancing| (balancing.table.clone(), balancing.device.clone()));
        if let Some(balancing) = balancing {
            let (stop, source, clock) = (stop_services.clone(), source.clone(), clock.clone());
            if settings.balancing_by_label {
                services.push(tokio::spawn(balance_while_labelled(balancing, source, clock, stop)));
            } else {
                services.push(watched("fiberlb", fiberlb::run(balancing, source, clock, async move { stop.cancelled().await })));
            }
        }
        let mut agent = settings.agent.clone();
        agent.serving = Some(identity.serving);
        agent.client_ca_pem = identity.client_ca_pem;
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
        if let Some((table, dual)) = self.proxy_table
            && let Err(error) = service_proxy::teardown(IpFamily::all(dual), &table).await
        {
            tracing::error!(error = &error as &dyn std::error::Error, "taking down the Service rules failed");
        }
        if let Some((table, device)) = self.balancing
            && let Err(error) = fiberlb::teardown(&table, &device).await
        {
            tracing::error!(error = &error as &dyn std::error::Error, "taking down the load balancers' addresses failed");
        }
        if let Some(network) = self.network.get().cloned() {
            match tokio::task::spawn_blocking(move || prismnet::node::teardown(&network)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(error = &error as &dyn std::error::Error, "taking down the pod network failed"),
                Err(error) => tracing::error!(%error, "taking down the pod network panicked"),
            }
        }
    }
}

/// What depends on the addresses of the node's pods.
struct PodRange {
    settings: Arc<NodeSettings>,
    source: Arc<dyn Source>,
    stop: CancellationToken,
    network: Arc<OnceLock<NodeNetwork>>,
}

impl PodRange {
    /// The range the cluster has given the node; `None` if the node stops before.
    async fn assigned(&self) -> Option<PodRanges> {
        let cache = own_node(&*self.source, &self.settings.agent.node_name);
        let mut changes = cache.subscribe();
        loop {
            let assigned = cache.all().into_iter().find_map(|(_, node)| PodRanges::of_node(&node));
            if assigned.is_some() {
                return assigned;
            }
            tokio::select! {
                // What was missed is looked at now.
                _ = changes.recv() => {}
                () = self.stop.cancelled() => return None,
            }
        }
    }

    /// Sets up the pod network and starts DNS and the ways to other nodes.
    async fn serve(&self, range: PodRanges) -> Result<Vec<JoinHandle<()>>> {
        let mut parts = Vec::new();
        if let Some(network) = self.settings.network(range) {
            let executable = std::env::current_exe().context("finding this executable")?;
            let (conf_dir, bin_dir) = (self.settings.agent.cni_conf_dir.clone(), self.settings.agent.cni_bin_dir.clone());
            let made = network.clone();
            tokio::task::spawn_blocking(move || set_up(&made, &conf_dir, &bin_dir, &executable)).await??;
            // Set once: a node is started once.
            let _ = self.network.set(network.clone());
            let own = prismnet::kubernetes::OwnNode { name: self.settings.agent.node_name.clone(), address: self.settings.agent.node_ips[0] };
            let stop = self.stop.clone();
            parts.push(watched("prismnet", prismnet::run(network, own, self.source.clone(), async move { stop.cancelled().await })));
        }
        if let Some(dns) = self.settings.dns(range.first)? {
            let stop = self.stop.clone();
            parts.push(watched("flashdns", flashdns::run(dns, self.source.clone(), async move { stop.cancelled().await })));
        }
        Ok(parts)
    }
}

/// The Node object of this machine.
fn own_node(source: &dyn Source, name: &str) -> Arc<Cache<KubernetesNode>> {
    let fields = Some(format!("metadata.name={name}"));
    Cache::start(source, Selection { cluster: Some(ClusterName::root()), fields, ..Selection::of::<KubernetesNode>("nodes") }, &[])
}

/// Runs FiberLB for as long as this machine's Node has the label for it; without it, nothing of it is on the machine.
async fn balance_while_labelled(settings: fiberlb::NodeSettings, source: Arc<dyn Source>, clock: Arc<dyn Clock>, stop: CancellationToken) {
    let cache = own_node(&*source, &settings.node_name);
    let (labelled, told) = watch::channel(false);
    let is_labelled = |cache: &Cache<KubernetesNode>| {
        let labels = cache.all().into_iter().next().and_then(|(_, node)| node.metadata.labels.clone()).unwrap_or_default();
        labels.get(fiberlb::BALANCES).is_some_and(|value| value == "true")
    };
    let mut changes = cache.subscribe();
    let following = async {
        loop {
            // What is not known yet takes nothing away: addresses that were held stay until it is.
            cache.synced().await;
            let now = is_labelled(&cache);
            labelled.send_if_modified(|before| std::mem::replace(before, now) != now);
            // What was missed is looked at now.
            let _ = changes.recv().await;
        }
    };
    let balancing = async {
        let mut told = told;
        loop {
            // The sender lives as long as this.
            let labelled = tokio::select! {
                labelled = told.wait_for(|labelled| *labelled) => labelled.is_ok(),
                () = stop.cancelled() => false,
            };
            if !labelled {
                return;
            }
            tracing::info!("this node balances");
            let (mut until, stopped) = (told.clone(), stop.clone());
            let end = async move {
                tokio::select! {
                    _ = until.wait_for(|labelled| !*labelled) => {}
                    () = stopped.cancelled() => {}
                }
            };
            if let Err(error) = fiberlb::run(settings.clone(), source.clone(), clock.clone(), end).await {
                tracing::error!(error = &error as &dyn std::error::Error, "fiberlb has ended");
            }
            if stop.is_cancelled() {
                return;
            }
            tracing::info!("this node no longer balances");
            if let Err(error) = fiberlb::teardown(&settings.table, &settings.device).await {
                tracing::error!(error = &error as &dyn std::error::Error, "taking down the load balancers' addresses failed");
            }
        }
    };
    tokio::select! {
        () = following => {}
        () = balancing => {}
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
pub fn own_range(cluster: Ipv4Net) -> Ipv4Net {
    cluster.subnets(NODE_PREFIX).ok().and_then(|mut ranges| ranges.next()).unwrap_or(cluster)
}

/// The same of its IPv6 range.
pub fn own_range_v6(cluster: Ipv6Net) -> Ipv6Net {
    cluster.subnets(NODE_PREFIX_V6).ok().and_then(|mut ranges| ranges.next()).unwrap_or(cluster)
}

/// The address this machine is reached at: the source address of its default route, else loopback.
pub fn address() -> IpAddr {
    // An address reserved for documentation.
    address_towards(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)))
}

/// The address this machine has for another; loopback when no route leads there.
pub fn address_towards(other: IpAddr) -> IpAddr {
    let any = if other.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED) };
    // Connecting a datagram socket sends nothing; it only asks the kernel for a route.
    let routed = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect((other, 9))?;
        socket.local_addr()
    });
    routed.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| address.ip())
}
