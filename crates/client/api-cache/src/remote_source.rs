//! RemoteSource: feeds caches from a server on another machine, by watches that go on where they broke off.
use crate::source::{Selection, Source, SourceEvent};
use api_meta::ClusterName;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{AsyncBufReadExt, StreamExt};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::time::Duration;
use tokio::sync::mpsc;

/// Between two tries, doubled from the first to the last, and up to half as long again by chance.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(10);
/// A watch that lasted this long was a good one.
const GOOD: Duration = Duration::from_secs(5);
/// Until it is asked again for what the server does not serve, as where it hosts no virtual clusters.
const UNSERVED: Duration = Duration::from_secs(60);
/// How far a follower may be ahead of its cache.
const AHEAD: usize = 256;

/// Follows resources of one server.
pub struct RemoteSource {
    client: kube::Client,
    /// Whether it is a node of the host cluster, which follows all clusters whose pods it may run.
    across: bool,
}

impl RemoteSource {
    /// `client` is one of the cluster that is `root` here. With `across`, selections without a cluster cover all clusters.
    pub fn new(client: kube::Client, across: bool) -> Self {
        Self { client, across }
    }
}

impl Source for RemoteSource {
    fn follow(&self, selection: Selection) -> BoxStream<'static, SourceEvent> {
        let (sender, receiver) = mpsc::channel(AHEAD);
        let path = path(&selection, self.across);
        let cluster = selection.cluster.unwrap_or_else(ClusterName::root);
        tokio::spawn(Follower { client: self.client.clone(), path, cluster, fields: selection.fields, sender, revision: None }.run());
        futures::stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) }).boxed()
    }
}

fn path(selection: &Selection, across: bool) -> String {
    let place = match &selection.cluster {
        None if across => "/clusters/*".to_owned(),
        Some(cluster) if !cluster.is_root() => format!("/clusters/{cluster}"),
        _ => String::new(),
    };
    let Selection { group, version, resource, .. } = selection;
    let within = selection.namespace.as_ref().map(|namespace| format!("namespaces/{namespace}/")).unwrap_or_default();
    let group = if group.is_empty() { "api".to_owned() } else { format!("apis/{group}") };
    format!("{place}/{group}/{version}/{within}{resource}")
}

struct Follower {
    client: kube::Client,
    path: String,
    /// Whose objects these are where frames don't say.
    cluster: ClusterName,
    fields: Option<String>,
    sender: mpsc::Sender<SourceEvent>,
    /// Up to where all is known; `None`: everything has to be told anew.
    revision: Option<String>,
}

/// Why a watch ended.
#[derive(Debug, PartialEq)]
enum End {
    /// In its time, or the connection broke: it goes on where it was.
    Over(Option<String>),
    /// The server no longer knows what came after the revision.
    Expired,
    /// The server does not serve the resource: there are none.
    Unserved,
    /// The cache is gone.
    Unwanted,
}

#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    cluster: Option<&'a str>,
    #[serde(borrow)]
    object: &'a RawValue,
}

/// What a frame means to a cache.
#[derive(Debug)]
enum Told {
    Event(SourceEvent, Option<String>),
    /// How far all has been told, and whether that is the end of what there was at the start.
    Bookmark {
        revision: String,
        initial_end: bool,
    },
    Failed {
        code: u16,
        message: String,
    },
    Nothing,
}

impl Follower {
    async fn run(mut self) {
        let mut retry = FIRST_RETRY;
        loop {
            let began = tokio::time::Instant::now();
            let why = match self.watch().await {
                End::Unwanted => return,
                End::Expired => {
                    self.revision = None;
                    None
                }
                End::Unserved => {
                    self.revision = None;
                    tokio::select! {
                        () = tokio::time::sleep(UNSERVED) => continue,
                        () = self.sender.closed() => return,
                    }
                }
                End::Over(why) => why,
            };
            if began.elapsed() >= GOOD {
                retry = FIRST_RETRY;
            }
            if let Some(why) = why {
                tracing::warn!(path = self.path, why, "following the server broke off; trying again in {retry:?}");
            }
            let chance = f64::from(u16::from_le_bytes(clock::random_bytes())) / f64::from(u16::MAX);
            tokio::select! {
                () = tokio::time::sleep(retry.mul_f64(1.0 + chance / 2.0)) => {}
                () = self.sender.closed() => return,
            }
            retry = (retry * 2).min(LAST_RETRY);
        }
    }

    fn uri(&self) -> String {
        let mut uri = format!("{}?watch=true&allowWatchBookmarks=true", self.path);
        match &self.revision {
            Some(revision) => uri.push_str(&format!("&resourceVersion={revision}")),
            None => uri.push_str("&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"),
        }
        if self.fields.is_none() && self.path.ends_with("/api/v1/pods") {
            // All that a node may know of others' pods.
            uri.push_str("&view=network");
        }
        if let Some(fields) = &self.fields {
            uri.push_str(&format!("&fieldSelector={}", fields.replace('=', "%3D").replace(',', "%2C")));
        }
        uri
    }

    async fn watch(&mut self) -> End {
        let request = match http::Request::get(self.uri()).body(Vec::new()) {
            Ok(request) => request,
            Err(error) => return End::Over(Some(error.to_string())),
        };
        let sender = self.sender.clone();
        let body = tokio::select! {
            answer = self.client.request_stream(request) => match answer {
                Ok(body) => body,
                Err(kube::Error::Api(status)) if status.code == 410 => return End::Expired,
                Err(kube::Error::Api(status)) if status.code == 404 => {
                    for event in [SourceEvent::Restart, SourceEvent::Listed] {
                        if sender.send(event).await.is_err() {
                            return End::Unwanted;
                        }
                    }
                    return End::Unserved;
                }
                Err(error) => return End::Over(Some(error.to_string())),
            },
            () = sender.closed() => return End::Unwanted,
        };
        if self.revision.is_none() && sender.send(SourceEvent::Restart).await.is_err() {
            return End::Unwanted;
        }
        let mut lines = Box::pin(body.lines());
        // Until the end of what there is at the start, nothing is known for sure.
        let mut listed = self.revision.is_some();
        loop {
            let line = tokio::select! {
                line = lines.next() => line,
                () = sender.closed() => return End::Unwanted,
            };
            let line = match line {
                None => return End::Over(None),
                Some(Err(error)) => return End::Over(Some(error.to_string())),
                Some(Ok(line)) => line,
            };
            match told(&line, &self.cluster) {
                Told::Event(event, revision) => {
                    if sender.send(event).await.is_err() {
                        return End::Unwanted;
                    }
                    if listed && revision.is_some() {
                        self.revision = revision;
                    }
                }
                Told::Bookmark { revision, initial_end } => {
                    if initial_end {
                        listed = true;
                        if sender.send(SourceEvent::Listed).await.is_err() {
                            return End::Unwanted;
                        }
                    }
                    if listed {
                        self.revision = Some(revision);
                    }
                }
                Told::Failed { code: 410, .. } => return End::Expired,
                Told::Failed { message, .. } => return End::Over(Some(message)),
                Told::Nothing => {}
            }
        }
    }
}

fn told(line: &str, of: &ClusterName) -> Told {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Body {
        metadata: Metadata,
        code: u16,
        message: String,
    }
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Metadata {
        resource_version: String,
        annotations: std::collections::BTreeMap<String, String>,
    }
    if line.trim().is_empty() {
        return Told::Nothing;
    }
    let unreadable = |error: &dyn std::fmt::Display| Told::Failed { code: 0, message: format!("an event can't be read: {error}") };
    let frame: Frame = match serde_json::from_str(line) {
        Ok(frame) => frame,
        Err(error) => return unreadable(&error),
    };
    let body: Body = match serde_json::from_str(frame.object.get()) {
        Ok(body) => body,
        Err(error) => return unreadable(&error),
    };
    let cluster = match frame.cluster.map(ClusterName::parse).transpose() {
        Ok(cluster) => cluster.unwrap_or_else(|| of.clone()),
        Err(error) => return unreadable(&error),
    };
    let object = Bytes::copy_from_slice(frame.object.get().as_bytes());
    let revision = Some(body.metadata.resource_version).filter(|revision| !revision.is_empty());
    match frame.kind {
        "ADDED" | "MODIFIED" => Told::Event(SourceEvent::Applied { cluster, object }, revision),
        "DELETED" => Told::Event(SourceEvent::Deleted { cluster, object }, revision),
        "BOOKMARK" => {
            let initial_end = body.metadata.annotations.get("k8s.io/initial-events-end").is_some_and(|value| value == "true");
            revision.map_or(Told::Nothing, |revision| Told::Bookmark { revision, initial_end })
        }
        "ERROR" => Told::Failed { code: body.code, message: body.message },
        _ => Told::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use std::sync::Arc;

    type Answers = Arc<Mutex<Vec<(u16, String)>>>;

    /// A server that gives these answers in their order and then waits for ever; and what it was asked.
    fn server(answers: &[(u16, &str)]) -> (RemoteSource, Arc<Mutex<Vec<String>>>) {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let answers: Answers = Arc::new(Mutex::new(answers.iter().rev().map(|(code, text)| (*code, (*text).to_owned())).collect()));
        let log = asked.clone();
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            log.lock().push(request.uri().to_string());
            let answer = answers.lock().pop();
            async move {
                let Some((code, text)) = answer else { return std::future::pending().await };
                Ok::<_, std::io::Error>(http::Response::builder().status(code).body(kube::client::Body::from(text.into_bytes())).unwrap())
            }
        });
        (RemoteSource::new(kube::Client::new(service, "default"), true), asked)
    }

    async fn events(source: &RemoteSource, selection: Selection, count: usize) -> Vec<String> {
        let shown = |event| match event {
            SourceEvent::Restart => "restart".to_owned(),
            SourceEvent::Listed => "listed".to_owned(),
            SourceEvent::Applied { cluster, object } => format!("{cluster}+{}", String::from_utf8_lossy(&object).len()),
            SourceEvent::Deleted { cluster, .. } => format!("{cluster}-"),
        };
        source.follow(selection).take(count).map(shown).collect().await
    }

    fn pods() -> Selection {
        Selection { version: "v1".into(), resource: "pods".into(), fields: Some("spec.nodeName=n1".into()), ..Selection::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_goes_on_where_it_broke_off_and_starts_anew_when_that_is_forgotten() {
        let (source, asked) = server(&[
            (
                200,
                "{\"type\":\"ADDED\",\"cluster\":\"dev.team\",\"object\":{\"metadata\":{\"resourceVersion\":\"3\"}}}\n\
                 {\"type\":\"BOOKMARK\",\"object\":{\"metadata\":{\"resourceVersion\":\"7\",\"annotations\":{\"k8s.io/initial-events-end\":\"true\"}}}}\n\
                 {\"type\":\"DELETED\",\"object\":{\"metadata\":{\"resourceVersion\":\"9\"}}}\n",
            ),
            (500, "{}"),
            (200, "{\"type\":\"ERROR\",\"object\":{\"code\":410,\"message\":\"too old\"}}\n"),
            (200, "{\"type\":\"BOOKMARK\",\"object\":{\"metadata\":{\"resourceVersion\":\"20\",\"annotations\":{\"k8s.io/initial-events-end\":\"true\"}}}}\n"),
        ]);
        assert_eq!(events(&source, pods(), 6).await, ["restart", "dev.team+36", "listed", "root-", "restart", "listed"]);
        let asked = asked.lock().clone();
        let start = "/clusters/*/api/v1/pods?watch=true&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&fieldSelector=spec.nodeName%3Dn1";
        let on = "/clusters/*/api/v1/pods?watch=true&allowWatchBookmarks=true&resourceVersion=9&fieldSelector=spec.nodeName%3Dn1";
        assert_eq!(asked[..4], [start, on, on, start]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_that_breaks_off_is_no_list() {
        let object = "{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"resourceVersion\":\"3\"}}}\n";
        let end = "{\"type\":\"BOOKMARK\",\"object\":{\"metadata\":{\"resourceVersion\":\"4\",\"annotations\":{\"k8s.io/initial-events-end\":\"true\"}}}}\n";
        let (source, asked) = server(&[(200, object), (200, end)]);
        let selection = Selection { cluster: Some(ClusterName::root()), ..pods() };
        assert_eq!(events(&source, selection, 4).await, ["restart", "root+36", "restart", "listed"]);
        assert!(asked.lock().iter().all(|uri| uri.starts_with("/api/v1/pods?") && uri.contains("sendInitialEvents")));
    }
}
