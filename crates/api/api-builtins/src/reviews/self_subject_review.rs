//! SelfSubjectReview: asks who I am.
use api_resource::{Names, Resource, ResourceScope};

pub struct SelfSubjectReviews;

impl Resource for SelfSubjectReviews {
    const NAMES: Names = Names::new("authentication.k8s.io", "v1", "SelfSubjectReview", "selfsubjectreviews", "selfsubjectreview");
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const VERBS: &'static [&'static str] = &["create"];
    const GENERATION: bool = false;
}
