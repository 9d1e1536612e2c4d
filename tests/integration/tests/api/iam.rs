//! IAM: organisations, projects, roles and tokens, through the commands, kubectl and plain HTTPS.
use crate::support::SOON;
use serde_json::{Value, json};
use testkit::{Api, Server, ServerOptions, wait_until};

pub const IAM: &str = "/apis/iam.plasmacloud.io/v1";
/// Upstream's answer to whoever nobody knows.
const UNAUTHORIZED: (u16, &str) = (401, "Unauthorized");

/// A server whose controllers run, without a node.
pub fn server() -> Server {
    Server::start(ServerOptions {
        arguments: vec!["--disable-agent".into(), "--disable".into(), "scheduler".into()],
        is_host: true,
        ..ServerOptions::default()
    })
}

/// `k8shost iam ...` as the administrator; gives what it prints.
#[track_caller]
pub fn iam(server: &Server, line: &str) -> String {
    let arguments = ["iam"].into_iter().chain(line.split_whitespace());
    server.tool().run(testkit::binary().to_str().unwrap(), arguments).ok().trim().to_owned()
}

#[track_caller]
pub fn refused(server: &Server, line: &str) -> String {
    server.tool().run(testkit::binary().to_str().unwrap(), ["iam"].into_iter().chain(line.split_whitespace())).err()
}

/// As with a token of the subject's.
pub fn with_token(server: &Server, subject: &str, project: Option<&str>) -> Api {
    let scope = project.map(|project| format!(" --project {project}")).unwrap_or_default();
    server.api().bearer(&iam(server, &format!("token create {subject}{scope}")))
}

fn namespace(project: &str) -> String {
    format!("project-{}", project.strip_prefix("proj-").unwrap())
}

#[test]
fn a_project_is_what_the_specification_says() {
    let server = server();
    let api = server.api();
    iam(&server, "org create Acme --id org-123");
    let project = iam(&server, "project create my-web-app --org Acme");
    let namespace = namespace(&project);
    let found = api.get(&format!("/api/v1/namespaces/{namespace}")).ok();
    let labels = &found["metadata"]["labels"];
    assert_eq!((&labels["plasmacloud.io/org-id"], &labels["plasmacloud.io/project-id"]), (&json!("org-123"), &json!(project)));
    assert_eq!((&labels["plasmacloud.io/tenant-type"], &labels["pod-security.kubernetes.io/enforce"]), (&json!("project"), &json!("baseline")));
    let annotations = json!({"plasmacloud.io/project-name": "my-web-app", "plasmacloud.io/created-by": "system:admin"});
    assert_eq!(found["metadata"]["annotations"], annotations);
    let spec = |path: &str, field: &str| api.get(&path.replace("NS", &namespace)).ok()[field].take();
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/NS";
    assert_eq!(spec(&format!("{rbac}/roles/org-admin"), "rules"), json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]));
    let groups = ["", "apps", "batch", "networking.k8s.io", "storage.k8s.io"];
    assert_eq!(spec(&format!("{rbac}/roles/project-admin"), "rules"), json!([{"apiGroups": groups, "resources": ["*"], "verbs": ["*"]}]));
    let seen = ["pods", "services", "deployments", "replicasets", "configmaps", "secrets"];
    let rules = json!([
        {"apiGroups": ["", "apps", "batch", "networking.k8s.io"], "resources": seen, "verbs": ["get", "list", "watch"]},
        {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get", "list"]},
    ]);
    assert_eq!(spec(&format!("{rbac}/roles/project-viewer"), "rules"), rules);
    for (binding, group) in
        [("org-admin", "org:org-123".to_owned()), ("project-admin", format!("project:{project}")), ("project-viewer", format!("project:{project}:viewer"))]
    {
        let found = api.get(&format!("{rbac}/rolebindings/{binding}-binding").replace("NS", &namespace)).ok();
        assert_eq!(found["subjects"], json!([{"kind": "Group", "name": group, "apiGroup": "rbac.authorization.k8s.io"}]));
        assert_eq!(found["roleRef"], json!({"kind": "Role", "name": binding, "apiGroup": "rbac.authorization.k8s.io"}));
    }
    let deny = json!({
        "podSelector": {}, "policyTypes": ["Ingress", "Egress"],
        "egress": [{
            "to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}],
            "ports": [{"protocol": "UDP", "port": 53}],
        }],
    });
    assert_eq!(spec("/apis/networking.k8s.io/v1/namespaces/NS/networkpolicies/default-deny-all", "spec"), deny);
    for (quota, hard) in [
        ("project-compute-quota", json!({"requests.cpu": "10", "requests.memory": "20Gi", "limits.cpu": "20", "limits.memory": "40Gi"})),
        ("project-storage-quota", json!({"persistentvolumeclaims": "10", "requests.storage": "100Gi"})),
        ("project-object-quota", json!({"pods": "50", "services": "20", "services.loadbalancers": "5", "configmaps": "50", "secrets": "50"})),
    ] {
        assert_eq!(spec(&format!("/api/v1/namespaces/NS/resourcequotas/{quota}"), "spec"), json!({ "hard": hard }));
    }
    let node_access = api.get("/apis/rbac.authorization.k8s.io/v1/clusterroles/plasmacloud-cluster-admin").ok();
    assert_eq!(node_access["rules"][0]["resources"], json!(["nodes", "persistentvolumes"]));
}

#[test]
fn a_project_stays_what_it_is_and_goes_when_it_is_deleted() {
    let server = server();
    let api = server.api();
    iam(&server, "org create Acme --id org-a");
    iam(&server, "org create Other --id org-b");
    let project = iam(&server, "project create web --org org-a --id proj-web --org-shared");
    let namespace = namespace(&project);
    let object = |path: &str| api.get(&path.replace("NS", &namespace));
    let (deny, quota) =
        ("/apis/networking.k8s.io/v1/namespaces/NS/networkpolicies/default-deny-all", "/api/v1/namespaces/NS/resourcequotas/project-object-quota");
    let binding = "/apis/rbac.authorization.k8s.io/v1/namespaces/NS/rolebindings/project-admin-binding";
    api.delete(&deny.replace("NS", &namespace)).ok();
    api.patch("merge", &quota.replace("NS", &namespace), &json!({"spec": {"hard": {"pods": "5000"}}})).ok();
    api.patch("merge", &binding.replace("NS", &namespace), &json!({"subjects": []})).ok();
    wait_until("what was changed is as it was", SOON, || {
        object(deny).code == 200 && object(quota).json()["spec"]["hard"]["pods"] == "50" && object(binding).json()["subjects"][0]["name"] == "project:proj-web"
    });
    assert_eq!(api.get("/api/v1/namespaces/org-a-shared").ok()["metadata"]["labels"]["plasmacloud.io/tenant-type"], "org-shared");
    iam(&server, "project rename web shop");
    iam(&server, "project move shop --org Other");
    wait_until("the move has followed", SOON, || {
        let found = object("/api/v1/namespaces/NS").json();
        let administrators = object("/apis/rbac.authorization.k8s.io/v1/namespaces/NS/rolebindings/org-admin-binding").json();
        found["metadata"]["annotations"]["plasmacloud.io/project-name"] == "shop"
            && found["metadata"]["labels"]["plasmacloud.io/org-id"] == "org-b"
            && administrators["subjects"][0]["name"] == "org:org-b"
            && api.get("/api/v1/namespaces/org-b-shared").code == 200
    });
    iam(&server, "project delete shop --grace-period 2s");
    let status = api.get(&format!("{IAM}/projects/proj-web")).ok();
    assert!(status["metadata"]["deletionTimestamp"].is_string());
    assert!(object("/api/v1/namespaces/NS").ok()["metadata"]["deletionTimestamp"].is_null(), "there is a time of grace");
    wait_until("the namespace and the project are gone", SOON, || {
        object("/api/v1/namespaces/NS").code == 404 && api.get(&format!("{IAM}/projects/proj-web")).code == 404
    });
}

#[test]
fn what_is_taken_away_is_gone_at_once() {
    let server = server();
    let api = server.api();
    iam(&server, "org create Acme --id org-a");
    iam(&server, "project create web --org org-a --id proj-web");
    let user = iam(&server, "user create eve@example.com --org org-a");
    let pods = "/api/v1/namespaces/project-web/pods";
    let eve = with_token(&server, "eve@example.com", None);
    assert_eq!(eve.get(pods).code, 403);
    iam(&server, "role grant project_viewer --user eve@example.com --project web");
    assert_eq!(eve.get(pods).code, 200, "the token needs not be a new one");
    assert_eq!(eve.post(pods, &json!({})).code, 403);
    iam(&server, "role revoke project_viewer --user eve@example.com --project web");
    assert_eq!(eve.get(pods).code, 403);
    let group = iam(&server, "group create devs --org org-a --member eve@example.com");
    iam(&server, &format!("role grant project_member --group {group} --project web"));
    assert_eq!(eve.get(pods).code, 200);
    iam(&server, "group remove devs eve@example.com");
    assert_eq!(eve.get(pods).code, 403);
    iam(&server, "group add devs eve@example.com");

    let one: Value = serde_json::from_str(&iam(&server, "token create eve@example.com --project web --json")).unwrap();
    let bearer = api.bearer(one["token"].as_str().unwrap());
    assert_eq!(bearer.get(pods).code, 200);
    iam(&server, &format!("token revoke {}", one["id"].as_str().unwrap()));
    assert_eq!((bearer.get(pods).code, eve.get(pods).code), (401, 200));
    iam(&server, "token revoke --subject eve@example.com");
    assert_eq!(eve.get(pods).code, 401);
    wait_until("new tokens are good", SOON, || with_token(&server, "eve@example.com", None).get(pods).code == 200);
    let eve = with_token(&server, "eve@example.com", None);
    iam(&server, "token rotate-keys");
    assert_eq!(eve.get(pods).code, 200, "what the old key signed stays good");
    iam(&server, "token rotate-keys --at-once");
    assert_eq!(eve.get(pods).code, 401);
    let eve = with_token(&server, &user, None);
    iam(&server, "user disable eve@example.com");
    assert_eq!(eve.get(pods).code, 401);
    iam(&server, "user enable eve@example.com");
    assert_eq!(eve.get(pods).code, 200);
    iam(&server, "project delete web");
    assert_eq!(eve.get(pods).code, 403, "nobody has a part in what is being deleted");
    iam(&server, "user delete eve@example.com");
    assert_eq!(eve.get(pods).code, 401);
}

#[test]
fn bad_tokens_are_refused_alike() {
    let server = server();
    let api = server.api();
    for org in ["org-a", "org-b"] {
        iam(&server, &format!("org create {org} --id {org}"));
        iam(&server, &format!("project create web --org {org} --id proj-{org}"));
    }
    iam(&server, "user create eve@example.com --org org-a");
    iam(&server, "role grant project_member --user eve@example.com --project proj-org-a");
    let good = iam(&server, "token create eve@example.com --project proj-org-a");
    let elsewhere = iam(&server, "token create eve@example.com --audience vault");
    assert!(refused(&server, "token create eve@example.com --project proj-org-b").contains("not found"));
    assert!(refused(&server, "role grant project_member --user eve@example.com --project proj-org-b").contains("does not belong to organization"));
    let parts: Vec<&str> = good.split('.').collect();
    let review = |token: &str| {
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}});
        api.post(&format!("{IAM}/authenticate"), &request).ok()
    };
    let status = review(&good)["status"].take();
    assert_eq!(status["authenticated"], true);
    assert_eq!(status["user"]["groups"], json!(["org:org-a:member", "project:proj-org-a", "system:authenticated"]));
    assert_eq!(status["user"]["extra"], json!({"org_id": ["org-a"], "project_id": ["proj-org-a"], "roles": ["project_member"]}));
    let refusal = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "status": {"authenticated": false, "error": "Invalid or expired token"},
    });
    for token in [
        elsewhere.as_str(),
        "",
        "garbage",
        &format!("{}.{}.", parts[0], parts[1]),
        &format!("{}.{}.{}", parts[0], parts[1], "A".repeat(86)),
        // {"alg":"none"}
        &format!("eyJhbGciOiJub25lIn0.{}.", parts[1]),
    ] {
        assert_eq!(review(token), refusal, "{token}");
        let answer = api.bearer(token).get("/api/v1/namespaces");
        assert_eq!((answer.code, answer.json()["message"].as_str().unwrap()), UNAUTHORIZED);
    }
    // What others ask about their own audience is answered.
    let ask = json!({"spec": {"token": elsewhere, "audiences": ["vault"]}});
    let answer = api.post("/apis/authentication.k8s.io/v1/tokenreviews", &ask).ok();
    assert_eq!((&answer["status"]["authenticated"], &answer["status"]["audiences"]), (&json!(true), &json!(["vault"])));
    // Reviews are not for everybody.
    let eve = api.bearer(&good);
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": good}});
    assert_eq!(eve.post(&format!("{IAM}/authenticate"), &request).code, 403);
    assert_eq!(api.anonymous().post(&format!("{IAM}/authenticate"), &request).code, 401);
}

#[test]
fn logins_refresh_themselves_and_end() {
    let server = server();
    iam(&server, "org create Acme --id org-a");
    iam(&server, "project create web --org org-a --id proj-web");
    let k8shost = testkit::binary().display().to_string();
    let tool = server.tool();
    let create = format!("printf 'correct horse battery\n' | {k8shost} iam user create eve@example.com --org org-a --password-stdin");
    tool.sh(&create).ok();
    iam(&server, "role grant project_admin --user eve@example.com --project web");
    assert!(
        tool.sh(&format!("printf 'wrong password!\n' | {k8shost} iam login eve@example.com --kubeconfig-output bad.yaml"))
            .err()
            .contains("invalid or expired credentials")
    );
    assert!(
        tool.sh(&format!("printf 'wrong password!\n' | {k8shost} iam login nobody@example.com --kubeconfig-output bad.yaml"))
            .err()
            .contains("invalid or expired credentials")
    );
    tool.sh(&format!("printf 'correct horse battery\n' | {k8shost} iam login eve@example.com --kubeconfig-output eve.yaml")).ok();
    let eve = |line: &str| tool.sh(&format!("KUBECONFIG=eve.yaml {line}"));
    assert_eq!(eve("kubectl auth whoami -o jsonpath={.status.userInfo.username}").ok(), "eve@example.com");
    eve("kubectl -n project-web create configmap made").ok();
    // As if the token had ended: another is fetched, with a key that works once.
    let stale = "cp eve.login old.login; python3 -c \"import json; k = json.load(open('eve.login')); k['expires'] = '2020-01-01T00:00:00Z'; k['token'] = 'x'; json.dump(k, open('eve.login', 'w'))\"";
    tool.sh(stale).ok();
    eve("kubectl -n project-web get configmap made").ok();
    tool.sh("sed -i 's/\"expires\":\"[^\"]*\"/\"expires\":\"2020-01-01T00:00:00Z\"/' old.login").ok();
    assert!(tool.sh(&format!("{k8shost} iam credential --credential-file old.login")).err().contains("log in again"), "a key used again");
    tool.sh("sed -i 's/\"expires\":\"[^\"]*\"/\"expires\":\"2020-01-01T00:00:00Z\"/' eve.login").ok();
    assert!(tool.sh(&format!("{k8shost} iam credential --credential-file eve.login")).err().contains("log in again"), "ends the login of both");
    tool.sh(&format!("printf 'correct horse battery\n' | {k8shost} iam login eve@example.com --kubeconfig-output eve.yaml")).ok();
    tool.sh(&format!("cp eve.login kept.login; {k8shost} iam logout --credential-file eve.login")).ok();
    tool.sh("mv kept.login eve.login").ok();
    assert!(eve("kubectl get --raw /api").err().contains("logged in"), "the token is revoked too");
    // Guessing is slowed down, and tells nothing of who there is.
    let nobody = server.api().anonymous();
    for email in ["eve@example.com", "nobody@example.com"] {
        let guess = |at: usize| nobody.post(&format!("{IAM}/login"), &json!({"email": email, "password": format!("guess number {at}")}));
        let codes: Vec<u16> = (0..20).map(|at| guess(at).code).collect();
        assert!(codes.ends_with(&[429]) && codes.iter().all(|code| matches!(code, 401 | 429)), "{email}: {codes:?}");
    }
}

#[test]
fn a_project_may_have_a_cluster_of_its_own() {
    let server = server();
    let api = server.api();
    iam(&server, "org create Acme --id org-a");
    iam(&server, "user create eve@example.com --org org-a");
    iam(&server, "user create mallory@example.com --org org-a");
    iam(&server, "project create lab --org org-a --id proj-lab --virtual-cluster");
    iam(&server, "role grant project_viewer --user eve@example.com --project lab");
    iam(&server, "role grant org_admin --user mallory@example.com --org org-a");
    let place = "/clusters/cluster.project-lab";
    let (eve, mallory) = (with_token(&server, "eve@example.com", None).elsewhere(place), with_token(&server, "mallory@example.com", None).elsewhere(place));
    wait_until("members are let in", SOON, || eve.get("/api/v1/namespaces/default/pods").code == 200);
    assert_eq!(eve.post("/api/v1/namespaces", &json!({"metadata": {"name": "made"}})).code, 403);
    mallory.post("/api/v1/namespaces", &json!({"metadata": {"name": "made"}})).ok();
    assert_eq!(api.get("/api/v1/namespaces/made").code, 404, "it is not the host's");
    iam(&server, "org create Other --id org-b");
    iam(&server, "user create trudy@example.com --org org-b");
    iam(&server, "role grant org_admin --user trudy@example.com --org org-b");
    let trudy = with_token(&server, "trudy@example.com", None).elsewhere(place);
    assert_eq!(trudy.get("/api/v1/namespaces").code, 401);
    assert_eq!(mallory.elsewhere("").get("/api/v1/namespaces/project-lab/pods").code, 403, "its namespace is the platform's");
}

/// IAM alone, on a port of its own, and how an API server reaches it.
pub fn alone(server: &Server, more: &str) -> (testkit::Background, Api) {
    let (k8shost, tool) = (testkit::binary().display().to_string(), server.tool());
    let port = testkit::free_port();
    let issue = format!(
        "{k8shost} iam issue-cert iam-server --server --san 127.0.0.1 --data-dir {data} --output certs/server\n\
         {k8shost} iam issue-cert k8s-apiserver --client --data-dir {data} --output certs/client",
        data = server.data_dir().display()
    );
    tool.sh(&issue).ok();
    let running = tool.background(&format!(
        "exec {k8shost} iam-server --kubeconfig {} --listen 127.0.0.1:{port} --tls-cert-file certs/server/iam-server.crt --tls-private-key-file certs/server/iam-server.key \
         --client-ca-file certs/server/ca.crt --audit-log-path audit.log {more} 2>&1",
        server.kubeconfig().display()
    ));
    running.until_printed("k8shost iam-server is ready", SOON);
    let kubeconfig = server.directory.path().join("webhook.yaml");
    let inlined = |file: &str| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, std::fs::read(tool.home.join(file)).unwrap());
    let (ca, certificate, key) = (inlined("certs/client/ca.crt"), inlined("certs/client/k8s-apiserver.crt"), inlined("certs/client/k8s-apiserver.key"));
    let text = format!("server: https://127.0.0.1:{port}\ncertificate-authority-data: {ca}\nclient-certificate-data: {certificate}\nclient-key-data: {key}\n");
    std::fs::write(&kubeconfig, text).unwrap();
    (running, Api::of_kubeconfig(&kubeconfig))
}

#[test]
fn the_webhook_stands_alone_for_those_with_a_certificate() {
    let server = server();
    iam(&server, "org create Acme --id org-123");
    iam(&server, "project create web --org Acme --id proj-456");
    iam(&server, "user create user@example.com --org Acme --id user-550e8400-e29b-41d4-a716-446655440000");
    iam(&server, "role grant org_admin --user user@example.com --org Acme");
    iam(&server, "service-account create ci --project web --role project_viewer");
    // As the specification has it: an administrator, and a secret that both sides share.
    let secret = server.tool().home.join("secret");
    std::fs::write(&secret, "a secret of more than thirty-two bytes\n").unwrap();
    let (_running, webhook) = alone(&server, &format!("--shared-secret-file {}", secret.display()));
    let review = |token: &str| json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}});
    let path = format!("{IAM}/authenticate");
    let token = iam(&server, "token create user@example.com --project web");
    let answer = webhook.post(&path, &review(&token)).ok();
    let expected = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "status": {"authenticated": true, "user": {
            "username": "user@example.com", "uid": "user-550e8400-e29b-41d4-a716-446655440000",
            "groups": ["org:org-123", "project:proj-456", "k8s:org-admin", "system:authenticated"],
            "extra": {"org_id": ["org-123"], "project_id": ["proj-456"], "roles": ["org_admin"]},
        }},
    });
    assert_eq!(answer, expected);
    let script = "python3 - <<'PYTHON'\nimport base64, hashlib, hmac, json, time\n\
        part = lambda data: base64.urlsafe_b64encode(data).rstrip(b'=')\n\
        said = {'sub': 'user-550e8400-e29b-41d4-a716-446655440000', 'email': 'user@example.com', 'org_id': 'org-123', 'project_id': 'proj-456', 'roles': ['org_admin'], 'exp': int(time.time()) + 600}\n\
        text = part(json.dumps({'alg': 'HS256', 'typ': 'JWT'}).encode()) + b'.' + part(json.dumps(said).encode())\n\
        print((text + b'.' + part(hmac.new(b'a secret of more than thirty-two bytes', text, hashlib.sha256).digest())).decode())\nPYTHON";
    let shared = server.tool().sh(script).ok().trim().to_owned();
    assert_eq!(webhook.post(&path, &review(&shared)).ok(), expected);
    assert_eq!(server.api().bearer(&shared).get("/api").code, 401, "the server has no such secret");
    let account = iam(&server, "token create sa-ci@proj-456");
    let user = webhook.post(&path, &review(&account)).ok()["status"]["user"].take();
    assert_eq!(user["username"], "sa-ci@proj-456");
    assert_eq!(user["groups"], json!(["org:org-123:member", "project:proj-456:viewer", "system:serviceaccounts"]));
    let refused =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "status": {"authenticated": false, "error": "Invalid or expired token"}});
    assert_eq!(webhook.post(&path, &review("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.e30.x")).ok(), refused);
    assert_eq!(webhook.post(&path, &json!({"kind": "Pod"})).code, 422);
    assert_eq!((webhook.anonymous().post(&path, &review(&token)).code, webhook.get("/nowhere").code), (401, 404));
    assert_eq!(webhook.bearer(&token).post(&path, &review(&token)).code, 401, "a token is no certificate");
    assert_eq!(webhook.anonymous().get(&format!("{IAM}/jwks")).ok(), server.api().anonymous().get(&format!("{IAM}/jwks")).ok());
    // Its members reach a namespace, others are told no; what isn't a project's is not its to say.
    let access = |org: &str, groups: Value, namespace: &str| {
        let spec = json!({"user": "u", "groups": groups, "extra": {"org_id": [org]}, "resourceAttributes": {"namespace": namespace, "verb": "get", "resource": "pods"}});
        webhook.post(&format!("{IAM}/authorize"), &json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec})).ok()["status"]
            .take()
    };
    assert_eq!(access("org-123", json!(["project:proj-456:viewer"]), "project-456"), json!({"allowed": false}));
    assert_eq!(access("org-123", json!(["project:proj-4567"]), "project-456")["denied"], true);
    assert_eq!(access("org-evil", json!(["org:org-123"]), "project-456")["denied"], true);
    assert_eq!(access("org-evil", json!([]), "default"), json!({"allowed": false}));
    // What is revoked is gone here too, within the time a watch takes; at last the certificate itself.
    iam(&server, "token revoke --subject user@example.com");
    wait_until("the token is refused", SOON, || webhook.post(&path, &review(&token)).json() == refused);
    let mut open = webhook.connection();
    assert_eq!(open.send(&testkit::Ask::new("POST", &path).json(&review(&account))).code, 200);
    iam(&server, &format!("cert revoke {}", server.tool().home.join("certs/client/k8s-apiserver.crt").display()));
    wait_until("the certificate is refused on an open connection", SOON, || open.send(&testkit::Ask::new("POST", &path).json(&review(&account))).code == 401);
    let log = std::fs::read_to_string(server.tool().home.join("audit.log")).unwrap();
    let decisions: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(decisions.iter().any(|entry| entry["decision"] == "review" && entry["outcome"] == "refused" && entry["why"] == "the token has been revoked"));
}

/// Another API server, which knows no tokens but by the webhook that stands alone, and remembers its answers for so long.
pub fn asking(server: &Server, ttl: &str) -> Server {
    let webhook = std::fs::read_to_string(server.directory.path().join("webhook.yaml")).unwrap();
    let address = webhook.lines().next().unwrap().trim_start_matches("server: ");
    let certs = server.tool().home.join("certs/client");
    let config = format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: iam-webhook\n  cluster:\n    server: {address}{IAM}/authenticate\n    certificate-authority: {certs}/ca.crt\n\
         users:\n- name: k8s-apiserver\n  user:\n    client-certificate: {certs}/k8s-apiserver.crt\n    client-key: {certs}/k8s-apiserver.key\n\
         current-context: webhook\ncontexts:\n- context:\n    cluster: iam-webhook\n    user: k8s-apiserver\n  name: webhook\n",
        certs = certs.display()
    );
    let file = server.directory.path().join("iam-webhook.yaml");
    std::fs::write(&file, config).unwrap();
    let arguments = ["--disable-agent", "--disable", "controllers,scheduler,hosting,iam", "--authentication-token-webhook-cache-ttl", ttl].map(Into::into);
    let arguments = arguments.into_iter().chain(["--authentication-token-webhook-config-file".into(), file.display().to_string()]).collect();
    Server::start(ServerOptions { arguments, is_host: true, ..ServerOptions::default() })
}

#[test]
fn another_server_asks_the_webhook() {
    let server = server();
    iam(&server, "org create Acme --id org-a");
    iam(&server, "project create web --org Acme --id proj-a");
    iam(&server, "user create eve@example.com --org Acme");
    iam(&server, "role grant project_member --user eve@example.com --project web");
    let (_running, _) = alone(&server, "");
    let asking = asking(&server, "1s");
    let token = iam(&server, "token create eve@example.com");
    let eve = asking.api().bearer(&token);
    let user = eve.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &json!({})).ok()["status"]["userInfo"].take();
    assert_eq!((&user["username"], &user["groups"]), (&json!("eve@example.com"), &json!(["org:org-a:member", "project:proj-a", "system:authenticated"])));
    iam(&server, "user disable eve@example.com");
    wait_until("the cached answer has ended", SOON, || eve.get("/api").code == 401);
}

#[test]
fn while_the_webhook_is_gone_only_remembered_tokens_are_good_and_for_their_time() {
    let server = server();
    iam(&server, "org create Acme --id org-a");
    iam(&server, "user create eve@example.com --org Acme");
    let (running, webhook) = alone(&server, "");
    let (long, short) = (asking(&server, "1h"), asking(&server, "2s"));
    let [known, unknown] = [0, 1].map(|_| iam(&server, "token create eve@example.com"));
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": known}});
    wait_until("the webhook knows her", SOON, || webhook.post(&format!("{IAM}/authenticate"), &review).ok()["status"]["authenticated"] == true);
    let whoami = |server: &Server, token: &str| {
        let ask = testkit::Ask::new("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews").json(&json!({}));
        server.api().bearer(token).send(&ask)
    };
    for asking in [&long, &short] {
        assert_eq!(whoami(asking, &known).ok()["status"]["userInfo"]["username"], "eve@example.com");
    }
    drop(running);
    wait_until("the webhook is gone", SOON, || webhook.try_send(&testkit::Ask::new("GET", "/healthz")).is_err());
    wait_until("what was remembered for a short time is forgotten", SOON, || whoami(&short, &known).code == 401);
    assert_eq!(whoami(&long, &known).ok()["status"]["userInfo"]["username"], "eve@example.com", "its time is not over");
    for asking in [&long, &short] {
        for token in [unknown.as_str(), "garbage", "", "a.b.c"] {
            let reply = whoami(asking, token);
            assert_eq!((reply.code, reply.json()["message"].as_str().unwrap()), UNAUTHORIZED, "{token}");
        }
        assert_eq!(asking.api().anonymous().get("/api/v1/namespaces").code, 401);
    }
    assert_eq!(whoami(&short, &known).code, 401, "it stays forgotten");
}

#[test]
fn a_revoked_certificate_is_refused_on_open_connections() {
    let server = server();
    let (k8shost, tool) = (testkit::binary().display().to_string(), server.tool());
    let issue = format!("{k8shost} iam issue-cert eve --client --group system:masters --data-dir {} --output certs", server.data_dir().display());
    let serial = tool.sh(&issue).ok().trim().to_owned();
    let file = |name: &str| std::fs::read_to_string(tool.home.join("certs").join(name)).unwrap();
    let inlined = |text: String| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, text);
    let text = format!(
        "server: https://127.0.0.1:{}\ncertificate-authority-data: {}\nclient-certificate-data: {}\nclient-key-data: {}\n",
        server.port,
        inlined(file("ca.crt")),
        inlined(file("eve.crt")),
        inlined(file("eve.key"))
    );
    let kubeconfig = server.directory.path().join("eve.yaml");
    std::fs::write(&kubeconfig, text).unwrap();
    let eve = Api::of_kubeconfig(&kubeconfig);
    let mut open = eve.connection();
    let ask = testkit::Ask::new("GET", "/api/v1/namespaces");
    assert_eq!(open.send(&ask).code, 200);
    iam(&server, &format!("cert revoke {serial}"));
    wait_until("it is refused", SOON, || open.send(&ask).code == 401);
    assert_eq!(eve.get("/api").code, 401);
    assert_eq!(server.api().get("/api").code, 200, "others are not");
    let lists = server.directory.path().join("crl.pem");
    std::fs::write(&lists, iam(&server, "cert crl")).unwrap();
    assert_eq!(std::fs::read_to_string(&lists).unwrap().matches("BEGIN X509 CRL").count(), 2);
    let told = tool.sh(&format!("openssl crl -in {} -noout -text", lists.display())).ok().to_lowercase();
    assert!(
        told.replace(['\n', ' '], "").contains(&format!("serialnumber:{serial}")) || told.replace(['\n', ' '], "").contains(&format!("serialnumber:0{serial}")),
        "{told}"
    );
}

#[test]
fn quotas_are_told_in_upstreams_words() {
    let server = server();
    iam(&server, "org create Acme --id org-a");
    iam(&server, "project create web --org Acme --id proj-a");
    iam(&server, "user create eve@example.com --org Acme");
    iam(&server, "role grant project_member --user eve@example.com --project web");
    let eve = with_token(&server, "eve@example.com", None);
    let admin = server.api();
    let quota = |name: &str| admin.get(&format!("/api/v1/namespaces/project-a/resourcequotas/{name}")).ok();
    wait_until("quotas are counted", SOON, || {
        ["project-compute-quota", "project-storage-quota", "project-object-quota"].iter().all(|name| quota(name)["status"]["used"].is_object())
    });
    let pod = |name: &str, [cpu, memory, cpu_limit, memory_limit]: [&str; 4]| {
        let resources = json!({"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": cpu_limit, "memory": memory_limit}});
        json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i", "resources": resources}]}})
    };
    let claim = |name: &str, size: &str| {
        let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}});
        json!({"metadata": {"name": name}, "spec": spec})
    };
    let service = |name: &str, kind: &str| json!({"metadata": {"name": name}, "spec": {"type": kind, "ports": [{"port": 80}]}});
    let named = |name: &str| json!({"metadata": {"name": name}});
    let post = |plural: &str, object: &Value| eve.post(&format!("/api/v1/namespaces/project-a/{plural}"), object);
    wait_until("pods can be made", SOON, || post("pods", &pod("first", ["6", "1Mi", "6", "1Mi"])).code == 201);
    let make = |plural: &str, many: usize, object: &dyn Fn(&str) -> Value| {
        (0..many).for_each(|at| assert_eq!(post(plural, &object(&format!("n{at}"))).code, 201, "{plural} {at}"));
    };
    let kept = |plural: &str| admin.get(&format!("/api/v1/namespaces/project-a/{plural}")).ok()["items"].as_array().unwrap().len();
    make("pods", 49, &|name| pod(name, ["1m", "1Ki", "1m", "1Ki"]));
    make("persistentvolumeclaims", 9, &|name| claim(name, "1Gi"));
    make("services", 5, &|name| service(&format!("balanced-{name}"), "LoadBalancer"));
    make("configmaps", 50 - kept("configmaps"), &named);
    make("secrets", 50 - kept("secrets"), &named);
    for (quota, plural, object, refusal) in [
        // More pods than these are refused for their number too: it is the first quota that says no that is told.
        ("compute", "pods", pod("x", ["6", "1Mi", "6", "1Mi"]), "requests.cpu=6, used: requests.cpu=6049m, limited: requests.cpu=10"),
        ("compute", "pods", pod("x", ["1m", "21Gi", "1m", "21Gi"]), "requests.memory=21Gi, used: requests.memory=1073Ki, limited: requests.memory=20Gi"),
        ("compute", "pods", pod("x", ["1m", "1Mi", "15", "1Mi"]), "limits.cpu=15, used: limits.cpu=6049m, limited: limits.cpu=20"),
        ("compute", "pods", pod("x", ["1m", "1Mi", "1m", "40Gi"]), "limits.memory=40Gi, used: limits.memory=1073Ki, limited: limits.memory=40Gi"),
        ("object", "pods", pod("x", ["1m", "1Mi", "1m", "1Mi"]), "pods=1, used: pods=50, limited: pods=50"),
        ("storage", "persistentvolumeclaims", claim("x", "92Gi"), "requests.storage=92Gi, used: requests.storage=9Gi, limited: requests.storage=100Gi"),
        ("object", "services", service("x", "LoadBalancer"), "services.loadbalancers=1, used: services.loadbalancers=5, limited: services.loadbalancers=5"),
        ("object", "configmaps", named("x"), "configmaps=1, used: configmaps=50, limited: configmaps=50"),
        ("object", "secrets", named("x"), "secrets=1, used: secrets=50, limited: secrets=50"),
    ] {
        let (code, reason, message) = post(plural, &object).refusal();
        assert_eq!((code, reason.as_str()), (403, "Forbidden"));
        assert_eq!(message, format!("{plural} \"x\" is forbidden: exceeded quota: project-{quota}-quota, requested: {refusal}"));
    }
    make("persistentvolumeclaims", 1, &|_| claim("last", "1Gi"));
    let (_, _, message) = post("persistentvolumeclaims", &claim("x", "1Gi")).refusal();
    let many = "requested: persistentvolumeclaims=1, used: persistentvolumeclaims=10, limited: persistentvolumeclaims=10";
    assert_eq!(message, format!("persistentvolumeclaims \"x\" is forbidden: exceeded quota: project-storage-quota, {many}"));
    make("services", 15, &|name| service(name, "ClusterIP"));
    let (_, _, message) = post("services", &service("x", "ClusterIP")).refusal();
    let many = "requested: services=1, used: services=20, limited: services=20";
    assert_eq!(message, format!("services \"x\" is forbidden: exceeded quota: project-object-quota, {many}"));
    let (_, _, message) = post("pods", &json!({"metadata": {"name": "x"}, "spec": {"containers": [{"name": "c", "image": "i"}]}})).refusal();
    assert!(message.contains("failed quota: project-compute-quota: must specify limits.cpu for: c"), "{message}");
    // Usage of all three, as kubectl shows it.
    let shown = |told: &str, wanted: &[&str]| told.lines().any(|line| line.split_whitespace().collect::<Vec<_>>() == wanted);
    server.tool().until("kubectl -n project-a describe quota", SOON, |told| {
        ["project-compute-quota", "project-storage-quota", "project-object-quota"].iter().all(|name| shown(told, &["Name:", name]))
            && shown(told, &["requests.cpu", "6049m", "10"])
            && shown(told, &["requests.memory", "1073Ki", "20Gi"])
            && shown(told, &["limits.cpu", "6049m", "20"])
            && shown(told, &["limits.memory", "1073Ki", "40Gi"])
            && shown(told, &["requests.storage", "10Gi", "100Gi"])
            && shown(told, &["persistentvolumeclaims", "10", "10"])
            && shown(told, &["configmaps", "50", "50"])
            && shown(told, &["secrets", "50", "50"])
            && shown(told, &["services", "20", "20"])
            && shown(told, &["services.loadbalancers", "5", "5"])
            && shown(told, &["pods", "50", "50"])
    });
    // Baseline: nothing privileged.
    let privileged = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i", "securityContext": {"privileged": true}}]}});
    assert!(post("pods", &privileged).refusal().2.contains("violates PodSecurity \"baseline:latest\""));
}

#[test]
fn the_guide_works_as_it_stands() {
    const GUIDE: &str = include_str!("../../../../docs/guide/iam.md");
    let server = server();
    let tool = server.tool();
    let folder = testkit::binary().parent().unwrap().display().to_string();
    for block in GUIDE.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next()) {
        tool.sh(&format!("export PATH={folder}:$PATH\n{block}")).ok();
    }
    let found = server.api().get(&format!("{IAM}/projects/proj-shop")).ok();
    assert_eq!((&found["status"]["phase"], &found["spec"]["displayName"]), (&json!("Terminating"), &json!("web-shop")));
}
