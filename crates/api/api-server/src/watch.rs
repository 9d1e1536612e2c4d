//! Watch requests: where they begin and what they see; `watch_stream.rs` is what they get.
use crate::body::{self, Answer};
use crate::context::Context;
use crate::kinds::Kind;
use crate::list_options::{self, Start};
use crate::negotiate::{self, Form};
use crate::node_reads::is_network_view;
use crate::stored::encode_frame;
use crate::table::{IncludeObject, Renderer};
use crate::watch_stream::{BOOKMARK_EVERY, Filter, Watch};
use crate::{ApiServer, errors};
use api_meta::Status;
use futures::StreamExt;
use http_body_util::{BodyExt, StreamBody};
use std::sync::Arc;
use std::time::Duration;
use store::{RangeRequest, Record, StoreError};
use tokio::time::Instant;

/// Without `timeoutSeconds` a watch ends after the least there is, doubled at random at most, so that clients spread out.
const MOST_TIMEOUT: u64 = 24 * 3600;
/// A watch that ends tells its revision this long before, so that its client can go on from there.
const LAST_BOOKMARK: Duration = Duration::from_secs(2);

impl ApiServer {
    pub(crate) async fn watch(&self, context: &Context<'_>, kind: &Kind) -> Result<Answer, Status> {
        let form = negotiate::accepted_stream(context.headers)?;
        let name = Some(context.route.name.as_str()).filter(|name| !name.is_empty()).map(Into::into);
        let across = context.across.then(|| self.tenants.clone());
        let filter = Filter { kind: kind.clone(), name, labels: context.query.labels()?, fields: context.fields(kind)?, across };
        let for_network = context.user.node().is_some() && kind.names().plural == "pods" && is_network_view(context.query);
        let include = IncludeObject::parse(context.query.value("includeObject"))?;
        let renderer = (form != Form::Object).then(|| Renderer::new(&**kind, form, include));
        let bookmarks = context.query.flag("allowWatchBookmarks");
        let least = self.options.least_watch.as_secs().max(1);
        let timeout = match context.query.integer("timeoutSeconds")? {
            Some(seconds) if seconds > 0 => seconds.unsigned_abs().min(MOST_TIMEOUT),
            _ => least + u64::from(u32::from_le_bytes(clock::random_bytes())) % least,
        };
        let (initial, after, announced) = match list_options::start(context.query)? {
            Start::After(0) => (Vec::new(), self.store.revision(), false),
            Start::After(revision) => (Vec::new(), revision, false),
            Start::Everything { at_least, announced } => {
                self.check_not_future(at_least)?;
                let (records, revision) = self.present(context, kind, &filter).await?;
                (records, revision, announced && bookmarks)
            }
        };
        let live = match self.store.watch(context.scope(kind), after).await {
            Ok(live) => live,
            // Upstream accepts the watch and ends it with an event that says why.
            Err(error @ StoreError::Compacted { .. }) => {
                return Ok(body::json_body(body::full(encode_frame("ERROR", &errors::from_store(error).to_json()))));
            }
            Err(error) => return Err(errors::from_store(error)),
        };
        let names = kind.names();
        let counted = self.counted_kind(context.cluster, kind);
        let now = Instant::now();
        let deadline = now + Duration::from_secs(timeout);
        let watch = Watch {
            store: self.store.clone(),
            converter: self.converter.clone(),
            cluster: context.cluster.clone(),
            clock: self.clock.clone(),
            filter,
            renderer,
            for_network,
            initial: initial.into_iter(),
            initial_end: announced.then_some(after),
            live,
            ready: Default::default(),
            columns_sent: false,
            bookmarks,
            deadline,
            last_bookmark: deadline.checked_sub(LAST_BOOKMARK).filter(|last| *last > now),
            next_bookmark: now + BOOKMARK_EVERY,
            ended: false,
            shutdown: self.shutdown.clone(),
            _watching: self.work.watching(context.cluster, kind.names().resource(), context.namespace(kind)),
            sent: self.metrics.watch_events(names, counted),
            retired: kind.retired().cloned().unwrap_or_default(),
            gone: self.tenants.get(context.cluster).map(|tenant| tenant.gone.clone()).unwrap_or_default(),
        };
        let frames = futures::stream::unfold(watch, |mut watch| async move { watch.next().await.map(|bytes| (bytes, watch)) });
        Ok(body::json_body(StreamBody::new(frames.map(|bytes| Ok(http_body::Frame::data(bytes)))).boxed_unsync()))
    }

    /// What a watch begins with, and the revision of that.
    async fn present(&self, context: &Context<'_>, kind: &Kind, filter: &Filter) -> Result<(Vec<Arc<Record>>, u64), Status> {
        let request = RangeRequest { scope: context.scope(kind), after: None, limit: 0, revision: None };
        let found = self.store.range(request).await.map_err(errors::from_store)?;
        let mut records = self.converter.records(context.cluster, kind, found.records).await?;
        records.retain(|record| filter.holds(record));
        Ok((records, found.revision))
    }
}
