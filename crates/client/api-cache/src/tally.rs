//! Tally: what a cache's objects come to together, by a value worked out from each, kept as they come and go.
use crate::cache::ObjectKey;
use crate::index::IndexFunction;
use api_meta::ClusterName;
use std::any::Any;
use std::collections::HashMap;

/// A sum over objects, so that who wants to know it need not look at each of them.
pub trait Tally<K>: Default + Clone + Send + Sync + 'static {
    fn add(&mut self, object: &K);
    /// Undoes `add` of the same object.
    fn remove(&mut self, object: &K);
    fn is_empty(&self) -> bool;
}

/// The sums of one kind of tally, by cluster and value.
pub(crate) struct Sums<K, T> {
    function: IndexFunction<K>,
    of: HashMap<(ClusterName, String), T>,
}

/// Sums of whatever tally.
pub(crate) trait Counted<K>: Any + Send + Sync {
    fn change(&mut self, key: &ObjectKey, old: Option<&K>, new: Option<&K>);
}

impl<K, T: Tally<K>> Sums<K, T> {
    pub fn new(function: IndexFunction<K>) -> Self {
        Self { function, of: HashMap::new() }
    }

    pub fn of(&self, cluster: &ClusterName, value: &str) -> T {
        self.of.get(&(cluster.clone(), value.to_owned())).cloned().unwrap_or_default()
    }
}

impl<K: 'static, T: Tally<K>> Counted<K> for Sums<K, T> {
    fn change(&mut self, key: &ObjectKey, old: Option<&K>, new: Option<&K>) {
        if let Some(object) = new {
            for value in (self.function)(object) {
                self.of.entry((key.cluster.clone(), value)).or_default().add(object);
            }
        }
        if let Some(object) = old {
            for value in (self.function)(object) {
                let place = (key.cluster.clone(), value);
                let Some(sum) = self.of.get_mut(&place) else { continue };
                sum.remove(object);
                if sum.is_empty() {
                    self.of.remove(&place);
                }
            }
        }
    }
}
