//! Seen through views, an engine is still one: the host cluster notices nothing of them.
#![allow(clippy::unwrap_used, reason = "these are tests")]
use api_meta::{ClusterName, GroupResource};
use bytes::Bytes;
use std::sync::Arc;
use store::suite::{Harness, stamp};
use store::{Record, Revision, Store};
use store_sqlite::{SqliteOptions, SqliteStore};
use store_views::{Mirrors, ViewStore};

struct Nothing;

impl Mirrors for Nothing {
    fn mirrors(&self, _: &ClusterName, _: &GroupResource) -> bool {
        false
    }
    fn view(&self, _: &ClusterName, _: &Record) -> Option<Bytes> {
        None
    }
}

fn restamp(stamped: &[u8], revision: Revision) -> Bytes {
    let at = stamped.iter().position(|byte| *byte == b':').map_or(0, |at| at + 1);
    stamp(&stamped[at..], revision)
}

struct Viewed {
    directory: tempfile::TempDir,
    open: tokio::sync::Mutex<Option<Arc<SqliteStore>>>,
}

impl Harness for Viewed {
    const WATCH_BUFFER: usize = 4096;
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), open: Default::default() }
    }
    async fn open(&self) -> Arc<dyn Store> {
        let mut open = self.open.lock().await;
        if let Some(store) = open.take() {
            store.close().await;
        }
        let options = SqliteOptions { watch_buffer: Self::WATCH_BUFFER, ..SqliteOptions::new(stamp) };
        let store = SqliteStore::open(&self.directory.path().join("store.db"), options).unwrap();
        *open = Some(store.clone());
        Arc::new(ViewStore::new(store, [GroupResource::new("", "pods")], Arc::new(Nothing), restamp))
    }
}

store::engine_suite!(Viewed);
