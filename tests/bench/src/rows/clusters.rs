//! A thousand virtual clusters, or another number, on one server: making, holding, starting with and taking away all of them.
use crate::api::{Api, directory};
use crate::aside::{Stop, aside};
use crate::figure::{Budget, Figure, percentile};
use crate::http1::{Http1, request};
use crate::rows::until;
use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clock::{Clock, SystemClock};
use futures::future::try_join_all;
use rustls::ClientConfig;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// How many clusters there are unless the environment says otherwise in [`NUMBER`].
const CLUSTERS: usize = 1000;
const NUMBER: &str = "K8SHOST_BENCH_CLUSTERS";
/// Made one after the other, for their time; the rest side by side, for the rate.
const ALONE: usize = 200;
const SIDE_BY_SIDE: usize = 8;
const OBJECTS: usize = 10;
const IDLE: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(120);
pub const NAMESPACE: &str = "tenants";
const QUIET_READS: usize = 2000;
const BUSY_CONNECTIONS: usize = 16;

/// A cluster as its administrator reaches it.
pub struct Tenant {
    pub tls: Arc<ClientConfig>,
    /// What its paths begin with.
    pub place: String,
}

fn number() -> Result<usize> {
    let Ok(text) = std::env::var(NUMBER) else { return Ok(CLUSTERS) };
    let number = text.parse().with_context(|| format!("{NUMBER}={text:?} is no number"))?;
    ensure!(number > ALONE, "{NUMBER} must be more than {ALONE}");
    Ok(number)
}

pub fn measure() -> Result<Vec<Figure>> {
    let clusters = number()?;
    let directory = directory()?;
    let data = directory.path().join("data");
    super::runtime()?.block_on(async {
        let api = Api::start(&data).await?;
        api.namespace(NAMESPACE).await?;
        tokio::time::sleep(IDLE).await;
        // Without the program's code, which is there once and comes and goes as it is used.
        let empty = api.server.memory()?.anonymous;

        let mut latencies = Vec::new();
        let mut tenants = Vec::new();
        for number in 0..ALONE {
            let began = SystemClock.instant();
            tenants.push(create(&api, number).await?);
            latencies.push((SystemClock.instant() - began).as_secs_f64() * 1000.0);
        }
        let began = SystemClock.instant();
        let api_of = &api;
        let made = try_join_all((0..SIDE_BY_SIDE).map(|worker| async move {
            let mut made = Vec::new();
            for number in (ALONE + worker..clusters).step_by(SIDE_BY_SIDE) {
                made.push(create(api_of, number).await?);
            }
            Ok::<_, anyhow::Error>(made)
        }));
        tenants.extend(made.await?.into_iter().flatten());
        let rate = (clusters - ALONE) as f64 / (SystemClock.instant() - began).as_secs_f64();

        tokio::time::sleep(IDLE).await;
        let each = |memory: f64| (memory - empty) * 1000.0 / clusters as f64;
        let idle = each(api.server.memory()?.anonymous);
        let before = api.server.processor_time()?;
        tokio::time::sleep(IDLE).await;
        let processor = (api.server.processor_time()? - before).as_secs_f64() / IDLE.as_secs_f64() * 1000.0;

        let slowdown = neighbours(&api, &tenants[0], &tenants[1]).await?;
        for chunk in tenants.chunks(clusters / SIDE_BY_SIDE) {
            try_join_all(chunk.iter().take(SIDE_BY_SIDE).map(|tenant| fill(&api, tenant))).await?;
            for tenant in chunk.iter().skip(SIDE_BY_SIDE) {
                fill(&api, tenant).await?;
            }
        }
        tokio::time::sleep(IDLE).await;
        let filled = each(api.server.memory()?.anonymous);
        api.server.stop()?;

        let api = Api::start(&data).await?;
        let start = api.start.as_secs_f64();
        tenants[clusters - 1].get(&api, "/api/v1/namespaces").await.context("the last cluster after a restart")?;
        tokio::time::sleep(IDLE).await;
        let restarted = each(api.server.memory()?.anonymous);
        let began = SystemClock.instant();
        let path = format!("/apis/k3k.io/v1beta1/namespaces/{NAMESPACE}/clusters");
        api.connect().await?.exchange(&request("DELETE", &path, b"")).await?;
        until("all clusters are gone", PATIENCE, || async {
            Ok(api.get(&path).await?.is_some_and(|list| list["items"].as_array().is_some_and(Vec::is_empty)))
        })
        .await?;
        let removal = SystemClock.instant() - began;
        tokio::time::sleep(IDLE).await;
        let left = api.server.memory()?.anonymous;

        let p50 = percentile(&mut latencies, 0.5);
        let p99 = percentile(&mut latencies, 0.99);
        Ok(vec![
            Figure::new(
                "virtual cluster: create to first answered GET",
                p50,
                "ms",
                Budget::AtMost(50.0),
                format!("p50 of {ALONE} one after the other, p99 {p99:.1} ms; K3k 73 s"),
            ),
            Figure::new("virtual cluster: creation rate", rate, "/s", Budget::None, format!("{SIDE_BY_SIDE} side by side; kcp 8/s")),
            Figure::new(
                "virtual cluster: memory each, idle",
                idle,
                "KB",
                Budget::AtMost(100.0),
                format!("at {clusters}; {filled:.0} KB with {OBJECTS} objects each, {restarted:.0} KB after a restart with those"),
            ),
            Figure::new("virtual clusters: idle processor time", processor, "ms/s", Budget::AtMost(10.0), format!("of the whole server with {clusters}")),
            Figure::new("virtual clusters: start to /readyz", start, "s", Budget::AtMost(3.0), format!("with {clusters} of {OBJECTS} objects")),
            Figure::new(
                "virtual clusters: all deleted, memory left",
                left - empty,
                "MB",
                Budget::None,
                format!("{clusters} in {:.1} s; {empty:.1} MB before the first", removal.as_secs_f64()),
            ),
            Figure::new("virtual cluster: p99 of reads beside a busy neighbour", slowdown.0, "x", Budget::AtMost(2.0), slowdown.1),
        ])
    })
}

/// Makes a cluster and waits until it has answered its administrator.
pub async fn create(api: &Api, number: usize) -> Result<Arc<Tenant>> {
    let name = format!("c{number}");
    let cluster = json!({ "apiVersion": "k3k.io/v1beta1", "kind": "Cluster", "metadata": { "name": name, "namespace": NAMESPACE } });
    api.create(&format!("/apis/k3k.io/v1beta1/namespaces/{NAMESPACE}/clusters"), &cluster).await?;
    let secret = format!("/api/v1/namespaces/{NAMESPACE}/secrets/k3k-{name}-kubeconfig");
    let began = SystemClock.instant();
    let kubeconfig = loop {
        if let Some(secret) = api.get(&secret).await? {
            break decode(&secret["data"]["kubeconfig.yaml"])?;
        }
        ensure!(SystemClock.instant() - began < PATIENCE, "{name} got no kubeconfig");
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    let tenant = Tenant::of(&kubeconfig)?;
    tenant.get(api, "/api/v1/namespaces").await?;
    Ok(Arc::new(tenant))
}

fn decode(value: &Value) -> Result<String> {
    Ok(String::from_utf8(STANDARD.decode(value.as_str().unwrap_or_default())?)?)
}

impl Tenant {
    fn of(kubeconfig: &str) -> Result<Self> {
        let field = |name: &str| {
            let line = kubeconfig.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':'));
            line.map(str::trim).with_context(|| format!("no {name} in the kubeconfig"))
        };
        let pem = |name: &str| -> Result<String> { decode(&field(name)?.into()) };
        let (certificate, key) = (pem("client-certificate-data")?, pem("client-key-data")?);
        let mut tls = pki::client_config(&pem("certificate-authority-data")?, Some((&certificate, &key)))?;
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let server = field("server")?.trim_start_matches("https://");
        let place = server.find('/').map_or("", |at| &server[at..]).to_owned();
        Ok(Self { tls: Arc::new(tls), place })
    }

    pub async fn connect(&self, api: &Api) -> Result<Http1> {
        Http1::connect(api.server.port, &self.tls).await
    }

    /// p99 in ms of a read at a time, by a thread of its own, so that no other load of this process comes into it.
    pub async fn reads(self: &Arc<Self>, api: &Api) -> Result<f64> {
        let (tenant, port) = (self.clone(), api.server.port);
        let thread = tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(reads(port, &tenant))
        });
        thread.await?
    }

    async fn get(&self, api: &Api, path: &str) -> Result<()> {
        let answer = self.connect(api).await?.exchange(&request("GET", &format!("{}{path}", self.place), b"")).await?;
        ensure!(answer.status == 200, "GET {}{path}: {}: {}", self.place, answer.status, String::from_utf8_lossy(&answer.body));
        Ok(())
    }
}

async fn fill(api: &Api, tenant: &Tenant) -> Result<()> {
    let mut connection = tenant.connect(api).await?;
    for number in 0..OBJECTS {
        let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": format!("m{number}") }, "data": { "key": "value" } });
        let path = format!("{}/api/v1/namespaces/default/configmaps", tenant.place);
        let answer = connection.exchange(&request("POST", &path, &serde_json::to_vec(&map)?)).await?;
        ensure!(matches!(answer.status, 201 | 409), "POST {path}: {}", answer.status);
    }
    Ok(())
}

/// How much slower the quiet cluster's reads are while the other one reads and writes all it can.
async fn neighbours(api: &Api, quiet: &Arc<Tenant>, busy: &Arc<Tenant>) -> Result<(f64, String)> {
    let alone = quiet.reads(api).await?;
    let (tenant, port) = (busy.clone(), api.server.port);
    let load = aside(move |stop| try_join_all((0..BUSY_CONNECTIONS).map(move |worker| rounds(port, tenant.clone(), worker, stop.clone()))));
    tokio::time::sleep(Duration::from_millis(500)).await;
    let beside = quiet.reads(api).await;
    let done = load.end().await?.into_iter().sum::<usize>();
    let beside = beside?;
    let detail = format!("{alone:.2} ms alone, {beside:.2} ms beside {BUSY_CONNECTIONS} connections that made {done} rounds of create, list and delete");
    Ok((beside / alone, detail))
}

/// Creates, lists and deletes until it is stopped.
async fn rounds(port: u16, busy: Arc<Tenant>, worker: usize, stop: Stop) -> Result<usize> {
    let mut connection = Http1::connect(port, &busy.tls).await?;
    let mut done = 0;
    while !stop.is_asked() {
        let (maps, name) = (format!("{}/api/v1/namespaces/default/configmaps", busy.place), format!("b{worker}-{}", done % 100));
        let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name } });
        connection.exchange(&request("POST", &maps, &serde_json::to_vec(&map)?)).await?;
        connection.exchange(&request("GET", &maps, b"")).await?;
        connection.exchange(&request("DELETE", &format!("{maps}/{name}"), b"")).await?;
        done += 1;
    }
    Ok(done)
}

async fn reads(port: u16, tenant: &Tenant) -> Result<f64> {
    let mut connection = Http1::connect(port, &tenant.tls).await?;
    let ask = request("GET", &format!("{}/api/v1/namespaces/default", tenant.place), b"");
    let mut samples = Vec::new();
    for _ in 0..QUIET_READS {
        let began = SystemClock.instant();
        let answer = connection.exchange(&ask).await?;
        ensure!(answer.status == 200, "a quiet cluster's read got {}", answer.status);
        samples.push((SystemClock.instant() - began).as_secs_f64() * 1000.0);
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
    Ok(percentile(&mut samples, 0.99))
}
