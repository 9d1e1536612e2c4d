//! Scale: 5,000 nodes and 50,000 pods, or a part of them, that are only objects: what they cost at rest, a large roll-out, a large deletion.
use crate::api::{Api, directory};
use crate::figure::{Budget, Figure};
use crate::fleet::{self, Fleet, post_all};
use crate::http1::request;
use crate::rows::until;
use anyhow::{Context, Result, ensure};
use clock::{Clock, SystemClock};
use serde_json::{Value, json};
use std::time::Duration;

/// How many there are of each, unless the environment says in [`PART`] which part of them.
const WHOLE: Size = Size { nodes: 5_000, pods: 50_000, replicas: 10_000, objects: 50_000 };
const PART: &str = "K8SHOST_BENCH_SCALE_PART";
const IDLE: Duration = Duration::from_secs(20);
/// Two per cent of a core.
const IDLE_BUDGET: f64 = 20.0;
const PATIENCE: Duration = Duration::from_secs(900);
const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/large/deployments/large";

#[derive(Clone, Copy)]
struct Size {
    nodes: usize,
    pods: usize,
    replicas: usize,
    objects: usize,
}

fn size() -> Result<Size> {
    let Ok(text) = std::env::var(PART) else { return Ok(WHOLE) };
    let part: usize = text.parse().with_context(|| format!("{PART}={text:?} is no number"))?;
    ensure!((1..=500).contains(&part), "{PART} must be between 1 and 500");
    let Size { nodes, pods, replicas, objects } = WHOLE;
    Ok(Size { nodes: nodes / part, pods: pods / part, replicas: replicas / part, objects: objects / part })
}

pub fn measure() -> Result<Vec<Figure>> {
    let size = size()?;
    let Size { nodes, pods, .. } = size;
    let directory = directory()?;
    super::runtime()?.block_on(async {
        let api = Api::start(&directory.path().join("data")).await?;
        fleet::register(&api, nodes).await?;
        api.namespace("crowd").await?;
        tokio::time::sleep(IDLE).await;
        let before = api.server.memory()?.resident;
        let agents = Fleet::start(&api, nodes).await?;
        post_all(&api, "/api/v1/namespaces/crowd/pods", pods, |number| pod(&format!("p{number}"), &fleet::node_name(number % nodes))).await?;
        until("the crowd runs", PATIENCE, || async {
            // The last ones are the last to be told.
            let last = api.get(&format!("/api/v1/namespaces/crowd/pods/p{}", pods - 1)).await?;
            Ok(last.is_some_and(|pod| pod["status"]["phase"] == "Running"))
        })
        .await?;
        tokio::time::sleep(IDLE).await;
        let each = (api.server.memory()?.resident - before) * 1000.0 / pods as f64;
        let at_rest = agents.at_rest().await;
        let used = api.server.processor_time()?;
        tokio::time::sleep(IDLE).await;
        let idle = (api.server.processor_time()? - used).as_secs_f64() / IDLE.as_secs_f64() * 1000.0;
        drop(at_rest);
        let mut figures = vec![
            Figure::new("scale: memory of a pod", each, "KB", Budget::None, format!("{pods} running pods on {nodes} nodes, {before:.0} MB without them")),
            Figure::new("scale: idle processor time", idle, "ms/s", Budget::AtMost(IDLE_BUDGET), format!("with {nodes} nodes and {pods} pods, no heartbeats")),
        ];
        figures.extend(roll(&api, size).await?);
        figures.push(remove(&api, size.objects).await?);
        drop(agents);
        Ok(figures)
    })
}

fn pod(name: &str, node: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "labels": { "app": "crowd" } },
        "spec": { "nodeName": node, "containers": [{ "name": "main", "image": "one", "resources": { "requests": { "cpu": "100m", "memory": "100Mi" } } }] } })
}

async fn send(api: &Api, method: &str, path: &str, body: &Value) -> Result<Value> {
    let answer = api.connect().await?.exchange(&request(method, path, &serde_json::to_vec(body)?)).await?;
    ensure!((200..300).contains(&answer.status), "{method} {path}: {}: {}", answer.status, String::from_utf8_lossy(&answer.body));
    Ok(serde_json::from_slice(&answer.body)?)
}

async fn roll(api: &Api, Size { nodes, pods, replicas, .. }: Size) -> Result<Vec<Figure>> {
    api.namespace("large").await?;
    let container = json!({ "name": "main", "image": "one", "resources": { "requests": { "cpu": "100m", "memory": "100Mi" } } });
    let deployment = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "large", "namespace": "large" },
        "spec": { "replicas": replicas, "selector": { "matchLabels": { "app": "large" } },
            "template": { "metadata": { "labels": { "app": "large" } }, "spec": { "containers": [container] } } } });
    let began = SystemClock.instant();
    send(api, "POST", "/apis/apps/v1/namespaces/large/deployments", &deployment).await?;
    until("all replicas are available", PATIENCE, || rolled(api, replicas)).await?;
    let up = (SystemClock.instant() - began).as_secs_f64();
    let began = SystemClock.instant();
    loop {
        let mut now = api.get(DEPLOYMENT).await?.context("the deployment is gone")?;
        now["spec"]["template"]["spec"]["containers"][0]["image"] = json!("two");
        match send(api, "PUT", DEPLOYMENT, &now).await {
            Ok(_) => break,
            Err(error) if error.to_string().contains(": 409: ") => {}
            Err(error) => return Err(error),
        }
    }
    until("all replicas are of the new image", PATIENCE, || rolled(api, replicas)).await?;
    let over = (SystemClock.instant() - began).as_secs_f64();
    Ok(vec![
        Figure::new(format!("scale: {replicas} replicas until available"), up, "s", Budget::None, format!("beside {pods} pods on {nodes} nodes")),
        Figure::new(format!("scale: {replicas} replicas rolled"), over, "s", Budget::None, "25 % more and fewer at a time"),
    ])
}

async fn rolled(api: &Api, replicas: usize) -> Result<bool> {
    let now = api.get(DEPLOYMENT).await?.context("the deployment is gone")?;
    let status = &now["status"];
    let all = |field: &str| status[field] == json!(replicas);
    Ok(all("replicas") && all("updatedReplicas") && all("availableReplicas") && status["observedGeneration"] == now["metadata"]["generation"])
}

async fn remove(api: &Api, objects: usize) -> Result<Figure> {
    api.namespace("full").await?;
    post_all(
        api,
        "/api/v1/namespaces/full/configmaps",
        objects,
        |number| json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": format!("m{number}") }, "data": { "key": "value" } }),
    )
    .await?;
    let began = SystemClock.instant();
    send(api, "DELETE", "/api/v1/namespaces/full", &json!({})).await?;
    until("the namespace is gone", PATIENCE, || async { Ok(api.get("/api/v1/namespaces/full").await?.is_none()) }).await?;
    let took = (SystemClock.instant() - began).as_secs_f64();
    Ok(Figure::new(format!("scale: a namespace of {objects} objects deleted"), took, "s", Budget::None, ""))
}
