//! certificates.k8s.io/v1: its kinds, a file each.
mod certificate_signing_request;
mod cluster_trust_bundle;
mod pod_certificate_request;
mod signer;

pub use certificate_signing_request::CertificateSigningRequests;
pub use cluster_trust_bundle::ClusterTrustBundles;
pub use pod_certificate_request::PodCertificateRequests;
pub use signer::name as signer_name;
