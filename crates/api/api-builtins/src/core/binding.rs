//! Binding: assigns a pod to a node; written, never read.
use api_resource::{Names, Resource};

pub struct Bindings;

impl Resource for Bindings {
    const NAMES: Names = Names::new("", "v1", "Binding", "bindings", "binding");
    const VERBS: &'static [&'static str] = &["create"];
    const GENERATION: bool = false;
}
