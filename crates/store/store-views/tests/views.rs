//! What a virtual cluster sees of the base and of the host's nodes, and what it does to them: nothing.
#![allow(clippy::unwrap_used, reason = "these are tests")]
use api_meta::{ClusterName, GroupResource, Object, object};
use bytes::Bytes;
use serde_json::{Value, json};
use std::sync::Arc;
use store::{Event, Key, Op, Precondition, RangeRequest, Record, Scope, Store, StoreError, Txn};
use store_sqlite::{SqliteOptions, SqliteStore};
use store_views::{Mirrors, ViewStore};

/// Mirrors the host's nodes that are not secret, without their notes.
struct Nodes;

impl Mirrors for Nodes {
    fn mirrors(&self, _: &ClusterName, resource: &GroupResource) -> bool {
        *resource == nodes()
    }
    fn view(&self, _: &ClusterName, record: &Record) -> Option<Bytes> {
        let mut value: Value = serde_json::from_slice(&record.value).unwrap();
        value.as_object_mut().unwrap().remove("note");
        (value["secret"] != true).then(|| object::stamp(&object::encode(value.as_object().unwrap()), record.mod_revision))
    }
}

fn roles() -> GroupResource {
    GroupResource::new("rbac.authorization.k8s.io", "clusterroles")
}

fn nodes() -> GroupResource {
    GroupResource::new("", "nodes")
}

fn tenant() -> ClusterName {
    ClusterName::hosted("team", "a").unwrap()
}

fn role(cluster: &ClusterName, name: &str) -> Key {
    Key::new(cluster, &roles(), "", name)
}

fn node(cluster: &ClusterName, name: &str) -> Key {
    Key::new(cluster, &nodes(), "", name)
}

fn put(key: &Key, more: Value) -> Op {
    let mut value = json!({"metadata": {"name": key.name()}});
    value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Op::Put { key: key.clone(), value: object::encode(value.as_object().unwrap()) }
}

struct World {
    _directory: tempfile::TempDir,
    engine: Arc<SqliteStore>,
    store: ViewStore,
}

impl World {
    /// A base of three roles.
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let engine = SqliteStore::open(&directory.path().join("store.db"), SqliteOptions::new(object::stamp)).unwrap();
        let store = ViewStore::new(engine.clone(), [roles()], Arc::new(Nodes), object::restamp);
        let world = Self { _directory: directory, engine, store };
        for name in ["admin", "edit", "view"] {
            world.write(vec![], vec![put(&role(&ClusterName::base(), name), json!({"rules": "base"}))]).await.unwrap();
        }
        world
    }

    async fn write(&self, preconditions: Vec<Precondition>, ops: Vec<Op>) -> Result<Vec<Arc<Event>>, StoreError> {
        Ok(self.store.txn(Txn { preconditions, ops }).await?.events)
    }

    async fn seen(&self, key: &Key) -> Option<(Value, u64)> {
        self.store.get(key).await.unwrap().map(|record| {
            assert_eq!(record.key, *key);
            let object = Object::parse(record.value.clone()).unwrap();
            assert_eq!(*object.meta().resource_version, *record.mod_revision.to_string());
            (object.to_value()["rules"].clone(), record.mod_revision)
        })
    }

    async fn names(&self, resource: GroupResource, after: Option<&Key>, limit: usize) -> (Vec<String>, usize) {
        let scope = Scope::Resource { cluster: tenant(), resource, namespace: None };
        let found = self.store.range(RangeRequest { scope, after: after.map(|key| key.as_str().to_owned()), limit, revision: None }).await.unwrap();
        (found.records.iter().map(|record| record.key.as_str().replace("/a.team/", "")).collect(), found.remaining)
    }
}

fn told(event: &Event) -> (&'static str, String, Value) {
    let kind = if event.deleted {
        "deleted"
    } else if event.previous.is_some() {
        "modified"
    } else {
        "added"
    };
    let object = Object::parse(event.record.value.clone()).unwrap();
    assert_eq!(*object.meta().resource_version, *event.revision.to_string());
    (kind, event.record.key.name().to_owned(), object.to_value()["rules"].clone())
}

#[tokio::test]
async fn the_base_is_everybodys_until_changed() {
    let world = World::new().await;
    let (own, other) = (role(&tenant(), "admin"), role(&ClusterName::hosted("team", "b").unwrap(), "admin"));
    let (rules, base) = world.seen(&own).await.unwrap();
    assert_eq!(rules, "base");
    assert!(world.seen(&role(&ClusterName::root(), "admin")).await.is_none(), "the host cluster has objects of its own");
    // What lies below is there: it can't be created, and is changed at its revision only.
    let refused = |result: Result<Vec<Arc<Event>>, StoreError>| match result {
        Err(StoreError::PreconditionFailed { current, .. }) => current.map(|current| current.0.mod_revision),
        _ => panic!("not refused"),
    };
    let change = || vec![put(&own, json!({"rules": "mine"}))];
    assert_eq!(refused(world.write(vec![Precondition::Absent(own.clone())], change()).await), Some(base));
    assert_eq!(refused(world.write(vec![Precondition::AtRevision(own.clone(), base + 1)], change()).await), Some(base));
    let events = world.write(vec![Precondition::AtRevision(own.clone(), base)], change()).await.unwrap();
    assert_eq!(told(&events[0]), ("modified", "admin".into(), "mine".into()));
    assert_eq!(world.seen(&own).await.unwrap().0, "mine");
    assert_eq!(refused(world.write(vec![Precondition::AtRevision(own.clone(), base)], change()).await), Some(events[0].revision));
    assert_eq!(world.seen(&other).await.unwrap(), ("base".into(), base));
    let list = |names: &[&str]| names.iter().map(|name| format!("rbac.authorization.k8s.io/clusterroles//{name}")).collect::<Vec<_>>();
    assert_eq!(world.names(roles(), None, 0).await, (list(&["admin", "edit", "view"]), 0));
    assert_eq!(world.names(roles(), None, 2).await, (list(&["admin", "edit"]), 1));
    assert_eq!(world.names(roles(), Some(&role(&tenant(), "edit")), 2).await, (list(&["view"]), 0));
}

#[tokio::test]
async fn what_a_cluster_deletes_of_the_base_is_gone_there_only() {
    let world = World::new().await;
    let own = role(&tenant(), "edit");
    let begin = world.store.revision();
    let scope = Scope::Resource { cluster: tenant(), resource: roles(), namespace: None };
    let mut watch = world.store.watch(scope.clone(), begin).await.unwrap();
    let events = world.write(vec![Precondition::Exists(own.clone())], vec![Op::Delete { key: own.clone() }]).await.unwrap();
    assert_eq!(told(&events[0]), ("deleted", "edit".into(), "base".into()));
    assert!(world.seen(&own).await.is_none());
    assert_eq!(world.names(roles(), None, 0).await.0.len(), 2);
    assert!(world.write(vec![Precondition::Exists(own.clone())], vec![Op::Delete { key: own.clone() }]).await.is_err());
    assert!(world.write(vec![], vec![Op::Delete { key: own.clone() }]).await.unwrap().is_empty());
    world.write(vec![Precondition::Absent(own.clone())], vec![put(&own, json!({"rules": "mine"}))]).await.unwrap();
    world.write(vec![], vec![Op::Delete { key: own.clone() }]).await.unwrap();
    assert!(world.seen(&own).await.is_none(), "the base does not come back from below");
    world.write(vec![], vec![put(&role(&tenant(), "x"), json!({"rules": "x"}))]).await.unwrap();
    let mut heard = Vec::new();
    for _ in 0..4 {
        heard.push(told(&watch.recv().await.unwrap().unwrap()));
    }
    let is = |kind, name: &str, rules: &str| (kind, name.to_owned(), Value::from(rules));
    assert_eq!(heard, [is("deleted", "edit", "base"), is("added", "edit", "mine"), is("deleted", "edit", "mine"), is("added", "x", "x")]);
    assert!(world.seen(&role(&ClusterName::base(), "edit")).await.is_some());
    assert!(matches!(world.store.watch(scope, begin - 2).await, Err(StoreError::Compacted { .. })), "who knew an older base has to list again");
}

#[tokio::test]
async fn of_many_who_change_the_base_at_once_one_wins() {
    let world = World::new().await;
    let own = role(&tenant(), "view");
    let (_, base) = world.seen(&own).await.unwrap();
    let writes = (0..8).map(|n| world.write(vec![Precondition::AtRevision(own.clone(), base)], vec![put(&own, json!({"rules": n}))]));
    let results = futures::future::join_all(writes).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
}

#[tokio::test]
async fn a_mirror_shows_the_hosts_objects_and_what_becomes_of_them() {
    let world = World::new().await;
    let host = |name: &str| node(&ClusterName::root(), name);
    world.write(vec![], vec![put(&host("n1"), json!({"note": "rack 3"})), put(&host("n2"), json!({"secret": true}))]).await.unwrap();
    let seen = world.store.get(&node(&tenant(), "n1")).await.unwrap().unwrap();
    assert_eq!(seen.key, node(&tenant(), "n1"));
    assert!(!String::from_utf8_lossy(&seen.value).contains("rack"));
    assert!(world.store.get(&node(&tenant(), "n2")).await.unwrap().is_none());
    assert_eq!(world.names(nodes(), None, 0).await, (vec!["core/nodes//n1".to_owned()], 0));
    let scope = Scope::Resource { cluster: tenant(), resource: nodes(), namespace: None };
    let mut watch = world.store.watch(scope, world.store.revision()).await.unwrap();
    world.write(vec![], vec![put(&host("n1"), json!({"note": "rack 4"}))]).await.unwrap();
    world.write(vec![], vec![put(&host("n1"), json!({"rules": "new"}))]).await.unwrap();
    world.write(vec![], vec![put(&host("n2"), json!({}))]).await.unwrap();
    world.write(vec![], vec![put(&host("n2"), json!({"secret": true}))]).await.unwrap();
    world.write(vec![], vec![Op::Delete { key: host("n2") }]).await.unwrap();
    world.write(vec![], vec![Op::Delete { key: host("n1") }]).await.unwrap();
    let mut heard = Vec::new();
    for _ in 0..4 {
        let event = watch.recv().await.unwrap().unwrap();
        assert_eq!(event.record.key.cluster(), "a.team");
        let kind = if event.deleted {
            "deleted"
        } else if event.previous.is_some() {
            "modified"
        } else {
            "added"
        };
        heard.push((kind, event.record.key.name().to_owned()));
    }
    let is = |kind, name: &str| (kind, name.to_owned());
    assert_eq!(heard, [is("modified", "n1"), is("added", "n2"), is("deleted", "n2"), is("deleted", "n1")], "what is not seen changes nothing");
    drop(watch);
    world.engine.close().await;
}

#[tokio::test]
async fn what_is_taken_away_beneath_the_views_shows_the_base_again() {
    let world = World::new().await;
    let (hidden, changed) = (role(&tenant(), "edit"), role(&tenant(), "admin"));
    world.write(vec![], vec![Op::Delete { key: hidden.clone() }, put(&changed, json!({"rules": "mine"}))]).await.unwrap();
    let scope = Scope::Resource { cluster: tenant(), resource: roles(), namespace: None };
    let mut watch = world.store.watch(scope, world.store.revision()).await.unwrap();
    let ops = vec![Op::Delete { key: hidden.clone() }, Op::Delete { key: changed.clone() }];
    world.engine.txn(Txn { preconditions: vec![], ops }).await.unwrap();
    assert_eq!(told(&watch.recv().await.unwrap().unwrap()), ("added", "edit".into(), "base".into()));
    assert_eq!(told(&watch.recv().await.unwrap().unwrap()), ("modified", "admin".into(), "base".into()));
    assert_eq!((world.seen(&hidden).await.unwrap().0, world.seen(&changed).await.unwrap().0), ("base".into(), "base".into()));
}
