//! ClusterTrustBundle: roots of trust, for all workloads.
use crate::fields::{Read, selectable};
use api_resource::{Column, Field, NameRule, Names, Resource, ResourceScope};

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
}
