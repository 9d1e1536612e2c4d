//! Certificates are renewed before they end, while their servers are used; a test moves the clock.
use crate::iam::{IAM, alone, iam, server};
use crate::support::{SOON, config_map};
use api_client::Clients;
use api_client::join::Joiner;
use api_client::kube;
use api_meta::ClusterName;
use clock::{Clock, ManualClock, SystemClock};
use http::Request;
use serde_json::json;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use testkit::{Api, Ask, MovedClock, Server, ServerOptions, wait_until};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Requests one after the other, on connections old and new, until told to end.
struct Traffic {
    over: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    /// Who asks, on new connections.
    user: Arc<Mutex<Api>>,
    asking: JoinHandle<()>,
}

impl Traffic {
    fn start(user: Api) -> Self {
        let (over, answered, user) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(user)));
        let (until, count, asks) = (over.clone(), answered.clone(), user.clone());
        let asking = std::thread::spawn(move || {
            let mut open = asks.lock().unwrap().connection();
            let ask = Ask::new("GET", "/api/v1/namespaces");
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

#[test]
fn a_server_renews_its_certificates_while_it_is_asked() {
    let directory = tempfile::tempdir().unwrap();
    let clock = MovedClock::new(directory.path());
    let arguments = ["--disable-agent", "--disable", "scheduler"].map(Into::into).into();
    let server = Server::start(ServerOptions { arguments, is_host: true, environment: clock.environment(), ..ServerOptions::default() });
    let file = |name: &str| std::fs::read_to_string(server.data_dir().join("server/tls").join(name)).unwrap();
    let files = ["serving-kube-apiserver.crt", "client-admin.crt", "client-kube-apiserver.crt", "serving-kubelet.crt"];
    let held = || files.map(file);
    let authorities = || [file("server-ca.crt"), file("client-ca.crt")];
    let first = (held(), authorities());
    let api = server.api();
    let mut watch = api.watch("/api/v1/namespaces/default/configmaps?watch=true");
    // What has nearly half a year left is not replaced by being asked for.
    let traffic = Traffic::start(api.clone());
    *traffic.user.lock().unwrap() = api.ahead(200 * DAY);
    clock.set_ahead(200 * DAY);
    traffic.flows();
    traffic.end();
    assert_eq!(held(), first.0);
    for days in [290, 580] {
        let (known, kubeconfig) = (held(), std::fs::read_to_string(server.kubeconfig()).unwrap());
        let user = server.api();
        let traffic = Traffic::start(user.ahead((days - 90) * DAY));
        traffic.flows();
        // Clients' clocks go with the server's.
        *traffic.user.lock().unwrap() = user.ahead(days * DAY);
        clock.set_ahead(days * DAY);
        wait_until("all certificates are others", SOON, || held().iter().zip(&known).all(|(now, before)| now != before));
        wait_until("new connections are shown the new one", SOON, || user.ahead(days * DAY).shown_certificate().unwrap() == pki::der_of(&held()[0]).unwrap());
        wait_until("the administrator's kubeconfig has the new one", SOON, || std::fs::read_to_string(server.kubeconfig()).unwrap() != kubeconfig);
        traffic.flows();
        traffic.end();
        let renewed = server.api().ahead(days * DAY);
        assert_eq!(renewed.get("/api/v1/namespaces").code, 200);
        // What was watched all the while is still told of.
        let name = format!("after-{days}");
        renewed.post("/api/v1/namespaces/default/configmaps", &config_map(&name, &json!({}))).ok();
        while watch.next_event().1["metadata"]["name"] != name.as_str() {}
    }
    assert_eq!(authorities(), first.1, "authorities last ten years");
    // The first administrator's certificate has ended with its year.
    assert!(!matches!(api.ahead(580 * DAY).try_send(&Ask::new("GET", "/api/v1/namespaces")), Ok(reply) if reply.code == 200));
}

#[test]
fn a_service_that_stands_alone_renews_its_certificate() {
    let server = server();
    let (k8shost, tool) = (testkit::binary().display().to_string(), server.tool());
    let clock = MovedClock::new(server.directory.path());
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let jwks = tool.home.join("jwks.json");
    std::fs::write(&jwks, server.api().anonymous().get(&format!("{IAM}/jwks")).text()).unwrap();
    let environment: String = clock.environment().iter().map(|(name, value)| format!("{name}={value} ")).collect();
    let _running = tool.background(&format!(
        "exec env {environment} {k8shost} fiberlb --data-dir lb --listen 127.0.0.1:{port} --iam-jwks {} --external-ip-pool 192.0.2.0/28 2>&1",
        jwks.display()
    ));
    let authority = tool.home.join("lb/tls/ca.crt");
    wait_until("it has its authority", SOON, || authority.exists());
    let service = Api::of_authority(&format!("127.0.0.1:{port}"), &std::fs::read_to_string(&authority).unwrap());
    wait_until("it answers", SOON, || service.shown_certificate().is_ok());
    let first = service.shown_certificate().unwrap();
    clock.set_ahead(200 * DAY);
    assert_eq!(service.ahead(200 * DAY).shown_certificate().unwrap(), first);
    for days in [290, 580] {
        clock.set_ahead(days * DAY);
        let before = pki::der_of(&std::fs::read_to_string(tool.home.join("lb/tls/serving.crt")).unwrap()).unwrap();
        wait_until("another is shown", SOON, || service.ahead(days * DAY).shown_certificate().is_ok_and(|shown| shown != before));
    }
    assert!(service.ahead(580 * DAY).shown_certificate().is_ok(), "a year after the first one has ended");
}

#[test]
fn the_webhook_shows_the_certificate_that_is_put_into_its_files() {
    let server = server();
    iam(&server, "org create Acme --id org-a");
    iam(&server, "user create eve@example.com --org Acme");
    let token = iam(&server, "token create eve@example.com");
    let (_running, webhook) = alone(&server, "");
    let review = Ask::new("POST", &format!("{IAM}/authenticate"))
        .json(&json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}));
    let mut open = webhook.connection();
    wait_until("it knows the user", SOON, || open.send(&review).ok()["status"]["authenticated"] == true);
    let first = webhook.shown_certificate().unwrap();
    let issue = format!(
        "{} iam issue-cert iam-server --server --san 127.0.0.1 --data-dir {} --output certs/server",
        testkit::binary().display(),
        server.data_dir().display()
    );
    server.tool().sh(&issue).ok();
    wait_until("the new one is shown", SOON, || webhook.shown_certificate().unwrap() != first);
    assert_eq!(open.send(&review).ok()["status"]["authenticated"], true, "who was there before is served on");
    assert_eq!(webhook.send(&review).ok()["status"]["authenticated"], true);
}

#[test]
fn a_machine_that_joined_renews_its_certificates_while_it_asks() {
    let server = server();
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
        let began = std::time::Instant::now();
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
