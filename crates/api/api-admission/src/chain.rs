//! AdmissionChain: the plugins in upstream's order, first those that change, then those that refuse.
use crate::plugins::{
    certificate_approval::CertificateApproval, certificate_signing::CertificateSigning, certificate_subject_restriction::CertificateSubjectRestriction,
    cluster_trust_bundle_attest::ClusterTrustBundleAttest, default_ingress_class::DefaultIngressClass, default_storage_class::DefaultStorageClass,
    default_toleration_seconds::DefaultTolerationSeconds, device_admin_access::DeviceAdminAccess, limit_ranger::LimitRanger,
    namespace_lifecycle::NamespaceLifecycle, node_restriction::NodeRestriction, owner_references_permission_enforcement::OwnerReferencesPermissionEnforcement,
    persistent_volume_claim_resize::PersistentVolumeClaimResize, pod_security::PodSecurity, pod_topology_labels::PodTopologyLabels, priority::Priority,
    project_objects::ProjectObjects, resource_quota::ResourceQuota, runtime_class::RuntimeClass, service_account::ServiceAccount,
    storage_object_in_use_protection::StorageObjectInUseProtection, taint_nodes_by_condition::TaintNodesByCondition, virtual_cluster::VirtualCluster,
};
use crate::policy::{MutatingAdmissionPolicyPlugin, ValidatingAdmissionPolicyPlugin};
use crate::webhook::{MutatingAdmissionWebhook, ValidatingAdmissionWebhook};
use crate::{AdmissionRequest, Registry};
use api_meta::Status;
use api_resource::Lookup;
use async_trait::async_trait;
use std::sync::Arc;

/// One admission plugin. Either half may be left out.
#[async_trait]
pub trait Plugin: Send + Sync {
    /// Upstream's name for it.
    fn name(&self) -> &'static str;
    /// Changes the request's object, or refuses it.
    async fn mutate(&self, _request: &mut AdmissionRequest<'_>, _lookup: &dyn Lookup) -> Result<(), Status> {
        Ok(())
    }
    /// Refuses the request, or adds warnings. Must not change the object.
    async fn validate(&self, _request: &mut AdmissionRequest<'_>, _lookup: &dyn Lookup) -> Result<(), Status> {
        Ok(())
    }
}

pub struct AdmissionChain {
    plugins: Vec<Box<dyn Plugin>>,
    registry: Arc<Registry>,
}

impl AdmissionChain {
    /// The plugins that are on by default upstream, and PodSecurity's privileged default; NodeRestriction is on too.
    pub fn upstream_defaults() -> Self {
        let registry = Arc::new(Registry::default());
        let plugins: Vec<Box<dyn Plugin>> = vec![
            Box::new(NamespaceLifecycle),
            Box::new(LimitRanger),
            Box::new(ServiceAccount),
            Box::new(NodeRestriction),
            Box::new(TaintNodesByCondition),
            Box::new(PodSecurity::default()),
            Box::new(VirtualCluster),
            Box::new(ProjectObjects),
            Box::new(Priority),
            Box::new(DefaultTolerationSeconds),
            Box::new(DefaultStorageClass),
            Box::new(StorageObjectInUseProtection),
            Box::new(PersistentVolumeClaimResize),
            Box::new(RuntimeClass),
            Box::new(CertificateApproval),
            Box::new(CertificateSigning),
            Box::new(ClusterTrustBundleAttest),
            Box::new(CertificateSubjectRestriction),
            Box::new(DefaultIngressClass),
            Box::new(PodTopologyLabels),
            Box::new(DeviceAdminAccess),
            Box::new(MutatingAdmissionPolicyPlugin::new(registry.clone())),
            Box::new(MutatingAdmissionWebhook::new(registry.clone())),
            Box::new(ValidatingAdmissionPolicyPlugin::new(registry.clone())),
            Box::new(ValidatingAdmissionWebhook::new(registry.clone())),
            // Last, so that nothing is charged for what another refuses.
            Box::new(ResourceQuota::default()),
        ];
        Self { plugins, registry }
    }

    /// Turns plugins on or off by upstream's names (`--enable-admission-plugins`, `--disable-admission-plugins`).
    /// The error names one that is not known.
    pub fn with(mut self, enabled: &[String], disabled: &[String]) -> Result<Self, String> {
        for name in enabled {
            if self.plugins.iter().any(|plugin| plugin.name() == name) {
                continue;
            }
            match name.as_str() {
                // Before what must come last.
                "OwnerReferencesPermissionEnforcement" => {
                    let last = self.plugins.len().saturating_sub(1);
                    self.plugins.insert(last, Box::new(OwnerReferencesPermissionEnforcement));
                }
                other => return Err(format!("enable-admission-plugins plugin {other:?} is unknown")),
            }
        }
        for name in disabled {
            if !self.plugins.iter().any(|plugin| plugin.name() == name) && name != "OwnerReferencesPermissionEnforcement" {
                return Err(format!("disable-admission-plugins plugin {name:?} is unknown"));
            }
            if matches!(name.as_str(), "VirtualCluster" | "ProjectObjects" | "DeviceAdminAccess") {
                return Err(format!("disable-admission-plugins plugin {name:?} can't be turned off"));
            }
            if enabled.contains(name) {
                return Err(format!("{name:?} in enable-admission-plugins and disable-admission-plugins overlapped"));
            }
            self.plugins.retain(|plugin| plugin.name() != name);
        }
        Ok(self)
    }

    pub fn of(plugins: Vec<Box<dyn Plugin>>) -> Self {
        Self { plugins, registry: Arc::default() }
    }

    /// The webhooks and policies in force. Whoever owns the chain keeps it as the store has them.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    pub fn names(&self) -> Vec<&'static str> {
        self.plugins.iter().map(|plugin| plugin.name()).collect()
    }

    pub async fn mutate(&self, request: &mut AdmissionRequest<'_>, lookup: &dyn Lookup) -> Result<(), Status> {
        for plugin in &self.plugins {
            plugin.mutate(request, lookup).await?;
        }
        // What webhooks or policies changed is shown once more to all that may have to change it again.
        if request.reinvocation.wanted {
            request.reinvocation.second = true;
            for plugin in &self.plugins {
                plugin.mutate(request, lookup).await?;
            }
        }
        Ok(())
    }

    pub async fn validate(&self, request: &mut AdmissionRequest<'_>, lookup: &dyn Lookup) -> Result<(), Status> {
        for plugin in &self.plugins {
            plugin.validate(request, lookup).await?;
        }
        Ok(())
    }
}
