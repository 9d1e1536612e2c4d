//! The kubelet's server against a real containerd: logs, exec, attach, port-forward, and who may come in.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

#[path = "../containerd/machine.rs"]
mod machine;

mod client;
mod commands;
mod logs;
mod ports;
mod stand;

use std::time::Duration;

/// One containerd for all of it, as starting one takes longer than any of these.
#[tokio::test(flavor = "multi_thread")]
async fn the_kubelets_server_serves_kubectls_protocols() {
    let stand = stand::Stand::start().await;
    let cases = async {
        stand::only_the_api_server_comes_in(&stand).await;
        logs::logs_are_read_and_followed(&stand).await;
        commands::web_sockets_carry_streams_and_the_outcome(&stand).await;
        commands::a_terminal_is_resized(&stand).await;
        commands::much_output_meets_slow_readers(&stand).await;
        commands::spdy_clients_are_tunneled(&stand).await;
        commands::attach_joins_the_running_process(&stand).await;
        commands::what_can_not_run_is_refused_before_the_upgrade(&stand).await;
        ports::ports_are_forwarded_over_every_protocol(&stand).await;
    };
    let outcome = futures::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(tokio::time::timeout(Duration::from_secs(120), cases))).await;
    stand.stop().await;
    match outcome {
        Ok(done) => done.expect("in time"),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}
