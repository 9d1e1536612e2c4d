//! Crashes: the controllers, ended between any two of their writes and started afresh, always come to the same end.
//!
//! They run in the test, as in the server, against a server that runs none. Nothing survives their end but what they wrote.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod cluster;
mod coverage;
mod devices;
mod drivers;
mod harness;
mod hosting;
mod mortal;
mod nodes;
mod services;
mod state;
mod storage;
mod story;
mod watching;
mod workloads;

use harness::survives_every_crash;
use story::Story;

/// Every story is a test of its own, and all of them together tell of every controller.
macro_rules! stories {
    ($($place:ident :: $name:ident,)*) => {
        mod told {
            $(
                #[test]
                fn $name() {
                    crate::survives_every_crash(&crate::$place::$name());
                }
            )*
        }
        const STORIES: &[fn() -> Story] = &[$($place::$name,)*];
    };
}

stories! {
    workloads::a_deployment_rolls_and_its_budget_follows,
    workloads::a_deployment_that_is_deleted_takes_all_with_it,
    workloads::a_deployment_leaves_orphans_that_another_adopts,
    workloads::a_stateful_set_keeps_its_order_and_its_claims,
    workloads::a_daemon_set_runs_on_every_node,
    workloads::an_indexed_job_counts_every_pod_once,
    workloads::a_finished_job_goes_in_its_time,
    workloads::pods_of_a_deleted_job_are_let_go,
    workloads::a_cron_job_starts_each_run_once_and_keeps_few,
    workloads::a_replication_controller_adopts_and_is_bounded_by_quota,
    workloads::an_autoscaler_lifts_what_is_too_small,
    services::a_service_follows_its_pods,
    services::endpoints_by_hand_are_mirrored,
    services::ranges_and_addresses_are_put_right,
    storage::a_claim_binds_its_volume_and_both_are_protected,
    storage::a_volume_is_attached_while_a_pod_needs_it,
    storage::a_pod_brings_its_claim_along,
    nodes::a_node_that_is_not_ready_loses_its_pods,
    nodes::a_machine_joins_and_leaves,
    nodes::finished_pods_are_few_and_a_disruption_is_taken_back,
    cluster::a_cluster_role_gathers_the_rules_of_others,
    cluster::a_namespace_goes_with_all_that_is_in_it,
    cluster::bootstrap_tokens_sign_and_end,
    cluster::custom_dependents_stay_or_go_as_is_asked_for,
    cluster::objects_are_stored_in_the_newest_version_alone,
    cluster::a_kept_token_is_filled_and_goes_with_its_account,
    cluster::a_token_nobody_asked_for_is_marked_and_goes,
    devices::a_claim_is_made_for_a_pod_and_goes_with_it,
    devices::a_pod_leaves_a_tainted_device_to_others,
    drivers::a_driver_makes_changes_and_takes_away_a_volume,
    hosting::a_project_has_its_namespace_and_what_bounds_it,
    hosting::a_virtual_cluster_is_served_kept_and_taken_away,
    hosting::a_policy_bounds_the_namespaces_bound_to_it,
}
