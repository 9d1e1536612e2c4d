//! CertificateApproval: certificates are approved by those who may approve for their signer.
use super::signers::{GROUP, permits};
use crate::{AdmissionRequest, Operation, Plugin};
use api_meta::Status;
use api_resource::Lookup;
use async_trait::async_trait;

pub struct CertificateApproval;

#[async_trait]
impl Plugin for CertificateApproval {
    fn name(&self) -> &'static str {
        "CertificateApproval"
    }

    async fn validate(&self, request: &mut AdmissionRequest<'_>, _lookup: &dyn Lookup) -> Result<(), Status> {
        if !request.is_part(GROUP, "certificatesigningrequests", "approval") || request.operation != Operation::Update {
            return Ok(());
        }
        let signer = request.object()["spec"]["signerName"].as_str().unwrap_or_default();
        if permits(request, "approve", signer) {
            return Ok(());
        }
        Err(request.forbidden(format_args!("user not permitted to approve requests with signerName {signer:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, ask};
    use serde_json::json;

    #[tokio::test]
    async fn approving_needs_the_permission_for_the_signer() {
        let request = || json!({"metadata": {"name": "c"}, "spec": {"signerName": "example.com/a"}});
        for (allowed, want) in [
            (
                &[][..],
                Some(
                    "certificatesigningrequests.certificates.k8s.io \"c\" is forbidden: user not permitted to approve requests with signerName \"example.com/a\"",
                ),
            ),
            (&["approve signers"][..], None),
        ] {
            let asked = ask("certificatesigningrequests.certificates.k8s.io").part("approval").named("", "c").allowed(allowed).updates(request(), request());
            assert_eq!(asked.validated(&CertificateApproval, &World::default()).await.err().map(|s| s.message).as_deref(), want);
        }
    }
}
