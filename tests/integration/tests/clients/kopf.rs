//! kopf: an operator in Python, run as its users run it; its handlers are in `kopf_operator.py`.
use crate::support::{SOON, python_command};
use serde_json::{Value, json};
use testkit::{Api, Background, Server, wait_until};

const GARDENS: &str = "/apis/clients.example.com/v1/namespaces/default/gardens";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const FINALIZER: &str = "clients.example.com/gardener";

fn definition() -> Value {
    let properties = json!({
        "spec": {"type": "object", "properties": {
            "flowers": {"type": "array", "items": {"type": "string"}},
            "frost": {"type": "boolean"},
            "thirsty": {"type": "boolean"},
        }},
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
    });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "gardens.clients.example.com"},
        "spec": {
            "group": "clients.example.com", "scope": "Namespaced",
            "names": {"plural": "gardens", "singular": "garden", "kind": "Garden"},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": properties}},
            }],
        },
    })
}

fn garden(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "clients.example.com/v1", "kind": "Garden", "metadata": {"name": name}, "spec": spec})
}

fn run(server: &Server) -> Background {
    let mut command = python_command(server);
    command.args(["-m", "kopf", "run", "--standalone", "--namespace", "default", "kopf_operator.py"]);
    Background::start(command)
}

/// A server and an operator that watches it.
fn operator() -> (Server, Api, Background) {
    let server = Server::control_plane();
    let api = server.api();
    api.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition()).ok();
    wait_until("gardens are served", SOON, || api.get(GARDENS).code == 200);
    let operator = run(&server);
    operator.until_printed("Initial authentication has finished", SOON);
    (server, api, operator)
}

#[test]
fn handlers_run_on_create_update_and_delete() {
    let (_server, api, operator) = operator();
    let (path, bed) = (format!("{GARDENS}/front"), format!("{MAPS}/front-bed"));
    let created = api.post(GARDENS, &garden("front", json!({"flowers": ["rose"]}))).ok();
    wait_until("it is planted", SOON, || api.get(&path).ok()["status"]["phase"] == "Planted");
    let planted = api.get(&path).ok();
    assert_eq!((&planted["metadata"]["finalizers"], &planted["metadata"]["generation"]), (&json!([FINALIZER]), &json!(1)));
    let map = api.get(&bed).ok();
    assert_eq!((&map["data"]["flowers"], &map["metadata"]["ownerReferences"][0]["uid"]), (&json!("rose"), &created["metadata"]["uid"]));

    api.patch("merge", &path, &json!({"spec": {"flowers": ["tulip", "lily"]}})).ok();
    wait_until("it is planted anew", SOON, || api.get(&path).ok()["status"]["phase"] == "Replanted");
    assert_eq!((&api.get(&bed).ok()["data"]["flowers"], &api.get(&path).ok()["status"]["was"]), (&json!("tulip,lily"), &json!(["rose"])));

    // What handlers say and how they end becomes events of the object.
    let events =
        || -> Vec<Value> { api.get("/api/v1/namespaces/default/events?fieldSelector=involvedObject.name%3Dfront").ok()["items"].as_array().unwrap().clone() };
    let about = |message: &str| events().into_iter().find(|event| event["message"] == message);
    wait_until("its events are there", SOON, || about("planted").is_some() && about("birds may come").is_some());
    let (said, sown) = (about("planted").unwrap(), about("birds may come").unwrap());
    assert_eq!(
        (&said["involvedObject"]["kind"], &said["involvedObject"]["uid"], &said["type"]),
        (&json!("Garden"), &created["metadata"]["uid"], &json!("Normal"))
    );
    assert_eq!((&sown["reason"], &sown["type"]), (&json!("Sown"), &json!("Warning")));

    api.delete(&path).ok();
    wait_until("it is gone", SOON, || api.get(&path).code == 404);
    assert_eq!(api.get(&format!("{MAPS}/front-dug-up")).code, 200, "the handler ran before the object went");
    wait_until("what it owned is collected", SOON, || api.get(&bed).code == 404);
    assert!(!operator.printed().contains("Traceback"), "{}", operator.printed());
}

#[test]
fn timers_retries_and_plain_events_work() {
    let (server, api, operator) = operator();
    let path = format!("{GARDENS}/back");
    api.post(GARDENS, &garden("back", json!({"flowers": [], "frost": true, "thirsty": true}))).ok();
    wait_until("it is planted at the second try", SOON, || api.get(&path).ok()["status"]["phase"] == "Planted");
    operator.until_printed("the ground is frozen", SOON);
    wait_until("it is watered again and again", SOON, || api.get(&path).ok()["status"]["watered"].as_i64() >= Some(3));
    assert_eq!(api.get(&path).ok()["metadata"]["generation"], 1, "a status is no new generation");
    api.patch("merge", &path, &json!({"spec": {"thirsty": false}})).ok();

    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "monday", "labels": {"weather": "rain"}}});
    api.post(MAPS, &map).ok();
    api.delete(&format!("{MAPS}/monday")).ok();
    operator.until_printed("rain: ADDED monday", SOON);
    operator.until_printed("rain: DELETED monday", SOON);

    // An operator that is gone leaves its finalizers; the next one does what is due.
    drop(operator);
    let going = api.delete(&path).ok();
    assert_eq!(going["metadata"]["finalizers"], json!([FINALIZER]));
    assert!(going["metadata"]["deletionTimestamp"].is_string());
    let _next = run(&server);
    wait_until("it is gone", SOON, || api.get(&path).code == 404);
}
