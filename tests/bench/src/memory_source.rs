//! MemorySource: objects as a server's store would feed them, for parts that are measured without a server.
use api_cache::{Selection, Source, SourceEvent};
use api_meta::ClusterName;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::mpsc;

#[derive(Clone, Default)]
pub struct MemorySource(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// By resource, namespace and name.
    objects: BTreeMap<(String, String), Bytes>,
    followers: Vec<(String, mpsc::UnboundedSender<SourceEvent>)>,
    version: u64,
}

impl MemorySource {
    /// Puts an object in place of the one of its name.
    pub fn apply(&self, resource: &str, mut object: Value) {
        let mut state = self.0.lock();
        state.version += 1;
        object["metadata"]["resourceVersion"] = state.version.to_string().into();
        let place = format!("{}/{}", object["metadata"]["namespace"], object["metadata"]["name"]);
        let object = Bytes::from(object.to_string());
        state.objects.insert((resource.to_owned(), place), object.clone());
        let event = SourceEvent::Applied { cluster: ClusterName::root(), object };
        // One whose cache is gone is forgotten.
        state.followers.retain(|(of, follower)| of != resource || follower.send(event.clone()).is_ok());
    }
}

impl Source for MemorySource {
    fn follow(&self, selection: Selection) -> BoxStream<'static, SourceEvent> {
        let mut state = self.0.lock();
        let (sender, live) = mpsc::unbounded_channel();
        state.followers.push((selection.resource.clone(), sender));
        let there = state.objects.iter().filter(|((resource, _), _)| *resource == selection.resource);
        let there: Vec<SourceEvent> = there.map(|(_, object)| SourceEvent::Applied { cluster: ClusterName::root(), object: object.clone() }).collect();
        let live = futures::stream::unfold(live, |mut live| async move { Some((live.recv().await?, live)) });
        futures::stream::iter([SourceEvent::Restart])
            .chain(futures::stream::iter(there))
            .chain(futures::stream::iter([SourceEvent::Listed]))
            .chain(live)
            .boxed()
    }
}
