//! Watch: initial state, live events, bookmarks and an end, as one body.
use crate::ApiServer;
use crate::body::Answer;
use crate::context::Context;
use crate::errors;
use crate::kinds::Kind;
use crate::negotiate::{self, Form};
use crate::stored::{encode_frame, frame, stored};
use crate::table::{IncludeObject, Renderer};
use api_meta::{FieldSelector, LabelSelector, Status};
use bytes::Bytes;
use clock::Clock;
use futures::StreamExt;
use http::{HeaderValue, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use store::{Event, Record, Store, StoreError, WatchStream};
use tokio::time::Instant;

/// How often a watcher that allows bookmarks hears where the history stands.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// Without `timeoutSeconds` a watch ends after this long, doubled at random at most, so that clients spread out.
const LEAST_TIMEOUT: u64 = 1800;
/// How many waiting events go into one body frame.
const BATCH: usize = 64;

impl ApiServer {
    pub(crate) async fn watch(&self, context: &Context<'_>, kind: &Kind) -> Result<Answer, Status> {
        let accepted = negotiate::accepted(context.headers)?;
        let filter = Filter { kind: kind.clone(), labels: context.query.labels()?, fields: context.fields(kind)? };
        let include = IncludeObject::parse(context.query.get("includeObject"))?;
        let renderer = (accepted.form != Form::Object).then(|| Renderer::new(&**kind, accepted.form, include));
        let bookmarks = context.query.flag("allowWatchBookmarks");
        let (initial, mut after, announce) = self.initial(context, kind, &filter, bookmarks).await?;
        let mut scope = context.scope(kind);
        if let Some(name) = filter.fields.exact("metadata.name").filter(|_| !kind.namespaced() || !context.route.namespace.is_empty()) {
            scope = store::Scope::Key(context.key(kind, name));
        }
        if after == 0 {
            after = self.store.revision();
        }
        let live = self.store.watch(scope, after).await.map_err(errors::from_store)?;
        let timeout = match context.query.integer("timeoutSeconds")? {
            Some(seconds) if seconds > 0 => seconds as u64,
            _ => LEAST_TIMEOUT + u64::from(u16::from_le_bytes(clock::random_bytes())) % LEAST_TIMEOUT,
        };
        let mut watch = Watch {
            store: self.store.clone(),
            clock: self.clock.clone(),
            filter,
            renderer,
            live,
            ready: VecDeque::new(),
            columns_sent: false,
            bookmarks,
            deadline: Instant::now() + Duration::from_secs(timeout),
            next_bookmark: Instant::now() + BOOKMARK_EVERY,
            ended: false,
            shutdown: self.shutdown.clone(),
        };
        for record in initial {
            let bytes = watch.render("ADDED", &record.value);
            watch.ready.push_back(bytes);
        }
        if announce {
            let bookmark = watch.bookmark(after, true);
            watch.ready.push_back(bookmark);
        }
        let frames = futures::stream::unfold(watch, |mut watch| async move { watch.next().await.map(|bytes| (bytes, watch)) });
        let body = http_body_util::StreamBody::new(frames.map(|bytes| Ok(http_body::Frame::data(bytes)))).boxed_unsync();
        let mut answer = Answer::new(body);
        answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
        Ok(answer)
    }

    /// The objects a watch begins with, the revision it goes on from, and whether their end is announced.
    async fn initial(&self, context: &Context<'_>, kind: &Kind, filter: &Filter, bookmarks: bool) -> Result<(Vec<Arc<Record>>, u64, bool), Status> {
        let version = context.query.get("resourceVersion");
        let matching = context.query.get("resourceVersionMatch");
        let send = context.query.get("sendInitialEvents").map(|_| context.query.flag("sendInitialEvents"));
        match (send, matching) {
            (Some(_), None) => {
                return Err(errors::list_options("resourceVersionMatch", "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"));
            }
            (Some(_), Some(matching)) if matching != "NotOlderThan" => {
                return Err(errors::list_options("resourceVersionMatch", &format!("Unsupported value: {matching:?}: supported values: \"NotOlderThan\"")));
            }
            (None, Some(_)) => {
                return Err(errors::list_options(
                    "resourceVersionMatch",
                    "Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
                ));
            }
            _ => {}
        }
        if send == Some(true) && !bookmarks {
            return Err(errors::list_options("allowWatchBookmarks", "Forbidden: sendInitialEvents requires setting allowWatchBookmarks to true"));
        }
        let number = version
            .map(|text| {
                text.parse::<u64>()
                    .map_err(|_| Status::bad_request(format!("invalid resource version {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax")))
            })
            .transpose()?
            .unwrap_or(0);
        let everything = match send {
            Some(send) => send,
            // Upstream's old way: from nothing or from "0", a watch begins with what there is.
            None => number == 0,
        };
        if !everything {
            return Ok((Vec::new(), number, false));
        }
        self.check_not_future(number)?;
        let request = store::RangeRequest { scope: context.scope(kind), after: None, limit: 0, revision: None };
        let mut found = self.store.range(request).await.map_err(errors::from_store)?;
        found.records.retain(|record| filter.holds(record));
        Ok((found.records, found.revision, send == Some(true)))
    }
}

struct Filter {
    kind: Kind,
    labels: LabelSelector,
    fields: FieldSelector,
}

impl Filter {
    fn selective(&self) -> bool {
        !(self.labels.is_everything() && self.fields.is_everything())
    }
    fn holds(&self, record: &Record) -> bool {
        !self.selective() || stored(record).matches(&*self.kind, &self.labels, &self.fields)
    }
}

struct Watch {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    filter: Filter,
    renderer: Option<Renderer>,
    live: WatchStream,
    ready: VecDeque<Bytes>,
    columns_sent: bool,
    bookmarks: bool,
    deadline: Instant,
    next_bookmark: Instant,
    ended: bool,
    shutdown: tokio_util::sync::CancellationToken,
}

impl Watch {
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(bytes) = self.take_ready() {
            return Some(bytes);
        }
        let mut batch = Vec::with_capacity(4);
        while !self.ended {
            let wake = if self.bookmarks { self.next_bookmark.min(self.deadline) } else { self.deadline };
            let received = tokio::select! {
                biased;
                count = self.live.recv_many(&mut batch, BATCH) => Some(count),
                () = self.shutdown.cancelled() => return None,
                () = tokio::time::sleep_until(wake) => None,
            };
            match received {
                Some(0) => return None,
                Some(_) => {
                    for item in batch.drain(..) {
                        self.take(item);
                    }
                }
                None if Instant::now() >= self.deadline => return None,
                None => {
                    self.next_bookmark = Instant::now() + BOOKMARK_EVERY;
                    // INVARIANT of the store: all events up to this revision are already in the stream.
                    let revision = self.store.revision();
                    while let Ok(item) = self.live.try_recv() {
                        self.take(item);
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

    fn take(&mut self, item: Result<Arc<Event>, StoreError>) {
        match item {
            Ok(event) => {
                if let Some(bytes) = self.translate(&event) {
                    self.ready.push_back(bytes);
                }
            }
            Err(error) => {
                self.ready.push_back(encode_frame("ERROR", &errors::from_store(error).to_json()));
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
            (false, true) => Some(self.render("ADDED", &event.record.value)),
            (true, false) => {
                // The last state that matched, at the revision that ended it.
                let previous = event.previous.as_ref()?;
                let mut object = stored(previous).object.to_value();
                object["metadata"]["resourceVersion"] = event.revision.to_string().into();
                let bytes = serde_json::to_vec(&object).expect("a value encodes");
                Some(self.render("DELETED", &bytes))
            }
        }
    }

    fn plain(&mut self, kind: &str, event: &Arc<Event>) -> Bytes {
        if self.renderer.is_none() { frame(event).clone() } else { self.render(kind, &event.record.value) }
    }

    fn render(&mut self, kind: &str, object: &[u8]) -> Bytes {
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
