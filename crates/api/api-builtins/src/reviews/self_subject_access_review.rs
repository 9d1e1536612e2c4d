//! SelfSubjectAccessReview: asks whether I may do something.
use api_resource::{Names, Resource, ResourceScope};

pub struct SelfSubjectAccessReviews;

impl Resource for SelfSubjectAccessReviews {
    const NAMES: Names = Names::new("authorization.k8s.io", "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", "selfsubjectaccessreview");
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const VERBS: &'static [&'static str] = &["create"];
    const GENERATION: bool = false;
}
