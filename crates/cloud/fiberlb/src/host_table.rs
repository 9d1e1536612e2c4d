//! HostTable: what is kept by host, an exact name before a wildcard, which stands for one label. Pure.
use std::collections::HashMap;
use std::collections::hash_map::Entry;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostTable<T> {
    exact: HashMap<String, T>,
    /// By what follows `*.`.
    wildcard: HashMap<String, T>,
}

impl<T> Default for HostTable<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), wildcard: HashMap::new() }
    }
}

impl<T> HostTable<T> {
    /// The place of a host as it is written: a name, or `*.` and a name.
    pub fn entry(&mut self, host: &str) -> Entry<'_, String, T> {
        match host.strip_prefix("*.") {
            Some(suffix) => self.wildcard.entry(suffix.to_ascii_lowercase()),
            None => self.exact.entry(host.to_ascii_lowercase()),
        }
    }

    /// What there is for a name in lower case.
    pub fn get(&self, name: &str) -> Option<&T> {
        self.exact.get(name).or_else(|| self.wildcard.get(name.split_once('.')?.1))
    }
}
