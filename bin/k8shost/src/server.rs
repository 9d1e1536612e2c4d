//! `k8shost server`: starts the components in order, waits, stops them in the reverse order.
use crate::api_arguments::ApiArguments;
use crate::certificates::{Certificates, Names};
use crate::component_clients::ComponentClients;
use crate::device_selectors::Selectors;
use crate::iam_link::IamLink;
use crate::iam_service::{self, OwnTls};
use crate::notify::notify;
use crate::own_driver::OwnDriver;
use crate::renewal::{Shown, renewal};
use crate::review_webhook::{self, RemoteReviewer, RemoteReviewers};
use crate::secrets_keys::SecretsKeys;
use crate::server_hosting::ServerHosting;
use crate::storage::Storage;
use crate::store_source::StoreSource;
use crate::{balancing, cloud_apis, joining, kubeconfig, node};
use anyhow::{Context, Result, anyhow};
use api_auth::{Authentication, Authorizer, JwtAuthentication, RbacIndex, ServiceAccountTokens, TokenWebhook};
use api_meta::{ClusterName, GroupResource};
use api_server::{
    ApiServer, Bootstrap, FrontProxy, Joining, Kinds, NamedCertificates, NodeConnector, NodeMirrors, ServerOptions, Settings, Snapshots, Tenancy, Tenants,
    bootstrap,
};
use clock::{Clock, SystemClock};
use controller_kit::Kit;
use controllers::NodeRanges;
use ipnet::IpNet;
use pki::CertificateAuthority;
use settings::{ServerArgs, ServerSettings};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use store::Store;
use store_encryption::Encryption;
use store_sqlite::{SqliteOptions, SqliteStore};
use store_views::ViewStore;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// What is still waited for when audit events are left to post.
const LAST_POSTS: Duration = Duration::from_secs(5);

pub fn main(args: ServerArgs) -> Result<()> {
    telemetry::init();
    let settings = ServerSettings::load(&args)?;
    // Two workers serve thousands of idle connections; more would only cost memory on a small machine.
    let workers = std::thread::available_parallelism().map_or(2, usize::from).max(2);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()?;
    let behind = crate::behind::runtime(workers)?;
    let result = runtime.block_on(run(settings, behind.handle().clone()));
    runtime.shutdown_timeout(Duration::from_secs(5));
    behind.shutdown_background();
    result
}

async fn run(settings: ServerSettings, behind: Handle) -> Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let api_arguments = ApiArguments::of(&api_arguments_of(&settings))?;
    let audit = api_arguments.audit(clock.clone()).await?;
    let shutdown = CancellationToken::new();
    let server_dir = settings.data_dir.join("server");
    std::fs::create_dir_all(&server_dir).with_context(|| format!("data directory {:?}", settings.data_dir))?;
    let node_address = settings.advertise_address.unwrap_or_else(|| own_address(&settings));
    let tls_dir = server_dir.join("tls");
    let certificates = Arc::new(Certificates::load_or_issue(&tls_dir, names(&settings, node_address), &*clock)?);

    // The port is taken before anything else changes, so that a second server on it fails without a trace.
    let address = SocketAddr::new(settings.bind_address, settings.https_listen_port);
    let listener = TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))?;
    let port = listener.local_addr()?.port();

    let database = server_dir.join("db").join("state.db");
    std::fs::create_dir_all(server_dir.join("db"))?;
    let options = SqliteOptions::new(api_meta::object::stamp);
    let keys = server_dir.join("cred");
    std::fs::create_dir_all(&keys)?;
    let encryption = Arc::new(Encryption::load_or_create(&keys.join("encryption-config.json"), &*clock)?);
    let store: Arc<SqliteStore> =
        SqliteStore::open_sealed(&database, options, encryption.clone()).with_context(|| format!("opening the store at {database:?}"))?;
    let balancing = balancing::Balancing::of(&settings)?;
    let node_config = joining::node_config(&settings, certificates.client_ca.certificate_pem());
    let joining = Joining {
        secret: Some(joining::secret(&server_dir, settings.token.as_deref(), certificates.server_ca.certificate_pem())?),
        node_config: node_config.clone(),
    };
    let agent = if settings.disable_agent { None } else { Some(node::NodeSettings::of(&settings, &node_config, node_address, balancing.as_ref())?) };
    let tenants = Tenants::new(Some(settings.virtual_cluster_cidr), node_address);
    let tenants = if agent.is_some() { tenants } else { tenants.without_pods_here() };
    let tenants = Arc::new(tenants.with_own_names(names(&settings, node_address).dns_names));
    let authority = CertificateAuthority::from_pem(certificates.server_ca.certificate_pem(), &certificates.server_ca.key_pem())?;
    let tenancy = Tenancy {
        tenants: tenants.clone(),
        records: store.clone(),
        certificates: NamedCertificates::new(authority, clock.clone()),
        snapshots: Snapshots::new(server_dir.join("cluster-snapshots"), encryption.clone()),
        server_ca_pem: certificates.server_ca.certificate_pem().to_owned(),
        server: node_address,
        port,
        dns_objects: agent.as_ref().map_or_else(|| Box::new(|_, _| Vec::new()) as _, node::NodeSettings::dns_objects_of_clusters),
    };
    let views = ViewStore::new(store.clone(), layered(), Arc::new(NodeMirrors(tenants)), api_meta::object::restamp);
    let iam = Arc::new(IamLink::new(certificates.clone(), clock.clone()));
    let mut server_options = api_arguments.server_options(audit.clone(), SecretsKeys::new(encryption, store.clone(), clock.clone()));
    server_options.extension = Some(iam.clone());
    server_options.behind = Some(behind);
    let kinds = Arc::new(Kinds::new(api_builtins::BUILTINS));
    let shown = Shown::new(&certificates)?;
    server_options.front_proxy = Some(FrontProxy::new(certificates.front_proxy_ca.certificate_pem().to_owned(), shown.front_proxy.clone()));
    let server = api_server(
        &settings,
        &api_arguments,
        server_options,
        (&certificates, &shown),
        Arc::new(views),
        kinds.clone(),
        clock.clone(),
        tenancy,
        iam.clone(),
        joining,
        shutdown.clone(),
    )
    .await?;

    // Clients of virtual clusters come with certificates of their own authorities: which one counts is decided with the cluster.
    let of_clusters = server.clone();
    let shown_by_name = pki::ByName { otherwise: shown.serving.clone(), chosen: Box::new(move |name| of_clusters.certificate_for(name)) };
    let tls = pki::server_config_for_any_client(Arc::new(shown_by_name), &[b"h2", b"http/1.1"])?;
    let serving = tokio::spawn(api_server::serve(server.clone(), listener, Arc::new(tls), shutdown.clone()));
    let dns = agent.as_ref().map(node::NodeSettings::dns_objects).unwrap_or_default();
    let bootstrap_settings = Bootstrap {
        service_address: first_service_address(&settings),
        service_cidrs: [Some(settings.service_cidr), settings.second_service_cidr.map(IpNet::V6)].into_iter().flatten().collect(),
        client_ca_pem: certificates.client_ca.certificate_pem().to_owned(),
        advertise_address: node_address,
        port,
        objects: dns,
        shared: balancing::shared_objects(balancing.as_ref()),
    };
    bootstrap(&server, &bootstrap_settings).await?;
    write_kubeconfig(&settings, &certificates, port)?;

    let source = Arc::new(StoreSource::new(store.clone(), kinds));
    // One kit for all, so that what several look at is cached once.
    let manager = ComponentClients::new(server.clone(), "system:kube-controller-manager", &["system:masters"]);
    let kit = Kit::new(manager, source.clone(), clock.clone());
    let mut tasks = components(&settings, &certificates, &server, &kit, &clock, (balancing, &iam, shown.serving.clone()), &shutdown).await?;
    tasks.extend(compaction(&api_arguments, &store, &shutdown));
    let renewing = renewal(settings.clone(), node_address, port, certificates.renewed_from()?, shown.clone(), clock.clone());
    let until = shutdown.clone();
    tasks.push(tokio::spawn(async move { until.run_until_cancelled(renewing).await.unwrap_or(()) }));
    let storage = if settings.is_disabled("lightningstor") { None } else { Some(storage(&settings, agent.is_some(), &server, &kit, &clock).await?) };
    let clients = ComponentClients::new(server.clone(), "system:serviceaccount:kube-system:cloud-apis", &["system:masters"]);
    tasks.extend(cloud_apis::serve(&settings, &shown, &*clients, &kit, iam, &shutdown).await?);
    let node = match agent {
        Some(agent) => {
            let clients = ComponentClients::new(server.clone(), &format!("system:node:{}", settings.node_name), &["system:nodes", "system:masters"]);
            let identity = node::NodeIdentity { serving: shown.node_serving, client_ca_pem: certificates.client_ca.certificate_pem().to_owned() };
            Some(node::Node::start(agent, identity, clients, source, clock.clone(), Box::new(|_| {})).await?)
        }
        None => None,
    };
    notify("READY=1");
    tracing::info!(kubeconfig = %settings.write_kubeconfig.display(), "k8shost is ready");
    tasks.push(tokio::spawn(forget_start(shutdown.clone())));

    let stop_pods = wait_for_signal().await?;
    tracing::info!(stop_pods, "k8shost is stopping");
    notify("STOPPING=1");
    if let Some(node) = node {
        node.stop(stop_pods).await;
    }
    if let Some(storage) = storage {
        storage.stop(stop_pods).await;
    }
    shutdown.cancel();
    for task in tasks.drain(..).chain([serving]) {
        if let Err(error) = task.await {
            tracing::error!(%error, "a component panicked");
        }
    }
    if let Some(audit) = audit {
        audit.close(LAST_POSTS).await;
    }
    store.close().await;
    tracing::info!("k8shost has stopped");
    Ok(())
}

/// Gives back what only the start needed, once the parts have looked at everything there is.
async fn forget_start(shutdown: CancellationToken) {
    const SETTLED: Duration = Duration::from_secs(5);
    if shutdown.run_until_cancelled(tokio::time::sleep(SETTLED)).await.is_none() {
        return;
    }
    match telemetry::forget_start() {
        Ok(bytes) => tracing::debug!(bytes, "the start's memory is given back"),
        Err(error) => tracing::warn!(%error, "the start's memory could not be given back"),
    }
}

async fn storage(settings: &ServerSettings, has_node: bool, server: &Arc<ApiServer>, kit: &Kit, clock: &Arc<dyn Clock>) -> Result<Storage> {
    let clients = ComponentClients::new(server.clone(), "system:serviceaccount:kube-system:lightningstor", &["system:masters"]);
    let kit = kit.acting_by(clients).managed_by("lightningstor");
    let own = if has_node { Some(OwnDriver::start(&settings.data_dir, &settings.lightningstor_dirs, &settings.node_name, clock.clone()).await?) } else { None };
    Storage::start(own, &settings.node_name, kit, server.clone()).await
}

/// The arguments given, after those that have a setting of their own.
fn api_arguments_of(settings: &ServerSettings) -> Vec<(String, String)> {
    let mut all = vec![("authentication-token-webhook-cache-ttl".to_owned(), settings.authentication_token_webhook_cache_ttl.clone())];
    let files = [
        ("authentication-token-webhook-config-file", &settings.authentication_token_webhook_config_file),
        ("authentication-config", &settings.authentication_config),
        ("authorization-config", &settings.authorization_config),
    ];
    all.extend(files.into_iter().filter_map(|(name, file)| Some((name.to_owned(), file.as_ref()?.display().to_string()))));
    all.extend(settings.kube_apiserver_arg.iter().cloned());
    all
}

#[expect(clippy::too_many_arguments, reason = "a server is made of this many parts")]
async fn api_server(
    settings: &ServerSettings,
    arguments: &ApiArguments,
    mut options: ServerOptions,
    (certificates, shown): (&Certificates, &Shown),
    store: Arc<dyn Store>,
    kinds: Arc<Kinds>,
    clock: Arc<dyn Clock>,
    tenancy: Tenancy,
    iam: Arc<IamLink>,
    joining: Joining,
    shutdown: CancellationToken,
) -> Result<Arc<ApiServer>> {
    let issuer = arguments.issuer.clone().unwrap_or_else(|| format!("https://kubernetes.default.svc.{}", settings.cluster_domain));
    let mut tokens = ServiceAccountTokens::new(&certificates.service_account_key.pem(), &issuer)?;
    if !arguments.audiences.is_empty() {
        tokens = tokens.with_audiences(arguments.audiences.clone());
    }
    if let Some(uri) = &arguments.jwks_uri {
        tokens = tokens.with_jwks_uri(uri.clone());
    }
    let audiences = tokens.default_audiences(&ClusterName::root());
    let mut authentication = Authentication::with_clock(certificates.client_ca.certificate_pem(), Arc::new(tokens), clock.clone())?.with_issuer(iam);
    options.authentication_config = ApiArguments::configuration_file(arguments.authentication_config.as_ref())?;
    if let Some(file) = &options.authentication_config {
        let jwt = JwtAuthentication::new(&file.text, vec![issuer], clock.clone());
        authentication = authentication.with_jwt(jwt.map_err(|why| anyhow!("authentication-config {:?}: {why}", file.path))?);
    }
    options.authorization_config = ApiArguments::configuration_file(arguments.authorization_config.as_ref())?;
    let mut authorizer = Authorizer::new(Arc::new(RbacIndex::default()));
    if let Some(file) = &options.authorization_config {
        let configured = authorizer.with_configuration(&file.text, Box::new(RemoteReviewers), clock.clone()).await;
        authorizer = configured.map_err(|why| anyhow!("authorization-config {:?}: {why}", file.path))?;
    }
    if let Some(file) = &arguments.token_webhook {
        let reviewer = RemoteReviewer::of_kubeconfig(file, review_webhook::TIMEOUT).await?;
        authentication = authentication.with_webhook(TokenWebhook::new(Box::new(reviewer), arguments.token_webhook_ttl, audiences, clock.clone()));
    }
    let node_tls = pki::client_config_renewable(certificates.client_ca.certificate_pem(), shown.node_client.clone())?;
    let settings = Settings {
        store,
        kinds,
        authentication,
        authorizer: Arc::new(authorizer),
        admission: ApiArguments::of(&settings.kube_apiserver_arg)?.admission()?,
        clock,
        service_cidr: settings.service_cidr,
        second_service_cidr: settings.second_service_cidr,
        node_ports: settings.service_node_port_range.first..=settings.service_node_port_range.last,
        nodes: NodeConnector { tls: Arc::new(node_tls) },
        client_authority: certificates.client_ca.clone(),
        joining,
        advertised: SocketAddr::new(tenancy.server, tenancy.port).to_string(),
        shutdown,
        options,
        tenancy,
    };
    Ok(ApiServer::new(settings).await?)
}

/// What all virtual clusters start with alike.
fn layered() -> Vec<GroupResource> {
    let rbac = ["clusterroles", "clusterrolebindings", "roles", "rolebindings"].map(|resource| GroupResource::new("rbac.authorization.k8s.io", resource));
    let others = [GroupResource::new("scheduling.k8s.io", "priorityclasses"), GroupResource::new("networking.k8s.io", "ingressclasses")];
    let flow_control = ["flowschemas", "prioritylevelconfigurations"].map(|resource| GroupResource::new("flowcontrol.apiserver.k8s.io", resource));
    let others = others.into_iter().chain(flow_control).chain([GroupResource::new("apiregistration.k8s.io", "apiservices")]);
    rbac.into_iter().chain(others).collect()
}

/// Forgets the store's history as it is told to.
fn compaction(arguments: &ApiArguments, store: &Arc<SqliteStore>, shutdown: &CancellationToken) -> Option<JoinHandle<()>> {
    let policy = arguments.compaction?;
    let (store, shutdown) = (store.clone(), shutdown.clone());
    Some(tokio::spawn(async move {
        tokio::select! {
            () = store::compact_periodically(&*store, policy) => {}
            () = shutdown.cancelled() => {}
        }
    }))
}

async fn components(
    settings: &ServerSettings,
    certificates: &Certificates,
    server: &Arc<ApiServer>,
    kit: &Kit,
    clock: &Arc<dyn Clock>,
    (balancing, link, serving): (Option<balancing::Balancing>, &IamLink, Arc<pki::Renewable>),
    shutdown: &CancellationToken,
) -> Result<Vec<JoinHandle<()>>> {
    let mut tasks = vec![tokio::spawn(api_server::expire_events(server.clone())), tokio::spawn(api_server::repair_node_ports(server.clone()))];
    if !settings.is_disabled("controllers") {
        let mut controllers = controllers::ControllersSettings::new(certificates.server_ca.certificate_pem());
        let hosting = Arc::new(ServerHosting(server.clone()));
        controllers.signer = Some(hosting.clone());
        controllers.token_signer = Some(hosting);
        if let IpNet::V4(cluster_cidr) = settings.cluster_cidr {
            let has_node = !settings.disable_agent;
            let reserved = has_node.then(|| IpNet::V4(node::own_range(cluster_cidr)));
            controllers.node_ranges = vec![NodeRanges { cluster_cidr: IpNet::V4(cluster_cidr), prefix: node::NODE_PREFIX, reserved }];
            controllers.node_ranges.extend(settings.second_cluster_cidr.map(|range| NodeRanges {
                cluster_cidr: IpNet::V6(range),
                prefix: settings::NODE_PREFIX_V6,
                reserved: has_node.then(|| IpNet::V6(node::own_range_v6(range))),
            }));
        }
        controllers.dns_port = (!settings.is_disabled("flashdns")).then_some(node::DNS_PORT);
        controllers.own_node = (!settings.disable_agent).then(|| settings.node_name.clone());
        tasks.push(tokio::spawn(controllers::run(controllers, kit.clone(), shutdown.clone())));
    }
    tasks.extend(balancing.map(|balancing| balancing.run(kit, shutdown)));
    if !settings.is_disabled("scheduler") {
        let clients = ComponentClients::new(server.clone(), "system:kube-scheduler", &["system:masters"]);
        let settings = scheduler::SchedulerSettings::default();
        tasks.push(tokio::spawn(scheduler::run(settings, kit.acting_by(clients), Arc::new(Selectors::default()), shutdown.clone())));
    }
    if !settings.is_disabled("hosting") {
        let client = kit.clients().cluster(&ClusterName::root());
        virtual_cluster::install(&client).await.context("installing the definitions of virtual clusters")?;
        let mut facts = virtual_cluster::HostFacts::of(&client, settings.cluster_cidr).await?;
        facts.second_cluster_cidr = settings.second_cluster_cidr;
        if !settings.disable_agent && !settings.is_disabled("lightningstor") {
            facts.storage = crate::storage::of_virtual_clusters();
        }
        tasks.push(tokio::spawn(virtual_cluster::run(facts, kit.clone(), Arc::new(ServerHosting(server.clone())), shutdown.clone())));
    }
    if !settings.is_disabled("iam") {
        let tls = OwnTls { serving, client_ca_pem: certificates.client_ca.certificate_pem().to_owned() };
        tasks.extend(iam_service::start(settings, kit.clone(), link, tls, clock, shutdown).await?);
    }
    Ok(tasks)
}

pub fn names(settings: &ServerSettings, node_address: IpAddr) -> Names<'_> {
    let mut addresses = vec![IpAddr::V4(Ipv4Addr::LOCALHOST), node_address, first_service_address(settings)];
    if !settings.bind_address.is_unspecified() {
        addresses.push(settings.bind_address);
    }
    let mut dns_names: Vec<String> = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"].map(str::to_owned).into();
    dns_names.push(format!("kubernetes.default.svc.{}", settings.cluster_domain));
    dns_names.push(settings.node_name.clone());
    for name in &settings.tls_san {
        match name.parse() {
            Ok(address) => addresses.push(address),
            Err(_) => dns_names.push(name.clone()),
        }
    }
    addresses.sort();
    addresses.dedup();
    Names { addresses, dns_names, node_name: &settings.node_name, node_address }
}

/// The address clients are told: the one listened on, unless that is all of them or one that pods can't reach.
fn own_address(settings: &ServerSettings) -> IpAddr {
    let bound = settings.bind_address;
    let tells = !bound.is_unspecified() && (settings.disable_agent || !bound.is_loopback());
    if tells { bound } else { node::address() }
}

fn first_service_address(settings: &ServerSettings) -> IpAddr {
    settings.service_cidr.hosts().next().unwrap_or_else(|| settings.service_cidr.network())
}

pub fn write_kubeconfig(settings: &ServerSettings, certificates: &Certificates, port: u16) -> Result<()> {
    let host = if settings.bind_address.is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { settings.bind_address };
    let text = kubeconfig::render(
        &format!("https://{}", SocketAddr::new(host, port)),
        certificates.server_ca.certificate_pem(),
        &certificates.admin.certificate_pem,
        &certificates.admin.key_pem,
    );
    let path: &Path = &settings.write_kubeconfig;
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("directory of the kubeconfig {path:?}"))?;
    }
    pki::write_atomically(path, text.as_bytes(), settings.write_kubeconfig_mode).with_context(|| format!("writing the kubeconfig {path:?}"))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(settings.write_kubeconfig_mode))?;
    Ok(())
}

/// Waits to be told to end: whether the pods are to end too.
///
/// SIGINT is a person at a terminal who wants everything gone; SIGTERM is a service manager that may
/// start the next version in a moment, and pods outlive that.
pub async fn wait_for_signal() -> Result<bool> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(tokio::select! {
        _ = interrupt.recv() => true,
        _ = terminate.recv() => false,
    })
}
