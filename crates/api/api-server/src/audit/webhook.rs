//! The audit webhook: events posted as lists to somebody else, many at a time behind requests' backs, or one by one while they wait.
//!
//! Source: apiserver's `plugin/pkg/audit/webhook` and `plugin/pkg/audit/buffered`.
use super::metrics;
use super::throttle::Throttle;
use async_trait::async_trait;
use clock::Clock;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};

/// How often a list is sent before its events are given up: the pauses between are upstream's.
const TRIES: u32 = 5;
const GROWTH: f64 = 1.5;

/// Takes lists of events.
#[async_trait]
pub trait AuditReceiver: Send + Sync + 'static {
    /// Sends an `audit.k8s.io/v1` EventList.
    ///
    /// # Errors
    /// Why it did not get there, or was not taken.
    async fn send(&self, list: Vec<u8>) -> Result<(), String>;
}

/// How events leave (`audit-webhook-mode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    #[default]
    Batch,
    /// Every request waits until its events have been sent, or given up.
    Blocking,
    /// And one whose arrival can't be told is refused.
    BlockingStrict,
}

/// `audit-webhook-*`, with upstream's defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct WebhookSettings {
    pub mode: Mode,
    pub initial_backoff: Duration,
    /// Events that wait at most; more are lost.
    pub buffer: usize,
    /// Events in one list.
    pub largest: usize,
    /// How long events wait for others.
    pub longest_wait: Duration,
    /// Lists a second, and lists at once; `None`: as many as there are.
    pub throttle: Option<(f64, u32)>,
}

impl Default for WebhookSettings {
    fn default() -> Self {
        Self {
            mode: Mode::Batch,
            initial_backoff: Duration::from_secs(10),
            buffer: 10_000,
            largest: 400,
            longest_wait: Duration::from_secs(30),
            throttle: Some((10.0, 15)),
        }
    }
}

/// Where events go, and what becomes of them.
pub struct Webhook {
    sender: Arc<Sender>,
    mode: Mode,
    /// `None` once it is closed, and where nothing waits.
    queue: Mutex<Option<mpsc::Sender<Vec<u8>>>>,
    posting: Mutex<Option<JoinHandle<()>>>,
}

/// Tells whether an event got there.
pub type Receipt = oneshot::Receiver<bool>;

struct Sender {
    receiver: Box<dyn AuditReceiver>,
    initial_backoff: Duration,
}

impl Webhook {
    /// Begins to post; has to be called on a runtime.
    pub fn start(receiver: Box<dyn AuditReceiver>, settings: &WebhookSettings, clock: Arc<dyn Clock>) -> Self {
        let sender = Arc::new(Sender { receiver, initial_backoff: settings.initial_backoff });
        let (queue, posting) = if settings.mode == Mode::Batch {
            let (queue, waiting) = mpsc::channel(settings.buffer.max(1));
            let throttle = settings.throttle.map(|(rate, burst)| Throttle::new(rate, burst, clock));
            (Some(queue), Some(tokio::spawn(post(sender.clone(), waiting, settings.clone(), throttle))))
        } else {
            (None, None)
        };
        Self { sender, mode: settings.mode, queue: Mutex::new(queue), posting: Mutex::new(posting) }
    }

    /// Takes one event, as JSON. Gives what to wait for, if the request has to.
    pub fn tell(&self, event: Vec<u8>) -> Option<Receipt> {
        if self.mode == Mode::Batch {
            let taken = self.queue.lock().as_ref().map(|queue| queue.try_send(event));
            match taken {
                Some(Ok(())) => {}
                Some(Err(_)) => metrics::lost("buffered", 1, "audit buffer queue blocked"),
                None => metrics::lost("buffered", 1, "audit backend shut down"),
            }
            return None;
        }
        let (tell, receipt) = oneshot::channel();
        let sender = self.sender.clone();
        tokio::spawn(async move {
            // Nobody waits any more for a request that its client has left.
            let _ = tell.send(sender.deliver(&[event]).await);
        });
        Some(receipt)
    }

    pub fn is_strict(&self) -> bool {
        self.mode == Mode::BlockingStrict
    }

    /// Sends what waits, and takes no more; gives up after `patience`.
    pub async fn close(&self, patience: Duration) {
        self.queue.lock().take();
        let posting = self.posting.lock().take();
        if let Some(posting) = posting
            && tokio::time::timeout(patience, posting).await.is_err()
        {
            tracing::warn!("audit events could not be posted in time");
        }
    }
}

/// Collects events and posts them, until nobody can send any more and all have been posted.
async fn post(sender: Arc<Sender>, mut waiting: mpsc::Receiver<Vec<u8>>, settings: WebhookSettings, throttle: Option<Throttle>) {
    let mut posts = JoinSet::new();
    loop {
        let mut events = Vec::new();
        if waiting.recv_many(&mut events, 1).await == 0 {
            break;
        }
        let collected = async {
            while events.len() < settings.largest {
                let left = settings.largest - events.len();
                if waiting.recv_many(&mut events, left).await == 0 {
                    break;
                }
            }
        };
        // Running out of time is as good as being full.
        let _ = tokio::time::timeout(settings.longest_wait, collected).await;
        if let Some(throttle) = &throttle {
            throttle.turn().await;
        }
        let sender = sender.clone();
        posts.spawn(async move { sender.deliver(&events).await });
        while posts.try_join_next().is_some() {}
    }
    while posts.join_next().await.is_some() {}
}

impl Sender {
    /// Whether the events got there, in the end.
    async fn deliver(&self, events: &[Vec<u8>]) -> bool {
        let body = list(events);
        let mut pause = self.initial_backoff;
        let mut why = String::new();
        for attempt in 0..TRIES {
            if attempt > 0 {
                tokio::time::sleep(pause).await;
                pause = pause.mul_f64(GROWTH);
            }
            match self.receiver.send(body.clone()).await {
                Ok(()) => return true,
                Err(error) => why = error,
            }
        }
        metrics::lost("webhook", events.len(), &why);
        false
    }
}

fn list(events: &[Vec<u8>]) -> Vec<u8> {
    let mut body = br#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":["#.to_vec();
    body.extend(events.join(&b','));
    body.extend(b"]}");
    body
}

#[cfg(test)]
mod tests {
    use super::*;
    use clock::SystemClock;
    use serde_json::Value;

    /// Keeps what it takes; takes nothing as often as it is told.
    #[derive(Clone, Default)]
    struct Desk {
        refuse: Arc<Mutex<u32>>,
        lists: Arc<Mutex<Vec<Vec<u64>>>>,
    }

    #[async_trait]
    impl AuditReceiver for Desk {
        async fn send(&self, list: Vec<u8>) -> Result<(), String> {
            let mut refuse = self.refuse.lock();
            if *refuse > 0 {
                *refuse -= 1;
                return Err("not now".into());
            }
            let list: Value = serde_json::from_slice(&list).unwrap();
            assert_eq!((list["kind"].as_str(), list["apiVersion"].as_str()), (Some("EventList"), Some("audit.k8s.io/v1")));
            self.lists.lock().push(list["items"].as_array().unwrap().iter().map(|event| event["n"].as_u64().unwrap()).collect());
            Ok(())
        }
    }

    fn event(n: u64) -> Vec<u8> {
        format!("{{\"n\":{n}}}").into_bytes()
    }

    #[tokio::test(start_paused = true)]
    async fn events_are_posted_together_and_again_until_they_are_taken() {
        let desk = Desk::default();
        *desk.refuse.lock() = 2;
        let settings = WebhookSettings { largest: 3, ..WebhookSettings::default() };
        let webhook = Webhook::start(Box::new(desk.clone()), &settings, Arc::new(SystemClock));
        for n in 0..7 {
            assert!(webhook.tell(event(n)).is_none());
        }
        webhook.close(Duration::from_secs(600)).await;
        let mut lists = desk.lists.lock().clone();
        lists.sort();
        assert_eq!(lists, [vec![0, 1, 2], vec![3, 4, 5], vec![6]]);
        let lost = metrics::lost_by("buffered");
        webhook.tell(event(8));
        assert_eq!(metrics::lost_by("buffered"), lost + 1, "nobody takes events after the end");
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_takes_is_given_up_and_counted() {
        let desk = Desk::default();
        *desk.refuse.lock() = TRIES;
        let settings = WebhookSettings { mode: Mode::BlockingStrict, ..WebhookSettings::default() };
        let webhook = Webhook::start(Box::new(desk.clone()), &settings, Arc::new(SystemClock));
        let lost = metrics::lost_by("webhook");
        assert_eq!(webhook.tell(event(1)).unwrap().await, Ok(false));
        assert_eq!(metrics::lost_by("webhook"), lost + 1);
        assert_eq!(webhook.tell(event(2)).unwrap().await, Ok(true));
        assert_eq!(*desk.lists.lock(), [[2]]);
    }
}
