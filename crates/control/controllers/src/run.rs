//! Starts every controller and waits for their end.
use crate::{ControllersSettings, deployment, replica_set};
use controller_kit::{CancellationToken, Kit};
use futures::future::{BoxFuture, FutureExt, join_all};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::ReplicationController;

/// Runs all controllers for all clusters until `shutdown`. Must be called inside a tokio runtime.
pub async fn run(settings: ControllersSettings, kit: Kit, shutdown: CancellationToken) {
    let stop = || shutdown.clone();
    let all: Vec<BoxFuture<'static, ()>> = vec![
        replica_set::runner::<ReplicaSet>(&kit).run(stop()).boxed(),
        replica_set::runner::<ReplicationController>(&kit).run(stop()).boxed(),
        deployment::runner(&kit).run(stop()).boxed(),
    ];
    let _ = &settings;
    join_all(all.into_iter().map(tokio::spawn)).await;
}
