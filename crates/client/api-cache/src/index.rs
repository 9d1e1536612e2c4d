//! Index: a cache's objects by values worked out from each, such as their owner.
use crate::cache::ObjectKey;
use api_meta::ClusterName;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Gives the values an object is found by.
pub type IndexFunction<K> = fn(&K) -> Vec<String>;

/// One tree for all values: most have one object, for which a set of its own would be large.
pub(crate) struct Index<K> {
    pub name: &'static str,
    function: IndexFunction<K>,
    entries: BTreeMap<(Arc<str>, ObjectKey), Arc<K>>,
}

impl<K> Index<K> {
    pub fn new(name: &'static str, function: IndexFunction<K>) -> Self {
        Self { name, function, entries: BTreeMap::new() }
    }

    /// One cluster's objects of this value, in name order.
    pub fn of<'a>(&'a self, cluster: &'a ClusterName, value: &'a str) -> impl Iterator<Item = &'a Arc<K>> {
        let first: (Arc<str>, ObjectKey) = (value.into(), ObjectKey::new(cluster, "", ""));
        let of_value = move |(entry, _): &(&'a (Arc<str>, ObjectKey), &'a Arc<K>)| *entry.0 == *value && entry.1.cluster == *cluster;
        self.entries.range(first..).take_while(of_value).map(|(_, object)| object)
    }

    /// The object of this key is another one now, came, or went.
    pub fn change(&mut self, key: &ObjectKey, old: Option<&Arc<K>>, new: Option<&Arc<K>>) {
        let values = |object: Option<&Arc<K>>| object.map(|object| (self.function)(object)).unwrap_or_default();
        let (before, now) = (values(old), values(new));
        for value in before.iter().filter(|value| !now.contains(value)) {
            self.entries.remove(&(value.as_str().into(), key.clone()));
        }
        let Some(object) = new else { return };
        for value in now {
            let entry = (value.into(), key.clone());
            if let Some(have) = self.entries.get_mut(&entry) {
                *have = object.clone();
            } else {
                let entry = self.beside_neighbours(entry);
                self.entries.insert(entry, object.clone());
            }
        }
    }

    /// The same entry, with the text of the value that the one next to it has.
    fn beside_neighbours(&self, (value, key): (Arc<str>, ObjectKey)) -> (Arc<str>, ObjectKey) {
        let entry = (value, key);
        let near = self.entries.range(..&entry).next_back().into_iter().chain(self.entries.range(&entry..).next());
        let same = near.map(|((value, _), _)| value).find(|value| **value == entry.0).cloned();
        (same.unwrap_or(entry.0), entry.1)
    }
}
