//! `k8shost fiberlb`: load balancers made by gRPC, on a machine of their own, reached from another.
use crate::SOON;
use crate::service_alone::{Issuer, Running, channel, listens, outside};
use fiberlb::proto::load_balancer_service_client::LoadBalancerServiceClient;
use fiberlb::proto::{CreateListenerRequest, CreateLoadBalancerRequest, DeleteLoadBalancerRequest, Passthrough, PoolMember, UpdatePoolRequest};
use pki::{CertificateAuthority, LeafRequest};
use std::process::Stdio;
use testkit::{Host, Network, binary, wait_until};
use tonic::transport::Channel;
use tonic::{Code, Request};

async fn client(address: &str, authority: &str) -> LoadBalancerServiceClient<Channel> {
    LoadBalancerServiceClient::new(channel(&format!("{address}:7000"), "fiberlb", authority).await)
}

#[test]
fn a_load_balancer_made_by_grpc_leads_to_its_members() {
    let network = Network::new();
    let (host, backend): (Host, Host) = (network.host(), network.host());
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name).display().to_string();
    let issuer = Issuer::new();
    std::fs::write(path("jwks.json"), issuer.jwks()).expect("a file can be written");
    let token = |seconds| issuer.token("org-1", "proj-1", seconds);
    std::fs::create_dir(path("www")).expect("a directory can be made");
    std::fs::write(path("www") + "/page", "a page").expect("a file can be written");
    let _backend = Running(backend.command("busybox").args(["httpd", "-f", "-p", "8080", "-h", &path("www")]).spawn().expect("busybox is installed"));
    // A server of TLS, and one that says the first line it is told.
    let certificates = CertificateAuthority::generate("test", &clock::SystemClock).expect("an authority can be made");
    let request = LeafRequest {
        common_name: "shop.example.com".into(),
        organizations: vec![],
        dns_names: vec!["shop.example.com".into()],
        ip_addresses: vec![],
        server: true,
        client: false,
        validity: std::time::Duration::from_secs(3600),
    };
    let issued = certificates.issue(&request, &clock::SystemClock).expect("a certificate can be issued");
    for (name, text) in [("ca.pem", certificates.certificate_pem()), ("tls.pem", &issued.certificate_pem), ("tls.key", &issued.key_pem)] {
        std::fs::write(path(name), text).expect("a file can be written");
    }
    let mut secure = backend.command("openssl");
    secure.args(["s_server", "-accept", "8443", "-cert", &path("tls.pem"), "-key", &path("tls.key"), "-WWW", "-quiet"]).current_dir(path("www"));
    let _secure = Running(secure.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("openssl is installed"));
    let mut telling = backend.command("busybox");
    let _telling = Running(telling.args(["nc", "-ll", "-p", "8090", "-e", "head", "-n", "1"]).spawn().expect("busybox is installed"));
    let start = || {
        let mut command = host.command(&binary().display().to_string());
        command.args(["fiberlb", "--external-ip-pool", "192.0.2.200-192.0.2.201", "--data-dir", &path("data"), "--iam-jwks", &path("jwks.json")]);
        Running(command.stdin(Stdio::null()).spawn().expect("the server's binary runs"))
    };
    let ask = |page: &str| {
        let outcome = std::process::Command::new("nsenter")
            .arg(format!("--net=/run/netns/{}", network.namespace()))
            .args(["curl", "-sS", "--max-time", "5", "--http0.9", "--cacert", &path("ca.pem"), "--resolve", "shop.example.com:443:192.0.2.200"])
            .arg(if page.contains("://") { page.to_owned() } else { format!("http://{page}") })
            .output();
        String::from_utf8_lossy(&outcome.expect("curl is installed").stdout).into_owned()
    };
    let running = start();
    let authority = || std::fs::read_to_string(directory.path().join("data/tls/ca.crt")).unwrap_or_default();
    wait_until("the API listens", SOON, || !authority().is_empty() && listens(&network, &host.address, 7000));

    let (address, pem, member, good, bad) = (host.address.clone(), authority(), backend.address.clone(), token(3600), token(-3600));
    let root = certificates.certificate_pem().to_owned();
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
        let member = |port| vec![PoolMember { address: member.clone(), port, weight: None }];
        for pool in [
            UpdatePoolRequest { pool_id: "web".into(), members: member(8080), ..Default::default() },
            UpdatePoolRequest { pool_id: "secure".into(), members: member(8443), ..Default::default() },
            UpdatePoolRequest { pool_id: "told".into(), members: member(8090), proxy_protocol: "v1".into(), ..Default::default() },
            UpdatePoolRequest {
                pool_id: "sealed".into(),
                members: member(8443),
                backend_protocol: "HTTPS".into(),
                certificate_authority: root,
                server_name: "shop.example.com".into(),
                ..Default::default()
            },
        ] {
            let mut request = Request::new(pool);
            request.metadata_mut().insert("authorization", with(&good));
            client.update_pool(request).await.expect("it is made");
        }
        let by_name = Passthrough { host: "shop.example.com".into(), pool_id: "secure".into() };
        for (protocol, port, pool, passthrough) in [
            ("HTTP", 80, "web", vec![]),
            ("TCP", 81, "web", vec![]),
            ("TCP", 82, "told", vec![]),
            ("HTTP", 83, "sealed", vec![]),
            ("TLS", 443, "", vec![by_name]),
        ] {
            let listener = CreateListenerRequest {
                load_balancer_id: made.id.clone(),
                protocol: protocol.into(),
                port,
                default_pool_id: pool.into(),
                passthrough,
                ..Default::default()
            };
            let mut request = Request::new(listener);
            request.metadata_mut().insert("authorization", with(&good));
            client.create_listener(request).await.expect("it is made");
        }
        made.id
    });
    wait_until("TLS is passed through by its name", SOON, || ask("https://shop.example.com/page") == "a page");
    wait_until("a backend is told who connects", SOON, || {
        let told = ask("192.0.2.200:82/");
        told.starts_with("PROXY TCP4 ") && told.contains(" 192.0.2.200 ") && told.trim_end().ends_with(" 82")
    });
    for port in [80, 81, 83] {
        wait_until("the page is served", SOON, || ask(&format!("192.0.2.200:{port}/page")) == "a page");
    }
    // Killed, it serves the same when it is started again.
    drop(running);
    let running = start();
    wait_until("the page is served again", SOON, || ask("192.0.2.200/page") == "a page");
    wait_until("the API listens again", SOON, || listens(&network, &host.address, 7000));
    let (address, pem, good) = (host.address.clone(), authority(), token(3600));
    outside(&network, async move || {
        let mut request = Request::new(DeleteLoadBalancerRequest { id });
        request.metadata_mut().insert("authorization", format!("Bearer {good}").parse().expect("a token is header text"));
        client(&address, &pem).await.delete_load_balancer(request).await.expect("it is deleted");
    });
    wait_until("the page is gone", SOON, || ask("192.0.2.200/page").is_empty());
    drop(running);
}
