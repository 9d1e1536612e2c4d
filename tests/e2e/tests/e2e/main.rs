//! End to end: real clusters with real containers, used as people use them, through kubectl and helm.
mod apply;
mod balancer_alone;
mod balancers;
mod balancing_machines;
mod cloud_apis;
mod crash;
mod deployments;
mod device_driver;
mod devices;
mod dns;
mod example;
mod families;
mod helm;
mod iam_calls;
mod jobs;
mod machines;
mod network_alone;
mod network_api;
mod network_policies;
mod pod_failures;
mod pod_lifecycle;
mod pod_settings;
mod pod_volumes;
mod renewal;
mod scenarios;
mod service_alone;
mod services;
mod specification;
mod stop;
mod storage;
mod storage_attributes;
mod storage_crash;
mod storage_machines;
mod storage_snapshots;
mod streams;
mod third_party_driver;
mod top;
mod unprivileged;
mod virtual_clusters;
mod volumes_alone;
mod workloads;

use std::time::Duration;

/// Long enough for anything that is expected on a busy machine.
const SOON: Duration = Duration::from_secs(90);
