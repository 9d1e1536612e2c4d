//! Virtual clusters with pods: from the create of a Cluster to a pod in it that has found its own Service by name, with real containers.
use crate::figure::{Budget, Figure, percentile};
use anyhow::{Context, Result, ensure};
use api_client::kube::api::{DeleteParams, DynamicObject, PostParams};
use api_client::kube::config::{KubeConfigOptions, Kubeconfig};
use api_client::kube::core::{ApiResource, GroupVersionKind};
use api_client::kube::{Api, Client, Config};
use clock::{Clock, SystemClock};
use k8s_openapi::api::core::v1::{Namespace, Pod, Secret, Service};
use nix::sched::{CloneFlags, setns};
use serde_json::{Value, json};
use std::fs::File;
use std::time::Duration;
use testkit::Cluster;

const BUDGET_MS: f64 = 1000.0;
const CLUSTERS: usize = 20;
const NAMESPACE: &str = "tenants";
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

pub fn measure() -> Result<Vec<Figure>> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("   left out: containers need root");
        return Ok(Vec::new());
    }
    let cluster = Cluster::start();
    let namespace = format!("/run/netns/{}", cluster.host.namespace());
    let kubeconfig = cluster.server.host_kubeconfig();
    // A thread can enter the cluster's network without the rest of the process.
    let thread = std::thread::spawn(move || -> Result<Vec<Figure>> {
        setns(File::open(&namespace)?, CloneFlags::CLONE_NEWNET).with_context(|| format!("entering {namespace}"))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async { run(client(Kubeconfig::read_from(&kubeconfig)?).await?).await })
    });
    thread.join().map_err(|_| anyhow::anyhow!("the measuring thread panicked"))?
}

async fn client(kubeconfig: Kubeconfig) -> Result<Client> {
    Ok(Client::try_from(Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?)?)
}

async fn run(host: Client) -> Result<Vec<Figure>> {
    let namespace: Namespace = serde_json::from_value(json!({ "metadata": { "name": NAMESPACE } }))?;
    Api::all(host.clone()).create(&PostParams::default(), &namespace).await?;
    let mut took = Vec::new();
    for number in 0..=CLUSTERS {
        let latency = found_its_service(&host, &format!("c{number}")).await?;
        // The first finds every cache cold.
        if number > 0 {
            took.push(latency.as_secs_f64() * 1000.0);
        }
    }
    let (p50, p99) = (percentile(&mut took, 0.5), percentile(&mut took, 0.99));
    let detail = format!("p50 of {CLUSTERS} one after the other, p99 {p99:.0} ms, until the pod that looked it up has ended");
    Ok(vec![Figure::new("virtual cluster: create to a pod that found its Service", p50, "ms", Budget::AtMost(BUDGET_MS), detail)])
}

/// Makes a cluster and a pod in it; how long it took until the pod had resolved its own Service's name. The cluster is gone afterwards.
async fn found_its_service(host: &Client, name: &str) -> Result<Duration> {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("k3k.io", "v1beta1", "Cluster"));
    let clusters: Api<DynamicObject> = Api::namespaced_with(host.clone(), NAMESPACE, &kind);
    let began = SystemClock.instant();
    clusters.create(&PostParams::default(), &serde_json::from_value(json!({ "metadata": { "name": name }, "spec": {} }))?).await?;
    let secrets: Api<Secret> = Api::namespaced(host.clone(), NAMESPACE);
    let secret_name = format!("k3k-{name}-kubeconfig");
    let secret = until("its kubeconfig is there", || secrets.get_opt(&secret_name)).await?;
    let kubeconfig = secret.data.and_then(|mut data| data.remove("kubeconfig.yaml")).context("the Secret holds no kubeconfig")?;
    let inside = client(Kubeconfig::from_yaml(std::str::from_utf8(&kubeconfig.0)?)?).await?;
    let services: Api<Service> = Api::namespaced(inside.clone(), "default");
    let service: Value = json!({ "metadata": { "name": "own" }, "spec": { "selector": { "app": "own" }, "ports": [{ "port": 80 }] } });
    services.create(&PostParams::default(), &serde_json::from_value(service)?).await?;
    let pods: Api<Pod> = Api::namespaced(inside, "default");
    let pod: Pod = pod()?;
    // The account that it runs as comes in a moment.
    until("the pod is made", || async {
        pods.create(&PostParams::default(), &pod).await.map(Some).or_else(|error| is_early(&error).then_some(None).ok_or(error))
    })
    .await?;
    let ended = until("the pod has ended", || async {
        let phase = pods.get("own").await?.status.and_then(|status| status.phase);
        Ok(phase.filter(|phase| matches!(phase.as_str(), "Succeeded" | "Failed")))
    })
    .await?;
    let took = SystemClock.instant() - began;
    ensure!(ended == "Succeeded", "the pod of {name} found no Service of its name");
    clusters.delete(name, &DeleteParams::default()).await?;
    let gone = || async { Ok(clusters.get_opt(name).await?.is_none().then_some(())) };
    until("the cluster is gone", gone).await?;
    Ok(took)
}

fn is_early(error: &api_client::kube::Error) -> bool {
    matches!(error, api_client::kube::Error::Api(status) if status.code == 403 && status.message.contains("service account"))
}

async fn until<T, F>(what: &str, mut look: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<Option<T>, api_client::kube::Error>>,
{
    let began = SystemClock.instant();
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        ensure!(SystemClock.instant() - began < PATIENCE, "waited {PATIENCE:?} in vain until {what}");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

fn pod() -> Result<Pod> {
    let look = "until nslookup own.default.svc.cluster.local >/dev/null 2>&1; do :; done";
    let container = json!({ "name": "main", "image": "busybox:1.36", "imagePullPolicy": "Never", "command": ["sh", "-c", look] });
    Ok(serde_json::from_value(json!({
        "metadata": { "name": "own", "labels": { "app": "own" } },
        "spec": { "restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": [container] },
    }))?)
}
