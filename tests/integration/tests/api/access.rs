//! Access: who gets in, as whom, and what they may do there.
use crate::support::{CONFIG_MAPS, config_map, everything, pod, quiet};
use serde_json::{Value, json};
use testkit::{Api, Ask};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

/// A role in the namespace `default`, bound to a user.
fn grant(api: &Api, name: &str, user: &str, rules: Value) {
    api.post(&format!("{RBAC}/namespaces/default/roles"), &json!({"metadata": {"name": name}, "rules": rules})).ok();
    bind(api, name, user);
}

fn bind(api: &Api, name: &str, user: &str) {
    let binding = json!({
        "metadata": {"name": name}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": user}],
    });
    api.post(&format!("{RBAC}/namespaces/default/rolebindings"), &binding).ok();
}

fn forbidden(api: &Api, ask: &Ask) -> String {
    let (code, reason, message) = api.send(ask).refusal();
    assert_eq!((code, reason.as_str()), (403, "Forbidden"), "{message}");
    message
}

#[test]
fn nobody_gets_anywhere_but_to_the_health_endpoints() {
    let (_server, api) = quiet();
    let nobody = api.anonymous();
    let unauthorized = (401, "Unauthorized".to_owned(), "Unauthorized".to_owned());
    for path in ["/api/v1/namespaces", "/api", "/apis", "/version", "/openapi/v3", "/nowhere", "/", "/api/v1/namespaces/a/namespaces/b", "/openid/v1/jwks"] {
        assert_eq!(nobody.get(path).refusal(), unauthorized, "{path}");
    }
    for path in ["/clusters/a/api", "/clusters/NO/api"] {
        assert_eq!(nobody.get(path).refusal(), unauthorized, "{path}");
    }
    for path in ["/healthz", "/livez", "/readyz", "/readyz/ping"] {
        assert_eq!((nobody.get(path).code, nobody.get(path).text().as_str()), (200, "ok"), "{path}");
    }
    assert!(nobody.get("/readyz?verbose").text().contains("[+]store ok\n"));
    assert_eq!(nobody.get("/readyz/none").code, 404);
    assert_eq!(nobody.post(CONFIG_MAPS, &config_map("a", &json!({}))).refusal(), unauthorized);
    // Saying who one is does not make it so.
    for header in
        [("impersonate-user", "system:admin"), ("x-remote-user", "system:admin"), ("authorization", "Basic YWRtaW46YWRtaW4="), ("authorization", "Bearer x")]
    {
        assert_eq!(nobody.with_header(header.0, header.1).get("/api/v1/namespaces").refusal(), unauthorized, "{header:?}");
    }
    let forged = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJzeXN0ZW06YWRtaW4iLCJncm91cHMiOlsic3lzdGVtOm1hc3RlcnMiXX0.";
    assert_eq!(api.bearer(forged).get("/healthz").refusal(), unauthorized, "who shows something false is not let in as nobody");
    assert_eq!(nobody.get("/readyz").header("cache-control"), Some("no-cache, private"));
}

#[test]
fn roles_allow_exactly_what_they_say() {
    let (_server, api) = quiet();
    api.post(CONFIG_MAPS, &config_map("a", &json!({}))).ok();
    api.post(CONFIG_MAPS, &config_map("b", &json!({}))).ok();
    api.post("/api/v1/namespaces/default/pods", &pod("p")).ok();
    let eve = api.acting_as("eve", &[]);
    let get = |path: &str| Ask::new("GET", path);
    let one = format!("{CONFIG_MAPS}/a");
    assert_eq!(
        forbidden(&eve, &get(&one)),
        "configmaps \"a\" is forbidden: User \"eve\" cannot get resource \"configmaps\" in API group \"\" in the namespace \"default\""
    );
    assert_eq!(
        forbidden(&eve, &get("/api/v1/nodes")),
        "nodes is forbidden: User \"eve\" cannot list resource \"nodes\" in API group \"\" at the cluster scope"
    );
    assert_eq!(forbidden(&eve, &get("/metrics/x")), "forbidden: User \"eve\" cannot get path \"/metrics/x\"");
    assert_eq!(
        forbidden(&eve, &get("/apis/apps/v1/namespaces/x/deployments/d/scale")),
        "deployments.apps \"d\" is forbidden: User \"eve\" cannot get resource \"deployments/scale\" in API group \"apps\" in the namespace \"x\""
    );
    grant(&api, "reader", "eve", json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch"], "resourceNames": ["a"]}]));
    // It holds from the moment it was written.
    assert_eq!(eve.get(&one).code, 200);
    forbidden(&eve, &get(&format!("{CONFIG_MAPS}/b")));
    forbidden(&eve, &get(CONFIG_MAPS));
    assert_eq!(eve.get(&format!("{CONFIG_MAPS}?fieldSelector=metadata.name%3Da")).ok()["items"].as_array().unwrap().len(), 1);
    // The old path for the watch of one object shows that object and no other.
    let since = api.get(CONFIG_MAPS).ok()["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let mut watch = eve.watch(&format!("/api/v1/watch/namespaces/default/configmaps/a?resourceVersion={since}&timeoutSeconds=2"));
    api.patch("merge", &format!("{CONFIG_MAPS}/b"), &json!({"data": {"secret": "x"}})).ok();
    api.patch("merge", &one, &json!({"data": {"k": "v"}})).ok();
    assert_eq!(watch.next_short(), "MODIFIED a");
    assert!(watch.next().is_none());
    forbidden(&eve, &get("/api/v1/watch/namespaces/default/configmaps"));
    forbidden(&eve, &Ask::new("DELETE", &one));
    api.delete(&format!("{RBAC}/namespaces/default/rolebindings/reader")).ok();
    forbidden(&eve, &get(&one));
    // A subresource is not its resource.
    grant(&api, "pods", "eve", json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["*"]}]));
    assert_eq!(eve.get("/api/v1/namespaces/default/pods/p").code, 200);
    assert_eq!(eve.get("/api/v1/namespaces/default/pods/p/status").refusal().0, 403);
    let message = forbidden(&eve, &Ask::new("GET", "/api/v1/namespaces/default/pods/p/exec?command=sh"));
    assert!(message.contains("User \"eve\" cannot create resource \"pods/exec\""), "a stream is opened with `create`: {message}");
}

#[test]
fn what_may_create_by_the_way_needs_the_permission_to_create() {
    let (_server, api) = quiet();
    let eve = api.acting_as("eve", &[]);
    let update = json!([{"apiGroups": ["", "coordination.k8s.io"], "resources": ["configmaps", "leases"], "verbs": ["get", "update", "patch"]}]);
    grant(&api, "updater", "eve", update);
    let before = everything(&api);
    let lease = "/apis/coordination.k8s.io/v1/namespaces/default/leases/l";
    let message = forbidden(&eve, &Ask::new("PUT", lease).json(&json!({"metadata": {"name": "l"}})));
    assert!(message.contains("User \"eve\" cannot create resource \"leases\""), "{message}");
    let apply = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}});
    let ask = Ask::new("PATCH", &format!("{CONFIG_MAPS}/a?fieldManager=m")).body("application/apply-patch+yaml", apply.to_string());
    let message = forbidden(&eve, &ask);
    assert!(message.contains("User \"eve\" cannot create resource \"configmaps\""), "{message}");
    assert_eq!(everything(&api), before);
    api.post(CONFIG_MAPS, &config_map("a", &json!({}))).ok();
    assert_eq!(eve.send(&ask).code, 200);
}

#[test]
fn acting_as_another_is_a_permission_of_its_own() {
    let (_server, api) = quiet();
    let rule = |resources: Value, names: Value| json!([{"apiGroups": [""], "resources": resources, "verbs": ["impersonate"], "resourceNames": names}]);
    api.post(&format!("{RBAC}/clusterroles"), &json!({"metadata": {"name": "actor"}, "rules": rule(json!(["users"]), json!(["bob"]))})).ok();
    let binding = json!({"metadata": {"name": "actor"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "actor"}, "subjects": [{"kind": "ServiceAccount", "name": "robot", "namespace": "default"}]});
    api.post(&format!("{RBAC}/clusterrolebindings"), &binding).ok();
    api.post("/api/v1/namespaces/default/serviceaccounts", &json!({"metadata": {"name": "robot"}})).ok();
    let token = api.post("/api/v1/namespaces/default/serviceaccounts/robot/token", &json!({})).ok();
    let robot = api.bearer(token["status"]["token"].as_str().unwrap());
    let whoami = |api: &Api| api.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &json!({}));
    let as_bob = whoami(&robot.acting_as("bob", &[])).ok();
    assert_eq!(as_bob["status"]["userInfo"], json!({"username": "bob", "groups": ["system:authenticated"]}));
    let refused = |api: &Api| {
        let (code, _, message) = whoami(api).refusal();
        assert_eq!(code, 403, "{message}");
        message
    };
    assert_eq!(
        refused(&robot.acting_as("alice", &[])),
        "users \"alice\" is forbidden: User \"system:serviceaccount:default:robot\" cannot impersonate resource \"users\" in API group \"\" at the cluster scope"
    );
    assert!(refused(&robot.acting_as("bob", &["system:masters"])).contains("cannot impersonate resource \"groups\""));
    assert!(refused(&robot.acting_as("system:serviceaccount:kube-system:x", &[])).contains("cannot impersonate resource \"serviceaccounts\""));
    assert!(refused(&robot.acting_as("bob", &[]).with_header("impersonate-extra-scopes", "all")).contains("\"userextras/scopes\""));
    assert_eq!(robot.with_header("impersonate-group", "system:masters").get("/api").refusal().0, 400);
    // The admin may; who is nobody then is refused as nobody is by a role, not sent away.
    let everyone = whoami(&api.acting_as("x", &["a", "b"]).with_header("impersonate-extra-where", "here")).ok();
    assert_eq!(everyone["status"]["userInfo"], json!({"username": "x", "groups": ["a", "b", "system:authenticated"], "extra": {"where": ["here"]}}));
    assert_eq!(api.acting_as("system:anonymous", &[]).get("/api/v1/namespaces").refusal().0, 403);
}

#[test]
fn access_reviews_answer_as_the_authorizer_would() {
    let (_server, api) = quiet();
    grant(&api, "reader", "eve", json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]));
    let eve = api.acting_as("eve", &[]);
    let reviews = "/apis/authorization.k8s.io/v1";
    let ask = |verb: &str, namespace: &str| json!({"spec": {"resourceAttributes": {"verb": verb, "resource": "configmaps", "namespace": namespace}}});
    let own = |body: &Value| eve.post(&format!("{reviews}/selfsubjectaccessreviews"), body).ok()["status"].take();
    let allowed = own(&ask("get", "default"));
    assert_eq!(
        (&allowed["allowed"], &allowed["reason"]),
        (&json!(true), &json!("RBAC: allowed by RoleBinding \"reader/default\" of Role \"reader\" to User \"eve\""))
    );
    assert_eq!(own(&ask("list", "default")), json!({"allowed": false}));
    assert_eq!(own(&ask("get", "kube-system")), json!({"allowed": false}));
    assert_eq!(own(&json!({"spec": {"nonResourceAttributes": {"verb": "get", "path": "/version"}}}))["allowed"], true);
    let mut about = ask("get", "default");
    about["spec"]["user"] = json!("eve");
    assert_eq!(api.post(&format!("{reviews}/subjectaccessreviews"), &about).ok()["status"]["allowed"], true);
    assert_eq!(eve.post(&format!("{reviews}/subjectaccessreviews"), &about).refusal().0, 403);
    assert_eq!(api.post(&format!("{reviews}/namespaces/default/localsubjectaccessreviews"), &about).ok()["status"]["allowed"], true);
    assert_eq!(api.post(&format!("{reviews}/namespaces/other/localsubjectaccessreviews"), &about).refusal().0, 422);
    let rules = eve.post(&format!("{reviews}/selfsubjectrulesreviews"), &json!({"spec": {"namespace": "default"}})).ok();
    let listed = rules["status"]["resourceRules"].as_array().unwrap();
    assert!(listed.contains(&json!({"verbs": ["get"], "apiGroups": [""], "resources": ["configmaps"]})), "{listed:?}");
    assert_eq!(eve.post(&format!("{reviews}/selfsubjectaccessreviews"), &json!({"spec": {}})).refusal().0, 422);
    assert_eq!(eve.post(&format!("{reviews}/selfsubjectaccessreviews"), &json!({"spec": "x"})).refusal().0, 400);
    assert_eq!(api.get(&format!("{reviews}/subjectaccessreviews")).refusal().0, 405, "reviews are not kept");
}
