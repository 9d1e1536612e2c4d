//! Starts every controller and waits for their end.
use crate::{
    ControllersSettings, attach_detach, bootstrap_token, certificates, cluster_role_aggregation, cron_job, daemon_set, deployment, device_taint_eviction,
    disruption, endpoint_slice, endpoint_slice_mirroring, endpoints, ephemeral_volume, garbage_collector, horizontal_pod_autoscaler, job, namespace, node_dns,
    node_ipam, node_lifecycle, pod_gc, replica_set, resource_claim, resource_quota, root_ca, service_account, service_account_token, service_addresses,
    stateful_set, storage_version_migration, taint_eviction, volume_binder, volume_protection,
};
use controller_kit::{CancellationToken, Kit, Roster};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::ReplicationController;

/// Runs all controllers for all clusters until `shutdown`. Must be called inside a tokio runtime.
pub async fn run(settings: ControllersSettings, kit: Kit, shutdown: CancellationToken) {
    roster(&settings, &kit, shutdown).run().await;
}

/// All controllers that run with these settings. Must be called inside a tokio runtime.
pub fn roster(settings: &ControllersSettings, kit: &Kit, shutdown: CancellationToken) -> Roster {
    let mut all = Roster::new(shutdown.clone());
    all.add(replica_set::runner::<ReplicaSet>(kit));
    all.add(replica_set::runner::<ReplicationController>(kit));
    all.add(deployment::runner(kit));
    all.add(stateful_set::runner(kit));
    all.add(daemon_set::runner(kit));
    all.add(job::runner(kit));
    all.add(job::orphans::runner(kit));
    all.add(job::ttl::runner(kit));
    all.add(disruption::runner(kit));
    all.add(disruption::stale::runner(kit));
    all.add(horizontal_pod_autoscaler::runner(kit));
    all.add(cron_job::runner(kit));
    all.add(resource_quota::runner(kit));
    all.add(volume_binder::claims::runner(kit));
    all.add(volume_binder::volumes::runner(kit));
    all.add(attach_detach::attach::runner(kit));
    all.add(attach_detach::detach::runner(kit));
    all.add(ephemeral_volume::runner(kit));
    all.add(resource_claim::pods::runner(kit));
    all.add(resource_claim::claims::runner(kit));
    all.add(device_taint_eviction::runner(kit));
    all.add(bootstrap_token::cleaner::runner(kit));
    all.add(bootstrap_token::signer::runner(kit));
    all.add(volume_protection::claim_runner(kit));
    all.add(volume_protection::volume_runner(kit));
    all.add(volume_protection::attributes_class::runner(kit));
    all.add(endpoint_slice_mirroring::runner(kit));
    all.add(cluster_role_aggregation::runner(kit));
    all.add(namespace::runner(kit));
    all.add(service_account::runner(kit));
    all.add(root_ca::runner(kit, settings.root_ca_pem.clone()));
    all.add(endpoint_slice::runner(kit, settings.max_endpoints_per_slice));
    all.add(endpoints::runner(kit));
    all.add(storage_version_migration::runner(kit));
    all.add(service_addresses::ranges::runner(kit));
    all.add(service_addresses::services::runner(kit));
    all.add(service_addresses::addresses::runner(kit));
    all.add_special(garbage_collector::NAME, garbage_collector::run(kit.clone(), shutdown));
    all.add(node_lifecycle::runner(kit, settings.node_monitor_grace_period));
    all.add(taint_eviction::runner(kit));
    all.add(pod_gc::runner(kit, settings.terminated_pod_gc_threshold));
    if let Some(signer) = &settings.signer {
        all.add(certificates::runner(kit, signer.clone(), settings));
        all.add(certificates::node_keys(kit));
    }
    if let Some(signer) = &settings.token_signer {
        all.add(service_account_token::runner(kit, signer.clone(), settings.root_ca_pem.clone()));
        all.add(service_account_token::tracking::runner(kit));
        all.add(service_account_token::cleaner::runner(kit, settings.legacy_token_clean_up_period));
    }
    if !settings.node_ranges.is_empty() {
        all.add(node_ipam::runner(kit, settings.node_ranges.clone()));
    }
    if let Some(port) = settings.dns_port {
        all.add(node_dns::runner(kit, port, settings.own_node.clone()));
    }
    all
}
