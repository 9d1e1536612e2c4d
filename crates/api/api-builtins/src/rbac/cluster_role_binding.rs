//! ClusterRoleBinding: who has a role in all of a cluster.
use api_resource::{NameRule, Names, Resource, ResourceScope};

pub struct ClusterRoleBindings;

impl Resource for ClusterRoleBindings {
    const NAMES: Names = Names::new("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings", "clusterrolebinding");
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const NAME_RULE: NameRule = NameRule::PathSegment;
    const GENERATION: bool = false;
    const CREATE_ON_UPDATE: bool = true;
}
