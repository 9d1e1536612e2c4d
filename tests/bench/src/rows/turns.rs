//! Turns: how long one tenant's single pod takes from its Deployment to its node while another tenant makes 10,000.
use crate::api::{Api, directory};
use crate::figure::{Budget, Figure, percentile};
use crate::fleet;
use crate::http1::request;
use crate::rows::clusters::{self, Tenant};
use anyhow::{Context, Result, bail, ensure};
use clock::{Clock, SystemClock};
use serde_json::{Value, json};
use std::time::Duration;

const NODES: usize = 5_000;
const NOISE: usize = 10_000;
const ROUNDS: usize = 20;
const BUDGET_S: f64 = 1.0;
const PATIENCE: Duration = Duration::from_secs(60);

pub fn measure() -> Result<Vec<Figure>> {
    let directory = directory()?;
    super::runtime()?.block_on(async {
        let api = Api::start(&directory.path().join("data")).await?;
        fleet::register(&api, NODES).await?;
        api.namespace(clusters::NAMESPACE).await?;
        let (noisy, quiet) = (clusters::create(&api, 0).await?, clusters::create(&api, 1).await?);
        let mut alone = Vec::new();
        for round in 0..ROUNDS {
            alone.push(until_bound(&api, &quiet, &format!("alone-{round}")).await?);
        }
        send(&api, &noisy, "POST", DEPLOYMENTS, &deployment("noise", NOISE)).await?;
        let mut beside = Vec::new();
        let mut made = 0;
        for round in 0..ROUNDS {
            beside.push(until_bound(&api, &quiet, &format!("beside-{round}")).await?);
            made = bound(&api, &noisy, "noise").await?;
            if made >= NOISE {
                break;
            }
        }
        let rounds = beside.len();
        let (alone, worst) = (percentile(&mut alone, 0.5), percentile(&mut beside, 1.0));
        let p50 = percentile(&mut beside, 0.5);
        let detail = format!("the worst of {rounds} beside {worst:.2} s (p50 {p50:.2} s), p50 alone {alone:.3} s; {made} of {NOISE} pods bound in the end");
        Ok(vec![Figure::new(format!("a pod's delay beside a tenant that makes {NOISE}"), (worst - alone).max(0.0), "s", Budget::AtMost(BUDGET_S), detail)])
    })
}

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

fn deployment(name: &str, replicas: usize) -> Value {
    let container = json!({ "name": "main", "image": "one", "resources": { "requests": { "cpu": "10m", "memory": "10Mi" } } });
    json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name },
        "spec": { "replicas": replicas, "selector": { "matchLabels": { "app": name } },
            "template": { "metadata": { "labels": { "app": name } }, "spec": { "containers": [container] } } } })
}

async fn send(api: &Api, tenant: &Tenant, method: &str, path: &str, body: &Value) -> Result<Value> {
    let path = format!("{}{path}", tenant.place);
    let answer = tenant.connect(api).await?.exchange(&request(method, &path, &serde_json::to_vec(body)?)).await?;
    ensure!((200..300).contains(&answer.status), "{method} {path}: {}: {}", answer.status, String::from_utf8_lossy(&answer.body));
    Ok(serde_json::from_slice(&answer.body)?)
}

/// How many pods of a Deployment have a node.
async fn bound(api: &Api, tenant: &Tenant, name: &str) -> Result<usize> {
    let pods = send(api, tenant, "GET", &format!("/api/v1/namespaces/default/pods?labelSelector=app%3D{name}"), &Value::Null).await?;
    let pods = pods["items"].as_array().context("a list has items")?;
    Ok(pods.iter().filter(|pod| pod["spec"]["nodeName"].is_string()).count())
}

/// Seconds until the one pod of a new Deployment has a node.
async fn until_bound(api: &Api, tenant: &Tenant, name: &str) -> Result<f64> {
    let began = SystemClock.instant();
    send(api, tenant, "POST", DEPLOYMENTS, &deployment(name, 1)).await?;
    while bound(api, tenant, name).await? == 0 {
        if SystemClock.instant() - began > PATIENCE {
            bail!("{name} had no node within {PATIENCE:?}");
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok((SystemClock.instant() - began).as_secs_f64())
}
