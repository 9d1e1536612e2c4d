//! ClusterRole: what may be done in a cluster.
use crate::cells::CREATED_AT;
use api_resource::{Column, NameRule, Names, Resource, ResourceScope};

pub struct ClusterRoles;

impl Resource for ClusterRoles {
    const NAMES: Names = Names::new("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles", "clusterrole");
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const COLUMNS: &'static [Column] = &[Column::NAME, CREATED_AT];
    const OWN_COLUMNS: bool = true;
    const NAME_RULE: NameRule = NameRule::PathSegment;
    const GENERATION: bool = false;
    const CREATE_ON_UPDATE: bool = true;
}
