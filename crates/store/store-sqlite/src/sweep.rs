//! Sweep: deletes compacted history in small steps, so that writers hardly wait.
use crate::schema::last_id;
use rusqlite::{Connection, OptionalExtension};
use store::{Revision, StoreError};
use tokio::sync::oneshot;

/// Rows looked at in one step.
const STEP: i64 = 500;

/// INVARIANT: up to `swept` no key has a row that is not its newest there, and no deletion is left.
/// So a step only has to look at the rows after it, and history costs nothing while nothing changes.
pub struct Sweep {
    swept: i64,
    target: i64,
    waiting: Vec<oneshot::Sender<Result<(), StoreError>>>,
}

impl Sweep {
    /// Goes on where an earlier run of the store left off.
    pub fn new(swept: i64, oldest: Revision) -> Self {
        Self { swept, target: if oldest == 0 { swept } else { last_id(oldest) }, waiting: Vec::new() }
    }
    pub fn is_pending(&self) -> bool {
        self.swept < self.target || !self.waiting.is_empty()
    }
    /// Extends the sweep to a revision that [`mark`] has recorded; `reply` hears when it is done.
    pub fn extend(&mut self, oldest: Revision, reply: oneshot::Sender<Result<(), StoreError>>) {
        self.target = self.target.max(last_id(oldest));
        self.waiting.push(reply);
    }
    /// One step. After an error the sweep rests until the next compaction.
    pub fn step(&mut self, connection: &mut Connection) {
        let result = step(connection, self.swept, self.target);
        match result {
            Ok(swept) => {
                self.swept = swept;
                if swept < self.target {
                    return;
                }
                for reply in self.waiting.drain(..) {
                    // Nobody waits for this answer any more, and nobody has to.
                    let _ = reply.send(Ok(()));
                }
            }
            Err(error) => {
                self.target = self.swept;
                let error = std::sync::Arc::new(crate::SqliteError::from(error));
                if self.waiting.is_empty() {
                    tracing::warn!(%error, "cannot delete compacted history");
                }
                for reply in self.waiting.drain(..) {
                    // As above.
                    let _ = reply.send(Err(crate::SqliteError::Commit(error.clone()).into()));
                }
            }
        }
    }
}

/// Records that history before `revision` is no longer to be read. Nothing is deleted before this is on disk.
pub fn mark(connection: &Connection, revision: Revision) -> Result<(), rusqlite::Error> {
    connection.prepare_cached("UPDATE compaction SET revision = ?1")?.execute([i64::try_from(revision).unwrap_or(i64::MAX)])?;
    Ok(())
}

fn step(connection: &mut Connection, swept: i64, target: i64) -> Result<i64, rusqlite::Error> {
    let transaction = connection.transaction()?;
    let end = transaction
        .prepare_cached("SELECT id FROM log WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT 1 OFFSET ?3")?
        .query_row([swept, target, STEP - 1], |row| row.get(0))
        .optional()?
        .unwrap_or(target);
    // A deletion's row goes together with the rows it hides, or they would come back to life.
    transaction
        .prepare_cached(
            "DELETE FROM log WHERE id IN (
                SELECT older.id FROM log AS newer CROSS JOIN log AS older ON older.key = newer.key AND older.id < newer.id
                WHERE newer.id > ?1 AND newer.id <= ?2)",
        )?
        .execute([swept, end])?;
    transaction.prepare_cached("DELETE FROM log WHERE id > ?1 AND id <= ?2 AND deleted")?.execute([swept, end])?;
    transaction.prepare_cached("UPDATE compaction SET swept = ?1")?.execute([end])?;
    transaction.commit()?;
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::row_id;
    use crate::{SqliteOptions, schema};

    fn rows(connection: &Connection) -> Vec<i64> {
        connection.prepare("SELECT id FROM log ORDER BY id").unwrap().query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn a_sweep_leaves_what_a_read_at_its_revision_needs() {
        let dir = tempfile::tempdir().unwrap();
        let mut connection = schema::open_writer(&dir.path().join("db"), &SqliteOptions::new(|value, _| value.to_vec().into())).unwrap();
        // `a` changes at 2, 3, 6; `b` is made at 4 and deleted at 5; `c` is made at 4 and deleted after the sweep's end.
        for (revision, position, key, deleted) in
            [(2, 0, "a", 0), (3, 0, "a", 0), (4, 0, "b", 0), (4, 1, "c", 0), (5, 0, "b", 1), (6, 0, "a", 0), (7, 0, "c", 1)]
        {
            connection.execute(schema::INSERT, (row_id(revision, position), key, 2, deleted, "x".as_bytes())).unwrap();
        }
        let mut sweep = Sweep::new(0, 5);
        assert!(sweep.is_pending());
        sweep.step(&mut connection);
        assert!(!sweep.is_pending());
        assert_eq!(rows(&connection), [row_id(3, 0), row_id(4, 1), row_id(6, 0), row_id(7, 0)]);
    }

    #[test]
    fn a_sweep_of_many_steps_ends_as_one_of_one_step() {
        let dir = tempfile::tempdir().unwrap();
        let mut connection = schema::open_writer(&dir.path().join("db"), &SqliteOptions::new(|value, _| value.to_vec().into())).unwrap();
        let transaction = connection.transaction().unwrap();
        for revision in 1..2000u64 {
            transaction.execute(schema::INSERT, (row_id(revision, 0), format!("k{}", revision % 7), 1, i32::from(revision % 7 == 3), "x".as_bytes())).unwrap();
        }
        transaction.commit().unwrap();
        let mut sweep = Sweep::new(0, 1999);
        let mut steps = 0;
        while sweep.is_pending() {
            sweep.step(&mut connection);
            steps += 1;
        }
        assert!(steps > 1);
        assert_eq!(rows(&connection), [1993, 1994, 1995, 1996, 1997, 1999].map(|revision: u64| row_id(revision, 0)));
    }
}
