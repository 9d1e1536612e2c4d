//! Samples: nodes' counters as they were when last asked. Nobody who doesn't ask costs anything.
use super::unreachable;
use super::usage::{Measured, Summary};
use crate::ApiServer;
use api_meta::{ClusterName, Status};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What was measured so long ago is still told: who asks every second gets an answer, and the node is left in peace.
const FRESH: Duration = Duration::from_secs(5);
/// An older sample says too little of now; a new pair is taken.
const OLDEST: Duration = Duration::from_secs(60);
/// Between the two of a new pair.
const PAUSE: Duration = Duration::from_secs(1);
/// More than this a node's answer is not.
const LARGEST: usize = 16 << 20;
const TIMEOUT: Duration = Duration::from_secs(10);

/// By cluster and node. Those that nobody asks for are forgotten.
#[derive(Default)]
pub(crate) struct Samples(Mutex<HashMap<(ClusterName, String), Place>>);

type Place = Arc<tokio::sync::Mutex<Option<Sample>>>;

struct Sample {
    taken: Instant,
    summary: Summary,
    measured: Option<Arc<Measured>>,
}

impl Samples {
    /// What a node's pods of one cluster, and the node, use now.
    pub async fn measure(&self, server: &ApiServer, cluster: &ClusterName, node: &str) -> Result<Arc<Measured>, Status> {
        let place = self.place(server.clock.instant(), cluster, node);
        // Who asks at the same time waits for the same answer.
        let mut sample = place.lock().await;
        let age = |sample: &Sample| server.clock.instant().saturating_duration_since(sample.taken);
        if let Some(measured) = sample.as_ref().filter(|sample| age(sample) < FRESH).and_then(|sample| sample.measured.clone()) {
            return Ok(measured);
        }
        if sample.as_ref().is_none_or(|sample| age(sample) > OLDEST) {
            *sample = Some(Sample { taken: server.clock.instant(), summary: server.summary(cluster, node).await?, measured: None });
        }
        let before = sample.as_ref().expect("a sample was just taken");
        tokio::time::sleep(PAUSE.saturating_sub(age(before))).await;
        let (summary, taken, end) = (server.summary(cluster, node).await?, server.clock.instant(), server.clock.now());
        let measured = Arc::new(summary.since(&before.summary, end, taken.saturating_duration_since(before.taken)));
        *sample = Some(Sample { taken, summary, measured: Some(measured.clone()) });
        Ok(measured)
    }

    fn place(&self, now: Instant, cluster: &ClusterName, node: &str) -> Place {
        let mut places = self.0.lock();
        let stale = |sample: &Option<Sample>| sample.as_ref().is_none_or(|sample| now.saturating_duration_since(sample.taken) > OLDEST);
        places.retain(|_, place| Arc::strong_count(place) > 1 || !place.try_lock().is_ok_and(|sample| stale(&sample)));
        places.entry((cluster.clone(), node.to_owned())).or_default().clone()
    }
}

impl ApiServer {
    async fn summary(&self, cluster: &ClusterName, node: &str) -> Result<Summary, Status> {
        let asked = tokio::time::timeout(TIMEOUT, async {
            let address = self.node_address(cluster, node).await?;
            let known = self.known_to_nodes(cluster);
            let request = http::Request::get(format!("/clusters/{known}/stats/summary")).header(http::header::HOST, address.to_string());
            let mut sender = self.dial_node(cluster, address).await.map_err(unreachable)?;
            let answer = sender.send_request(request.body(http_body_util::Empty::new()).map_err(Status::internal)?).await.map_err(unreachable)?;
            if !answer.status().is_success() {
                return Err(unreachable(answer.status()));
            }
            let body = http_body_util::Limited::new(answer.into_body(), LARGEST).collect().await.map_err(unreachable)?;
            serde_json::from_slice(&body.to_bytes()).map_err(Status::internal)
        });
        asked.await.map_err(|_| unreachable("it does not answer"))?
    }
}
