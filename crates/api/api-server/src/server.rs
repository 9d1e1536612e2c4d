//! ApiServer: what the pipeline works with.
use crate::aggregation::{self, Aggregation};
use crate::configuration_files;
use crate::convert::Converter;
use crate::custom::{self, Definitions};
use crate::documents::Documents;
use crate::fairness::Turnstile;
use crate::inflight::Inflight;
use crate::kinds::Kinds;
use crate::lookup::StoreLookup;
use crate::measure::Samples;
use crate::metrics::Metrics;
use crate::policy::{self, Policy};
use crate::server_options::ServerOptions;
use crate::shares::{Payer, Shares};
use crate::tenants::Tenants;
use crate::work::WorkFigures;
use api_admission::AdmissionChain;
use api_auth::{Authentication, Authorizer, PeerCertificate, User};
use api_meta::ClusterName;
use clock::Clock;
use ipnet::{IpNet, Ipv6Net};
use serde_json::Value;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use store::Store;
use tokio_util::sync::CancellationToken;

/// Who sent a request, as far as the connection tells.
#[derive(Clone, Debug)]
pub(crate) enum Requester {
    /// A TLS peer, with its verified certificate if it sent one.
    Peer { certificate: Option<PeerCertificate> },
    /// A component of this process, acting as this user. It is authorized like anybody.
    Component(Arc<User>),
}

/// What is known of a request by the way it came.
pub(crate) struct Sender {
    pub requester: Requester,
    /// The connection; `None` for a component of this process.
    pub connection: Option<Connection>,
}

/// What is known of a connection.
pub(crate) struct Connection {
    pub peer: std::net::SocketAddr,
    /// The address of this machine that the peer has connected to.
    pub arrived: IpAddr,
    /// The TLS name that the peer has asked for.
    pub name: Option<Box<str>>,
    pub payer: Arc<Payer>,
}

impl Sender {
    /// A client can't set it.
    pub fn of(parts: &http::request::Parts) -> Option<&Self> {
        parts.extensions.get::<Arc<Self>>().map(|sender| &**sender)
    }

    /// The connection that a request came by.
    pub fn connection(parts: &http::request::Parts) -> Option<&Connection> {
        Self::of(parts)?.connection.as_ref()
    }
}

/// How the server reaches the nodes' streaming servers.
#[derive(Clone)]
pub struct NodeConnector {
    pub tls: Arc<rustls::ClientConfig>,
}

/// What an API server is made of.
pub struct Settings {
    pub store: Arc<dyn Store>,
    pub kinds: Arc<Kinds>,
    pub authentication: Authentication,
    pub authorizer: Arc<Authorizer>,
    pub admission: AdmissionChain,
    pub clock: Arc<dyn Clock>,
    pub service_cidr: IpNet,
    /// Of the host cluster's Services in a second family.
    pub second_service_cidr: Option<Ipv6Net>,
    pub node_ports: RangeInclusive<u16>,
    pub nodes: NodeConnector,
    /// Signs client certificates of the host cluster, and the certificates of its nodes.
    pub client_authority: Arc<pki::CertificateAuthority>,
    pub joining: crate::Joining,
    /// `host:port` clients reach the server at (discovery, token issuer documents).
    pub advertised: String,
    pub shutdown: CancellationToken,
    pub options: ServerOptions,
    pub tenancy: Tenancy,
}

/// What all virtual clusters have in common.
pub struct Tenancy {
    /// The same that [`NodeMirrors`](crate::NodeMirrors) was made with.
    pub tenants: Arc<Tenants>,
    /// What is really stored, for what concerns clusters as a whole: no views, so nothing is left where something is deleted.
    pub records: Arc<dyn Store>,
    pub snapshots: crate::Snapshots,
    /// Shown to clients that ask for a TLS name of a cluster.
    pub certificates: crate::NamedCertificates,
    /// The authority of the server's certificate.
    pub server_ca_pem: String,
    /// The server's own address and port.
    pub server: IpAddr,
    pub port: u16,
    /// The objects that lead a cluster's DNS address to an endpoint.
    pub dns_objects: Box<dyn Fn(IpAddr, IpAddr) -> Vec<Value> + Send + Sync>,
}

pub struct ApiServer {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) kinds: Arc<Kinds>,
    pub(crate) authentication: Authentication,
    pub(crate) authorizer: Arc<Authorizer>,
    pub(crate) policy: Policy,
    pub(crate) aggregation: Arc<Aggregation>,
    pub(crate) definitions: Definitions,
    pub(crate) converter: Arc<Converter>,
    pub(crate) documents: Documents,
    pub(crate) samples: Samples,
    pub(crate) admission: AdmissionChain,
    pub(crate) clock: Arc<dyn Clock>,
    /// Of the host cluster.
    pub(crate) service_cidr: IpNet,
    pub(crate) second_service_cidr: Option<Ipv6Net>,
    pub(crate) node_ports: RangeInclusive<u16>,
    pub(crate) nodes: NodeConnector,
    pub(crate) client_authority: Arc<pki::CertificateAuthority>,
    pub(crate) joining: crate::Joining,
    /// Takes what comes through tunnels, once the server serves.
    pub(crate) door: std::sync::OnceLock<crate::listener::Door>,
    pub(crate) advertised: String,
    pub(crate) shutdown: CancellationToken,
    pub(crate) options: ServerOptions,
    pub(crate) tenants: Arc<Tenants>,
    pub(crate) tenancy: Tenancy,
    pub(crate) inflight: Arc<Inflight>,
    pub(crate) turnstile: Arc<Turnstile>,
    pub(crate) work: Arc<WorkFigures>,
    pub(crate) shares: Arc<Shares>,
    pub(crate) metrics: Metrics,
    /// Whether what must exist before anybody is served exists (`/readyz`).
    pub(crate) ready: AtomicBool,
}

impl ApiServer {
    /// Makes a server whose authorization policy and custom kinds are already read from the store, and follows them from here on.
    pub async fn new(settings: Settings) -> Result<Arc<Self>, api_meta::Status> {
        let Settings {
            store,
            kinds,
            authentication,
            authorizer,
            admission,
            clock,
            service_cidr,
            second_service_cidr,
            node_ports,
            nodes,
            client_authority,
            joining,
            advertised,
            shutdown,
            options,
            tenancy,
        } = settings;
        let turnstile = Arc::new(match u32::try_from(options.max_reads + options.max_changes) {
            Ok(seats) if options.priority_and_fairness && seats > 0 => Turnstile::fair(seats, options.request_timeout, clock.clone()),
            _ => Turnstile::Limits,
        });
        let shares = Shares::new(options.behind.clone(), clock.clone());
        let (aggregation, found) = Aggregation::new();
        let policy = policy::follow(store.clone(), &authorizer, admission.registry(), &turnstile, &aggregation, shutdown.clone()).await?;
        let definitions = custom::load(&*store, &kinds).await?;
        let converter = Arc::new(Converter::new(StoreLookup(store.clone()), tenancy.tenants.clone()));
        let server = Arc::new(Self {
            store,
            kinds,
            authentication,
            authorizer,
            policy,
            aggregation,
            definitions,
            converter,
            documents: Documents::default(),
            samples: Samples::default(),
            admission,
            clock,
            service_cidr,
            second_service_cidr,
            node_ports,
            nodes,
            client_authority,
            joining,
            door: std::sync::OnceLock::new(),
            advertised,
            shutdown,
            inflight: Inflight::new(options.max_reads, options.max_changes),
            turnstile,
            work: Arc::default(),
            shares,
            metrics: Metrics::new(),
            options,
            tenants: tenancy.tenants.clone(),
            tenancy,
            ready: AtomicBool::new(false),
        });
        server.load_tenants().await.map_err(|error| api_meta::Status::internal(format!("loading the virtual clusters: {error}")))?;
        configuration_files::follow(&server);
        tokio::spawn(custom::follow(server.clone()));
        tokio::spawn(aggregation::follow(server.clone(), found));
        Ok(server)
    }

    /// The range of a cluster's Service addresses.
    pub(crate) fn service_cidr(&self, cluster: &ClusterName) -> IpNet {
        self.tenants.get(cluster).map_or(self.service_cidr, |tenant| tenant.service_cidr)
    }

    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }
}
