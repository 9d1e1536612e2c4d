//! ClusterTrustBundle: roots of trust, for all workloads.
use crate::fields::selectable;
use api_resource::{Field, NameRule, Names, Resource, ResourceScope};

pub struct ClusterTrustBundles;

impl Resource for ClusterTrustBundles {
    const NAMES: Names = Names::new("certificates.k8s.io", "v1", "ClusterTrustBundle", "clustertrustbundles", "clustertrustbundle");
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const NAME_RULE: NameRule = NameRule::PathSegment;
    const FIELDS: &'static [Field] = &[selectable("spec.signerName", "")];
    const GENERATION: bool = false;
    const UNCONDITIONAL_UPDATE: bool = false;
}
