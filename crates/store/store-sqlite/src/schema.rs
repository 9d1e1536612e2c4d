//! The file: its tables, how it is opened, and how a revision and a position make a row's id.
use crate::{SqliteError, SqliteOptions};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use store::Revision;

/// "k8sh": tells our files from other SQLite databases.
const APPLICATION_ID: i64 = 0x6b38_7368;
const FORMAT: i64 = 1;
/// Holds three typical objects; at SQLite's usual 4096 an object and a half would take two pages each.
const PAGE_SIZE: i64 = 8192;

/// Bits of a row's id that hold the position of a change within its transaction.
const POSITION_BITS: u32 = 16;
/// Most operations in one transaction.
pub const MAX_OPS: usize = 1 << POSITION_BITS;

/// The id of a transaction's change: ids order rows by revision, then by position.
pub fn row_id(revision: Revision, position: usize) -> i64 {
    debug_assert!(position < MAX_OPS);
    i64::try_from(revision << POSITION_BITS | position as u64).expect("2^47 revisions outlast any disk")
}
pub fn first_id(revision: Revision) -> i64 {
    row_id(revision, 0)
}
pub fn last_id(revision: Revision) -> i64 {
    row_id(revision, MAX_OPS - 1)
}
pub fn revision_of(id: i64) -> Revision {
    id.unsigned_abs() >> POSITION_BITS
}

// One row per change. A deletion's row has no value: the row before it has. `value` comes last, so that
// the other columns are read without touching it.
// `compaction.revision` is the oldest revision still readable; rows up to `swept` have been cleared of history.
const TABLES: &str = "
    CREATE TABLE log (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL,
        create_revision INTEGER NOT NULL,
        deleted INTEGER NOT NULL,
        value BLOB
    ) STRICT;
    CREATE INDEX log_by_key ON log (key);
    CREATE TABLE compaction (one INTEGER PRIMARY KEY CHECK (one = 1), revision INTEGER NOT NULL, swept INTEGER NOT NULL) STRICT;
    INSERT INTO compaction VALUES (1, 0, 0);
";

pub const INSERT: &str = "INSERT INTO log (id, key, create_revision, deleted, value) VALUES (?1, ?2, ?3, ?4, ?5)";

/// Takes the store for this process: two servers must never write one database.
///
/// The lock goes with the process, however it ends. The file stays, because removing it would let two
/// processes hold locks on different files of the same name.
pub fn lock(path: &Path) -> Result<File, SqliteError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = private_file(Path::new(&name))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(SqliteError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => Err(SqliteError::Open { path: path.to_owned(), source }),
    }
}

/// Opens or creates a file that only its owner may read: the store holds every Secret.
fn private_file(path: &Path) -> Result<File, SqliteError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|source| SqliteError::Open { path: path.to_owned(), source })
}

/// The one connection that writes. Creates the database if the file is missing or empty.
pub fn open_writer(path: &Path, options: &SqliteOptions) -> Result<Connection, SqliteError> {
    drop(private_file(path)?);
    let mut connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    prepare(&mut connection, path, options).map_err(|error| match error {
        SqliteError::Sqlite(source) => explain(path, source),
        other => other,
    })?;
    Ok(connection)
}

fn prepare(connection: &mut Connection, path: &Path, options: &SqliteOptions) -> Result<(), SqliteError> {
    connection.busy_timeout(Duration::from_secs(5))?;
    let application: i64 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let fresh = tables == 0 && application == 0;
    if !fresh && application != APPLICATION_ID {
        return Err(SqliteError::Foreign { path: path.to_owned() });
    }
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > FORMAT {
        return Err(SqliteError::Newer { path: path.to_owned(), found, known: FORMAT });
    }
    if fresh {
        // The page size is settled by the first write.
        connection.pragma_update(None, "page_size", PAGE_SIZE)?;
    }
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "cache_size", -4096)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // A checkpoint each 16 MB written; after a burst the log shrinks back.
    connection.pragma_update_and_check(None, "wal_autocheckpoint", 2000, |_| Ok(()))?;
    connection.pragma_update_and_check(None, "journal_size_limit", 32 << 20, |_| Ok(()))?;
    if let Some(max_bytes) = options.max_bytes {
        connection.pragma_update_and_check(None, "max_page_count", (i64::try_from(max_bytes).unwrap_or(i64::MAX) / PAGE_SIZE).max(1), |_| Ok(()))?;
    }
    if fresh {
        let transaction = connection.transaction()?;
        transaction.execute_batch(TABLES)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", FORMAT)?;
        transaction.commit()?;
    }
    Ok(())
}

/// A connection that reads history beside the writer.
pub fn open_reader(path: &Path) -> Result<Connection, rusqlite::Error> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.pragma_update(None, "cache_size", -1024)?;
    Ok(connection)
}

/// Names the file in an error that says it is no good.
pub fn explain(path: &Path, source: rusqlite::Error) -> SqliteError {
    let path: PathBuf = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => SqliteError::Damaged { path, source },
        _ => SqliteError::Sqlite(source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_order_rows_by_revision_then_position() {
        assert!(last_id(7) < first_id(8));
        assert!(row_id(7, 0) < row_id(7, 1));
        assert_eq!([first_id(7), last_id(7)].map(revision_of), [7, 7]);
    }
}
