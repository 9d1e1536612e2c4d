//! Check of scopes: no range and no watch shows a key that is not its own, above all not another cluster's.
use super::{Harness, commit, next, put};
use crate::{Key, RangeRequest, Revision, Scope, Store};
use api_meta::{ClusterName, GroupResource};

/// A key's parts, from which it is judged independently of how it is written.
type Parts = (&'static str, &'static str, &'static str, &'static str, &'static str);

// Names that are prefixes of each other, sort around the slash, or look like another segment.
const CLUSTERS: [&str; 7] = ["root", "a", "a-b", "a.b", "a0", "ab", "core"];
const RESOURCES: [(&str, &str); 4] = [("", "pods"), ("", "podsets"), ("apps", "pods"), ("a", "core")];
const NAMESPACES: [&str; 4] = ["", "ns", "ns-1", "a"];
const NAMES: [&str; 2] = ["x", "x-1"];

fn key((cluster, group, resource, namespace, name): Parts) -> Key {
    Key::new(&ClusterName::parse(cluster).unwrap(), &GroupResource::new(group, resource), namespace, name)
}

/// Whether a scope covers a key, said in other words than the store's.
type Covers = Box<dyn Fn(&Parts) -> bool>;

fn scopes() -> Vec<(Scope, Covers)> {
    let mut scopes: Vec<(Scope, Covers)> = Vec::new();
    for (group, plural) in RESOURCES {
        let resource = GroupResource::new(group, plural);
        scopes.push((Scope::AllClusters(resource.clone()), Box::new(move |p| (p.1, p.2) == (group, plural))));
        for name in ["root", "a", "a-b", "absent"] {
            let cluster = ClusterName::parse(name).unwrap();
            let all = Scope::Resource { cluster: cluster.clone(), resource: resource.clone(), namespace: None };
            scopes.push((all, Box::new(move |p| (p.0, p.1, p.2) == (name, group, plural))));
            for namespace in ["", "ns", "n"] {
                let one = Scope::Resource { cluster: cluster.clone(), resource: resource.clone(), namespace: Some(namespace.to_owned()) };
                scopes.push((one, Box::new(move |p| (p.0, p.1, p.2, p.3) == (name, group, plural, namespace))));
            }
        }
    }
    for name in CLUSTERS {
        scopes.push((Scope::Cluster(ClusterName::parse(name).unwrap()), Box::new(move |p| p.0 == name)));
    }
    for parts in [("root", "", "pods", "ns", "x"), ("a", "apps", "pods", "", "x"), ("a", "", "pods", "ns", "absent")] {
        scopes.push((Scope::Key(key(parts)), Box::new(move |p| *p == parts)));
    }
    scopes
}

pub async fn scopes_never_leak<H: Harness>(harness: H) {
    let mut all: Vec<Parts> = Vec::new();
    for cluster in CLUSTERS {
        for (group, resource) in RESOURCES {
            all.extend(NAMESPACES.iter().flat_map(|namespace| NAMES.map(|name| (cluster, group, resource, *namespace, name))));
        }
    }
    let store = harness.open().await;
    let start = store.revision();
    let mut live = Vec::new();
    for (scope, covers) in scopes() {
        live.push((store.watch(scope.clone(), start).await.unwrap(), scope, covers));
    }
    // Several transactions, so that there is a past to read.
    for chunk in all.chunks(all.len().div_ceil(8)) {
        commit(&*store, chunk.iter().map(|parts| put(&key(*parts), "x")).collect()).await;
    }
    let end = store.revision();
    for (mut watch, scope, covers) in live {
        let expected: Vec<_> = all.iter().filter(|parts| covers(parts)).map(|parts| key(*parts)).collect();
        let mut seen = Vec::new();
        while let Ok(event) = watch.try_recv() {
            seen.push(event.unwrap().record.key.clone());
        }
        assert_eq!(seen, expected, "watch of {scope:?}");
    }
    check(&*store, &all, start, end).await;
    // Now everything changes once more, so that the revision checked is no longer the newest.
    commit(&*store, all.iter().map(|parts| put(&key(*parts), "y")).collect()).await;
    check(&*store, &all, start, end).await;
    // And again from disk.
    let store = harness.open().await;
    check(&*store, &all, start, end).await;
}

async fn check(store: &dyn Store, all: &[Parts], start: Revision, end: Revision) {
    for (scope, covers) in scopes() {
        let expected: Vec<_> = all.iter().filter(|parts| covers(parts)).map(|parts| key(*parts)).collect();
        let mut sorted = expected.clone();
        sorted.sort();
        for revision in [None, Some(end)] {
            let range = store.range(RangeRequest { scope: scope.clone(), after: None, limit: 0, revision }).await.unwrap();
            let keys: Vec<_> = range.records.iter().map(|record| record.key.clone()).collect();
            assert_eq!(keys, sorted, "range of {scope:?} at {revision:?}");
            let (mut paged, mut after) = (Vec::new(), None);
            loop {
                let page = store.range(RangeRequest { scope: scope.clone(), after, limit: 3, revision }).await.unwrap();
                paged.extend(page.records.iter().map(|record| record.key.clone()));
                assert_eq!(page.remaining, sorted.len() - paged.len(), "pages of {scope:?} at {revision:?}");
                if page.remaining == 0 {
                    break;
                }
                after = paged.last().map(|key| key.as_str().to_owned());
            }
            assert_eq!(paged, sorted, "pages of {scope:?} at {revision:?}");
        }
        let mut watch = store.watch(scope.clone(), start).await.unwrap();
        for key in expected {
            assert_eq!(next(&mut watch).await.unwrap().unwrap().record.key, key, "watch of {scope:?}");
        }
    }
}
