//! Watch fan-out: from a write to the last of 1,000 watchers, at 200 writes a second.
use crate::api::{Api, directory};
use crate::figure::{Budget, Figure, percentile};
use crate::http1::{Http1, request};
use crate::http2::Watches;
use anyhow::{Context, Result, ensure};
use clock::{Clock, SystemClock};
use parking_lot::Mutex;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const BUDGET_MS: f64 = 20.0;
const CONNECTIONS: u32 = 10;
/// client-go puts all watches of one client on one connection.
const STREAMS: u32 = 100;
const WATCHERS: usize = (CONNECTIONS * STREAMS) as usize;
const WRITES_A_SECOND: usize = 200;
const SECONDS: usize = 20;
const WRITES: usize = WRITES_A_SECOND * SECONDS;
/// Writes wait for their answers, so that it takes several writers to keep the pace.
const WRITERS: usize = 4;
/// The first writes find caches cold and are not counted.
const WARM_UP: usize = WRITES_A_SECOND * 2;

/// One write on its way to everyone.
#[derive(Default)]
struct Write {
    sent: Mutex<Option<Instant>>,
    acknowledged: Mutex<Option<Instant>>,
    reached: AtomicUsize,
    last: Mutex<Option<Instant>>,
}

pub fn measure() -> Result<Vec<Figure>> {
    let directory = directory()?;
    super::runtime()?.block_on(async {
        let api = Api::start(&directory.path().join("data")).await?;
        api.namespace("watched").await?;
        for writer in 0..WRITERS {
            api.create("/api/v1/namespaces/watched/configmaps", &object(writer, 0)).await?;
        }
        // The namespace's own ConfigMap may still be on its way.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let list = api.get("/api/v1/namespaces/watched/configmaps").await?.context("the ConfigMaps can't be listed")?;
        let version = list["metadata"]["resourceVersion"].as_str().context("the list has no version")?;
        let path = format!("/api/v1/namespaces/watched/configmaps?watch=true&allowWatchBookmarks=true&resourceVersion={version}");
        let writes: Arc<Vec<Write>> = Arc::new(std::iter::repeat_with(Write::default).take(WRITES).collect());
        let done = Arc::new(AtomicBool::new(false));
        let tls = api.tls(&[b"h2"])?;
        let mut watchers = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut watches = Watches::open(api.server.port, &tls, &path, STREAMS).await?;
            let (writes, done) = (writes.clone(), done.clone());
            watchers.push(tokio::spawn(async move {
                let ended = watches.read(&mut |line| arrived(&writes, line)).await;
                // At the end the connection is cut.
                if done.load(Ordering::Relaxed) { Ok(()) } else { ended }
            }));
        }
        let before = api.server.processor_time()?;
        let began = SystemClock.instant();
        let mut writers = Vec::new();
        for writer in 0..WRITERS {
            writers.push(tokio::spawn(write(api.connect().await?, writer, writes.clone(), began)));
        }
        for writer in writers {
            writer.await??;
        }
        let took = SystemClock.instant() - began;
        let used = api.server.processor_time()? - before;
        tokio::time::sleep(Duration::from_secs(1)).await;
        done.store(true, Ordering::Relaxed);
        for watcher in watchers {
            watcher.abort();
        }
        figures(&writes, took, used)
    })
}

fn figures(writes: &[Write], took: Duration, used: Duration) -> Result<Vec<Figure>> {
    let (mut from_sent, mut from_acknowledged, mut commits) = (Vec::new(), Vec::new(), Vec::new());
    for (number, write) in writes.iter().enumerate().skip(WARM_UP) {
        let reached = write.reached.load(Ordering::SeqCst);
        ensure!(reached == WATCHERS, "write {number} reached {reached} of {WATCHERS} watchers");
        let (Some(sent), Some(acknowledged), Some(last)) = (*write.sent.lock(), *write.acknowledged.lock(), *write.last.lock()) else { continue };
        from_sent.push((last - sent).as_secs_f64() * 1000.0);
        from_acknowledged.push(last.saturating_duration_since(acknowledged).as_secs_f64() * 1000.0);
        commits.push((acknowledged - sent).as_secs_f64() * 1000.0);
    }
    let detail = format!(
        "p50 {:.1} ms; from the answer p50 {:.1} p99 {:.1} ms; write p50 {:.1} p99 {:.1} ms; {:.0} writes/s; server {:.2} cores",
        percentile(&mut from_sent, 0.5),
        percentile(&mut from_acknowledged, 0.5),
        percentile(&mut from_acknowledged, 0.99),
        percentile(&mut commits, 0.5),
        percentile(&mut commits, 0.99),
        WRITES as f64 / took.as_secs_f64(),
        used.as_secs_f64() / took.as_secs_f64()
    );
    let p99 = percentile(&mut from_sent, 0.99);
    Ok(vec![Figure::new("watch: sending a write to the last of 1,000 watchers, p99", p99, "ms", Budget::AtMost(BUDGET_MS), detail)])
}

fn object(writer: usize, number: usize) -> serde_json::Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": format!("watched-{writer}"), "namespace": "watched", "labels": { "app": "web" } },
        "data": { "number": format!("{number}"), "text": "x".repeat(200) },
    })
}

async fn write(mut connection: Http1, writer: usize, writes: Arc<Vec<Write>>, began: Instant) -> Result<()> {
    for number in (writer..WRITES).step_by(WRITERS) {
        let at = began + Duration::from_secs_f64(number as f64 / WRITES_A_SECOND as f64);
        tokio::time::sleep_until(at.into()).await;
        let body = serde_json::to_vec(&object(writer, number))?;
        let request = request("PUT", &format!("/api/v1/namespaces/watched/configmaps/watched-{writer}"), &body);
        *writes[number].sent.lock() = Some(SystemClock.instant());
        let answer = connection.exchange(&request).await?;
        *writes[number].acknowledged.lock() = Some(SystemClock.instant());
        ensure!(answer.status == 200, "write {number}: {}: {}", answer.status, String::from_utf8_lossy(&answer.body));
    }
    Ok(())
}

/// A watch's line has come: which write it is, counted.
fn arrived(writes: &[Write], line: &[u8]) {
    const NEEDLE: &[u8] = b"\"number\":\"";
    let Some(at) = line.windows(NEEDLE.len()).position(|window| window == NEEDLE) else { return };
    let digits = line[at + NEEDLE.len()..].iter().take_while(|byte| byte.is_ascii_digit());
    let number = digits.fold(0, |number, digit| number * 10 + usize::from(digit - b'0'));
    let Some(write) = writes.get(number) else { return };
    if write.reached.fetch_add(1, Ordering::SeqCst) + 1 == WATCHERS {
        *write.last.lock() = Some(SystemClock.instant());
    }
}
