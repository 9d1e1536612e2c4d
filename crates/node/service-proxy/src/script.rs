//! Script: one nft transaction. Chains come first, then what goes, then what comes.
use crate::tables::Set;
use api_meta::IpFamily;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// Elements by the map or set they are in; a set's have no value.
pub type Elements = BTreeMap<(Set, String), String>;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    pub chains: String,
    deleted: BTreeMap<Set, BTreeSet<String>>,
    added: BTreeMap<Set, BTreeMap<String, String>>,
}

impl Script {
    pub fn starting_with(chains: String) -> Self {
        Self { chains, ..Self::default() }
    }

    /// Notes what leads from the one to the other. nft can't overwrite, so a changed value is deleted and added.
    pub fn change(&mut self, before: &Elements, after: &Elements) {
        for ((set, key), value) in before {
            if after.get(&(*set, key.clone())) != Some(value) {
                // What was only about to come never was in the kernel, or is in `deleted` already.
                if self.added.get_mut(set).and_then(|added| added.remove(key)).is_none() {
                    self.deleted.entry(*set).or_default().insert(key.clone());
                }
            }
        }
        for ((set, key), value) in after {
            if before.get(&(*set, key.clone())) != Some(value) {
                self.added.entry(*set).or_default().insert(key.clone(), value.clone());
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.chains.is_empty() && self.deleted.is_empty() && self.added.values().all(BTreeMap::is_empty)
    }

    pub fn render(&self, family: IpFamily, table: &str) -> String {
        let ip = family.header();
        let mut text = self.chains.clone();
        for (set, keys) in &self.deleted {
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            writeln!(text, "delete element {ip} {table} {set} {{ {} }}", keys.join(", ")).expect("a string takes all");
        }
        for (set, elements) in self.added.iter().filter(|(_, elements)| !elements.is_empty()) {
            let elements: Vec<String> = elements.iter().map(|(key, value)| if value.is_empty() { key.clone() } else { format!("{key} : {value}") }).collect();
            writeln!(text, "add element {ip} {table} {set} {{ {} }}", elements.join(", ")).expect("a string takes all");
        }
        text
    }
}
