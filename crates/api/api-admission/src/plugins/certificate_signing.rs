//! CertificateSigning: certificates are issued by those who may sign for their signer.
use super::signers::{GROUP, permits};
use crate::{AdmissionRequest, Operation, Plugin};
use api_meta::Status;
use api_resource::Lookup;
use async_trait::async_trait;

pub struct CertificateSigning;

#[async_trait]
impl Plugin for CertificateSigning {
    fn name(&self) -> &'static str {
        "CertificateSigning"
    }

    async fn validate(&self, request: &mut AdmissionRequest<'_>, _lookup: &dyn Lookup) -> Result<(), Status> {
        if !request.is_part(GROUP, "certificatesigningrequests", "status") || request.operation != Operation::Update {
            return Ok(());
        }
        let (old, new) = (&request.old()["status"], &request.object()["status"]);
        if ["certificate", "conditions"].iter().all(|field| old[field] == new[field]) {
            return Ok(());
        }
        let signer = request.old()["spec"]["signerName"].as_str().unwrap_or_default();
        if permits(request, "sign", signer) {
            return Ok(());
        }
        Err(request.forbidden(format_args!("user not permitted to sign requests with signerName {signer:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, ask};
    use serde_json::{Value, json};

    #[tokio::test]
    async fn issuing_needs_the_permission_for_the_signer() {
        let request = |certificate: Value| json!({"metadata": {"name": "c"}, "spec": {"signerName": "example.com/a"}, "status": {"certificate": certificate}});
        for (certificate, allowed, refused) in [(json!("x"), &[][..], true), (json!("x"), &["sign signers"][..], false), (Value::Null, &[][..], false)] {
            let asked = ask("certificatesigningrequests.certificates.k8s.io").part("status").named("", "c").allowed(allowed);
            let answer = asked.updates(request(Value::Null), request(certificate)).validated(&CertificateSigning, &World::default()).await;
            assert_eq!(answer.is_err(), refused);
        }
    }
}
