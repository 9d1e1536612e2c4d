//! The gRPC API over real TLS: who is let in, whose things are whose, and that records outlive the service.
#![allow(clippy::unwrap_used, reason = "a test may")]
use clock::SystemClock;
use cloud_api::{Caller, TokenError, TokenVerifier};
use fiberlb::proto::load_balancer_service_client::LoadBalancerServiceClient;
use fiberlb::proto::load_balancer_service_server::LoadBalancerServiceServer;
use fiberlb::proto::*;
use fiberlb::{AddressPool, LoadBalancers, NodeSettings};
use hyper_util::rt::TokioIo;
use pki::{CertificateAuthority, LeafRequest};
use rustls_pki_types::ServerName;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};

/// A token is its caller's project, in an organisation of the same first letter.
struct Projects;

impl TokenVerifier for Projects {
    fn verify(&self, token: &str) -> Result<Caller, TokenError> {
        let project = token.strip_prefix("token-of-").ok_or(TokenError::Signature)?;
        Ok(Caller { subject: format!("user-{project}"), org_id: format!("org-{}", &project[..1]), project_id: project.into(), ..Caller::default() })
    }
}

struct Service {
    address: SocketAddr,
    authority: String,
    stop: CancellationToken,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Service {
    async fn start(data_dir: &Path) -> Self {
        let authority = CertificateAuthority::generate("test", &SystemClock).unwrap();
        let request = LeafRequest {
            common_name: "localhost".into(),
            organizations: Vec::new(),
            dns_names: vec!["localhost".into()],
            ip_addresses: Vec::new(),
            server: true,
            client: false,
            validity: Duration::from_secs(3600),
        };
        let leaf = authority.issue(&request, &SystemClock).unwrap();
        let tls = pki::server_config(&leaf.certificate_pem, &leaf.key_pem, &[], &[b"h2"]).unwrap();
        let node = NodeSettings::new("test", Ipv4Addr::LOCALHOST, AddressPool::parse(&["192.0.2.1-192.0.2.2"]).unwrap());
        let service = LoadBalancers::open(data_dir, node).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let routes = Routes::new(LoadBalancerServiceServer::new(service));
        tokio::spawn(cloud_api::serve(listener, Arc::new(tls), routes, Arc::new(Projects), stop.clone()));
        Self { address, authority: authority.certificate_pem().to_owned(), stop }
    }

    async fn client(&self) -> LoadBalancerServiceClient<Channel> {
        let mut tls = pki::client_config(&self.authority, None).unwrap();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let (connector, address) = (tokio_rustls::TlsConnector::from(Arc::new(tls)), self.address);
        let connect = tower::service_fn(move |_| {
            let connector = connector.clone();
            async move {
                let stream = TcpStream::connect(address).await?;
                connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.map(TokioIo::new)
            }
        });
        let channel = Endpoint::from_static("http://localhost").connect_with_connector(connect).await.unwrap();
        LoadBalancerServiceClient::new(channel)
    }
}

fn with<T>(token: Option<&str>, message: T) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    request
}

fn of<T>(project: &str, message: T) -> Request<T> {
    with(Some(&format!("token-of-{project}")), message)
}

fn named(name: &str) -> CreateLoadBalancerRequest {
    CreateLoadBalancerRequest { name: name.into(), ..Default::default() }
}

fn pool(id: &str, address: &str) -> UpdatePoolRequest {
    let member = PoolMember { address: address.into(), port: 8080, weight: None };
    UpdatePoolRequest { pool_id: id.into(), members: vec![member], algorithm: "least-conn".into(), ..Default::default() }
}

#[tokio::test]
async fn no_call_is_answered_without_a_valid_token() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start(directory.path()).await;
    let mut client = service.client().await;
    for token in [None, Some(""), Some("bad"), Some("Token-of-p1")] {
        let codes = [
            client.create_load_balancer(with(token, Default::default())).await.map(|_| ()).unwrap_err().code(),
            client.update_load_balancer(with(token, Default::default())).await.map(|_| ()).unwrap_err().code(),
            client.delete_load_balancer(with(token, Default::default())).await.map(|_| ()).unwrap_err().code(),
            client.get_load_balancer(with(token, Default::default())).await.map(|_| ()).unwrap_err().code(),
            client.list_load_balancers(with(token, Default::default())).await.map(|_| ()).unwrap_err().code(),
            client.create_listener(with(token, Default::default())).await.map(|_| ()).unwrap_err().code(),
            client.delete_listener(with(token, Default::default())).await.map(|_| ()).unwrap_err().code(),
            client.update_pool(with(token, Default::default())).await.map(|_| ()).unwrap_err().code(),
            client.delete_pool(with(token, Default::default())).await.map(|_| ()).unwrap_err().code(),
        ];
        assert_eq!(codes, [Code::Unauthenticated; 9], "{token:?}");
    }
}

#[tokio::test]
async fn what_is_made_is_the_projects_and_outlives_the_service() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start(directory.path()).await;
    let mut client = service.client().await;
    let made = client.create_load_balancer(of("p1", named("web"))).await.unwrap().into_inner();
    assert_eq!((made.external_ip.as_str(), made.project_id.as_str(), made.org_id.as_str()), ("192.0.2.1", "p1", "org-p"));
    client.update_pool(of("p1", pool("web", "10.0.0.1"))).await.unwrap();
    let listener = CreateListenerRequest {
        load_balancer_id: made.id.clone(),
        protocol: "HTTP".into(),
        port: 80,
        default_pool_id: "web".into(),
        health_check: Some(HealthCheck { path: "/health".into(), ..Default::default() }),
        ..Default::default()
    };
    let listener_made = client.create_listener(of("p1", listener.clone())).await.unwrap().into_inner();
    assert_eq!(listener_made.health_check.unwrap(), HealthCheck { path: "/health".into(), interval_seconds: 10, timeout_seconds: 5, retries: 3 });

    // To another project none of it exists, and nothing can be made in its name.
    let id = || made.id.clone();
    let not_found = [
        client.get_load_balancer(of("q1", GetLoadBalancerRequest { id: id() })).await.map(|_| ()).unwrap_err().code(),
        client
            .update_load_balancer(of("q1", UpdateLoadBalancerRequest { id: id(), name: "x".into(), ..Default::default() }))
            .await
            .map(|_| ())
            .unwrap_err()
            .code(),
        client.delete_load_balancer(of("q1", DeleteLoadBalancerRequest { id: id() })).await.map(|_| ()).unwrap_err().code(),
        client.create_listener(of("q1", CreateListenerRequest { port: 81, ..listener.clone() })).await.map(|_| ()).unwrap_err().code(),
        client.delete_listener(of("q1", DeleteListenerRequest { id: listener_made.id.clone() })).await.map(|_| ()).unwrap_err().code(),
        client.delete_pool(of("q1", DeletePoolRequest { pool_id: "web".into() })).await.map(|_| ()).unwrap_err().code(),
    ];
    assert_eq!(not_found, [Code::NotFound; 6]);
    assert!(client.list_load_balancers(of("q1", ListLoadBalancersRequest {})).await.unwrap().into_inner().load_balancers.is_empty());
    let stolen = CreateLoadBalancerRequest { org_id: "org-p".into(), project_id: "p1".into(), ..named("x") };
    assert_eq!(client.create_load_balancer(of("q1", stolen)).await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(client.update_pool(of("q1", pool("web", "10.0.0.66"))).await.unwrap_err().code(), Code::AlreadyExists);

    // What can't be right is refused and changes nothing.
    for address in ["127.0.0.1", "0.0.0.0", "169.254.169.254", "224.0.0.1", "x", "::1"] {
        assert_eq!(client.update_pool(of("p1", pool("web", address))).await.unwrap_err().code(), Code::InvalidArgument, "{address}");
    }
    assert_eq!(client.create_listener(of("p1", listener.clone())).await.unwrap_err().code(), Code::AlreadyExists);
    assert_eq!(client.create_listener(of("p1", CreateListenerRequest { port: 70_000, ..listener.clone() })).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(
        client.create_listener(of("p1", CreateListenerRequest { protocol: "SCTP".into(), ..listener })).await.unwrap_err().code(),
        Code::InvalidArgument
    );
    assert_eq!(client.delete_pool(of("p1", DeletePoolRequest { pool_id: "web".into() })).await.unwrap_err().code(), Code::FailedPrecondition);

    // TLS is passed through by name to pools of the caller's own.
    let through = |protocol: &str, hosts: &[(&str, &str)], rest: &str| {
        let passthrough = hosts.iter().map(|(host, pool)| Passthrough { host: (*host).into(), pool_id: (*pool).into() }).collect();
        let (load_balancer_id, protocol) = (made.id.clone(), protocol.into());
        CreateListenerRequest { load_balancer_id, protocol, port: 443, default_pool_id: rest.into(), passthrough, ..Default::default() }
    };
    client.update_pool(of("q1", pool("theirs", "10.0.0.3"))).await.unwrap();
    for (wanted, code) in [
        (through("TLS", &[], ""), Code::InvalidArgument),
        (through("TLS", &[("a_b.example.com", "web")], ""), Code::InvalidArgument),
        (through("TLS", &[("a.example.com", "web"), ("A.example.com", "web")], ""), Code::InvalidArgument),
        (through("TLS", &[("a.example.com", "theirs")], ""), Code::NotFound),
        (through("TCP", &[("a.example.com", "web")], "web"), Code::InvalidArgument),
        (through("HTTP", &[], ""), Code::NotFound),
        (
            CreateListenerRequest { health_check: Some(HealthCheck { path: "/".into(), ..Default::default() }), ..through("TLS", &[], "web") },
            Code::InvalidArgument,
        ),
    ] {
        assert_eq!(client.create_listener(of("p1", wanted.clone())).await.unwrap_err().code(), code, "{wanted:?}");
    }
    client.update_pool(of("p1", UpdatePoolRequest { proxy_protocol: "v2".into(), ..pool("secure", "10.0.0.2") })).await.unwrap();
    let by_name = client.create_listener(of("p1", through("TLS", &[("*.Example.com", "secure")], ""))).await.unwrap().into_inner();
    assert_eq!(by_name.passthrough, [Passthrough { host: "*.example.com".into(), pool_id: "secure".into() }]);
    assert_eq!(client.delete_pool(of("p1", DeletePoolRequest { pool_id: "secure".into() })).await.unwrap_err().code(), Code::FailedPrecondition);
    // What is led as it is can't be sealed anew, and requests have a header for who asks.
    for (wanted, code) in [
        (UpdatePoolRequest { backend_protocol: "HTTPS".into(), ..pool("secure", "10.0.0.2") }, Code::FailedPrecondition),
        (UpdatePoolRequest { proxy_protocol: "v1".into(), ..pool("web", "10.0.0.1") }, Code::FailedPrecondition),
        (UpdatePoolRequest { proxy_protocol: "v3".into(), ..pool("web", "10.0.0.1") }, Code::InvalidArgument),
        (UpdatePoolRequest { backend_protocol: "H2".into(), ..pool("web", "10.0.0.1") }, Code::InvalidArgument),
        (UpdatePoolRequest { server_name: "a".into(), ..pool("web", "10.0.0.1") }, Code::InvalidArgument),
        (UpdatePoolRequest { backend_protocol: "HTTPS".into(), certificate_authority: "x".into(), ..pool("web", "10.0.0.1") }, Code::InvalidArgument),
    ] {
        assert_eq!(client.update_pool(of("p1", wanted.clone())).await.unwrap_err().code(), code, "{wanted:?}");
    }
    let sealed = UpdatePoolRequest { backend_protocol: "HTTPS".into(), server_name: "web.example.com".into(), ..pool("web", "10.0.0.1") };
    assert_eq!(client.update_pool(of("p1", sealed.clone())).await.unwrap().into_inner().server_name, "web.example.com");

    // The pool is exhausted, and what is freed can be had again.
    client.create_load_balancer(of("p1", named("two"))).await.unwrap();
    assert_eq!(client.create_load_balancer(of("q1", named("three"))).await.unwrap_err().code(), Code::ResourceExhausted);
    let before = client.list_load_balancers(of("p1", ListLoadBalancersRequest {})).await.unwrap().into_inner();
    drop(service);
    let service = Service::start(directory.path()).await;
    let mut client = service.client().await;
    assert_eq!(client.list_load_balancers(of("p1", ListLoadBalancersRequest {})).await.unwrap().into_inner(), before);
    client.delete_load_balancer(of("p1", DeleteLoadBalancerRequest { id: id() })).await.unwrap();
    assert_eq!(client.create_load_balancer(of("q1", named("three"))).await.unwrap().into_inner().external_ip, "192.0.2.1");
    client.delete_pool(of("p1", DeletePoolRequest { pool_id: "web".into() })).await.unwrap();
}
