//! Watching: what a life of the controllers sees, all there is of each object, as the server's own controllers do.
use api_client::kube;
use api_meta::ClusterName;
use controller_kit::{Selection, Source, SourceEvent};
use futures::stream::BoxStream;
use futures::{AsyncBufReadExt, StreamExt};
use http::Request;
use serde_json::Value;
use std::time::Duration;
use tokio::sync::mpsc;

/// Watches of the root cluster over a connection. They end with the runtime they are in.
pub struct Watching {
    pub client: kube::Client,
}

impl Source for Watching {
    fn follow(&self, selection: Selection) -> BoxStream<'static, SourceEvent> {
        let Selection { group, version, resource, fields, .. } = selection;
        let root = if group.is_empty() { "/api".to_owned() } else { format!("/apis/{group}") };
        let mut path = format!("{root}/{version}/{resource}?watch=true&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan");
        if let Some(fields) = fields {
            path.push_str(&format!("&fieldSelector={}", fields.replace('=', "%3D")));
        }
        let (sender, receiver) = mpsc::channel(256);
        tokio::spawn(tell(self.client.clone(), path, sender));
        futures::stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) }).boxed()
    }
}

/// Tells of a collection until nobody listens; a watch that ends is begun anew.
async fn tell(client: kube::Client, path: String, sender: mpsc::Sender<SourceEvent>) {
    while !sender.is_closed() {
        let request = Request::get(&path).body(Vec::new()).unwrap();
        let Ok(body) = client.request_stream(request).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        if sender.send(SourceEvent::Restart).await.is_err() {
            return;
        }
        let mut lines = Box::pin(body.lines());
        while let Some(Ok(line)) = lines.next().await {
            let frame: Value = serde_json::from_str(&line).unwrap();
            let (cluster, object) = (ClusterName::root(), frame["object"].to_string().into_bytes().into());
            let event = match frame["type"].as_str() {
                Some("ADDED" | "MODIFIED") => SourceEvent::Applied { cluster, object },
                Some("DELETED") => SourceEvent::Deleted { cluster, object },
                Some("BOOKMARK") if frame["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"] == "true" => SourceEvent::Listed,
                _ => continue,
            };
            if sender.send(event).await.is_err() {
                return;
            }
        }
    }
}
