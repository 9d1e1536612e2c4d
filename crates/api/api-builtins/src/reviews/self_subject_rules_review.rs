//! SelfSubjectRulesReview: asks what I may do in a namespace.
use api_resource::{Names, Resource, ResourceScope};

pub struct SelfSubjectRulesReviews;

impl Resource for SelfSubjectRulesReviews {
    const NAMES: Names = Names::new("authorization.k8s.io", "v1", "SelfSubjectRulesReview", "selfsubjectrulesreviews", "selfsubjectrulesreview");
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const VERBS: &'static [&'static str] = &["create"];
    const GENERATION: bool = false;
}
