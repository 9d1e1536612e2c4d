//! Starts every controller and waits for their end.
use crate::{
    ControllersSettings, attach_detach, bootstrap_token, certificates, cluster_role_aggregation, cron_job, daemon_set, deployment, disruption, endpoint_slice,
    endpoint_slice_mirroring, endpoints, ephemeral_volume, garbage_collector, horizontal_pod_autoscaler, job, namespace, node_dns, node_ipam, node_lifecycle,
    pod_gc, replica_set, resource_quota, root_ca, service_account, stateful_set, taint_eviction, volume_binder, volume_protection,
};
use controller_kit::{CancellationToken, Kit};
use futures::future::{BoxFuture, FutureExt, join_all};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::ReplicationController;

/// Runs all controllers for all clusters until `shutdown`. Must be called inside a tokio runtime.
pub async fn run(settings: ControllersSettings, kit: Kit, shutdown: CancellationToken) {
    let stop = || shutdown.clone();
    let mut all: Vec<BoxFuture<'static, ()>> = vec![
        replica_set::runner::<ReplicaSet>(&kit).run(stop()).boxed(),
        replica_set::runner::<ReplicationController>(&kit).run(stop()).boxed(),
        deployment::runner(&kit).run(stop()).boxed(),
        stateful_set::runner(&kit).run(stop()).boxed(),
        daemon_set::runner(&kit).run(stop()).boxed(),
        job::runner(&kit).run(stop()).boxed(),
        job::orphans::runner(&kit).run(stop()).boxed(),
        job::ttl::runner(&kit).run(stop()).boxed(),
        disruption::runner(&kit).run(stop()).boxed(),
        disruption::stale::runner(&kit).run(stop()).boxed(),
        horizontal_pod_autoscaler::runner(&kit).run(stop()).boxed(),
        cron_job::runner(&kit).run(stop()).boxed(),
        resource_quota::runner(&kit).run(stop()).boxed(),
        volume_binder::claims::runner(&kit).run(stop()).boxed(),
        volume_binder::volumes::runner(&kit).run(stop()).boxed(),
        attach_detach::attach::runner(&kit).run(stop()).boxed(),
        attach_detach::detach::runner(&kit).run(stop()).boxed(),
        ephemeral_volume::runner(&kit).run(stop()).boxed(),
        bootstrap_token::cleaner::runner(&kit).run(stop()).boxed(),
        bootstrap_token::signer::runner(&kit).run(stop()).boxed(),
        volume_protection::claim_runner(&kit).run(stop()).boxed(),
        volume_protection::volume_runner(&kit).run(stop()).boxed(),
        volume_protection::attributes_class::runner(&kit).run(stop()).boxed(),
        endpoint_slice_mirroring::runner(&kit).run(stop()).boxed(),
        cluster_role_aggregation::runner(&kit).run(stop()).boxed(),
        namespace::runner(&kit).run(stop()).boxed(),
        service_account::runner(&kit).run(stop()).boxed(),
        root_ca::runner(&kit, settings.root_ca_pem.clone()).run(stop()).boxed(),
        endpoint_slice::runner(&kit, settings.max_endpoints_per_slice).run(stop()).boxed(),
        endpoints::runner(&kit).run(stop()).boxed(),
        garbage_collector::run(kit.clone(), stop()).boxed(),
        node_lifecycle::runner(&kit, settings.node_monitor_grace_period).run(stop()).boxed(),
        taint_eviction::runner(&kit).run(stop()).boxed(),
        pod_gc::runner(&kit, settings.terminated_pod_gc_threshold).run(stop()).boxed(),
    ];
    if let Some(signer) = &settings.signer {
        all.push(certificates::runner(&kit, signer.clone(), &settings).run(stop()).boxed());
        all.push(certificates::node_keys(&kit).run(stop()).boxed());
    }
    if let Some(ranges) = &settings.node_ranges {
        all.push(node_ipam::runner(&kit, ranges.clone()).run(stop()).boxed());
    }
    if let Some(port) = settings.dns_port {
        all.push(node_dns::runner(&kit, port, settings.own_node.clone()).run(stop()).boxed());
    }
    join_all(all.into_iter().map(tokio::spawn)).await;
}
