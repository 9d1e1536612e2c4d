//! The store suite, run against this engine with small buffers, so that every path is taken.
use parking_lot::Mutex;
use std::sync::Arc;
use store::Store;
use store::suite::{Harness, stamp};
use store_sqlite::{SqliteOptions, SqliteStore};

struct Sqlite {
    dir: tempfile::TempDir,
    opened: Mutex<Option<Arc<SqliteStore>>>,
    options: SqliteOptions,
}

impl Sqlite {
    fn with(options: SqliteOptions) -> Self {
        Self { dir: tempfile::tempdir().expect("a temporary directory can be made"), opened: Mutex::default(), options }
    }
    async fn reopen(&self) -> Arc<dyn Store> {
        let opened = self.opened.lock().take();
        if let Some(opened) = opened {
            opened.close().await;
        }
        let store = SqliteStore::open(&self.dir.path().join("state.db"), self.options).expect("the store opens");
        *self.opened.lock() = Some(store.clone());
        store
    }
}

/// As it is run.
struct Usual(Sqlite);

impl Harness for Usual {
    const WATCH_BUFFER: usize = 4096;
    fn new() -> Self {
        Self(Sqlite::with(SqliteOptions { watch_buffer: Self::WATCH_BUFFER, ..SqliteOptions::new(stamp) }))
    }
    async fn open(&self) -> Arc<dyn Store> {
        self.0.reopen().await
    }
}

/// With hardly any history in memory and batches of few transactions, so that the disk is read and queues stay long.
struct Cramped(Sqlite);

impl Harness for Cramped {
    const WATCH_BUFFER: usize = 1200;
    fn new() -> Self {
        let options = SqliteOptions { watch_buffer: Self::WATCH_BUFFER, recent_events: 10, batch: 3, ..SqliteOptions::new(stamp) };
        Self(Sqlite::with(options))
    }
    async fn open(&self) -> Arc<dyn Store> {
        self.0.reopen().await
    }
}

mod usual {
    store::engine_suite!(super::Usual);
}

mod cramped {
    store::engine_suite!(super::Cramped);
}
