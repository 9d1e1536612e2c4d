//! GET one pod and LIST 10,000 over TLS, against a bare hyper + rustls server that returns the same bytes.
use crate::api::{Api, directory};
use crate::bare::Bare;
use crate::figure::{Budget, Figure};
use crate::http1::{Http1, request};
use crate::objects;
use anyhow::{Result, ensure};
use clock::{Clock, SystemClock};
use rustls::ClientConfig;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const GET_BUDGET: f64 = 0.5;
const LIST_BUDGET: f64 = 0.6;
const PODS: usize = 10_000;
const NAMESPACE: &str = "read";

struct Comparison {
    path: &'static str,
    connections: usize,
    /// The two servers take turns, so that a slow moment of the machine hits both.
    rounds: usize,
    round: Duration,
}

/// Answers a second, and the server's processor time for each in microseconds.
#[derive(Clone, Copy, Default)]
struct Rate {
    answers: f64,
    processor: f64,
}

pub fn measure() -> Result<Vec<Figure>> {
    let directory = directory()?;
    super::runtime()?.block_on(async {
        let api = Api::start(&directory.path().join("data")).await?;
        api.namespace(NAMESPACE).await?;
        fill(&api).await?;
        let get = Comparison { path: "/api/v1/namespaces/read/pods/web-6d4cf56db6-0-0", connections: 32, rounds: 6, round: Duration::from_secs(1) };
        let list = Comparison { path: "/api/v1/namespaces/read/pods", connections: 2, rounds: 6, round: Duration::from_secs(2) };
        Ok(vec![
            get.run(&api, directory.path(), "GET a pod, 32 connections, of a bare server", GET_BUDGET).await?,
            list.run(&api, directory.path(), "LIST 10,000 pods, of a bare server", LIST_BUDGET).await?,
        ])
    })
}

async fn fill(api: &Api) -> Result<()> {
    const CLIENTS: usize = 50;
    let mut tasks = Vec::new();
    for client in 0..CLIENTS {
        let mut connection = api.connect().await?;
        tasks.push(tokio::spawn(async move {
            for number in 0..PODS / CLIENTS {
                let body = serde_json::to_vec(&objects::pod(NAMESPACE, &format!("web-6d4cf56db6-{client}-{number}")))?;
                let answer = connection.exchange(&request("POST", "/api/v1/namespaces/read/pods", &body)).await?;
                ensure!(answer.status == 201, "creating a pod: {}: {}", answer.status, String::from_utf8_lossy(&answer.body));
            }
            Ok(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    Ok(())
}

impl Comparison {
    async fn run(&self, api: &Api, directory: &Path, what: &str, budget: f64) -> Result<Figure> {
        let tls = api.tls(&[b"http/1.1"])?;
        let answer = Http1::connect(api.server.port, &tls).await?.exchange(&request("GET", self.path, b"")).await?;
        ensure!(answer.status == 200, "GET {}: {}", self.path, answer.status);
        let file = directory.join("body");
        std::fs::write(&file, &answer.body)?;
        let bare = Bare::start(&api.server.tls_directory(), &file)?;
        let (mut ours, mut theirs) = (Rate::default(), Rate::default());
        for _ in 0..self.rounds {
            for (total, port, bare) in [(&mut theirs, bare.port, Some(&bare)), (&mut ours, api.server.port, None)] {
                let used = || match bare {
                    Some(bare) => bare.processor_time(),
                    None => api.server.processor_time(),
                };
                let before = used()?;
                let rate = self.round(port, &tls, answer.body_bytes).await?;
                total.answers += rate / self.rounds as f64;
                total.processor += (used()? - before).as_secs_f64() / (rate * self.round.as_secs_f64()) * 1e6 / self.rounds as f64;
            }
        }
        let detail = format!(
            "{:.0}/s against {:.0}/s, {} bytes; processor of the servers {:.0} us against {:.0} us each",
            ours.answers, theirs.answers, answer.body_bytes, ours.processor, theirs.processor
        );
        Ok(Figure::new(what, ours.answers / theirs.answers, "x", Budget::AtLeast(budget), detail))
    }

    /// Answers a second.
    async fn round(&self, port: u16, tls: &Arc<ClientConfig>, length: usize) -> Result<f64> {
        let mut connections = Vec::new();
        for _ in 0..self.connections {
            connections.push(Http1::connect(port, tls).await?);
        }
        let count = Arc::new(AtomicUsize::new(0));
        let started = SystemClock.instant();
        let end = started + self.round;
        let path = self.path;
        let tasks: Vec<_> = connections
            .into_iter()
            .map(|mut connection| {
                let count = count.clone();
                tokio::spawn(async move {
                    let request = request("GET", path, b"");
                    while SystemClock.instant() < end {
                        let answer = connection.drain(&request).await?;
                        ensure!(answer.status == 200 && answer.body_bytes == length, "an answer of {} with {} bytes", answer.status, answer.body_bytes);
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(())
                })
            })
            .collect();
        for task in tasks {
            task.await??;
        }
        Ok(count.load(Ordering::Relaxed) as f64 / (SystemClock.instant() - started).as_secs_f64())
    }
}
