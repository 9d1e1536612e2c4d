//! Kill -9 at any moment loses no acknowledged write, tears no transaction and takes no revision back.
use api_meta::{ClusterName, GroupResource};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use store::suite::stamp;
use store::{Key, Op, RangeRequest, Revision, Scope, Store, Txn};
use store_sqlite::{SqliteOptions, SqliteStore};

/// Set for the child: `RUN DIRECTORY`.
const CHILD: &str = "K8SHOST_STORE_CRASH_CHILD";
const WRITERS: usize = 64;
/// How many of its pairs a writer keeps; with each new one it deletes the one that many before.
const KEPT: usize = 10;

fn key(run: usize, writer: usize, round: usize, half: &str) -> Key {
    Key::new(&ClusterName::root(), &GroupResource::new("", "pods"), &format!("{run}-{writer}"), &format!("{round}-{half}"))
}

fn value(run: usize, writer: usize, round: usize) -> String {
    format!("{run}/{writer}/{round} {}", "x".repeat(round * 37 % 3000))
}

fn open(dir: &Path) -> Arc<SqliteStore> {
    SqliteStore::open(&dir.join("state.db"), SqliteOptions::new(stamp)).expect("a killed store opens again")
}

/// Writes until it is killed, telling of each write once it is acknowledged.
async fn write_until_killed(run: usize, dir: &Path) {
    let store = open(dir);
    let compacting = store.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(10)).await;
            compacting.compact(compacting.revision().saturating_sub(20)).await.expect("history compacts");
        }
    });
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                for round in 0.. {
                    let mut ops: Vec<_> = ["a", "b"].map(|half| Op::Put { key: key(run, writer, round, half), value: value(run, writer, round).into() }).into();
                    if let Some(old) = round.checked_sub(KEPT) {
                        ops.extend(["a", "b"].map(|half| Op::Delete { key: key(run, writer, old, half) }));
                    }
                    let committed = store.txn(Txn { preconditions: Vec::new(), ops }).await.expect("it commits");
                    // One write a line, which a pipe takes as a whole or not at all.
                    let line = format!("ack {writer} {round} {}\n", committed.revision);
                    std::io::stdout().lock().write_all(line.as_bytes()).expect("the parent listens");
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("no writer ends by itself");
    }
}

/// What a killed run has acknowledged: each writer's last round, and the newest revision.
struct Acknowledged {
    rounds: BTreeMap<usize, usize>,
    newest: Revision,
}

fn run_and_kill(run: usize, dir: &Path) -> Acknowledged {
    let mut child = Command::new(std::env::current_exe().expect("this test is a file"))
        .args(["--exact", "acknowledged_writes_survive_kill_nine", "--nocapture"])
        .env(CHILD, format!("{run} {}", dir.display()))
        .stdout(Stdio::piped())
        .spawn()
        .expect("this test runs again");
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut acknowledged = Acknowledged { rounds: BTreeMap::new(), newest: 0 };
    let mut line = String::new();
    let mut killer = None;
    while lines.read_line(&mut line).expect("the pipe can be read") > 0 {
        // The harness may begin the first line with words of its own.
        if let Some(ack) = line.find("ack ").map(|at| &line[at + 4..]) {
            let numbers: Vec<u64> = ack.split_whitespace().map(|number| number.parse().expect("an acknowledgement has three numbers")).collect();
            let [writer, round, revision] = numbers[..] else { panic!("`{line}` is torn") };
            acknowledged.rounds.insert(writer as usize, round as usize);
            acknowledged.newest = acknowledged.newest.max(revision);
            if killer.is_none() {
                let [random] = clock::random_bytes();
                let id = child.id();
                killer = Some(std::thread::spawn(move || {
                    std::thread::sleep(Duration::from_millis(20 + u64::from(random) * 2));
                    Command::new("kill").args(["-9", &id.to_string()]).status().expect("kill runs")
                }));
            }
        }
        line.clear();
    }
    assert!(killer.expect("the child acknowledged something").join().expect("the killer ends").success());
    assert!(!child.wait().expect("the child ends").success());
    acknowledged
}

#[test]
fn acknowledged_writes_survive_kill_nine() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime starts");
    if let Ok(child) = std::env::var(CHILD) {
        let (run, dir) = child.split_once(' ').expect("run and directory");
        return runtime.block_on(write_until_killed(run.parse().expect("a number"), Path::new(dir)));
    }
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let mut newest = 0;
    for run in 0..6 {
        let acknowledged = run_and_kill(run, dir.path());
        assert!(acknowledged.newest > newest, "the run went on after the revisions before");
        let store = open(dir.path());
        assert!(store.revision() >= acknowledged.newest, "no revision is taken back");
        newest = store.revision();
        runtime.block_on(async {
            check(&store, run, &acknowledged).await;
            store.close().await;
        });
    }
}

async fn check(store: &SqliteStore, run: usize, acknowledged: &Acknowledged) {
    for writer in 0..WRITERS {
        let scope = Scope::Resource { cluster: ClusterName::root(), resource: GroupResource::new("", "pods"), namespace: Some(format!("{run}-{writer}")) };
        let range = store.range(RangeRequest { scope, after: None, limit: 0, revision: None }).await.expect("it can be read");
        let records: BTreeMap<_, _> = range.records.iter().map(|record| (record.key.clone(), record.clone())).collect();
        let mut rounds = BTreeSet::new();
        for record in records.values() {
            let (round, half) = record.key.name().split_once('-').expect("round and half");
            let round: usize = round.parse().expect("a number");
            let other = records.get(&key(run, writer, round, if half == "a" { "b" } else { "a" }));
            assert_eq!(other.map(|other| other.mod_revision), Some(record.mod_revision), "{} is half a transaction", record.key);
            assert_eq!(record.value, stamp(value(run, writer, round).as_bytes(), record.mod_revision), "{}", record.key);
            rounds.insert(round);
        }
        // At most one transaction more than was acknowledged can be there: the one that was on its way.
        let exactly = |last: Option<usize>| last.map_or_else(BTreeSet::new, |last| ((last + 1).saturating_sub(KEPT)..=last).collect());
        let last = acknowledged.rounds.get(&writer).copied();
        let next = last.map_or(0, |last| last + 1);
        assert!(rounds == exactly(last) || rounds == exactly(Some(next)), "writer {writer} of run {run} was told of {last:?}, but there are {rounds:?}");
    }
}
