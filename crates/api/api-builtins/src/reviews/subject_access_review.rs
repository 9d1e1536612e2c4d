//! SubjectAccessReview: asks whether someone may do something.
use api_resource::{Names, Resource, ResourceScope};

pub struct SubjectAccessReviews;

impl Resource for SubjectAccessReviews {
    const NAMES: Names = Names::new("authorization.k8s.io", "v1", "SubjectAccessReview", "subjectaccessreviews", "subjectaccessreview");
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const VERBS: &'static [&'static str] = &["create"];
    const GENERATION: bool = false;
}
