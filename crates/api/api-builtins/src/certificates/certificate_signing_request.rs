//! CertificateSigningRequest: asks a signer for a certificate.
use crate::fields::selectable;
use crate::subresources::APPROVAL;
use api_resource::{Field, NameRule, Names, Resource, ResourceScope, STATUS, Subresource, text};

pub struct CertificateSigningRequests;

impl Resource for CertificateSigningRequests {
    const NAMES: Names = Names::with(
        "certificates.k8s.io",
        "v1",
        "CertificateSigningRequest",
        "certificatesigningrequests",
        "certificatesigningrequest",
        const { &[text("csr")] },
        &[],
    );
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const NAME_RULE: NameRule = NameRule::PathSegment;
    const SUBRESOURCES: &'static [Subresource] = &[STATUS, APPROVAL];
    const FIELDS: &'static [Field] = &[selectable("spec.signerName", "")];
    const GENERATION: bool = false;
}
