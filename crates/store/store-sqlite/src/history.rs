//! History: reads the log as of a past revision, and everything live when the store opens.
use crate::SqliteError;
use crate::live::Page;
use crate::recent::Chunk;
use crate::schema::{first_id, last_id, revision_of};
use crate::shared::Shared;
use crate::span::Spans;
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row};
use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use store::{Event, Key, RangeRequest, Record, Revision, Seal, Stamp};

// Answered from the index alone, in key order.
const NEWEST_OF_EACH: &str = "SELECT key, max(id) FROM log GROUP BY key ORDER BY key";
const NEWEST_OF_EACH_IN_SPAN: &str = "SELECT key, max(id) FROM log WHERE key >= ?1 AND key < ?2 AND id <= ?3 GROUP BY key ORDER BY key";
const FIRST_KEY_FROM: &str = "SELECT key FROM log WHERE key >= ?1 ORDER BY key LIMIT 1";
const BY_ID: &str = "SELECT deleted, create_revision, value FROM log WHERE id = ?1";
const BEFORE: &str = "SELECT id, create_revision, value FROM log WHERE key = ?1 AND id < ?2 AND NOT deleted ORDER BY id DESC LIMIT 1";
const CHANGES: &str = "SELECT id, key, create_revision, deleted, value FROM log WHERE id > ?1 AND id <= ?2 ORDER BY id";
const VALUE: &str = "SELECT value, id FROM log WHERE key = ?1 AND id BETWEEN ?2 AND ?3";

/// Events read at a time, and rows looked at for them.
const CHUNK: usize = 256;
const CHUNK_ROWS: usize = 10_000;

/// What a store holds when it opens.
pub struct Loaded {
    pub revision: Revision,
    pub oldest: Revision,
    /// The last row cleared of history.
    pub swept: i64,
    pub records: BTreeMap<Key, Arc<Record>>,
    /// Whether something is not sealed, or not with the newest key.
    pub stale: bool,
}

/// How the bytes of a row become a value.
#[derive(Clone, Copy)]
pub struct Reading<'a> {
    pub stamp: Stamp,
    pub seal: Option<&'a dyn Seal>,
}

impl Reading<'_> {
    /// The value in a row, as it was put.
    fn value<'r>(&self, key: &Key, id: i64, row: &'r Row<'_>, column: usize) -> Result<Cow<'r, [u8]>, SqliteError> {
        let written = row.get_ref(column)?.as_blob().map_err(rusqlite::Error::from)?;
        match self.seal {
            Some(seal) if seal.covers(key) => seal.open(key, written).map_err(|source| SqliteError::Seal { key: key.clone(), row: id, source }),
            _ => Ok(Cow::Borrowed(written)),
        }
    }
}

pub fn load(connection: &Connection, reading: Reading<'_>) -> Result<Loaded, SqliteError> {
    let (oldest, swept) = connection.query_row("SELECT revision, swept FROM compaction", [], |row| Ok((revision(row, 0)?, row.get(1)?)))?;
    let last: Option<i64> = connection.query_row("SELECT max(id) FROM log", [], |row| row.get(0))?;
    // The row of the newest revision is gone if it was a deletion that has been compacted.
    // An empty store is at 1, as etcd is: clients take 0 for "any revision".
    let newest = last.map_or(1, revision_of).max(oldest).max(1);
    let (mut records, mut stale) = (Vec::new(), false);
    let mut statement = connection.prepare(NEWEST_OF_EACH)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let id: i64 = row.get(1)?;
        let text = row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
        let key = Key::parse(text).ok_or_else(|| SqliteError::BadRow(format!("row {id} has the key `{text}`")))?;
        let sealed_well = Cell::new(true);
        if let Some(record) = record_at(connection, &key, id, reading, &sealed_well)? {
            stale |= !sealed_well.get();
            records.push((key, record));
        }
    }
    Ok(Loaded { revision: newest, oldest, swept, records: records.into_iter().collect(), stale })
}

/// The page as of `at`, which must not be compacted.
pub fn range(connection: &Connection, shared: &Shared, request: &RangeRequest, at: Revision) -> Result<Page, SqliteError> {
    let snapshot = connection.unchecked_transaction()?;
    let limit = if request.limit == 0 { usize::MAX } else { request.limit };
    let mut page = Page { records: Vec::new(), remaining: 0 };
    let mut spans = Spans::new(&request.scope, request.after.as_deref());
    let mut newest_of_each = snapshot.prepare_cached(NEWEST_OF_EACH_IN_SPAN)?;
    while let Some(span) = spans.next(|position| first_key_from(&snapshot, position))? {
        let mut rows = newest_of_each.query((&span.from, &span.to, last_id(at)))?;
        while let Some(row) = rows.next()? {
            let id: i64 = row.get(1)?;
            let text = row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
            // What has not changed since is shared with everyone who reads the present.
            let unchanged = shared.live.read().get(text).filter(|live| live.mod_revision == revision_of(id)).cloned();
            if page.records.len() >= limit {
                page.remaining += usize::from(unchanged.is_some() || !is_deleted(&snapshot, id)?);
                continue;
            }
            match unchanged {
                Some(record) => page.records.push(record),
                None => {
                    let key = Key::parse(text).ok_or_else(|| SqliteError::BadRow(format!("row {id} has the key `{text}`")))?;
                    page.records.extend(record_at(&snapshot, &key, id, shared.reading(), &Cell::new(true))?);
                }
            }
        }
    }
    Ok(page)
}

/// The first of the events at `address` after one revision, up to another.
pub fn events(connection: &Connection, shared: &Shared, address: &str, after: Revision, upto: Revision) -> Result<Chunk, SqliteError> {
    let snapshot = connection.unchecked_transaction()?;
    let mut chunk = Chunk { events: Vec::new(), upto: after };
    let mut statement = snapshot.prepare_cached(CHANGES)?;
    let mut rows = statement.query([last_id(after), last_id(upto)])?;
    let mut looked_at = 0;
    while let Some(row) = rows.next()? {
        let id: i64 = row.get(0)?;
        if revision_of(id) != chunk.upto && (chunk.events.len() >= CHUNK || looked_at >= CHUNK_ROWS) {
            return Ok(chunk);
        }
        looked_at += 1;
        chunk.upto = revision_of(id);
        let text = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
        let key = Key::parse(text).ok_or_else(|| SqliteError::BadRow(format!("row {id} has the key `{text}`")))?;
        if key.addresses().contains(&address) {
            chunk.events.push(event(&snapshot, row, id, key, shared.reading())?);
        }
    }
    chunk.upto = upto;
    Ok(chunk)
}

fn event(connection: &Connection, row: &Row<'_>, id: i64, key: Key, reading: Reading<'_>) -> Result<Arc<Event>, SqliteError> {
    let (at, created, deleted) = (revision_of(id), revision(row, 2)?, row.get(3)?);
    if created == at {
        let record = Record::new(key.clone(), created, at, (reading.stamp)(&reading.value(&key, id, row, 4)?, at));
        return Ok(Event::new(at, record, None, false));
    }
    let mut before = connection.prepare_cached(BEFORE)?;
    let mut rows = before.query((key.as_str(), id))?;
    let Some(earlier) = rows.next()? else {
        return Err(SqliteError::BadRow(format!("row {id} changes `{key}`, of which there is no earlier value")));
    };
    let earlier_id = earlier.get(0)?;
    let earlier_at = revision_of(earlier_id);
    let earlier_value = reading.value(&key, earlier_id, earlier, 2)?;
    let previous = Record::new(key.clone(), revision(earlier, 1)?, earlier_at, (reading.stamp)(&earlier_value, earlier_at));
    let value = if deleted { earlier_value } else { reading.value(&key, id, row, 4)? };
    Ok(Event::new(at, Record::new(key, created, at, (reading.stamp)(&value, at)), Some(previous), deleted))
}

/// The value of a live record as it was put.
pub fn unstamped(connection: &Connection, record: &Record, reading: Reading<'_>) -> Result<Bytes, SqliteError> {
    let mut statement = connection.prepare_cached(VALUE)?;
    let mut rows = statement.query((record.key.as_str(), first_id(record.mod_revision), last_id(record.mod_revision)))?;
    let Some(row) = rows.next()? else {
        return Err(SqliteError::BadRow(format!("there is no row of `{}` at revision {}", record.key, record.mod_revision)));
    };
    Ok(Bytes::from(reading.value(&record.key, row.get(1)?, row, 0)?.into_owned()))
}

/// The record a row holds; `None` for a deletion. Tells whether it is sealed as it would be now.
fn record_at(connection: &Connection, key: &Key, id: i64, reading: Reading<'_>, current: &Cell<bool>) -> Result<Option<Arc<Record>>, SqliteError> {
    let mut statement = connection.prepare_cached(BY_ID)?;
    let mut rows = statement.query([id])?;
    let Some(row) = rows.next()? else {
        return Err(SqliteError::BadRow(format!("row {id} of `{key}` is in the index only")));
    };
    if row.get(0)? {
        return Ok(None);
    }
    if let Some(seal) = reading.seal.filter(|seal| seal.covers(key)) {
        current.set(seal.is_current(row.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?));
    }
    let at = revision_of(id);
    Ok(Some(Record::new(key.clone(), revision(row, 1)?, at, (reading.stamp)(&reading.value(key, id, row, 2)?, at))))
}

fn is_deleted(connection: &Connection, id: i64) -> Result<bool, SqliteError> {
    Ok(connection.prepare_cached(BY_ID)?.query_row([id], |row| row.get(0))?)
}

fn first_key_from(connection: &Connection, position: &str) -> Result<Option<String>, SqliteError> {
    Ok(connection.prepare_cached(FIRST_KEY_FROM)?.query_row([position], |row| row.get(0)).optional()?)
}

fn revision(row: &Row<'_>, column: usize) -> Result<Revision, rusqlite::Error> {
    row.get::<_, i64>(column).map(i64::unsigned_abs)
}
