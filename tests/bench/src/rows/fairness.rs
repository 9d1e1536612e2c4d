//! Fairness: a quiet tenant's reads while 200 clients of another ask for all they can (Must show 3).
use crate::api::{Api, directory};
use crate::aside::{Stop, aside};
use crate::figure::{Budget, Figure};
use crate::http1::{Http1, request};
use crate::rows::clusters::{self, Tenant};
use crate::rows::until;
use anyhow::{Result, bail, ensure};
use futures::future::try_join_all;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

const CLIENTS: usize = 200;
const OBJECTS: usize = 500;
const OBJECT_BYTES: usize = 2_000;
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const BUDGET: f64 = 2.0;
const PATIENCE: Duration = Duration::from_secs(30);

pub fn measure() -> Result<Vec<Figure>> {
    let directory = directory()?;
    super::runtime()?.block_on(async {
        let api = Api::start(&directory.path().join("data")).await?;
        api.namespace(clusters::NAMESPACE).await?;
        let kind = format!("/apis/k3k.io/v1beta1/namespaces/{}/clusters", clusters::NAMESPACE);
        until("clusters are served", PATIENCE, || async { Ok(api.get(&kind).await?.is_some()) }).await?;
        let (noisy, quiet) = (clusters::create(&api, 0).await?, clusters::create(&api, 1).await?);
        fill(&api, &noisy).await?;
        let alone = quiet.reads(&api).await?;
        let port = api.server.port;
        let load = aside(move |stop| try_join_all((0..CLIENTS).map(move |_| misbehave(port, noisy.clone(), stop.clone()))));
        tokio::time::sleep(Duration::from_secs(1)).await;
        let beside = quiet.reads(&api).await;
        let (served, refused) = load.end().await?.into_iter().fold((0, 0), |(served, refused), (good, bad)| (served + good, refused + bad));
        let beside = beside?;
        let detail =
            format!("{alone:.2} ms alone, {beside:.2} ms beside lists of {OBJECTS} objects, of which {served} were answered and {refused} told to come again");
        Ok(vec![Figure::new(
            format!("p99 of a quiet tenant's reads beside {CLIENTS} misbehaving clients"),
            beside / alone,
            "x",
            Budget::AtMost(BUDGET),
            detail,
        )])
    })
}

async fn fill(api: &Api, tenant: &Tenant) -> Result<()> {
    let mut connection = tenant.connect(api).await?;
    for number in 0..OBJECTS {
        let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": format!("m{number}") }, "data": { "k": "v".repeat(OBJECT_BYTES) } });
        let answer = connection.exchange(&request("POST", &format!("{}{MAPS}", tenant.place), &serde_json::to_vec(&map)?)).await?;
        ensure!(answer.status == 201, "a config map got {}", answer.status);
    }
    Ok(())
}

/// Lists everything again and again, and does not wait when it is told to; gives how often it was answered, and how often not.
async fn misbehave(port: u16, tenant: Arc<Tenant>, stop: Stop) -> Result<(usize, usize)> {
    let mut connection = Http1::connect(port, &tenant.tls).await?;
    let ask = request("GET", &format!("{}{MAPS}", tenant.place), b"");
    let (mut served, mut refused) = (0, 0);
    while !stop.is_asked() {
        match connection.drain(&ask).await?.status {
            200 => served += 1,
            429 => refused += 1,
            other => bail!("a list got {other}"),
        }
    }
    Ok((served, refused))
}
