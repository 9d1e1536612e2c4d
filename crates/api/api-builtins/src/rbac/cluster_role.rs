//! ClusterRole: what may be done in a cluster.
use api_resource::{NameRule, Names, Resource, ResourceScope};

pub struct ClusterRoles;

impl Resource for ClusterRoles {
    const NAMES: Names = Names::new("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles", "clusterrole");
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const NAME_RULE: NameRule = NameRule::PathSegment;
    const GENERATION: bool = false;
    const CREATE_ON_UPDATE: bool = true;
}
