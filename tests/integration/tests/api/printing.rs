//! What `kubectl` shows of it all, and the binary form it sends.
use crate::support::{CONFIG_MAPS, config_map, deployment, pod, quiet};
use serde_json::{Value, json};
use testkit::Ask;

/// The words of the lines, without the age at the end of a column.
fn columns(text: &str) -> Vec<Vec<&str>> {
    text.lines().map(|line| line.split("  ").map(str::trim).filter(|word| !word.is_empty()).collect()).collect()
}

#[test]
fn kubectl_prints_the_columns_upstream_prints() {
    let (server, api) = quiet();
    let kubectl = server.tool();
    api.post(CONFIG_MAPS, &config_map("settings", &json!({"a": "1", "b": "2"}))).ok();
    api.post("/api/v1/namespaces/default/pods", &pod("p")).ok();
    api.post("/apis/apps/v1/namespaces/default/deployments", &deployment("web")).ok();
    let made = api
        .post(
            "/api/v1/namespaces/default/services",
            &json!({"metadata": {"name": "s"}, "spec": {"type": "NodePort", "selector": {"app": "web"}, "ports": [{"port": 80}]}}),
        )
        .ok();
    let get = |line: &str| kubectl.k(line).ok();
    let maps = get("get configmaps");
    assert_eq!(columns(&maps)[0], ["NAME", "DATA", "AGE"]);
    assert_eq!(columns(&maps)[1][..2], ["settings", "2"]);
    let pods = get("get pods -o wide");
    assert_eq!(columns(&pods)[0], ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE", "NOMINATED NODE", "READINESS GATES"]);
    assert_eq!(columns(&pods)[1][..4], ["p", "0/1", "Pending", "0"]);
    assert_eq!(columns(&pods)[1][5..], ["<none>"; 4]);
    let deployments = get("get deploy web -o wide");
    assert_eq!(columns(&deployments)[0], ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE", "CONTAINERS", "IMAGES", "SELECTOR"]);
    assert_eq!(columns(&deployments)[1][..4], ["web", "0/2", "0", "0"]);
    assert_eq!(columns(&deployments)[1][5..], ["c", "i", "app=web"]);
    let services = get("get svc s -o wide");
    assert_eq!(columns(&services)[0], ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE", "SELECTOR"]);
    let (address, port) = (made["spec"]["clusterIP"].as_str().unwrap(), &made["spec"]["ports"][0]["nodePort"]);
    assert_eq!(columns(&services)[1][..5], ["s", "NodePort", address, "<none>", &format!("80:{port}/TCP")]);
    assert_eq!(columns(&get("get ns default"))[1][..2], ["default", "Active"]);
    assert_eq!(get("get configmaps -o name"), "configmap/settings\n");
    assert_eq!(get("get cm settings -o jsonpath={.data.b}"), "2");
    assert!(get("describe pod p").contains("Status:           Pending"));
    assert_eq!(kubectl.k("get cm none").err().trim(), "Error from server (NotFound): configmaps \"none\" not found");
    assert_eq!(
        kubectl.k("get pods --field-selector=spec.x=1").err().trim(),
        "Error from server (BadRequest): Unable to find \"/v1, Resource=pods\" that match label selector \"\", field selector \"spec.x=1\": field label not supported: spec.x"
    );
    assert_eq!(kubectl.k("auth can-i delete pods --as=eve").stdout.trim(), "no");
    assert!(kubectl.k("auth whoami").ok().contains("system:admin"));
}

#[test]
fn tables_hold_what_was_asked_for() {
    let (_server, api) = quiet();
    api.post(CONFIG_MAPS, &config_map("a", &json!({"k": "v"}))).ok();
    let table = |path: &str| api.send(&Ask::new("GET", path).header("accept", "application/json;as=Table;g=meta.k8s.io;v=v1")).ok();
    let row = |include: &str| table(&format!("{CONFIG_MAPS}?{include}"))["rows"][0].take();
    let plain = row("");
    assert_eq!((&plain["cells"][0], &plain["cells"][1]), (&json!("a"), &json!(1)));
    assert_eq!((&plain["object"]["kind"], plain["object"].get("data")), (&json!("PartialObjectMetadata"), None));
    assert_eq!(row("includeObject=Object")["object"]["data"]["k"], "v");
    assert_eq!(row("includeObject=None").get("object"), Some(&Value::Null));
    let refused = api.send(&Ask::new("GET", &format!("{CONFIG_MAPS}?includeObject=Some")).header("accept", "application/json;as=Table;g=meta.k8s.io;v=v1"));
    assert_eq!(refused.refusal().0, 400);
    let one = table(&format!("{CONFIG_MAPS}/a"));
    assert_eq!((&one["kind"], one["rows"].as_array().unwrap().len()), (&json!("Table"), 1));
    let empty = table("/api/v1/namespaces/default/secrets");
    assert_eq!((&empty["rows"], &empty["columnDefinitions"][0]["name"]), (&json!([]), &json!("Name")));
    assert!(empty["metadata"]["resourceVersion"].is_string());
}

#[test]
fn kubectl_may_write_in_protobuf() {
    let (server, api) = quiet();
    let kubectl = server.tool();
    // Its typed commands send protobuf where the server takes it.
    kubectl.k("create deployment web --image=i:1 --replicas=3 --port=8080").ok();
    kubectl.k("create configmap cm --from-literal=a=1 --from-literal=b=2").ok();
    kubectl.k("create secret generic s --from-literal=password=secret").ok();
    kubectl.k("create service nodeport web --tcp=80:8080").ok();
    kubectl.k("create role r --verb=get,list --resource=pods").ok();
    kubectl.k("create rolebinding rb --role=r --serviceaccount=default:default").ok();
    kubectl.k("create quota q --hard=pods=5,requests.cpu=2").ok();
    kubectl.k("create job j --image=i -- sh -c true").ok();
    kubectl.k("create namespace n").ok();
    let web = api.get("/apis/apps/v1/namespaces/default/deployments/web").ok();
    assert_eq!((&web["spec"]["replicas"], &web["spec"]["template"]["spec"]["containers"][0]["ports"][0]["containerPort"]), (&json!(3), &json!(8080)));
    assert_eq!(api.get("/api/v1/namespaces/default/secrets/s").ok()["data"]["password"], "c2VjcmV0");
    assert_eq!(api.get("/api/v1/namespaces/default/resourcequotas/q").ok()["spec"]["hard"], json!({"pods": "5", "requests.cpu": "2"}));
    assert_eq!(api.get("/apis/batch/v1/namespaces/default/jobs/j").ok()["spec"]["template"]["spec"]["containers"][0]["command"], json!(["sh", "-c", "true"]));
    let token = kubectl.k("create token default --duration=20m").ok();
    assert_eq!(api.bearer(token.trim()).get("/api").code, 200);
    // By hand: the envelope, a ConfigMap's metadata and data.
    let field = |tag: u8, bytes: &[u8]| [&[tag << 3 | 2, u8::try_from(bytes.len()).unwrap()], bytes].concat();
    let metadata = field(1, &field(1, b"bin"));
    let entry = field(2, &[field(1, b"k"), field(2, b"v")].concat());
    let type_meta = field(1, &[field(1, b"v1"), field(2, b"ConfigMap")].concat());
    let body = [b"k8s\0".to_vec(), type_meta, field(2, &[metadata, entry].concat())].concat();
    let made: Value = api.send(&Ask::new("POST", CONFIG_MAPS).body("application/vnd.kubernetes.protobuf", body.clone())).ok();
    assert_eq!((&made["metadata"]["name"], &made["data"]), (&json!("bin"), &json!({"k": "v"})));
    let cut = api.send(&Ask::new("POST", CONFIG_MAPS).body("application/vnd.kubernetes.protobuf", body[..body.len() - 3].to_vec()));
    assert_eq!(cut.refusal().0, 400);
}
