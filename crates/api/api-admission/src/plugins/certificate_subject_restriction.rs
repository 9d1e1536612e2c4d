//! CertificateSubjectRestriction: nobody asks the signer of clients for a certificate of `system:masters`.
use super::signers::GROUP;
use crate::{AdmissionRequest, Operation, Plugin};
use api_auth::MASTERS;
use api_meta::Status;
use api_resource::Lookup;
use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

const SIGNER: &str = "kubernetes.io/kube-apiserver-client";

pub struct CertificateSubjectRestriction;

#[async_trait]
impl Plugin for CertificateSubjectRestriction {
    fn name(&self) -> &'static str {
        "CertificateSubjectRestriction"
    }

    async fn validate(&self, request: &mut AdmissionRequest<'_>, _lookup: &dyn Lookup) -> Result<(), Status> {
        let spec = &request.object()["spec"];
        if !request.is(GROUP, "certificatesigningrequests") || request.operation != Operation::Create || spec["signerName"] != SIGNER {
            return Ok(());
        }
        let pem = STANDARD.decode(spec["request"].as_str().unwrap_or_default()).unwrap_or_default();
        match pki::requested_subject(&pem) {
            Err(error) => Err(request.forbidden(format_args!("failed to parse CSR: {error}"))),
            Ok(subject) if subject.organizations.iter().any(|group| group == MASTERS) => {
                Err(request.forbidden(format_args!("use of {SIGNER} signer with {MASTERS} group is not allowed")))
            }
            Ok(_) => Ok(()),
        }
    }
}
