//! Reseal: writes what is on disk anew, sealed with the newest key, a few rows at a time between commits.
use crate::SqliteError;
use rusqlite::{Connection, OptionalExtension};
use std::sync::Arc;
use store::{Key, Seal, StoreError};
use tokio::sync::oneshot;

/// Rows looked at in one step.
const STEP: i64 = 1000;
/// There as long as the file may hold bytes of values that were not sealed, also across a sudden end.
const REMAINS: &str = "unsealed_remains";

type Reply = oneshot::Sender<Result<u64, StoreError>>;

/// One pass over the whole log at a time. Requests that come during a pass wait for a pass of their own.
#[derive(Default)]
pub struct Reseal {
    pass: Option<Pass>,
    /// Whether another pass follows, and who waits for it.
    again: bool,
    waiting: Vec<Reply>,
}

struct Pass {
    after: i64,
    upto: Option<i64>,
    written: u64,
    /// Whether some values were not sealed at all.
    plain: bool,
    replies: Vec<Reply>,
}

impl Reseal {
    /// `stale`: something was found that is not sealed as it should be.
    pub fn new(stale: bool) -> Self {
        Self { again: stale, ..Self::default() }
    }
    pub fn is_pending(&self) -> bool {
        self.pass.is_some() || self.again
    }
    pub fn begin(&mut self, reply: Reply) {
        self.again = true;
        self.waiting.push(reply);
    }
    /// One step. After an error the pass is over; what was written stays.
    pub fn step(&mut self, connection: &mut Connection, seal: Option<&dyn Seal>) {
        let mut pass = self.pass.take().unwrap_or_else(|| {
            self.again = false;
            Pass { after: i64::MIN, upto: None, written: 0, plain: false, replies: std::mem::take(&mut self.waiting) }
        });
        let result = match seal {
            Some(seal) => pass.step(connection, seal),
            None => Ok(true),
        };
        match result {
            Ok(false) => self.pass = Some(pass),
            Ok(true) => {
                if pass.written > 0 {
                    tracing::info!(rows = pass.written, "the store's values are sealed with the newest key");
                }
                for reply in pass.replies {
                    // Nobody waits for this answer any more, and nobody has to.
                    let _ = reply.send(Ok(pass.written));
                }
            }
            Err(error) => {
                tracing::error!(%error, "cannot seal the store's values with the newest key");
                let error = Arc::new(error);
                for reply in pass.replies {
                    // As above.
                    let _ = reply.send(Err(SqliteError::Commit(error.clone()).into()));
                }
            }
        }
    }
}

/// Whether the file may hold bytes of values that were not sealed.
pub fn remains(connection: &Connection) -> Result<bool, SqliteError> {
    Ok(connection.query_row("SELECT count(*) > 0 FROM sqlite_schema WHERE name = ?1", [REMAINS], |row| row.get(0))?)
}

impl Pass {
    /// Whether the pass is over.
    fn step(&mut self, connection: &mut Connection, seal: &dyn Seal) -> Result<bool, SqliteError> {
        let upto = match self.upto {
            Some(upto) => upto,
            None => {
                self.plain = remains(connection)?;
                // What is written from here on is sealed with the newest key anyway.
                *self.upto.insert(connection.query_row("SELECT coalesce(max(id), 0) FROM log", [], |row| row.get(0))?)
            }
        };
        let transaction = connection.transaction()?;
        let end: i64 = transaction
            .prepare_cached("SELECT id FROM log WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT 1 OFFSET ?3")?
            .query_row([self.after, upto, STEP - 1], |row| row.get(0))
            .optional()?
            .unwrap_or(upto);
        let mut anew: Vec<(i64, Vec<u8>)> = Vec::new();
        let plain_before = self.plain;
        {
            let mut statement = transaction.prepare_cached("SELECT id, key, value FROM log WHERE id > ?1 AND id <= ?2 AND NOT deleted")?;
            let mut rows = statement.query([self.after, end])?;
            while let Some(row) = rows.next()? {
                let id: i64 = row.get(0)?;
                let text = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
                let key = Key::parse(text).ok_or_else(|| SqliteError::BadRow(format!("row {id} has the key `{text}`")))?;
                if !seal.covers(&key) {
                    continue;
                }
                let written = row.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?;
                if seal.is_current(written) {
                    continue;
                }
                self.plain |= !seal.is_sealed(written);
                let sealed = seal.open(&key, written).and_then(|value| seal.seal(&key, &value));
                anew.push((id, sealed.map_err(|source| SqliteError::Seal { key, row: id, source })?));
            }
        }
        for (id, value) in &anew {
            transaction.prepare_cached("UPDATE log SET value = ?2 WHERE id = ?1")?.execute((id, value))?;
        }
        if self.plain && !plain_before {
            transaction.execute_batch(&format!("CREATE TABLE {REMAINS} (one INTEGER) STRICT"))?;
        }
        transaction.commit()?;
        self.written += anew.len() as u64;
        self.after = end;
        if end < upto {
            return Ok(false);
        }
        if self.plain {
            // Pages keep bytes of what they held before. A file that is written anew has none.
            connection.execute_batch(&format!("VACUUM; DROP TABLE {REMAINS}"))?;
        }
        if self.written > 0 || self.plain {
            // The write-ahead log still holds pages as they were before.
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        }
        Ok(true)
    }
}
