//! ClusterTrustBundleAttest: a signer's trust bundle is written by those who may attest for it.
use super::signers::{GROUP, permits};
use crate::{AdmissionRequest, Operation, Plugin};
use api_meta::Status;
use api_resource::Lookup;
use async_trait::async_trait;

pub struct ClusterTrustBundleAttest;

#[async_trait]
impl Plugin for ClusterTrustBundleAttest {
    fn name(&self) -> &'static str {
        "ClusterTrustBundleAttest"
    }

    async fn validate(&self, request: &mut AdmissionRequest<'_>, _lookup: &dyn Lookup) -> Result<(), Status> {
        let writes = matches!(request.operation, Operation::Create | Operation::Update);
        let signer = request.object()["spec"]["signerName"].as_str().unwrap_or_default();
        if !request.is(GROUP, "clustertrustbundles") || !writes || signer.is_empty() || permits(request, "attest", signer) {
            return Ok(());
        }
        Err(request.forbidden(format_args!("user not permitted to attest for signerName {signer:?}")))
    }
}
