//! Bench: acknowledged writes a second, against plain SQLite committing the same rows in groups; time to open.
use crate::{SqliteError, SqliteOptions, SqliteStore, schema};
use bytes::Bytes;
use clock::{Clock, SystemClock};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use store::{Key, Op, Precondition, Stamp, Store, StoreError, Txn};

/// What to write.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Writers that each wait for their acknowledgement before they write again; as many rows make a raw transaction.
    pub clients: usize,
    /// Rows in all, rounded down to a multiple of `clients`.
    pub rows: usize,
    pub value_bytes: usize,
}

/// Rows a second that are on disk (`synchronous=FULL`).
#[derive(Clone, Copy, Debug)]
pub struct CommitRate {
    pub raw: f64,
    pub store: f64,
}

impl CommitRate {
    pub fn ratio(&self) -> f64 {
        self.store / self.raw
    }
}

/// Writes the load twice, raw and through the store, into new files in `dir`.
pub async fn commit_rate(dir: &Path, load: Load, stamp: Stamp) -> Result<CommitRate, StoreError> {
    let options = SqliteOptions::new(stamp);
    let each = load.rows / load.clients.max(1);
    let rows = (each * load.clients) as f64;
    let raw = raw(&dir.join("raw.db"), load, each, &options)?;
    let store = SqliteStore::open(&dir.join("store.db"), options)?;
    let through_store = through_store(&store, load, each).await?;
    store.close().await;
    Ok(CommitRate { raw: rows / raw.as_secs_f64(), store: rows / through_store.as_secs_f64() })
}

/// How long it takes to create an empty store in `dir`.
pub async fn create_time(dir: &Path, stamp: Stamp) -> Result<Duration, StoreError> {
    let began = SystemClock.instant();
    let store = SqliteStore::open(&dir.join("empty.db"), SqliteOptions::new(stamp))?;
    let took = SystemClock.instant() - began;
    store.close().await;
    Ok(took)
}

/// Fills a new store in `dir` with live objects; returns how long it takes to open it again.
pub async fn load_time(dir: &Path, objects: usize, value_bytes: usize, stamp: Stamp) -> Result<Duration, StoreError> {
    const AT_ONCE: usize = 500;
    let (path, options) = (dir.join("load.db"), SqliteOptions::new(stamp));
    let store = SqliteStore::open(&path, options)?;
    let value = value(Load { clients: 1, rows: objects, value_bytes });
    for first in (0..objects).step_by(AT_ONCE) {
        let ops = (first..objects.min(first + AT_ONCE)).map(|object| Op::Put { key: key(object % 100, object), value: value.clone() }).collect();
        store.txn(Txn { preconditions: Vec::new(), ops }).await?;
    }
    store.close().await;
    let began = SystemClock.instant();
    let store = SqliteStore::open(&path, options)?;
    let took = SystemClock.instant() - began;
    store.close().await;
    Ok(took)
}

fn raw(path: &Path, load: Load, each: usize, options: &SqliteOptions) -> Result<Duration, SqliteError> {
    let mut connection = schema::open_writer(path, options)?;
    let value = value(load);
    let began = SystemClock.instant();
    for round in 0..each {
        let transaction = connection.transaction()?;
        {
            let mut insert = transaction.prepare_cached(schema::INSERT)?;
            for client in 0..load.clients {
                let revision = (round * load.clients + client + 2) as u64;
                let created = i64::try_from(revision).unwrap_or(i64::MAX);
                insert.execute((schema::row_id(revision, 0), key(client, round).as_str(), created, false, &*value))?;
            }
        }
        transaction.commit()?;
    }
    Ok(SystemClock.instant() - began)
}

async fn through_store(store: &Arc<SqliteStore>, load: Load, each: usize) -> Result<Duration, StoreError> {
    let value = value(load);
    let began = SystemClock.instant();
    let clients: Vec<_> = (0..load.clients)
        .map(|client| {
            let (store, value) = (store.clone(), value.clone());
            tokio::spawn(async move {
                for round in 0..each {
                    let key = key(client, round);
                    let put = Op::Put { key: key.clone(), value: value.clone() };
                    store.txn(Txn { preconditions: vec![Precondition::Absent(key)], ops: vec![put] }).await?;
                }
                Ok::<_, StoreError>(())
            })
        })
        .collect();
    for client in clients {
        client.await.map_err(|error| StoreError::Engine(Box::new(error)))??;
    }
    Ok(SystemClock.instant() - began)
}

fn key(client: usize, round: usize) -> Key {
    Key::parse(&format!("/root/core/pods/namespace-{client}/pod-{round}")).expect("it is written as keys are")
}

fn value(load: Load) -> Bytes {
    let opening = r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"x"},"spec":""#;
    format!("{opening}{}\"}}", "x".repeat(load.value_bytes.saturating_sub(opening.len() + 2))).into()
}
