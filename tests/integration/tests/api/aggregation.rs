//! Aggregation: a server of its own group behind a Service, reached through ours as if it were ours.
use crate::support::{SOON, quiet};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use testkit::{Aggregated, Api, Ask, wait_until};

const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const FLOWERS: &str = "/apis/garden.example.com/v1/namespaces/default/flowers";
const NAME: &str = "v1.garden.example.com";

/// The sample server, with a Service that leads to this machine.
pub fn sample(api: &Api) -> Aggregated {
    let told = api.get("/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication").ok();
    let authority = told["data"]["requestheader-client-ca-file"].as_str().unwrap();
    for (key, want) in [
        ("requestheader-allowed-names", "[\"front-proxy-client\"]"),
        ("requestheader-username-headers", "[\"X-Remote-User\"]"),
        ("requestheader-group-headers", "[\"X-Remote-Group\"]"),
        ("requestheader-extra-headers-prefix", "[\"X-Remote-Extra-\"]"),
    ] {
        assert_eq!(told["data"][key], want, "{key}");
    }
    assert!(told["data"]["client-ca-file"].as_str().unwrap().contains("BEGIN CERTIFICATE"));
    Aggregated::start("garden", "default", authority)
}

pub fn service(api: &Api) {
    let service = json!({"metadata": {"name": "garden"}, "spec": {"type": "ExternalName", "externalName": "localhost"}});
    api.post("/api/v1/namespaces/default/services", &service).ok();
}

fn registered(sample: &Aggregated, more: &Value) -> Value {
    let mut spec = json!({"group": "garden.example.com", "version": "v1", "groupPriorityMinimum": 1000, "versionPriority": 15,
        "service": {"namespace": "default", "name": "garden", "port": sample.port}});
    for (field, value) in more.as_object().unwrap() {
        spec[field] = value.clone();
    }
    json!({"metadata": {"name": NAME}, "spec": spec})
}

/// Waits until the APIService says this of itself: status and reason.
fn told(api: &Api, status: &str, reason: &str) -> Value {
    let mut last = Value::Null;
    wait_until(&format!("the APIService is {status} for {reason}"), SOON, || {
        last = api.get(&format!("{SERVICES}/{NAME}")).ok()["status"]["conditions"][0].clone();
        last["type"] == "Available" && last["status"] == status && last["reason"] == reason
    });
    last
}

#[test]
fn an_aggregated_group_is_served_as_if_it_were_ours() {
    let (server, api) = quiet();
    let sample = sample(&api);
    service(&api);
    assert_eq!(api.get(FLOWERS).code, 404, "nobody serves it yet");
    api.post(SERVICES, &registered(&sample, &json!({"caBundle": STANDARD.encode(&sample.ca_pem)}))).ok();
    assert_eq!(told(&api, "True", "Passed")["message"], "all checks passed");

    let flower = json!({"apiVersion": "garden.example.com/v1", "kind": "Flower", "metadata": {"name": "rose"}, "color": "red"});
    let made = api.post(FLOWERS, &flower);
    assert_eq!((made.code, made.header("x-from"), &made.json()["color"]), (201, Some("garden"), &json!("red")));
    assert_eq!(api.get(&format!("{FLOWERS}/tulip")).refusal().2, "flowers.garden.example.com \"tulip\" not found");

    // In whose name it is asked is this server's word alone.
    api.post(
        "/apis/rbac.authorization.k8s.io/v1/clusterroles",
        &json!({"metadata": {"name": "g"}, "rules": [{"apiGroups": ["garden.example.com"], "resources": ["flowers"], "verbs": ["list"]}]}),
    )
    .ok();
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "g"});
    let subjects = json!([{"kind": "User", "name": "jane", "apiGroup": "rbac.authorization.k8s.io"}]);
    api.post("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", &json!({"metadata": {"name": "g"}, "roleRef": role, "subjects": subjects})).ok();
    api.send(&forged_as_jane()).ok();
    let last = sample.asked().into_iter().rfind(|asked| asked.path.starts_with(FLOWERS)).unwrap();
    assert_eq!(last.all("x-remote-user"), ["jane"]);
    assert_eq!(last.all("x-remote-group"), ["gardeners", "system:authenticated"]);
    assert_eq!((last.all("x-remote-extra-a"), last.all("x-remote-extra-example.com%2fkey"), last.all("authorization")), (vec![], vec!["v"], vec![]));

    // Discovery and OpenAPI tell of it beside our own.
    let groups = api.get("/apis").ok();
    assert!(groups["groups"].as_array().unwrap().iter().any(|group| group["name"] == "garden.example.com"));
    assert_eq!(api.get("/apis/garden.example.com").ok()["preferredVersion"]["version"], "v1");
    assert_eq!(api.get("/apis/garden.example.com/v1").ok()["resources"][0]["name"], "flowers");
    let aggregated = Ask::new("GET", "/apis").header("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList");
    let aggregated = api.send(&aggregated).ok();
    let garden = aggregated["items"].as_array().unwrap().iter().find(|group| group["metadata"]["name"] == "garden.example.com").unwrap();
    assert_eq!(
        (&garden["versions"][0]["freshness"], &garden["versions"][0]["resources"][0]["subresources"][0]["subresource"]),
        (&json!("Current"), &json!("status"))
    );
    let index = api.get("/openapi/v3").ok();
    let place = index["paths"]["apis/garden.example.com/v1"]["serverRelativeURL"].as_str().unwrap();
    assert_eq!(api.get(place).ok()["components"]["schemas"]["com.example.garden.v1.Flower"]["description"], "Something that blooms.");
    // Its v2 document is part of ours, as far as it is about its own paths.
    let whole = api.get("/openapi/v2").ok();
    let (definitions, paths) = (&whole["definitions"], whole["paths"].as_object().unwrap());
    assert!(paths.contains_key(&format!("{}/{{name}}", FLOWERS.replace("default", "{namespace}"))) && !paths.contains_key("/made/up"));
    assert!(!paths["/api/v1/pods"]["get"]["responses"].is_null() && definitions["unused"].is_null());
    let meta = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
    assert_eq!(definitions["com.example.garden.v1.Flower"]["properties"]["metadata"]["$ref"], format!("#/definitions/{meta}_v2"));
    assert_eq!(definitions[format!("{meta}_v2")]["description"], "Another's idea of metadata.");
    assert_ne!(definitions[meta]["description"], definitions[format!("{meta}_v2")]["description"]);
    // A connection may become another protocol's.
    let upgrade =
        Ask::new("GET", &format!("{FLOWERS}/rose/smell?deeply=1")).header("upgrade", "websocket").header("sec-websocket-protocol", "v5.channel.k8s.io");
    assert_eq!(api.upgrade(&upgrade, b"what a rose", 11).unwrap(), (101, b"WHAT A ROSE".to_vec()));
    let last = sample.asked().into_iter().rfind(|asked| asked.path.contains("smell")).unwrap();
    assert_eq!((last.all("upgrade"), last.all("sec-websocket-protocol"), last.all("x-remote-user").len()), (vec!["websocket"], vec!["v5.channel.k8s.io"], 1));

    let kubectl = server.tool();
    assert!(kubectl.k("get flowers -o name").ok().contains("flower.garden.example.com/rose"));
    assert!(kubectl.k("get fl rose -o jsonpath={.color}").ok().contains("red"));
    assert!(kubectl.k("explain flower.color").ok().contains("string"));
    assert!(kubectl.k("get apiservice v1.garden.example.com").ok().contains("default/garden"));

    api.send(&Ask::new("DELETE", &format!("{SERVICES}/{NAME}"))).ok();
    assert_eq!(api.get(FLOWERS).code, 404);
}

fn forged_as_jane() -> Ask {
    let forged = Ask::new("GET", FLOWERS).header("x-remote-user", "mallory").header("x-remote-extra-a", "b");
    forged.header("impersonate-user", "jane").header("impersonate-group", "gardeners").header("impersonate-extra-example.com%2fkey", "v")
}

#[test]
fn who_is_not_available_is_said_to_be_and_why() {
    let (_server, api) = quiet();
    let sample = sample(&api);
    let bundle = STANDARD.encode(&sample.ca_pem);
    api.post(SERVICES, &registered(&sample, &json!({"caBundle": bundle}))).ok();
    assert_eq!(told(&api, "False", "ServiceNotFound")["message"], "service/garden in \"default\" is not present");
    let refused = api.get(FLOWERS);
    assert_eq!((refused.code, refused.text().as_str()), (503, "service unavailable\n"));
    assert!(!api.get("/apis").text().contains("garden.example.com"), "what cannot be asked is in no list");

    // A Service without the port, then one without endpoints.
    let ports = |port: u16| json!({"metadata": {"name": "garden"}, "spec": {"ports": [{"port": port}]}});
    api.post("/api/v1/namespaces/default/services", &ports(1)).ok();
    told(&api, "False", "ServicePortError");
    api.send(&Ask::new("DELETE", "/api/v1/namespaces/default/services/garden")).ok();
    api.post("/api/v1/namespaces/default/services", &ports(sample.port)).ok();
    told(&api, "False", "MissingEndpoints");
    api.send(&Ask::new("DELETE", "/api/v1/namespaces/default/services/garden")).ok();
    service(&api);
    told(&api, "True", "Passed");

    // Whose word it is that it is the Service counts, unless nobody asks.
    let other = pki::CertificateAuthority::generate("somebody else", &clock::SystemClock).unwrap();
    let patch =
        |spec: Value| api.send(&Ask::new("PATCH", &format!("{SERVICES}/{NAME}")).body("application/merge-patch+json", json!({"spec": spec}).to_string()));
    patch(json!({"caBundle": STANDARD.encode(other.certificate_pem())})).ok();
    let why = told(&api, "False", "FailedDiscoveryCheck");
    assert!(why["message"].as_str().unwrap().starts_with("failing or missing response from https://garden.default.svc:"), "{why}");
    patch(json!({"caBundle": null, "insecureSkipTLSVerify": true})).ok();
    told(&api, "True", "Passed");
    assert_eq!(api.get(FLOWERS).ok()["kind"], "FlowerList");
}

#[test]
fn a_tenants_group_is_its_own_and_leads_no_further_than_its_pods_get() {
    let (_server, host, [a, b]) = crate::tenants::tenants();
    let sample = sample(&a);
    service(&a);
    a.post(SERVICES, &registered(&sample, &json!({"insecureSkipTLSVerify": true}))).ok();
    let why = told(&a, "False", "FailedDiscoveryCheck");
    assert!(why["message"].as_str().unwrap().contains("address not allowed"), "{why}");
    assert_eq!(a.get(FLOWERS).code, 503);
    for other in [&host, &b] {
        assert_eq!((other.get(&format!("{SERVICES}/{NAME}")).code, other.get(FLOWERS).code), (404, 404));
        assert_eq!(other.get(&format!("{SERVICES}/v1.apps")).ok()["status"]["conditions"][0]["reason"], "Local");
    }
    assert_eq!(sample.asked().len(), 0);
}

#[test]
fn what_this_server_answers_itself_is_registered_as_local() {
    let (_server, api) = quiet();
    for name in ["v1.", "v1.apps", "v2.autoscaling", "v1.resource.k8s.io"] {
        let own = api.get(&format!("{SERVICES}/{name}")).ok();
        assert_eq!(own["status"]["conditions"][0]["reason"], "Local", "{name}");
        assert_eq!(own["metadata"]["labels"]["kube-aggregator.kubernetes.io/automanaged"], "onstart");
    }
    crate::custom_resources::define(&api, &crate::custom_resources::widgets());
    let mut found = Value::Null;
    wait_until("the group is registered", SOON, || {
        let reply = api.get(&format!("{SERVICES}/v1.example.com"));
        found = reply.json();
        reply.code == 200
    });
    assert_eq!((&found["spec"]["groupPriorityMinimum"], &found["spec"]["versionPriority"]), (&json!(1000), &json!(100)));
    let definition = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.example.com";
    api.send(&Ask::new("DELETE", definition)).ok();
    wait_until("it goes with the definition", SOON, || api.get(&format!("{SERVICES}/v1.example.com")).code == 404);
    // What every cluster starts with.
    assert_eq!(api.get("/apis/networking.k8s.io/v1/servicecidrs/kubernetes").ok()["status"]["conditions"][0]["status"], "True");
    assert_eq!(api.get("/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas/catch-all").ok()["spec"]["matchingPrecedence"], 10_000);
    let health = api.get("/api/v1/componentstatuses");
    assert_eq!(health.ok()["items"][0]["conditions"][0]["status"], "True");
    assert_eq!(health.warnings(), ["299 - \"v1 ComponentStatus is deprecated in v1.19+\""]);
}
