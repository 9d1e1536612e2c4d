//! LocalSubjectAccessReview: asks whether someone may do something in a namespace.
use api_resource::{Names, Resource};

pub struct LocalSubjectAccessReviews;

impl Resource for LocalSubjectAccessReviews {
    const NAMES: Names = Names::new("authorization.k8s.io", "v1", "LocalSubjectAccessReview", "localsubjectaccessreviews", "localsubjectaccessreview");
    const VERBS: &'static [&'static str] = &["create"];
    const GENERATION: bool = false;
}
