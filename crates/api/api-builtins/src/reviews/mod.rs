//! authentication.k8s.io/v1 and authorization.k8s.io/v1: questions that are answered at once and never stored.
mod local_subject_access_review;
mod self_subject_access_review;
mod self_subject_review;
mod self_subject_rules_review;
mod subject_access_review;
mod token_review;

pub use local_subject_access_review::LocalSubjectAccessReviews;
pub use self_subject_access_review::SelfSubjectAccessReviews;
pub use self_subject_review::SelfSubjectReviews;
pub use self_subject_rules_review::SelfSubjectRulesReviews;
pub use subject_access_review::SubjectAccessReviews;
pub use token_review::TokenReviews;
