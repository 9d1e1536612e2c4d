//! Namespace: a named part of a cluster that other objects live in.
use crate::fields::selectable;
use crate::subresources::FINALIZE;
use api_resource::{Field, NameRule, Names, Resource, ResourceScope, STATUS, Subresource, text};

pub struct Namespaces;

impl Resource for Namespaces {
    const NAMES: Names = Names::with("", "v1", "Namespace", "namespaces", "namespace", const { &[text("ns")] }, &[]);
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const NAME_RULE: NameRule = NameRule::Label;
    const SUBRESOURCES: &'static [Subresource] = &[STATUS, FINALIZE];
    const FIELDS: &'static [Field] = &[selectable("status.phase", "")];
    const GENERATION: bool = false;
}
