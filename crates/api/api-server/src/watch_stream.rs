//! A watch's body: initial state, live events, bookmarks and an end.
use crate::convert::Converter;
use crate::errors;
use crate::kinds::Kind;
use crate::negotiate::Form;
use crate::node_reads::network_view;
use crate::stored::{encode_frame, encode_frame_of, frame, stored};
use crate::table::Renderer;
use crate::tenants::Tenants;
use crate::work::Watching;
use api_meta::{ClusterName, FieldSelector, LabelSelector};
use bytes::Bytes;
use clock::Clock;
use prometheus_client::metrics::counter::Counter;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use store::{Event, Record, Revision, Store, StoreError, WatchStream};
use tokio::time::Instant;

/// How often a watcher that allows bookmarks hears where the history stands.
pub const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// How many waiting events go into one body frame.
const BATCH: usize = 64;
/// How many bytes of initial objects do.
const PIECE: usize = 64 << 10;

/// Which objects of a kind a watcher sees.
pub struct Filter {
    pub kind: Kind,
    /// The one object that was named.
    pub name: Option<Box<str>>,
    pub labels: LabelSelector,
    pub fields: FieldSelector,
    /// For a node of the host: objects of all clusters whose pods it may run.
    pub across: Option<Arc<Tenants>>,
}

impl Filter {
    pub fn holds(&self, record: &Record) -> bool {
        if let Some(tenants) = &self.across
            && !tenants.runs_on_host(record.key.cluster())
        {
            return false;
        }
        self.name.as_deref().is_none_or(|name| name == record.key.name())
            && ((self.labels.is_everything() && self.fields.is_everything()) || stored(record).matches(&*self.kind, &self.labels, &self.fields))
    }
}

pub struct Watch {
    pub store: Arc<dyn Store>,
    pub converter: Arc<Converter>,
    pub cluster: ClusterName,
    pub clock: Arc<dyn Clock>,
    pub filter: Filter,
    pub renderer: Option<Renderer>,
    /// For a node: pods as networks need to know them.
    pub for_network: bool,
    /// What the watch begins with, as far as it has not been sent.
    pub initial: std::vec::IntoIter<Arc<Record>>,
    /// The revision of that, when its end is to be announced.
    pub initial_end: Option<Revision>,
    pub live: WatchStream,
    pub ready: VecDeque<Bytes>,
    pub columns_sent: bool,
    pub bookmarks: bool,
    pub deadline: Instant,
    /// When the last word before the deadline is due.
    pub last_bookmark: Option<Instant>,
    pub next_bookmark: Instant,
    pub ended: bool,
    /// Counts it as long as it lasts.
    pub _watching: Watching,
    /// Counts events.
    pub sent: Counter<u64, AtomicU64>,
    pub shutdown: tokio_util::sync::CancellationToken,
    /// When what is watched is served otherwise or no more; never of a built-in.
    pub retired: tokio_util::sync::CancellationToken,
    /// When the virtual cluster is taken away; never of the host cluster.
    pub gone: tokio_util::sync::CancellationToken,
}

impl Watch {
    /// The next piece of the body; `None` at its end.
    pub async fn next(&mut self) -> Option<Bytes> {
        if let Some(bytes) = self.take_initial().or_else(|| self.take_ready()) {
            return Some(bytes);
        }
        let mut batch = Vec::with_capacity(4);
        while !self.ended {
            let due = self.last_bookmark.map_or(self.next_bookmark, |last| last.min(self.next_bookmark));
            let wake = if self.bookmarks { due.min(self.deadline) } else { self.deadline };
            let received = tokio::select! {
                biased;
                count = self.live.recv_many(&mut batch, BATCH) => Some(count),
                () = self.shutdown.cancelled() => return None,
                // All that happened before is already in the stream, and was taken from it first.
                () = self.retired.cancelled() => return None,
                () = self.gone.cancelled() => return None,
                () = tokio::time::sleep_until(wake) => None,
            };
            match received {
                Some(0) => return None,
                Some(_) => {
                    for item in batch.drain(..) {
                        self.take(item).await;
                    }
                }
                None if Instant::now() >= self.deadline => return None,
                None => {
                    let now = Instant::now();
                    self.next_bookmark = now + BOOKMARK_EVERY;
                    self.last_bookmark = self.last_bookmark.filter(|last| *last > now);
                    // INVARIANT of the store: all events up to this revision are already in the stream.
                    let revision = self.store.revision();
                    while let Ok(item) = self.live.try_recv() {
                        self.take(item).await;
                    }
                    let bookmark = self.bookmark(revision, false);
                    self.ready.push_back(bookmark);
                }
            }
            if let Some(bytes) = self.take_ready() {
                return Some(bytes);
            }
        }
        None
    }

    /// The next of the objects the watch begins with, a piece of them at a time.
    fn take_initial(&mut self) -> Option<Bytes> {
        let mut piece = Vec::new();
        while piece.len() < PIECE {
            let Some(record) = self.initial.next() else { break };
            self.sent.inc();
            piece.extend_from_slice(&self.render("ADDED", &record, &record.value));
        }
        if self.initial.as_slice().is_empty()
            && let Some(revision) = self.initial_end.take()
        {
            piece.extend_from_slice(&self.bookmark(revision, true));
        }
        (!piece.is_empty()).then(|| piece.into())
    }

    /// All frames that wait, as one piece.
    fn take_ready(&mut self) -> Option<Bytes> {
        if self.ready.len() <= 1 {
            return self.ready.pop_front();
        }
        let mut joined = Vec::with_capacity(self.ready.iter().map(Bytes::len).sum());
        for bytes in self.ready.drain(..) {
            joined.extend_from_slice(&bytes);
        }
        Some(joined.into())
    }

    async fn take(&mut self, item: Result<Arc<Event>, StoreError>) {
        let item = match item {
            Ok(event) => self.converter.event(&self.cluster, &self.filter.kind, event).await,
            Err(error) => Err(errors::from_store(error)),
        };
        match item {
            Ok(event) => {
                if let Some(bytes) = self.translate(&event) {
                    self.sent.inc();
                    self.ready.push_back(bytes);
                }
            }
            Err(error) => {
                self.ready.push_back(encode_frame("ERROR", &error.to_json()));
                self.ended = true;
            }
        }
    }

    /// What an event is to this watcher: an object that starts to match appears, one that stops goes.
    fn translate(&mut self, event: &Arc<Event>) -> Option<Bytes> {
        let before = event.previous.as_ref().is_some_and(|record| self.filter.holds(record));
        let now = !event.deleted && self.filter.holds(&event.record);
        match (before, now) {
            (false, false) => None,
            (false, true) if event.previous.is_none() => Some(self.plain("ADDED", event)),
            (true, true) => Some(self.plain("MODIFIED", event)),
            (true, false) if event.deleted => Some(self.plain("DELETED", event)),
            (false, true) => Some(self.render("ADDED", &event.record, &event.record.value)),
            (true, false) => {
                // The last state that matched, at the revision that ended it.
                let previous = event.previous.as_ref()?;
                let mut object = stored(previous).object.to_value();
                object["metadata"]["resourceVersion"] = event.revision.to_string().into();
                let bytes = serde_json::to_vec(&object).expect("a value encodes");
                Some(self.render("DELETED", previous, &bytes))
            }
        }
    }

    fn plain(&mut self, kind: &str, event: &Arc<Event>) -> Bytes {
        if self.renderer.is_none() && self.filter.across.is_none() && !self.for_network {
            frame(event).clone()
        } else {
            self.render(kind, &event.record, &event.record.value)
        }
    }

    fn render(&mut self, kind: &str, record: &Record, object: &[u8]) -> Bytes {
        let reduced = self.for_network.then(|| network_view(object));
        let object = reduced.as_deref().unwrap_or(object);
        if self.filter.across.is_some() {
            return encode_frame_of(kind, record.key.cluster(), object);
        }
        let Some(renderer) = &self.renderer else { return encode_frame(kind, object) };
        let with_columns = !std::mem::replace(&mut self.columns_sent, true);
        let value = serde_json::from_slice(object).expect("the store holds only objects this server encoded");
        let value = renderer.object(value, self.clock.now(), with_columns);
        encode_frame(kind, &serde_json::to_vec(&value).expect("a value encodes"))
    }

    fn bookmark(&self, revision: u64, initial_end: bool) -> Bytes {
        let names = self.filter.kind.names();
        let mut metadata = json!({ "resourceVersion": revision.to_string(), "creationTimestamp": null });
        if initial_end {
            metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        let object = match self.renderer.as_ref().map(|r| r.form) {
            None | Some(Form::Object) => json!({ "kind": names.kind, "apiVersion": names.api_version(), "metadata": metadata }),
            Some(Form::Metadata) => json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata }),
            Some(Form::Table) => {
                let row = json!({ "cells": [], "object": { "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata } });
                json!({ "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": { "resourceVersion": revision.to_string() }, "columnDefinitions": Value::Null, "rows": [row] })
            }
        };
        encode_frame("BOOKMARK", &serde_json::to_vec(&object).expect("a value encodes"))
    }
}
