//! Reinvocation: which webhooks and policies see an object again that others changed after them.
//!
//! The whole mutating chain runs at most twice, so nothing can loop.
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};

#[derive(Debug, Default)]
pub(crate) struct Reinvocation {
    /// Whether this is the second run.
    pub second: bool,
    /// Whether there has to be one.
    pub wanted: bool,
    plugins: HashMap<&'static str, Called>,
}

#[derive(Debug, Default)]
struct Called {
    last_output: Option<Value>,
    previously: BTreeSet<String>,
    again: BTreeSet<String>,
}

impl Reinvocation {
    /// A plugin's turn begins: in the second run everything eligible is called again if others changed the object.
    pub fn begin(&mut self, plugin: &'static str, object: Option<&Value>) {
        let called = self.plugins.entry(plugin).or_default();
        if self.second && called.last_output.as_ref() != object {
            called.require();
        }
    }
    /// Whether a webhook or policy is to be left out this time.
    pub fn skips(&self, plugin: &'static str, id: &str) -> bool {
        self.second && !self.plugins.get(plugin).is_some_and(|called| called.again.contains(id))
    }
    /// Something changed the object: those called before it have to see it again.
    pub fn changed(&mut self, plugin: &'static str) {
        self.plugins.entry(plugin).or_default().require();
        self.wanted = true;
    }
    /// One that wishes to be called again was called.
    pub fn called(&mut self, plugin: &'static str, id: &str) {
        self.plugins.entry(plugin).or_default().previously.insert(id.to_owned());
    }
    pub fn end(&mut self, plugin: &'static str, object: Option<&Value>) {
        self.plugins.entry(plugin).or_default().last_output = object.cloned();
    }
}

impl Called {
    fn require(&mut self) {
        self.again.append(&mut self.previously);
    }
}
