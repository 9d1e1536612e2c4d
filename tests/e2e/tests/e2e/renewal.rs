//! Certificates of every component are renewed before they end, while it is used; a test moves the clock.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]
use crate::SOON;
use crate::service_alone::{Alone, Issuer, Reach, outside, with_token};
use api_client::Clients;
use api_client::join::Joiner;
use api_client::kube;
use api_meta::ClusterName;
use clock::{Clock, ManualClock, SystemClock};
use http::Request;
use http::uri::PathAndQuery;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use testkit::{Api, Ask, MovedClock, Server, ServerOptions, binary, wait_until};
use tonic::Code;
use tonic::client::Grpc;
use tonic::transport::Channel;

const DAY: Duration = Duration::from_secs(24 * 3600);
const NAMESPACES: &str = "/api/v1/namespaces";
/// When clocks are looked at: certificates last a year, and are renewed 90 days before they end.
const TIMES: [u32; 2] = [290, 580];

/// Every command that runs on, and how it is shown that it renews what it shows.
const COMPONENTS: &[(&str, fn())] = &[
    ("server", a_server),
    ("agent", an_agent),
    ("iam-server", an_iam_server),
    ("fiberlb", || a_cloud_service("fiberlb", 7000, &["--external-ip-pool", "192.0.2.200"], "/fiberlb.v1.LoadBalancerService/ListLoadBalancers")),
    ("flashdns", || a_cloud_service("flashdns", 6000, &[], "/flashdns.v1.DNSService/ListZones")),
    ("lightningstor", || a_cloud_service("lightningstor", 8000, &["--node-name", "n1"], "/lightningstor.v1.VolumeService/ListVolumes")),
    ("prismnet", || a_cloud_service("prismnet", 5000, &[], "/prismnet.v1.NetworkService/ListLogicalSwitches")),
];
/// Commands that end when they have done what they are told.
const ENDING: &[&str] = &["token", "cluster", "kubeconfig", "policy", "iam", "image", "secrets-encrypt", "completion", "help"];

#[test]
fn every_component_renews_its_certificates_while_it_is_used() {
    let printed = std::process::Command::new(binary()).arg("--help").output().unwrap().stdout;
    let printed = String::from_utf8(printed).unwrap();
    let (_, commands) = printed.split_once("Commands:\n").unwrap();
    let commands: BTreeSet<&str> = commands.lines().take_while(|line| !line.is_empty()).filter_map(|line| line.split_whitespace().next()).collect();
    let known = COMPONENTS.iter().map(|(name, _)| *name).chain(ENDING.iter().copied());
    assert_eq!(commands, known.collect(), "a command that runs on needs a row");
    let failed: Vec<&str> = std::thread::scope(|scope| {
        let all: Vec<_> = COMPONENTS.iter().map(|(name, renews)| (*name, scope.spawn(renews))).collect();
        all.into_iter().filter_map(|(name, one)| one.join().is_err().then_some(name)).collect()
    });
    assert!(failed.is_empty(), "certificates of these were not renewed: {failed:?}");
}

/// A control plane whose clock is the machine's.
fn control_plane() -> Server {
    Server::start(ServerOptions { arguments: ["--disable-agent", "--disable", "scheduler"].map(Into::into).into(), is_host: true, ..ServerOptions::default() })
}

/// Requests one after the other, on connections old and new, until told to end.
struct Traffic {
    over: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    /// Who asks, on new connections.
    user: Arc<Mutex<Api>>,
    asking: JoinHandle<()>,
}

impl Traffic {
    /// GETs of a path that is answered 200.
    fn start(user: Api, path: &'static str) -> Self {
        let (over, answered, user) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(user)));
        let (until, count, asks) = (over.clone(), answered.clone(), user.clone());
        let asking = std::thread::spawn(move || {
            let mut open = asks.lock().unwrap().connection();
            let ask = Ask::new("GET", path);
            while !until.load(Ordering::SeqCst) {
                assert_eq!(open.send(&ask).code, 200, "on the connection that was there from the start");
                // Held, so that whose clock is moved has none on its way.
                assert_eq!(asks.lock().unwrap().send(&ask).code, 200, "on a new connection");
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { over, answered, user, asking }
    }

    /// Waits until some more has been asked and answered.
    fn flows(&self) {
        let before = self.answered.load(Ordering::SeqCst);
        wait_until("requests are answered", SOON, || self.asking.is_finished() || self.answered.load(Ordering::SeqCst) > before + 5);
        assert!(!self.asking.is_finished(), "requests failed");
    }

    fn end(self) {
        self.over.store(true, Ordering::SeqCst);
        self.asking.join().expect("every request was answered");
    }
}

/// The API server, and what is in its process: controllers, scheduler and other parts call it without a connection.
fn a_server() {
    let directory = tempfile::tempdir().unwrap();
    let clock = MovedClock::new(directory.path());
    let arguments = ["--disable-agent", "--disable", "scheduler"].map(Into::into).into();
    let server = Server::start(ServerOptions { arguments, is_host: true, environment: clock.environment(), ..ServerOptions::default() });
    let file = |name: &str| std::fs::read_to_string(server.data_dir().join("server/tls").join(name)).unwrap();
    let files = ["client-admin.crt", "client-front-proxy.crt", "client-kube-apiserver.crt", "serving-kube-apiserver.crt", "serving-kubelet.crt"];
    let all = std::fs::read_dir(server.data_dir().join("server/tls")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let leaves: BTreeSet<String> = all.filter(|name| name.ends_with(".crt") && !name.ends_with("-ca.crt")).collect();
    assert_eq!(leaves, files.map(str::to_owned).into(), "every certificate of the server is looked at here");
    let held = || files.map(file);
    let authorities = || [file("server-ca.crt"), file("client-ca.crt")];
    let first = (held(), authorities());
    let api = server.api();
    let mut watch = api.watch("/api/v1/namespaces/default/configmaps?watch=true");
    // What has nearly half a year left is not replaced by being asked for.
    let traffic = Traffic::start(api.clone(), NAMESPACES);
    *traffic.user.lock().unwrap() = api.ahead(200 * DAY);
    clock.set_ahead(200 * DAY);
    traffic.flows();
    traffic.end();
    assert_eq!(held(), first.0);
    for days in TIMES {
        let (known, kubeconfig) = (held(), std::fs::read_to_string(server.kubeconfig()).unwrap());
        let user = server.api();
        let traffic = Traffic::start(user.ahead((days - 90) * DAY), NAMESPACES);
        traffic.flows();
        // Clients' clocks go with the server's.
        *traffic.user.lock().unwrap() = user.ahead(days * DAY);
        clock.set_ahead(days * DAY);
        wait_until("all certificates are others", SOON, || held().iter().zip(&known).all(|(now, before)| now != before));
        wait_until("new connections are shown the new one", SOON, || user.ahead(days * DAY).shown_certificate().unwrap() == pki::der_of(&held()[3]).unwrap());
        wait_until("the administrator's kubeconfig has the new one", SOON, || std::fs::read_to_string(server.kubeconfig()).unwrap() != kubeconfig);
        traffic.flows();
        traffic.end();
        let renewed = server.api().ahead(days * DAY);
        assert_eq!(renewed.get("/api/v1/namespaces").code, 200);
        // What was watched all the while is still told of.
        let name = format!("after-{days}");
        renewed.post("/api/v1/namespaces/default/configmaps", &json!({"metadata": {"name": name}})).ok();
        while watch.next_event().1["metadata"]["name"] != name.as_str() {}
    }
    assert_eq!(authorities(), first.1, "authorities last ten years");
    // The first administrator's certificate has ended with its year.
    assert!(!matches!(api.ahead(580 * DAY).try_send(&Ask::new("GET", "/api/v1/namespaces")), Ok(reply) if reply.code == 200));
}

/// IAM alone: its own certificate, and the one that it shows the cluster of its directory, which is in a kubeconfig.
fn an_iam_server() {
    let mut server = control_plane();
    let (k8shost, tool) = (binary().display().to_string(), server.tool());
    let clock = MovedClock::new(server.directory.path());
    let port = testkit::free_port();
    let environment: String = clock.environment().iter().map(|(name, value)| format!("{name}={value} ")).collect();
    let running = tool.background(&format!(
        "exec env {environment} {k8shost} iam-server --kubeconfig {} --listen 127.0.0.1:{port} --data-dir iam --client-ca-file {}/server/tls/client-ca.crt \
         --audit-log-path audit.log 2>&1",
        server.kubeconfig().display(),
        server.data_dir().display()
    ));
    running.until_printed("k8shost iam-server is ready", SOON);
    let authority = std::fs::read_to_string(tool.home.join("iam/tls/ca.crt")).unwrap();
    let anybody = Api::of_authority(&format!("127.0.0.1:{port}"), &authority);
    let first = anybody.shown_certificate().unwrap();
    let traffic = Traffic::start(anybody.clone(), "/healthz");
    *traffic.user.lock().unwrap() = anybody.ahead(200 * DAY);
    clock.set_ahead(200 * DAY);
    traffic.flows();
    assert_eq!(anybody.ahead(200 * DAY).shown_certificate().unwrap(), first);
    for days in TIMES {
        let before = pki::der_of(&std::fs::read_to_string(tool.home.join("iam/tls/serving.crt")).unwrap()).unwrap();
        *traffic.user.lock().unwrap() = anybody.ahead(days * DAY);
        clock.set_ahead(days * DAY);
        wait_until("another is shown", SOON, || anybody.ahead(days * DAY).shown_certificate().is_ok_and(|shown| shown != before));
        traffic.flows();
    }
    traffic.end();
    // The cluster's authority takes back what the kubeconfig had, the file has another, and the server forgets its connections.
    clock.set_ahead(Duration::ZERO);
    let kubeconfig = std::fs::read_to_string(server.kubeconfig()).unwrap();
    let admin = server.data_dir().join("server/tls/client-admin.crt");
    let iam = |line: &str| tool.sh(&format!("{k8shost} iam {line}")).ok().trim().to_owned();
    iam("org create Acme --id org-a");
    iam("user create eve@example.com --org org-a");
    let serial = pki::serial_of_pem(&std::fs::read_to_string(&admin).unwrap()).unwrap();
    std::fs::remove_file(&admin).unwrap();
    server.end(nix::sys::signal::Signal::SIGTERM);
    server.launch();
    assert_ne!(std::fs::read_to_string(server.kubeconfig()).unwrap(), kubeconfig, "the administrator has another certificate");
    iam(&format!("cert revoke {serial}"));
    let token = iam("token create eve@example.com");
    iam("user create new@example.com --org org-a");
    let asks = Ask::new("GET", "/apis/iam.plasmacloud.io/v1/own/users");
    let knows = |token: &str| anybody.bearer(token).ahead(TIMES[1] * DAY).send(&asks).code == 403;
    wait_until("it knows whom it knew", SOON, || knows(&token));
    wait_until("it follows its directory again", SOON, || knows(&iam("token create new@example.com")));
}

/// What a machine that joined is to the API server, and what its node's own API shows.
fn an_agent() {
    let server = control_plane();
    let directory = tempfile::tempdir().unwrap();
    let token = std::fs::read_to_string(server.data_dir().join("server/node-token")).unwrap().trim().to_owned();
    let address = format!("https://127.0.0.1:{}", server.port);
    let joiner = Joiner { server: address.clone(), token: Some(token), node_name: "m1".into(), directory: directory.path().join("identity") };
    let held = || ["client-kubelet.crt", "serving-kubelet.crt"].map(|name| std::fs::read_to_string(directory.path().join("identity").join(name)).unwrap());
    // Its own clock is moved; to the server, all its certificates are good.
    let clock = ManualClock::at(SystemClock.now());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (first, renewed) = runtime.block_on(async {
        let membership = Arc::new(joiner.join("127.0.0.1".parse().unwrap(), &clock).await.unwrap());
        let keeping = tokio::spawn({
            let (joiner, membership, clock) = (joiner.clone(), membership.clone(), Arc::new(clock.clone()));
            async move { joiner.keep_current(membership, clock).await }
        });
        // Connections of one client, and new ones: each shows what the machine has then.
        let open = membership.clients(&address).unwrap().cluster(&ClusterName::root());
        let asks = async |client: &kube::Client| {
            let request = Request::get("/api/v1/nodes/m1").body(Vec::new()).unwrap();
            // There is no such Node, which only the node itself is told.
            match client.request::<serde_json::Value>(request).await {
                Err(kube::Error::Api(status)) => status.code,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(asks(&open).await, 404);
        let first = held();
        clock.advance(300 * DAY);
        let began = Instant::now();
        while held().iter().zip(&first).any(|(now, before)| now == before) {
            let new = membership.clients(&address).unwrap().cluster(&ClusterName::root());
            assert_eq!((asks(&open).await, asks(&new).await), (404, 404));
            assert!(began.elapsed() < SOON, "the certificates were not renewed");
        }
        let new = membership.clients(&address).unwrap().cluster(&ClusterName::root());
        assert_eq!((asks(&open).await, asks(&new).await), (404, 404));
        keeping.abort();
        (first, held())
    });
    assert!(renewed.iter().zip(&first).all(|(now, before)| now != before));
}

/// A cloud service that stands alone, with calls on a connection that stays and on new ones.
fn a_cloud_service(name: &'static str, port: u16, arguments: &[&str], call: &'static str) {
    let issuer = Issuer::new();
    let mut alone = Alone::new(name, port, arguments, &issuer);
    let clock = MovedClock::new(alone.directory.path());
    alone.environment = clock.environment();
    let _running = alone.start();
    let (reach, token) = (alone.reach(), issuer.token("org-1", "proj-1", 3 * 365 * 24 * 3600));
    outside(&alone.network, async move || {
        let open = reach.channel().await;
        let first = reach.shown().await;
        clock.set_ahead(200 * DAY);
        let ahead = |days: u32| Reach { ahead: days * DAY, ..reach.clone() };
        for _ in 0..10 {
            answered(&open, call, &token).await;
            answered(&ahead(200).channel().await, call, &token).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        assert_eq!(ahead(200).shown().await, first, "what has nearly half a year left is not replaced by being asked for");
        for days in TIMES {
            let before = ahead(days - 90).shown().await;
            clock.set_ahead(days * DAY);
            let began = Instant::now();
            while ahead(days).shown().await == before {
                answered(&open, call, &token).await;
                answered(&ahead(days).channel().await, call, &token).await;
                assert!(began.elapsed() < SOON, "{name} shows the same certificate after {days} days");
            }
            answered(&open, call, &token).await;
            answered(&ahead(days).channel().await, call, &token).await;
        }
    });
}

/// A call that the service itself answers, whatever it thinks of it.
async fn answered(channel: &Channel, call: &'static str, token: &str) {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.expect("the service is there");
    let answer = grpc.unary::<_, (), _>(with_token(token, ()), PathAndQuery::from_static(call), tonic_prost::ProstCodec::default()).await;
    let refused = answer.err().map(|status| status.code());
    assert!(!matches!(refused, Some(Code::Unauthenticated | Code::Unavailable | Code::Unknown | Code::Unimplemented)), "{call}: {refused:?}");
}
