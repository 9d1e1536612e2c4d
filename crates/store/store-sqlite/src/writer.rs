//! Writer: the one thread that writes, committing all waiting transactions together.
use crate::batch::{Base, Batch, Row};
use crate::history::Reading;
use crate::queue::{CompactRequest, Patience, Request, Taken};
use crate::reseal::Reseal;
use crate::shared::Shared;
use crate::sweep::{self, Sweep};
use crate::{SqliteError, history, schema};
use bytes::Bytes;
use clock::{Clock, SystemClock};
use parking_lot::RwLock;
use rusqlite::{Connection, TransactionBehavior};
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;
use store::{Key, Record, Seal, StoreError};
use tokio::sync::watch;

pub struct Writer {
    pub shared: Arc<Shared>,
    pub connection: Connection,
    pub sweep: Sweep,
    pub reseal: Reseal,
    /// Held as long as the thread lives: the last to go, after the connection.
    pub lock: File,
    /// Turns true when the database is closed.
    pub finished: watch::Sender<bool>,
}

/// Longest wait for transactions that are expected but not there yet.
const MAX_LINGER: Duration = Duration::from_millis(1);

impl Writer {
    /// Serves the queue until it is closed and empty.
    pub fn run(mut self) {
        // Also if this thread panics, nobody is left waiting.
        let ended = Ended(self.shared.clone());
        let mut patience = Patience { most: self.shared.options.batch.max(1), expected: 1, linger: Duration::ZERO, block: true };
        loop {
            patience.block = !self.sweep.is_pending() && !self.reseal.is_pending();
            let Taken { requests, compactions, reseals, finished } = self.shared.queue.take(&patience);
            if finished {
                break;
            }
            if !requests.is_empty() {
                let began = SystemClock.instant();
                patience.expected = requests.len();
                self.commit(requests);
                // A quarter of a commit is little to wait for the chance to save one.
                patience.linger = ((SystemClock.instant() - began) / 4).min(MAX_LINGER);
            }
            for request in compactions {
                self.compact(request);
            }
            for request in reseals {
                self.reseal.begin(request.reply);
            }
            if self.sweep.is_pending() {
                self.sweep.step(&mut self.connection);
            }
            if self.reseal.is_pending() {
                self.reseal.step(&mut self.connection, self.shared.seal.as_deref());
            }
        }
        drop(ended);
        let Self { connection, lock, finished, .. } = self;
        // The next start has no log to read through. It would manage with one.
        if let Err(error) = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())) {
            tracing::warn!(%error, "cannot fold the write-ahead log into the database");
        }
        drop(connection);
        drop(lock);
        finished.send_replace(true);
    }

    fn commit(&mut self, requests: Vec<Request>) {
        let revision = self.shared.live.read().revision;
        let base = Disk { live: &self.shared.live, connection: &self.connection, reading: self.shared.reading() };
        let mut batch = Batch::new(&base, self.shared.options.stamp, revision);
        let answers: Vec<_> = requests.into_iter().map(|request| (request.reply, batch.stage(request.txn))).collect();
        let Batch { revision, rows, events, .. } = batch;
        if !rows.is_empty() {
            let written = seal(&rows, self.shared.seal.as_deref()).and_then(|sealed| Ok(write(&mut self.connection, &rows, &sealed)?));
            if let Err(error) = written {
                // Even a failed precondition may have been judged by what is now not to be.
                let error = Arc::new(error);
                for (reply, _) in answers {
                    // Whoever does not wait any more does not get to know.
                    let _ = reply.send(Err(SqliteError::Commit(error.clone()).into()));
                }
                return;
            }
            self.shared.publish(events, revision);
        }
        for (reply, answer) in answers {
            // As above.
            let _ = reply.send(answer);
        }
    }

    fn compact(&mut self, CompactRequest { revision, reply }: CompactRequest) {
        let newest = self.shared.live.read().revision;
        let oldest = self.shared.hub.lock().oldest();
        if revision > newest {
            // Whoever does not wait any more does not get to know; so below.
            let _ = reply.send(Err(StoreError::Future { requested: revision, newest }));
            return;
        }
        if revision > oldest {
            if let Err(error) = sweep::mark(&self.connection, revision) {
                let _ = reply.send(Err(SqliteError::from(error).into()));
                return;
            }
            self.shared.hub.lock().compact(revision);
        }
        self.sweep.extend(revision.max(oldest), reply);
    }
}

/// What is written instead of a row's value, for those that are sealed.
fn seal(rows: &[Row], seal: Option<&dyn Seal>) -> Result<Vec<Option<Vec<u8>>>, SqliteError> {
    let one = |row: &Row| match (seal, &row.value) {
        (Some(seal), Some(value)) if seal.covers(&row.key) => {
            seal.seal(&row.key, value).map(Some).map_err(|source| SqliteError::Seal { key: row.key.clone(), row: row.id, source })
        }
        _ => Ok(None),
    };
    rows.iter().map(one).collect()
}

/// Writes rows in one SQLite transaction; on an error nothing is written.
fn write(connection: &mut Connection, rows: &[Row], sealed: &[Option<Vec<u8>>]) -> Result<(), rusqlite::Error> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    {
        let mut insert = transaction.prepare_cached(schema::INSERT)?;
        for (row, sealed) in rows.iter().zip(sealed) {
            let created = i64::try_from(row.create_revision).unwrap_or(i64::MAX);
            insert.execute((row.id, row.key.as_str(), created, row.value.is_none(), sealed.as_deref().or(row.value.as_deref())))?;
        }
    }
    transaction.commit()
}

/// What the batch builds on.
struct Disk<'a> {
    live: &'a RwLock<crate::live::Live>,
    connection: &'a Connection,
    reading: Reading<'a>,
}

impl Base for Disk<'_> {
    fn live(&self, key: &Key) -> Option<Arc<Record>> {
        self.live.read().get(key.as_str()).cloned()
    }
    fn unstamped(&self, record: &Record) -> Result<Bytes, SqliteError> {
        history::unstamped(self.connection, record, self.reading)
    }
}

/// Closes the store when the writer ends, in whatever way.
struct Ended(Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.finish();
    }
}
