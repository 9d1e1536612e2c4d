//! Time from the start of the process to `/readyz`: an empty store, and one with 100,000 objects.
use crate::api::{Api, directory};
use crate::figure::{Budget, Figure, percentile};
use crate::http1::request;
use crate::objects;
use anyhow::{Result, ensure};
use api_meta::{ClusterName, GroupResource};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use store::{Key, Op, Store, Txn};
use store_sqlite::{SqliteOptions, SqliteStore};

const EMPTY_BUDGET_MS: f64 = 300.0;
const FULL_BUDGET_S: f64 = 3.0;
const OBJECTS: usize = 100_000;
const NAMESPACES: usize = 100;
const STARTS: usize = 5;
const IDLE: Duration = Duration::from_secs(10);

pub fn measure() -> Result<Vec<Figure>> {
    super::runtime()?.block_on(async {
        let mut empty = Vec::new();
        let mut again = Vec::new();
        for _ in 0..STARTS {
            let directory = directory()?;
            let data = directory.path().join("data");
            for samples in [&mut empty, &mut again] {
                let api = Api::start(&data).await?;
                samples.push(api.start.as_secs_f64() * 1000.0);
                api.server.stop()?;
            }
        }
        let directory = directory()?;
        let data = directory.path().join("data");
        let api = Api::start(&data).await?;
        let template = template(&api).await?;
        api.server.stop()?;
        fill(&data, &template).await?;
        let (mut full, mut memory) = (Vec::new(), Vec::new());
        for round in 0..3 {
            let api = Api::start(&data).await?;
            full.push(api.start.as_secs_f64());
            if round == 2 {
                tokio::time::sleep(IDLE).await;
                memory.push(api.server.memory()?.resident);
            }
            api.server.stop()?;
        }
        let value_bytes = serde_json::to_vec(&template)?.len();
        Ok(vec![
            Figure::new(
                "start to /readyz, empty store",
                percentile(&mut empty, 0.5),
                "ms",
                Budget::AtMost(EMPTY_BUDGET_MS),
                format!(
                    "median of {STARTS}, most {:.0} ms, second start {:.0} ms; upstream 4300-5100 ms",
                    percentile(&mut empty, 1.0),
                    percentile(&mut again, 0.5)
                ),
            ),
            Figure::new(
                format!("start to /readyz, {OBJECTS} objects"),
                percentile(&mut full, 0.5),
                "s",
                Budget::AtMost(FULL_BUDGET_S),
                format!("pods of {value_bytes} bytes in {NAMESPACES} namespaces; median of 3, most {:.2} s", percentile(&mut full, 1.0)),
            ),
            Figure::new(format!("memory with {OBJECTS} objects"), memory[0], "MB", Budget::None, "10 s after the start"),
        ])
    })
}

/// A pod as the server stores it.
async fn template(api: &Api) -> Result<Value> {
    api.namespace("template").await?;
    let body = serde_json::to_vec(&objects::pod("template", "template"))?;
    let answer = api.connect().await?.exchange(&request("POST", "/api/v1/namespaces/template/pods", &body)).await?;
    ensure!(answer.status == 201, "the template pod was refused: {}", String::from_utf8_lossy(&answer.body));
    let mut pod: Value = serde_json::from_slice(&answer.body)?;
    pod["metadata"].as_object_mut().expect("a pod has metadata").remove("resourceVersion");
    Ok(pod)
}

/// Writes the objects straight into the store of a server that does not run.
async fn fill(data: &Path, template: &Value) -> Result<()> {
    const AT_ONCE: usize = 500;
    let store = SqliteStore::open(&data.join("server/db/state.db"), SqliteOptions::new(api_meta::object::stamp))?;
    let root = ClusterName::root();
    let (pods, namespaces) = (GroupResource::new("", "pods"), GroupResource::new("", "namespaces"));
    let mut ops = Vec::new();
    for number in 0..NAMESPACES {
        let name = format!("tenant-{number}");
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace", "spec": { "finalizers": ["kubernetes"] }, "status": { "phase": "Active" },
            "metadata": { "name": name, "uid": uuid::Uuid::new_v4().to_string(), "creationTimestamp": template["metadata"]["creationTimestamp"], "labels": { "kubernetes.io/metadata.name": name } },
        });
        ops.push(Op::Put { key: Key::new(&root, &namespaces, "", &name), value: serde_json::to_vec(&namespace)?.into() });
    }
    for number in 0..OBJECTS - NAMESPACES {
        let (namespace, name) = (format!("tenant-{}", number % NAMESPACES), format!("web-6d4cf56db6-{number}"));
        let mut pod = template.clone();
        pod["metadata"]["namespace"] = namespace.as_str().into();
        pod["metadata"]["name"] = name.as_str().into();
        pod["metadata"]["uid"] = uuid::Uuid::new_v4().to_string().into();
        ops.push(Op::Put { key: Key::new(&root, &pods, &namespace, &name), value: serde_json::to_vec(&pod)?.into() });
        if ops.len() >= AT_ONCE {
            store.txn(Txn { preconditions: Vec::new(), ops: std::mem::take(&mut ops) }).await?;
        }
    }
    store.txn(Txn { preconditions: Vec::new(), ops }).await?;
    store.close().await;
    Ok(())
}
