//! The store's files: locked, private, refused when they are no good, full, closed in order.
use api_meta::{ClusterName, GroupResource};
use rusqlite::Connection;
use std::error::Error;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use store::suite::stamp;
use store::{CompactionPolicy, Key, Op, RangeRequest, Revision, Scope, Store, StoreError, Txn, compact_periodically};
use store_sqlite::{SqliteOptions, SqliteStore};
use tempfile::TempDir;

fn place() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let path = dir.path().join("state.db");
    (dir, path)
}

fn open(path: &Path) -> Result<Arc<SqliteStore>, StoreError> {
    SqliteStore::open(path, SqliteOptions::new(stamp))
}

/// Why it does not open, with the path left out.
fn refusal(path: &Path) -> String {
    let error = open(path).err().expect("it must not open");
    error.source().expect("it says why").to_string().replace(&path.display().to_string(), "PATH")
}

fn pods() -> Scope {
    Scope::AllClusters(GroupResource::new("", "pods"))
}

fn put(name: &str, value: impl Into<bytes::Bytes>) -> Txn {
    let key = Key::new(&ClusterName::root(), &GroupResource::new("", "pods"), "default", name);
    Txn { preconditions: Vec::new(), ops: vec![Op::Put { key, value: value.into() }] }
}

async fn list(store: &SqliteStore) -> Vec<(String, Revision)> {
    let range = store.range(RangeRequest { scope: pods(), after: None, limit: 0, revision: None }).await.expect("it can be read");
    range.records.iter().map(|record| (record.key.name().to_owned(), record.mod_revision)).collect()
}

#[tokio::test]
async fn a_store_in_use_is_refused_until_it_is_closed() {
    let (_dir, path) = place();
    let first = open(&path).unwrap();
    assert_eq!(refusal(&path), "store `PATH` is in use by another process");
    first.close().await;
    let second = open(&path).unwrap();
    drop(second);
    assert!(open(&path).is_ok());
}

#[tokio::test]
async fn files_are_for_their_owner_only() {
    let (dir, path) = place();
    let store = open(&path).unwrap();
    store.txn(put("a", "secret")).await.unwrap();
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.file_name());
    }
}

#[test]
fn what_is_no_store_is_refused_and_left_alone() {
    let (_dir, path) = place();
    std::fs::write(&path, "not a database, but long enough to be looked at. ".repeat(100)).unwrap();
    assert_eq!(refusal(&path), "store `PATH` is damaged: file is not a database");

    let (_dir, path) = place();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("CREATE TABLE log (a)").unwrap();
    drop(other);
    let before = std::fs::read(&path).unwrap();
    assert_eq!(refusal(&path), "`PATH` is not a k8shost store");
    assert_eq!(std::fs::read(&path).unwrap(), before);

    let (_dir, path) = place();
    drop(open(&path).unwrap());
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert_eq!(refusal(&path), "store `PATH` has format 99, written by a newer version; this version knows 1");

    let (dir, _) = place();
    let missing = dir.path().join("missing/state.db");
    assert_eq!(refusal(&missing), "cannot open store `PATH.lock`");
}

#[tokio::test]
async fn a_damaged_store_is_refused() {
    let (_dir, path) = place();
    let store = open(&path).unwrap();
    for name in 0..200 {
        store.txn(put(&format!("n{name}"), vec![b'x'; 2000])).await.unwrap();
    }
    store.close().await;
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    let length = file.metadata().unwrap().len();
    for page in 1..length / 8192 {
        file.write_all_at(&[0xa5; 64], page * 8192).unwrap();
    }
    drop(file);
    assert_eq!(refusal(&path), "store `PATH` is damaged: database disk image is malformed");
}

#[tokio::test]
async fn a_full_disk_fails_writes_and_changes_nothing() {
    let (_dir, path) = place();
    let store = SqliteStore::open(&path, SqliteOptions { max_bytes: Some(2 << 20), ..SqliteOptions::new(stamp) }).unwrap();
    let mut watch = store.watch(pods(), store.revision()).await.unwrap();
    let mut before = store.revision();
    let error = loop {
        match store.txn(put("a", vec![b'x'; 64 << 10])).await {
            Ok(committed) => before = committed.revision,
            Err(error) => break error,
        }
    };
    assert_eq!(error.source().expect("it says why").to_string(), "cannot commit: database or disk is full");
    assert!(store.txn(put("b", vec![b'x'; 64 << 10])).await.is_err());
    assert_eq!((store.revision(), list(&store).await), (before, vec![("a".to_owned(), before)]));
    while let Ok(event) = watch.try_recv() {
        assert!(event.unwrap().revision <= before);
    }
    // Room made, it goes on where it was.
    store.compact(before).await.unwrap();
    assert_eq!(store.txn(put("b", vec![b'x'; 64 << 10])).await.unwrap().revision, before + 1);
    store.close().await;
    assert_eq!(list(&open(&path).unwrap()).await, [("a".to_owned(), before), ("b".to_owned(), before + 1)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_commits_what_waits() {
    let (_dir, path) = place();
    let store = open(&path).unwrap();
    let writers: Vec<_> = (0..200)
        .map(|name| {
            let store = store.clone();
            tokio::spawn(async move {
                let name = format!("n{name:03}");
                match store.txn(put(&name, "x")).await {
                    Ok(committed) => Some((name, committed.revision)),
                    Err(StoreError::Closed) => None,
                    Err(error) => panic!("{error}"),
                }
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(2)).await;
    store.close().await;
    let mut committed = Vec::new();
    for writer in writers {
        committed.extend(writer.await.unwrap());
    }
    assert_eq!(list(&open(&path).unwrap()).await, committed);
}

#[tokio::test]
async fn periodic_compaction_forgets_what_is_old_and_ends_with_the_store() {
    let (_dir, path) = place();
    let store = open(&path).unwrap();
    for _ in 0..5 {
        store.txn(put("a", "x")).await.unwrap();
    }
    let old = store.revision();
    let compacted = store.clone();
    let policy = CompactionPolicy { every: Duration::from_millis(10), keep: Duration::from_millis(20) };
    let task = tokio::spawn(async move { compact_periodically(&*compacted, policy).await });
    while store.oldest() < old {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(list(&store).await, [("a".to_owned(), old)]);
    store.txn(put("a", "x")).await.unwrap();
    store.close().await;
    tokio::time::timeout(Duration::from_secs(30), task).await.expect("it ends").unwrap();
}
