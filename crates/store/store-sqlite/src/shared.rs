//! Shared: what the store's handle, its writer thread and its watches hold in common.
use crate::history::{self, Reading};
use crate::hub::Hub;
use crate::live::{Live, Page};
use crate::queue::Queue;
use crate::{SqliteError, SqliteOptions, schema};
use parking_lot::{Mutex, RwLock};
use rusqlite::Connection;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use store::{Event, RangeRequest, RangeResponse, Revision, Seal, StoreError};

/// Idle connections kept for reading history.
const IDLE_READERS: usize = 2;

/// Locks are taken in the order `hub`, `live`.
pub struct Shared {
    pub path: PathBuf,
    pub options: SqliteOptions,
    pub seal: Option<Arc<dyn Seal>>,
    pub queue: Queue,
    pub hub: Mutex<Hub>,
    pub live: RwLock<Live>,
    /// INVARIANT: advances only after every event up to it has been handed to its watchers.
    pub newest: AtomicU64,
    closed: AtomicBool,
    readers: Mutex<Vec<Connection>>,
}

impl Shared {
    pub fn new(path: PathBuf, options: SqliteOptions, seal: Option<Arc<dyn Seal>>, live: Live, oldest: Revision) -> Self {
        Self {
            path,
            options,
            seal,
            queue: Queue::default(),
            hub: Mutex::new(Hub::new(live.revision, oldest, &options)),
            newest: AtomicU64::new(live.revision),
            live: RwLock::new(live),
            closed: AtomicBool::new(false),
            readers: Mutex::default(),
        }
    }

    /// How rows are read.
    pub fn reading(&self) -> Reading<'_> {
        Reading { stamp: self.options.stamp, seal: self.seal.as_deref() }
    }

    /// Makes a committed batch visible and tells its watchers.
    pub fn publish(&self, events: Vec<Arc<Event>>, revision: Revision) {
        // Held throughout: whoever has read a revision and then watches from it finds it dispatched.
        let mut hub = self.hub.lock();
        {
            let mut live = self.live.write();
            for event in &events {
                live.apply(event);
            }
            live.revision = revision;
        }
        hub.dispatch(events, revision);
        self.newest.store(revision, Ordering::Release);
    }

    pub fn check_open(&self) -> Result<(), StoreError> {
        if self.closed.load(Ordering::Acquire) { Err(StoreError::Closed) } else { Ok(()) }
    }

    /// Refuses everything from now on; what is queued is still served.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.queue.close();
    }

    /// Ends watches and reads; for the writer when it is done.
    pub fn finish(&self) {
        self.closed.store(true, Ordering::Release);
        self.queue.abandon();
        self.hub.lock().close();
        self.readers.lock().clear();
    }

    pub fn check_kept(&self, requested: Revision) -> Result<(), StoreError> {
        let oldest = self.hub.lock().oldest();
        if requested < oldest { Err(StoreError::Compacted { requested, oldest }) } else { Ok(()) }
    }

    pub async fn range(self: &Arc<Self>, request: RangeRequest) -> Result<RangeResponse, StoreError> {
        let Some(revision) = request.revision else {
            let live = self.live.read();
            let Page { records, remaining } = live.page(&request.scope, request.after.as_deref(), request.limit);
            return Ok(RangeResponse { records, revision: live.revision, remaining });
        };
        if let Some(Page { records, remaining }) = self.range_in_memory(&request, revision)? {
            return Ok(RangeResponse { records, revision, remaining });
        }
        let Page { records, remaining } = self.read(move |connection, shared| history::range(connection, shared, &request, revision)).await?;
        // A compaction may have started meanwhile; it says so before it deletes anything.
        self.check_kept(revision)?;
        Ok(RangeResponse { records, revision, remaining })
    }

    /// A range in the past that memory can answer: nothing in its scope, or only recent events, came after it.
    fn range_in_memory(&self, request: &RangeRequest, revision: Revision) -> Result<Option<Page>, StoreError> {
        let hub = self.hub.lock();
        let live = self.live.read();
        if revision > live.revision {
            return Err(StoreError::Future { requested: revision, newest: live.revision });
        }
        if revision < hub.oldest() {
            return Err(StoreError::Compacted { requested: revision, oldest: hub.oldest() });
        }
        let Some(past) = hub.recent().past(&request.scope.address(), revision) else { return Ok(None) };
        // The records can't change before `live` is let go.
        drop(hub);
        Ok(Some(live.page_with_past(&past, &request.scope, request.after.as_deref(), request.limit)))
    }

    /// Runs a read of history on a thread where it may block.
    pub async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        query: impl FnOnce(&Connection, &Self) -> Result<T, SqliteError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = self.clone();
        let run = move || {
            shared.check_open()?;
            let idle = shared.readers.lock().pop();
            let connection = match idle {
                Some(connection) => connection,
                None => schema::open_reader(&shared.path).map_err(SqliteError::from)?,
            };
            let result = query(&connection, &shared);
            let mut readers = shared.readers.lock();
            if readers.len() < IDLE_READERS && shared.check_open().is_ok() {
                readers.push(connection);
            }
            result.map_err(StoreError::from)
        };
        match tokio::task::spawn_blocking(run).await {
            Ok(result) => result,
            Err(error) => Err(StoreError::Engine(Box::new(error))),
        }
    }
}
