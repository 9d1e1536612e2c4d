//! Pods: from the create to Running, image present, on a whole cluster with real containers: one at a time, and 100 at once.
use crate::figure::{Budget, Figure, percentile};
use anyhow::{Context, Result, bail, ensure};
use api_client::kube::api::{DeleteParams, PostParams, WatchEvent, WatchParams};
use api_client::kube::config::{KubeConfigOptions, Kubeconfig};
use api_client::kube::{Api, Client, Config};
use clock::{Clock, SystemClock};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use nix::sched::{CloneFlags, setns};
use serde_json::json;
use std::collections::HashMap;
use std::fs::File;
use std::time::{Duration, Instant};
use testkit::Cluster;

const P50_BUDGET_MS: f64 = 500.0;
const P99_BUDGET_MS: f64 = 1500.0;
const ALL_BUDGET_S: f64 = 20.0;
const ONE_BY_ONE: usize = 30;
const AT_ONCE: usize = 100;
const PATIENCE: Duration = Duration::from_secs(180);

pub fn measure() -> Result<Vec<Figure>> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("   left out: containers need root");
        return Ok(Vec::new());
    }
    let cluster = Cluster::start_with(&["--kubelet-arg", "max-pods=250"]);
    inside(&cluster, async |client| run(Api::default_namespaced(client)).await)
}

/// Measures from within a cluster's network.
pub(super) fn inside(cluster: &Cluster, measure: impl AsyncFnOnce(Client) -> Result<Vec<Figure>> + Send + 'static) -> Result<Vec<Figure>> {
    let namespace = format!("/run/netns/{}", cluster.host.namespace());
    let kubeconfig = cluster.server.kubeconfig();
    // A thread can enter the cluster's network without the rest of the process.
    let thread = std::thread::spawn(move || -> Result<Vec<Figure>> {
        setns(File::open(&namespace)?, CloneFlags::CLONE_NEWNET).with_context(|| format!("entering {namespace}"))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let config = Config::from_custom_kubeconfig(Kubeconfig::read_from(&kubeconfig)?, &KubeConfigOptions::default()).await?;
            measure(Client::try_from(config)?).await
        })
    });
    thread.join().map_err(|_| anyhow::anyhow!("the measuring thread panicked"))?
}

async fn run(pods: Api<Pod>) -> Result<Vec<Figure>> {
    let mut alone = Vec::new();
    for number in 0..=ONE_BY_ONE {
        let name = format!("alone-{number}");
        let took = running(&pods, &[pod(&name)?]).await?;
        // The first finds every cache cold.
        if number > 0 {
            alone.push(took[0].as_secs_f64() * 1000.0);
        }
        remove(&pods, &name).await?;
    }
    let new = (0..AT_ONCE).map(|number| pod(&format!("together-{number}"))).collect::<Result<Vec<_>>>()?;
    let mut together: Vec<f64> = running(&pods, &new).await?.iter().map(Duration::as_secs_f64).collect();
    let (p50, p99) = (percentile(&mut alone, 0.5), percentile(&mut alone, 0.99));
    let detail = format!("p50 {:.1} s", percentile(&mut together, 0.5));
    Ok(vec![
        Figure::new("pod create to Running, p50", p50, "ms", Budget::AtMost(P50_BUDGET_MS), format!("{ONE_BY_ONE}, one at a time; upstream 1000 ms")),
        Figure::new("pod create to Running, p99", p99, "ms", Budget::AtMost(P99_BUDGET_MS), ""),
        Figure::new(format!("{AT_ONCE} pods at once, all Running"), percentile(&mut together, 1.0), "s", Budget::AtMost(ALL_BUDGET_S), detail),
    ])
}

/// Creates the pods; how long each took until it was Running.
pub(super) async fn running(pods: &Api<Pod>, new: &[Pod]) -> Result<Vec<Duration>> {
    let list = pods.list_metadata(&Default::default()).await?;
    let version = list.metadata.resource_version.context("the list has no version")?;
    let mut events = pods.watch(&WatchParams::default(), &version).await?.boxed();
    let created: HashMap<String, Instant> = futures::future::try_join_all(new.iter().map(async |pod| {
        let began = SystemClock.instant();
        pods.create(&PostParams::default(), pod).await?;
        anyhow::Ok((pod.metadata.name.clone().unwrap_or_default(), began))
    }))
    .await?
    .into_iter()
    .collect();
    let mut took: HashMap<String, Duration> = HashMap::new();
    while took.len() < new.len() {
        let event = tokio::time::timeout(PATIENCE, events.try_next()).await;
        let event = event.with_context(|| format!("{} of {} pods were running within {PATIENCE:?}", took.len(), new.len()))??;
        let (WatchEvent::Added(pod) | WatchEvent::Modified(pod)) = event.context("the watch ended")? else { continue };
        let name = pod.metadata.name.unwrap_or_default();
        let phase = pod.status.and_then(|status| status.phase).unwrap_or_default();
        ensure!(phase != "Failed", "pod {name:?} failed");
        if phase == "Running"
            && let Some(began) = created.get(&name)
        {
            took.entry(name).or_insert_with(|| SystemClock.instant() - *began);
        }
    }
    Ok(took.into_values().collect())
}

pub(super) async fn remove(pods: &Api<Pod>, name: &str) -> Result<()> {
    pods.delete(name, &DeleteParams::default().grace_period(0)).await?;
    let began = SystemClock.instant();
    while pods.get_opt(name).await?.is_some() {
        if SystemClock.instant() - began > PATIENCE {
            bail!("pod {name:?} does not go away");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

pub(super) fn pod(name: &str) -> Result<Pod> {
    let container = json!({ "name": "main", "image": "busybox:1.36", "imagePullPolicy": "Never", "command": ["sleep", "3600"] });
    Ok(serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
        "spec": { "terminationGracePeriodSeconds": 0, "containers": [container] },
    }))?)
}
