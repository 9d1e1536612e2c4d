//! Signers: who may approve, sign or attest in the name of one.
use crate::AdmissionRequest;
use api_auth::Attributes;

pub(super) const GROUP: &str = "certificates.k8s.io";

/// Whether the requester may do this for a signer, by its own name or by its domain's wildcard.
pub(super) fn permits(request: &AdmissionRequest<'_>, verb: &str, signer: &str) -> bool {
    let allowed = |name: &str| {
        let attributes = Attributes {
            cluster: request.cluster,
            user: request.user,
            verb,
            group: GROUP,
            version: "*",
            resource: "signers",
            subresource: "",
            namespace: "",
            name,
            path: "",
        };
        request.host.authorize(&attributes).is_allowed()
    };
    allowed(signer) || signer.split_once('/').is_some_and(|(domain, _)| allowed(&format!("{domain}/*")))
}
