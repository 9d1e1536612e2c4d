//! `k8shost fiberlb`: load balancers made by gRPC, on a machine of their own, reached from another.
use crate::SOON;
use clock::{Clock, SystemClock};
use fiberlb::proto::load_balancer_service_client::LoadBalancerServiceClient;
use fiberlb::proto::{CreateListenerRequest, CreateLoadBalancerRequest, DeleteLoadBalancerRequest, PoolMember, UpdatePoolRequest};
use hyper_util::rt::TokioIo;
use pki::SigningKey;
use serde_json::json;
use std::fs::File;
use std::process::{Child, Stdio};
use std::sync::Arc;
use testkit::{Host, Network, binary, wait_until};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended already needs no more.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn client(address: &str, authority: &str) -> LoadBalancerServiceClient<Channel> {
    let mut tls = pki::client_config(authority, None).expect("a client's TLS");
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let (connector, address) = (tokio_rustls::TlsConnector::from(Arc::new(tls)), format!("{address}:7000"));
    let connect = tower::service_fn(move |_| {
        let (connector, address) = (connector.clone(), address.clone());
        async move {
            let stream = tokio::net::TcpStream::connect(address).await?;
            connector.connect("fiberlb".try_into().expect("a name"), stream).await.map(TokioIo::new)
        }
    });
    LoadBalancerServiceClient::new(Endpoint::from_static("http://fiberlb").connect_with_connector(connect).await.expect("the API is reached"))
}

/// Runs calls from outside of the machine.
fn outside<T: Send + 'static>(network: &Network, calls: impl AsyncFnOnce() -> T + Send + 'static) -> T {
    let namespace = File::open(format!("/run/netns/{}", network.namespace())).expect("the network is there");
    let calling = std::thread::spawn(move || {
        nix::sched::setns(&namespace, nix::sched::CloneFlags::CLONE_NEWNET).expect("tests run as root");
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(calls())
    });
    calling.join().expect("the calls succeed")
}

#[test]
fn a_load_balancer_made_by_grpc_leads_to_its_members() {
    let network = Network::new();
    let (host, backend): (Host, Host) = (network.host(), network.host());
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name).display().to_string();
    let key = SigningKey::generate().expect("a key");
    let (x, y) = key.coordinates();
    let keys = json!({"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": key.key_id(), "x": x, "y": y}]});
    std::fs::write(path("jwks.json"), keys.to_string()).expect("a file can be written");
    let token = |seconds: i64| {
        let header = jsonwebtoken::Header { kid: Some(key.key_id()), ..jsonwebtoken::Header::new(jsonwebtoken::Algorithm::ES256) };
        let claims =
            json!({"sub": "user-1", "email": "", "org_id": "org-1", "project_id": "proj-1", "roles": [], "exp": SystemClock.now().as_second() + seconds});
        jsonwebtoken::encode(&header, &claims, &jsonwebtoken::EncodingKey::from_ec_pem(key.pem().as_bytes()).expect("a key")).expect("a token")
    };
    std::fs::create_dir(path("www")).expect("a directory can be made");
    std::fs::write(path("www") + "/page", "a page").expect("a file can be written");
    let _backend = Running(backend.command("busybox").args(["httpd", "-f", "-p", "8080", "-h", &path("www")]).spawn().expect("busybox is installed"));
    let start = || {
        let mut command = host.command(&binary().display().to_string());
        command.args(["fiberlb", "--external-ip-pool", "192.0.2.200-192.0.2.201", "--data-dir", &path("data"), "--iam-jwks", &path("jwks.json")]);
        Running(command.stdin(Stdio::null()).spawn().expect("the server's binary runs"))
    };
    let ask = |page: &str| {
        let outcome = std::process::Command::new("nsenter")
            .arg(format!("--net=/run/netns/{}", network.namespace()))
            .args(["curl", "-sS", "--max-time", "2", &format!("http://{page}")])
            .output();
        String::from_utf8_lossy(&outcome.expect("curl is installed").stdout).into_owned()
    };
    let running = start();
    let authority = || std::fs::read_to_string(directory.path().join("data/tls/ca.crt")).unwrap_or_default();
    wait_until("the API listens", SOON, || !authority().is_empty() && listens(&network, &host.address));

    let (address, pem, member, good, bad) = (host.address.clone(), authority(), backend.address.clone(), token(3600), token(-3600));
    let id = outside(&network, async move || {
        let mut client = client(&address, &pem).await;
        let with = |token: &str| format!("Bearer {token}").parse().expect("a token is header text");
        let mut expired = Request::new(CreateLoadBalancerRequest { name: "web".into(), ..Default::default() });
        expired.metadata_mut().insert("authorization", with(&bad));
        assert_eq!(client.create_load_balancer(expired).await.expect_err("it has expired").code(), Code::Unauthenticated);
        let mut request = Request::new(CreateLoadBalancerRequest { name: "web".into(), ..Default::default() });
        request.metadata_mut().insert("authorization", with(&good));
        let made = client.create_load_balancer(request).await.expect("it is made").into_inner();
        assert_eq!(made.external_ip, "192.0.2.200");
        let member = PoolMember { address: member, port: 8080, weight: None };
        let mut request = Request::new(UpdatePoolRequest { pool_id: "web".into(), members: vec![member], algorithm: String::new() });
        request.metadata_mut().insert("authorization", with(&good));
        client.update_pool(request).await.expect("it is made");
        for (protocol, port) in [("HTTP", 80), ("TCP", 81)] {
            let listener = CreateListenerRequest {
                load_balancer_id: made.id.clone(),
                protocol: protocol.into(),
                port,
                default_pool_id: "web".into(),
                ..Default::default()
            };
            let mut request = Request::new(listener);
            request.metadata_mut().insert("authorization", with(&good));
            client.create_listener(request).await.expect("it is made");
        }
        made.id
    });
    for port in [80, 81] {
        wait_until("the page is served", SOON, || ask(&format!("192.0.2.200:{port}/page")) == "a page");
    }
    // Killed, it serves the same when it is started again.
    drop(running);
    let running = start();
    wait_until("the page is served again", SOON, || ask("192.0.2.200/page") == "a page");
    wait_until("the API listens again", SOON, || listens(&network, &host.address));
    let (address, pem, good) = (host.address.clone(), authority(), token(3600));
    outside(&network, async move || {
        let mut request = Request::new(DeleteLoadBalancerRequest { id });
        request.metadata_mut().insert("authorization", format!("Bearer {good}").parse().expect("a token is header text"));
        client(&address, &pem).await.delete_load_balancer(request).await.expect("it is deleted");
    });
    wait_until("the page is gone", SOON, || ask("192.0.2.200/page").is_empty());
    drop(running);
}

fn listens(network: &Network, address: &str) -> bool {
    let mut probe = std::process::Command::new("nsenter");
    probe.arg(format!("--net=/run/netns/{}", network.namespace())).args(["busybox", "nc", "-w", "1", address, "7000"]).stdin(Stdio::null());
    probe.output().is_ok_and(|outcome| outcome.status.success())
}
