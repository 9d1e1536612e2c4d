//! A store that was not sealed becomes sealed when it opens, and its values stay what they were.
use api_meta::{ClusterName, GroupResource};
use clock::SystemClock;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use store::suite::stamp;
use store::{Key, Op, RangeRequest, Scope, Store, StoreError, Txn};
use store_encryption::Encryption;
use store_sqlite::{SqliteOptions, SqliteStore};

fn secrets() -> GroupResource {
    GroupResource::new("", "secrets")
}

fn holds(directory: &Path, text: &str) -> bool {
    let files = std::fs::read_dir(directory)
        .expect("it is there")
        .map(|entry| entry.expect("it can be read").path())
        .filter(|path| path.to_string_lossy().contains("state.db"));
    files.map(|path| std::fs::read(path).expect("it can be read")).any(|bytes| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
}

async fn values(store: &SqliteStore, revision: Option<u64>) -> Vec<String> {
    let range = store.range(RangeRequest { scope: Scope::AllClusters(secrets()), after: None, limit: 0, revision }).await.expect("it can be read");
    range.records.iter().map(|record| String::from_utf8_lossy(&record.value).into_owned()).collect()
}

#[tokio::test]
async fn a_plain_store_is_sealed_when_it_opens() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    let put = |name: &str, value: &str| {
        let key = Key::new(&ClusterName::root(), &secrets(), "default", name);
        Txn { preconditions: Vec::new(), ops: vec![Op::Put { key, value: value.to_owned().into() }] }
    };
    let plain = SqliteStore::open(&path, SqliteOptions::new(stamp)).unwrap();
    plain.txn(put("a", &format!("first-password {}", "x".repeat(5000)))).await.unwrap();
    let then = plain.txn(put("a", "second-password")).await.unwrap().revision;
    for n in 0..1500 {
        plain.txn(put(&format!("n{n}"), &format!("password-number-{n}"))).await.unwrap();
    }
    let before = (values(&plain, None).await, values(&plain, Some(then - 1)).await);
    plain.close().await;
    drop(plain);
    assert!(holds(directory.path(), "second-password"));

    let encryption = Arc::new(Encryption::load_or_create(&directory.path().join("keys.json"), &SystemClock).unwrap());
    let sealed = SqliteStore::open_sealed(&path, SqliteOptions { recent_events: 0, ..SqliteOptions::new(stamp) }, encryption.clone()).unwrap();
    // Whoever asks for it now waits for the pass that the open began, or for the one after it.
    assert!(matches!(sealed.reseal().await.unwrap(), 0 | 1502));
    for text in ["first-password", "second-password", "password-number-7", "password-number-1499"] {
        assert!(!holds(directory.path(), text), "{text}");
    }
    assert_eq!((values(&sealed, None).await, values(&sealed, Some(then - 1)).await), before);
    // Commits go on while everything is sealed anew.
    encryption.add_key(&SystemClock).unwrap();
    let (resealed, written) = tokio::join!(sealed.reseal(), async {
        for n in 0..50 {
            sealed.txn(put("b", &format!("meanwhile-{n}"))).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        sealed.revision()
    });
    assert_eq!((resealed.unwrap(), written), (1502, then + 1550));
    sealed.close().await;
    drop(sealed);
    let connection = rusqlite::Connection::open(&path).unwrap();
    let marks: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'unsealed_remains'", [], |row| row.get(0)).unwrap();
    assert_eq!(marks, 0, "nothing is left to be done at the next start");
    drop(connection);

    // With other keys, or none, nothing is to be had.
    let other = Arc::new(Encryption::load_or_create(&directory.path().join("other.json"), &SystemClock).unwrap());
    let Err(StoreError::Engine(error)) = SqliteStore::open_sealed(&path, SqliteOptions::new(stamp), other) else { panic!("it must not open") };
    assert!(error.to_string().contains("which is not known"), "{error}");
}
