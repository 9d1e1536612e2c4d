//! ClusterTrustBundle: roots of trust, for all workloads.
use crate::certificates::signer;
use crate::check::{At, Report};
use crate::fields::{Read, selectable};
use api_meta::FieldErrors;
use api_resource::{Column, Field, NameRule, Names, Resource, ResourceScope};
use serde_json::Value;

pub struct ClusterTrustBundles;

impl Resource for ClusterTrustBundles {
    const NAMES: Names = Names::new("certificates.k8s.io", "v1", "ClusterTrustBundle", "clustertrustbundles", "clustertrustbundle");
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const COLUMNS: &'static [Column] = &[Column::NAME, Column::with("SignerName", |row| row.object["spec"]["signerName"].text().into())];
    const OWN_COLUMNS: bool = true;
    const NAME_RULE: NameRule = NameRule::PathSegment;
    const FIELDS: &'static [Field] = &[selectable("spec.signerName", "")];
    const GENERATION: bool = false;
    const UNCONDITIONAL_UPDATE: bool = false;
    fn validate(new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        let (name, signer) = (root.field("metadata.name"), root.field("spec.signerName"));
        // The name says which signer it is of: `example.com:signer:rest`.
        if signer.text().is_empty() {
            if name.text().contains(':') {
                errors.invalid(&name, "ClusterTrustBundle without signer name must not have \":\" in its name");
            }
        } else {
            signer::name(&mut errors, &signer);
            let prefix = format!("{}:", signer.text().replace('/', ":"));
            if !name.text().starts_with(&prefix) {
                errors.invalid(&name, format!("ClusterTrustBundle for signerName {} must be named with prefix {prefix}", signer.text()));
            }
        }
        let bundle = root.field("spec.trustBundle");
        if !bundle.text().contains("-----BEGIN CERTIFICATE-----") {
            errors.invalid_as(&bundle, "<value omitted>", "at least one trust anchor must be provided");
        }
        if let Some(old) = old {
            errors.immutable(&signer, &old["spec"]["signerName"]);
        }
        errors
    }
}
