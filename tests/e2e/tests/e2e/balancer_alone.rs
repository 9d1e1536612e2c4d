//! `k8shost fiberlb`: load balancers made by gRPC, on a machine of their own, reached from another.
use crate::SOON;
use crate::service_alone::{Issuer, Running, channel, listens, outside};
use fiberlb::proto::load_balancer_service_client::LoadBalancerServiceClient;
use fiberlb::proto::{CreateListenerRequest, CreateLoadBalancerRequest, DeleteLoadBalancerRequest, PoolMember, UpdatePoolRequest};
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
    wait_until("the API listens", SOON, || !authority().is_empty() && listens(&network, &host.address, 7000));

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
