//! GroupNames: the names that are taken in one group.
use api_custom::AcceptedNames;
use api_custom::state::Taken;
use api_resource::AnyResource;
use std::collections::HashMap;

/// How many definitions hold a name.
#[derive(Default)]
pub(crate) struct GroupNames {
    resources: HashMap<String, usize>,
    kinds: HashMap<String, usize>,
}

fn resources(names: &AcceptedNames) -> impl Iterator<Item = &String> {
    [&names.plural, &names.singular].into_iter().chain(&names.short_names).filter(|name| !name.is_empty())
}

fn kinds(names: &AcceptedNames) -> impl Iterator<Item = &String> {
    [&names.kind, &names.list_kind].into_iter().filter(|name| !name.is_empty())
}

impl GroupNames {
    pub fn hold(&mut self, names: &AcceptedNames) {
        resources(names).for_each(|name| *self.resources.entry(name.clone()).or_default() += 1);
        kinds(names).for_each(|name| *self.kinds.entry(name.clone()).or_default() += 1);
    }

    pub fn release(&mut self, names: &AcceptedNames) {
        resources(names).for_each(|name| drop_one(&mut self.resources, name));
        kinds(names).for_each(|name| drop_one(&mut self.kinds, name));
    }
}

fn drop_one(counts: &mut HashMap<String, usize>, name: &str) {
    if let Some(count) = counts.get_mut(name) {
        *count -= 1;
        if *count == 0 {
            counts.remove(name);
        }
    }
}

/// What definitions and built-ins hold together.
pub(crate) struct All<'a> {
    pub definitions: &'a GroupNames,
    pub builtins: &'a [&'static dyn AnyResource],
}

impl Taken for All<'_> {
    fn resource(&self, name: &str) -> bool {
        let built_in = |kind: &&dyn AnyResource| {
            let names = kind.names();
            names.plural == name || names.singular == name || names.short.iter().any(|short| short == name)
        };
        self.definitions.resources.contains_key(name) || self.builtins.iter().any(built_in)
    }
    fn kind(&self, name: &str) -> bool {
        self.definitions.kinds.contains_key(name) || self.builtins.iter().any(|kind| kind.names().kind == name || kind.names().list_kind() == name)
    }
}
