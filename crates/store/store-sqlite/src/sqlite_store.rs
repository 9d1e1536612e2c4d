//! SqliteStore: the handle through which everyone uses the engine.
use crate::catch_up::catch_up;
use crate::history::Reading;
use crate::hub::Attach;
use crate::live::Live;
use crate::queue::{CompactRequest, Request, ResealRequest};
use crate::reseal::Reseal;
use crate::shared::Shared;
use crate::sweep::Sweep;
use crate::writer::Writer;
use crate::{SqliteError, SqliteOptions, history, reseal, schema};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use store::{Committed, Key, RangeRequest, RangeResponse, Record, Revision, Scope, Seal, Store, StoreError, Txn, WatchStream};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

/// Transactions that may wait for the writer; more wait their turn to wait.
const MAX_WAITING: usize = 8192;

pub struct SqliteStore {
    shared: Arc<Shared>,
    places: Semaphore,
    finished: watch::Receiver<bool>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl SqliteStore {
    /// Opens the store in the file `path`, creating it if it is missing, and loads what is live.
    ///
    /// # Errors
    /// `StoreError::Engine` with a [`SqliteError`]: another process has it open, it is not a store,
    /// a newer version wrote it, it is damaged, or the disk fails.
    pub fn open(path: &Path, options: SqliteOptions) -> Result<Arc<Self>, StoreError> {
        Self::open_with(path, options, None)
    }

    /// As [`open`](Self::open), with values sealed on disk. What is not sealed as it should be is so soon after.
    ///
    /// # Errors
    /// Besides those of `open`: a value does not open.
    pub fn open_sealed(path: &Path, options: SqliteOptions, seal: Arc<dyn Seal>) -> Result<Arc<Self>, StoreError> {
        Self::open_with(path, options, Some(seal))
    }

    fn open_with(path: &Path, options: SqliteOptions, seal: Option<Arc<dyn Seal>>) -> Result<Arc<Self>, StoreError> {
        let lock = schema::lock(path)?;
        let connection = schema::open_writer(path, &options)?;
        let reading = Reading { stamp: options.stamp, seal: seal.as_deref() };
        let remains = seal.is_some() && reseal::remains(&connection)?;
        // A connection of its own, so that the memory loading takes is given back.
        let loaded = schema::open_reader(path).map_err(SqliteError::from).and_then(|reader| history::load(&reader, reading)).map_err(|error| match error {
            SqliteError::Sqlite(source) => schema::explain(path, source),
            other => other,
        })?;
        let shared = Arc::new(Shared::new(path.to_owned(), options, seal, Live::new(loaded.revision, loaded.records), loaded.oldest));
        let (finished, finished_reader) = watch::channel(false);
        let writer = Writer {
            shared: shared.clone(),
            connection,
            sweep: Sweep::new(loaded.swept, loaded.oldest),
            reseal: Reseal::new(loaded.stale || remains),
            lock,
            finished,
        };
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer.run())
            .map_err(|source| SqliteError::Open { path: path.to_owned(), source })?;
        Ok(Arc::new(Self { shared, places: Semaphore::new(MAX_WAITING), finished: finished_reader, writer: Mutex::new(Some(thread)) }))
    }

    /// Commits what waits, ends all watches with `StoreError::Closed` and releases the file. Later calls fail with it, too.
    pub async fn close(&self) {
        self.shared.close();
        // An error means that the writer is gone, which is what is waited for.
        let _ = self.finished.clone().wait_for(|finished| *finished).await;
    }

    /// Seals everything on disk with the newest key; gives how many rows were written anew. Nobody who reads or
    /// watches notices. If the process dies meanwhile some rows are sealed with one key and some with another.
    pub async fn reseal(&self) -> Result<u64, StoreError> {
        self.ask(|reply| self.shared.queue.push_reseal(ResealRequest { reply }).is_ok()).await
    }

    async fn ask<T>(&self, send: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> bool) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        if !send(reply) {
            return Err(StoreError::Closed);
        }
        answer.await.unwrap_or(Err(StoreError::Closed))
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.shared.close();
        if let Some(thread) = self.writer.lock().take() {
            // A panic of the writer has been reported where it happened.
            let _ = thread.join();
        }
    }
}

#[async_trait]
impl Store for SqliteStore {
    /// Once it waits for the writer it is committed even if the caller goes away.
    async fn txn(&self, txn: Txn) -> Result<Committed, StoreError> {
        let _place = self.places.acquire().await.map_err(|_| StoreError::Closed)?;
        self.ask(|reply| self.shared.queue.push(Request { txn, reply }).is_ok()).await
    }

    fn revision(&self) -> Revision {
        self.shared.newest.load(Ordering::Acquire)
    }

    async fn get(&self, key: &Key) -> Result<Option<Arc<Record>>, StoreError> {
        self.shared.check_open()?;
        Ok(self.shared.live.read().get(key.as_str()).cloned())
    }

    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, StoreError> {
        self.shared.check_open()?;
        self.shared.range(request).await
    }

    async fn watch(&self, scope: Scope, after: Revision) -> Result<WatchStream, StoreError> {
        let (watcher, stream) = mpsc::channel(self.shared.options.watch_buffer.max(2));
        let address = scope.address();
        let attach = self.shared.hub.lock().attach(&address, after, &watcher)?;
        if !matches!(attach, Attach::Attached) {
            tokio::spawn(catch_up(self.shared.clone(), address, after, watcher));
        }
        Ok(stream)
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.ask(|reply| self.shared.queue.push_compaction(CompactRequest { revision, reply }).is_ok()).await
    }

    fn oldest(&self) -> Revision {
        self.shared.hub.lock().oldest()
    }
}
