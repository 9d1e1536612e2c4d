//! Machines that join: what lets them in, what keeps them out, and what a node may see.
use crate::clusters;
use crate::support::SOON;
use api_client::join::{JoinError, JoinToken, Joiner};
use clock::SystemClock;
use serde_json::{Value, json};
use testkit::{Api, Server, ServerOptions, wait_until};

const NODE_IP: [u8; 4] = [192, 0, 2, 7];

/// A server with what lets machines join, and its administrator.
fn server(token: &str) -> (Server, Api) {
    let arguments = ["--disable-agent", "--disable", "scheduler", "--token", token].map(Into::into).into();
    let server = Server::start(ServerOptions { arguments, is_host: true, ..ServerOptions::default() });
    let api = server.host_api();
    (server, api)
}

struct Place {
    directory: tempfile::TempDir,
    server: String,
}

impl Place {
    fn of(server: &Server, path: &str) -> Self {
        Self { directory: tempfile::tempdir().unwrap(), server: format!("https://127.0.0.1:{}{path}", server.port) }
    }

    fn join(&self, name: &str, token: Option<&str>) -> Result<(), JoinError> {
        let joiner = Joiner { server: self.server.clone(), token: token.map(Into::into), node_name: name.into(), directory: self.directory.path().into() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(joiner.join(NODE_IP.into(), &SystemClock)).map(drop)
    }

    /// A client with the identity that was joined with.
    fn api(&self) -> Api {
        use base64::Engine;
        let encoded = |name: &str| base64::engine::general_purpose::STANDARD.encode(std::fs::read(self.directory.path().join(name)).unwrap());
        let kubeconfig = format!(
            "server: {}\ncertificate-authority-data: {}\nclient-certificate-data: {}\nclient-key-data: {}\n",
            self.server,
            encoded("server-ca.crt"),
            encoded("client-kubelet.crt"),
            encoded("client-kubelet.key")
        );
        let path = self.directory.path().join("kubeconfig.yaml");
        std::fs::write(&path, kubeconfig).unwrap();
        Api::of_kubeconfig(&path)
    }
}

fn token_of(server: &Server) -> String {
    std::fs::read_to_string(server.data_dir().join("server/node-token")).unwrap().trim().to_owned()
}

fn refused(outcome: Result<(), JoinError>) -> String {
    match outcome {
        Err(error) if !error.is_transient() => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_token_lets_in_at_its_own_server_and_no_other() {
    let (server, api) = server("s3cret");
    let token = token_of(&server);
    assert!(token.starts_with("K10") && token.ends_with("::node:s3cret"));
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(server.data_dir().join("server/node-token")).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let place = Place::of(&server, "");
    assert_eq!(refused(place.join("n1", None)), "this machine has not joined yet, so it needs a token");
    let foreign = JoinToken::render("another authority", Some("node"), "s3cret");
    assert!(refused(place.join("n1", Some(&foreign))).ends_with("is not the one of the token: its authority has another hash"));
    let wrong = token.replace("s3cret", "s3crets");
    assert_eq!(refused(place.join("n1", Some(&wrong))), "the server does not let this machine join: Unauthorized");
    assert!(api.get("/apis/certificates.k8s.io/v1/certificatesigningrequests").ok()["items"].as_array().unwrap().is_empty());
    place.join("n1", Some(&token)).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(place.directory.path().join("client-kubelet.key")).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    // Who has joined needs none.
    place.join("n1", None).unwrap();
}

#[test]
fn bootstrap_tokens_end() {
    let (server, api) = server("s3cret");
    let secret = |id: &str, expiration: &str| {
        let data = json!({"token-id": id, "token-secret": "0123456789abcdef", "usage-bootstrap-authentication": "true", "expiration": expiration});
        json!({"metadata": {"name": format!("bootstrap-token-{id}")}, "type": "bootstrap.kubernetes.io/token", "stringData": data})
    };
    for (id, expiration) in [("aaaaaa", "2020-01-01T00:00:00Z"), ("bbbbbb", "2999-01-01T00:00:00Z")] {
        api.post("/api/v1/namespaces/kube-system/secrets", &secret(id, expiration)).ok();
    }
    let place = Place::of(&server, "");
    assert_eq!(refused(place.join("n1", Some("aaaaaa.0123456789abcdef"))), "the server does not let this machine join: Unauthorized");
    place.join("n1", Some("bbbbbb.0123456789abcdef")).unwrap();
    let made = server.tool().sh(&format!("{} token create --ttl 1h --description tests", testkit::binary().display())).ok();
    Place::of(&server, "").join("n2", Some(made.trim())).unwrap();
}

#[test]
fn a_name_belongs_to_the_machine_that_took_it() {
    let (server, api) = server("s3cret");
    let token = token_of(&server);
    let (first, second) = (Place::of(&server, ""), Place::of(&server, ""));
    first.join("n1", Some(&token)).unwrap();
    let taken = "the server does not let this machine join: the name of node \"n1\" belongs to another machine's key";
    assert_eq!(refused(second.join("n1", Some(&token))), taken);
    // A node that did not join.
    api.post("/api/v1/nodes", &json!({"metadata": {"name": "n0"}})).ok();
    assert!(refused(second.join("n0", Some(&token))).contains("\"n0\" belongs to another"));
    // The name is free once the node is deleted.
    first.api().post("/api/v1/nodes", &json!({"metadata": {"name": "n1"}})).ok();
    let key = "/api/v1/namespaces/kube-system/secrets/n1.node-key.k8shost";
    wait_until("the key belongs to the node", SOON, || api.get(key).ok()["metadata"]["ownerReferences"].is_array());
    assert_eq!(refused(second.join("n1", Some(&token))), taken);
    api.delete("/api/v1/nodes/n1").ok();
    wait_until("the name is free", SOON, || api.get(key).code == 404);
    second.join("n1", Some(&token)).unwrap();
}

#[test]
fn a_node_sees_what_concerns_it_in_all_clusters() {
    let (server, api) = server("s3cret");
    let place = Place::of(&server, "");
    place.join("n1", Some(&token_of(&server))).unwrap();
    let node = place.api();
    api.post("/api/v1/nodes", &json!({"metadata": {"name": "n1"}, "status": {}})).ok();
    clusters::make(&api, "team", "dev", &json!({}));
    // Across clusters: what it runs and what leads to pods, by watches alone.
    let across = |path: &str| node.get(&format!("/clusters/*{path}")).code;
    assert_eq!(across("/api/v1/services"), 403, "a list");
    assert_eq!(across("/api/v1/secrets?watch=true"), 403);
    assert_eq!(across("/api/v1/pods?watch=true"), 403, "pods of others");
    assert_eq!(across("/version"), 404);
    assert_eq!(api.get("/clusters/*/api/v1/services?watch=true").code, 403, "an administrator is no node");
    let mut services = node
        .try_watch("/clusters/*/api/v1/services?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true")
        .unwrap_or_else(|reply| panic!("{}", reply.text()));
    let mut seen = Vec::new();
    loop {
        let (kind, object) = services.next_event();
        if kind == "BOOKMARK" {
            break;
        }
        seen.push(object["metadata"]["name"].as_str().unwrap_or_default().to_owned());
    }
    assert_eq!(seen.iter().filter(|name| *name == "kubernetes").count(), 2, "{seen:?}");
    // In a cluster it is a node like any other.
    assert_eq!(node.get("/clusters/dev.team/api/v1/namespaces/kube-system/secrets/x").code, 403);
    assert_eq!(node.get("/clusters/dev.team/api/v1/pods?fieldSelector=spec.nodeName%3Dn1").code, 200);
    assert_eq!(node.get("/api/v1/nodes/n1").ok()["metadata"]["name"], "n1");
    assert_eq!(node.get("/api/v1/secrets").code, 403);
    let _: Value = node.get("/v1-k8shost/node-config").ok();
}

#[test]
fn machines_of_a_virtual_cluster_join_that_one_alone() {
    let (server, api) = server("s3cret");
    clusters::make(&api, "team", "edge", &json!({"mode": "hcp"}));
    clusters::make(&api, "team", "shared", &json!({}));
    let secret = api.get("/api/v1/namespaces/team/secrets/k3k-edge-token").ok();
    let token = clusters::base64_text(&secret["data"]["node-token"]);
    let place = Place::of(&server, "/clusters/edge.team");
    assert!(refused(place.join("m1", Some(&token_of(&server)))).ends_with("Unauthorized"), "the host's token");
    assert!(refused(Place::of(&server, "").join("m1", Some(&token))).ends_with("Unauthorized"), "at the host");
    assert!(refused(Place::of(&server, "/clusters/shared.team").join("m1", Some(&token))).ends_with("Unauthorized"), "at a cluster without machines");
    place.join("m1", Some(&token)).unwrap();
    let node = place.api();
    node.post("/api/v1/nodes", &json!({"metadata": {"name": "m1"}})).ok();
    wait_until("the machine has a range", SOON, || node.get("/api/v1/nodes/m1").ok()["spec"]["podCIDR"] == "10.244.0.0/24");
    assert_eq!(api.get("/api/v1/nodes/m1").code, 404, "it is no node of the host");
    // A host's node is nobody there.
    let host = Place::of(&server, "");
    host.join("n1", Some(&token_of(&server))).unwrap();
    assert_eq!(host.api().get("/clusters/edge.team/api/v1/services").code, 401);
    assert_eq!(host.api().get("/clusters/shared.team/api/v1/services").code, 200);
}
