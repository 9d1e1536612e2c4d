//! Idle memory of a control plane: API server, store, all controllers and the scheduler.
use crate::api::{Api, directory};
use crate::figure::{Budget, Figure};
use anyhow::Result;
use std::time::Duration;

const BUDGET_MB: f64 = 40.0;
/// Upstream's apiserver, etcd, controllers and scheduler together, measured on the machine the budgets were set on.
const UPSTREAM_MB: f64 = 482.0;
const IDLE: Duration = Duration::from_secs(10);

pub fn measure() -> Result<Vec<Figure>> {
    let directory = directory()?;
    super::runtime()?.block_on(async {
        let api = Api::start(&directory.path().join("data")).await?;
        tokio::time::sleep(IDLE).await;
        let before = api.server.processor_time()?;
        let memory = api.server.memory()?;
        tokio::time::sleep(IDLE).await;
        let used = api.server.processor_time()? - before;
        let detail = format!("PSS {:.1} MB, anonymous {:.1} MB; upstream {UPSTREAM_MB} MB", memory.proportional, memory.anonymous);
        Ok(vec![
            Figure::new("idle memory", memory.resident, "MB", Budget::AtMost(BUDGET_MB), detail),
            Figure::new("idle processor time", used.as_secs_f64() / IDLE.as_secs_f64() * 1000.0, "ms/s", Budget::None, ""),
        ])
    })
}
