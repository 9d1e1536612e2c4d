//! Creates by 64 clients, every acknowledged one on disk, against raw SQLite committing as many rows of that size in groups.
use crate::api::{Api, directory};
use crate::figure::{Budget, Figure, percentile};
use crate::http1::{Http1, request};
use crate::objects;
use anyhow::{Result, ensure};
use clock::{Clock, SystemClock};
use std::time::Duration;
use store_sqlite::bench::{CommitRate, Load, commit_rate};

const BUDGET: f64 = 0.5;
const CLIENTS: usize = 64;
const EACH: usize = 50;
/// The two take turns, so that a slow moment of the machine hits both.
const ROUNDS: usize = 4;

pub fn measure() -> Result<Vec<Figure>> {
    let directory = directory()?;
    super::runtime()?.block_on(async {
        let api = Api::start(&directory.path().join("data")).await?;
        api.namespace("create").await?;
        let mut connections = Vec::new();
        for _ in 0..CLIENTS {
            connections.push(api.connect().await?);
        }
        let (mut served, mut raw, mut store, mut latencies) = (0.0, 0.0, 0.0, Vec::new());
        let mut value_bytes = 0;
        let before = api.server.processor_time()?;
        let mut busy = Duration::ZERO;
        for round in 0..ROUNDS {
            let started = SystemClock.instant();
            let tasks: Vec<_> = connections.drain(..).enumerate().map(|(client, connection)| tokio::spawn(create(connection, round, client))).collect();
            for task in tasks {
                let (connection, times, bytes) = task.await??;
                connections.push(connection);
                latencies.extend(times);
                value_bytes = bytes;
            }
            let took = SystemClock.instant() - started;
            busy += took;
            served += (CLIENTS * EACH) as f64 / took.as_secs_f64();
            let own = directory.path().join(format!("raw-{round}"));
            std::fs::create_dir(&own)?;
            let load = Load { clients: CLIENTS, rows: CLIENTS * EACH, value_bytes };
            let CommitRate { raw: plain, store: through } = commit_rate(&own, load, api_meta::object::stamp).await?;
            (raw, store) = (raw + plain, store + through);
        }
        let used = (api.server.processor_time()? - before).as_secs_f64();
        let rounds = ROUNDS as f64;
        let rows = (CLIENTS * EACH * ROUNDS) as f64;
        let (p50, p99) = (percentile(&mut latencies, 0.5), percentile(&mut latencies, 0.99));
        let detail = format!(
            "{:.0}/s against {:.0}/s of {value_bytes} bytes; p50 {p50:.1} ms, p99 {p99:.1} ms; server {:.0} us of processor each, {:.1} cores",
            served / rounds,
            raw / rounds,
            used / rows * 1e6,
            used / busy.as_secs_f64()
        );
        Ok(vec![
            Figure::new(format!("create, {CLIENTS} clients, of raw SQLite"), served / raw, "x", Budget::AtLeast(BUDGET), detail),
            Figure::new("commit through the store alone, of raw SQLite", store / raw, "x", Budget::None, ""),
        ])
    })
}

async fn create(mut connection: Http1, round: usize, client: usize) -> Result<(Http1, Vec<f64>, usize)> {
    let (mut times, mut bytes) = (Vec::new(), 0);
    for number in 0..EACH {
        let name = format!("web-6d4cf56db6-{round}-{client}-{number}");
        let request = request("POST", "/api/v1/namespaces/create/pods", &serde_json::to_vec(&objects::pod("create", &name))?);
        let began = SystemClock.instant();
        let answer = connection.exchange(&request).await?;
        times.push((SystemClock.instant() - began).as_secs_f64() * 1000.0);
        ensure!(answer.status == 201, "creating {name:?}: {}: {}", answer.status, String::from_utf8_lossy(&answer.body));
        bytes = answer.body.len();
    }
    Ok((connection, times, bytes))
}
