//! APIService: which server answers for a group and version.
use api_resource::{NameRule, Names, Resource, ResourceScope, STATUS, Subresource, text};

pub struct APIServices;

impl Resource for APIServices {
    const NAMES: Names = Names::with("apiregistration.k8s.io", "v1", "APIService", "apiservices", "apiservice", &[], const { &[text("api-extensions")] });
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const NAME_RULE: NameRule = NameRule::PathSegment;
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];
    const GENERATION: bool = false;
    const UNCONDITIONAL_UPDATE: bool = false;
}
