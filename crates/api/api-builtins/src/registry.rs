//! The registry: every built-in kind, one line each, in the order discovery lists the groups.
use crate::{
    admissionregistration, apiextensions, apiregistration, apps, autoscaling, batch, certificates, coordination, core, discovery, flowcontrol, networking, node, policy, rbac,
    resource, reviews, scheduling, storage,
};
use api_resource::AnyResource;

/// Every built-in kind. No two have the same group and plural.
pub static BUILTINS: &[&dyn AnyResource] = &[
    &core::Namespaces,
    &core::Nodes,
    &core::Pods,
    &core::Services,
    &core::ConfigMaps,
    &core::Secrets,
    &core::ServiceAccounts,
    &core::Endpoints,
    &core::Events,
    &core::PersistentVolumes,
    &core::PersistentVolumeClaims,
    &core::ReplicationControllers,
    &core::ResourceQuotas,
    &core::LimitRanges,
    &core::PodTemplates,
    &core::Bindings,
    &apps::Deployments,
    &apps::ReplicaSets,
    &apps::StatefulSets,
    &apps::DaemonSets,
    &apps::ControllerRevisions,
    &batch::Jobs,
    &batch::CronJobs,
    &autoscaling::HorizontalPodAutoscalers,
    &policy::PodDisruptionBudgets,
    &coordination::Leases,
    &discovery::EndpointSlices,
    &networking::Ingresses,
    &networking::IngressClasses,
    &networking::NetworkPolicies,
    &networking::IPAddresses,
    &networking::ServiceCIDRs,
    &rbac::Roles,
    &rbac::RoleBindings,
    &rbac::ClusterRoles,
    &rbac::ClusterRoleBindings,
    &scheduling::PriorityClasses,
    &storage::StorageClasses,
    &storage::CSIDrivers,
    &storage::CSINodes,
    &storage::CSIStorageCapacities,
    &storage::VolumeAttachments,
    &storage::VolumeAttributesClasses,
    &node::RuntimeClasses,
    &admissionregistration::MutatingWebhookConfigurations,
    &admissionregistration::ValidatingWebhookConfigurations,
    &admissionregistration::ValidatingAdmissionPolicies,
    &admissionregistration::ValidatingAdmissionPolicyBindings,
    &admissionregistration::MutatingAdmissionPolicies,
    &admissionregistration::MutatingAdmissionPolicyBindings,
    &certificates::CertificateSigningRequests,
    &certificates::ClusterTrustBundles,
    &flowcontrol::FlowSchemas,
    &flowcontrol::PriorityLevelConfigurations,
    &resource::DeviceClasses,
    &resource::ResourceClaims,
    &resource::ResourceClaimTemplates,
    &resource::ResourceSlices,
    &apiextensions::CustomResourceDefinitions,
    &apiregistration::APIServices,
    &reviews::TokenReviews,
    &reviews::SelfSubjectReviews,
    &reviews::SubjectAccessReviews,
    &reviews::SelfSubjectAccessReviews,
    &reviews::SelfSubjectRulesReviews,
    &reviews::LocalSubjectAccessReviews,
];

/// The built-in of this group, version and plural.
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static dyn AnyResource> {
    BUILTINS.iter().copied().find(|resource| {
        let names = resource.names();
        names.plural == plural && names.group == group && names.version == version
    })
}
