//! TokenReview: asks whether a token is good.
use api_resource::{Names, Resource, ResourceScope};

pub struct TokenReviews;

impl Resource for TokenReviews {
    const NAMES: Names = Names::new("authentication.k8s.io", "v1", "TokenReview", "tokenreviews", "tokenreview");
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const VERBS: &'static [&'static str] = &["create"];
    const GENERATION: bool = false;
}
