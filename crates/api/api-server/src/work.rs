//! Work: what is known beforehand of what requests will cost: how much there is to list, and how many watch what changes.
use crate::ApiServer;
use crate::query::Query;
use crate::route::{ResourceRoute, Route, Target};
use api_fairness::Cost;
use api_meta::{ClusterName, GroupResource};
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use store::{RangeRequest, Scope};

/// How long a count of objects is good for.
const GOOD_FOR: Duration = Duration::from_secs(10);
/// Objects whose sizes are taken for those of all.
const SAMPLE: usize = 50;
/// Counts kept; clusters come and go.
const KEPT: usize = 10_000;

type Kind = (ClusterName, GroupResource);
/// A kind in a namespace; "" for all of them.
type Watched = (Kind, Box<str>);

/// What estimates are made from.
#[derive(Default)]
pub struct WorkFigures {
    /// How many objects there are of a kind, of how many bytes one, and when that was looked at.
    stored: Mutex<HashMap<Kind, (u64, u64, Instant)>>,
    watchers: RwLock<HashMap<Watched, Arc<AtomicU64>>>,
}

/// A watcher that is counted as long as this lives.
pub struct Watching {
    figures: Arc<WorkFigures>,
    watched: Watched,
    count: Arc<AtomicU64>,
}

impl WorkFigures {
    /// Counts a watcher of a kind, in a namespace or ("") in all.
    pub fn watching(self: &Arc<Self>, cluster: &ClusterName, resource: GroupResource, namespace: &str) -> Watching {
        let watched = ((cluster.clone(), resource), namespace.into());
        // Under the lock, or who goes might forget the count that this one has just got hold of.
        let mut watchers = self.watchers.write();
        let count = watchers.entry(watched.clone()).or_default().clone();
        count.fetch_add(1, Ordering::Relaxed);
        drop(watchers);
        Watching { figures: self.clone(), watched, count }
    }

    /// How many are told of a change in a namespace ("": of no namespace).
    pub fn watchers(&self, cluster: &ClusterName, resource: GroupResource, namespace: &str) -> u64 {
        let watchers = self.watchers.read();
        if watchers.is_empty() {
            return 0;
        }
        let of = |watched: &Watched| watchers.get(watched).map_or(0, |count| count.load(Ordering::Relaxed));
        let everywhere = ((cluster.clone(), resource), "".into());
        let all = of(&everywhere);
        if namespace.is_empty() { all } else { all + of(&(everywhere.0, namespace.into())) }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        if self.count.fetch_sub(1, Ordering::Relaxed) > 1 {
            return;
        }
        let mut watchers = self.figures.watchers.write();
        // Somebody may have come meanwhile.
        if watchers.get(&self.watched).is_some_and(|count| count.load(Ordering::Relaxed) == 0) {
            watchers.remove(&self.watched);
        }
    }
}

impl ApiServer {
    /// What a request is thought to cost.
    pub(crate) async fn cost(&self, route: &Route, query: &Query) -> Cost {
        let Target::Resource(resource) = &route.target else { return Cost::Usual };
        match resource.verb {
            "list" if resource.name.is_empty() => self.list_cost(&route.cluster, resource, query).await,
            "create" | "update" | "patch" | "delete" if (resource.resource.as_str(), resource.subresource.as_str()) != ("serviceaccounts", "token") => {
                let of = GroupResource::new(&resource.group, &resource.resource);
                Cost::Write { watchers: self.work.watchers(&route.cluster, of, &resource.namespace) }
            }
            _ => Cost::Usual,
        }
    }

    async fn list_cost(&self, cluster: &ClusterName, route: &ResourceRoute, query: &Query) -> Cost {
        let Some(kind) = self.kinds.find(cluster, &route.group, &route.version, &route.resource) else { return Cost::Usual };
        let (key, now) = ((cluster.clone(), kind.stored_as()), self.clock.instant());
        let known = self.work.stored.lock().get(&key).filter(|(_, _, at)| now.saturating_duration_since(*at) < GOOD_FOR).copied();
        let (objects, each) = match known {
            Some((objects, each, _)) => (objects, each),
            None => {
                let scope = Scope::Resource { cluster: cluster.clone(), resource: key.1.clone(), namespace: None };
                let Ok(found) = self.store.range(RangeRequest { scope, after: None, limit: SAMPLE, revision: None }).await else { return Cost::Usual };
                let bytes: usize = found.records.iter().map(|record| record.value.len()).sum();
                let objects = (found.records.len() + found.remaining) as u64;
                let each = bytes.checked_div(found.records.len()).unwrap_or_default() as u64;
                let mut stored = self.work.stored.lock();
                if stored.len() >= KEPT {
                    stored.clear();
                }
                stored.insert(key, (objects, each, now));
                (objects, each)
            }
        };
        // A limit that is none is told later; here it limits nothing.
        let limit = query.integer("limit").ok().flatten().and_then(|limit| u64::try_from(limit).ok()).filter(|limit| *limit > 0);
        Cost::List { bytes: objects.min(limit.unwrap_or(u64::MAX)).saturating_mul(each) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watchers_are_counted_where_they_watch_and_forgotten_when_they_go() {
        let figures = Arc::new(WorkFigures::default());
        let (root, tenant, pods) = (ClusterName::root(), ClusterName::parse("tenant").unwrap(), || GroupResource::new("", "pods"));
        let all = figures.watching(&root, pods(), "");
        let one = [figures.watching(&root, pods(), "a"), figures.watching(&root, pods(), "a")];
        let of = |cluster: &ClusterName, namespace: &str| figures.watchers(cluster, pods(), namespace);
        assert_eq!((of(&root, "a"), of(&root, "b"), of(&tenant, "a"), figures.watchers(&root, GroupResource::new("", "nodes"), "")), (3, 1, 0, 0));
        drop(one);
        assert_eq!(of(&root, "a"), 1);
        drop(all);
        assert!(figures.watchers.read().is_empty());
    }
}
