//! k8shost: Kubernetes hosting in one binary. Reads arguments, starts components; no logic of its own.
mod agent;
mod api_arguments;
mod balancing;
mod behind;
mod certificates;
mod cli;
mod cloud_apis;
mod component_clients;
mod device_selectors;
mod fiberlb_alone;
mod flashdns_alone;
mod iam_link;
mod iam_server;
mod iam_service;
mod joining;
mod kubeconfig;
mod lightningstor_alone;
mod node;
mod notify;
mod own_driver;
mod pod_network;
mod prismnet_alone;
mod renewal;
mod review_webhook;
mod secrets_encrypt;
mod secrets_keys;
mod server;
mod server_hosting;
mod service_alone;
mod storage;
mod store_source;
mod token;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Every request makes and drops hundreds of small values, on all threads: glibc's arenas spent a third of a create on that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // A container runtime calls this binary by its plugins' names for every pod: before anything else is set up.
    let name = std::env::args_os().next().map(PathBuf::from);
    if name.as_deref().and_then(Path::file_name).is_some_and(|name| name == "prismnet" || name == "loopback") {
        return ExitCode::from(u8::try_from(prismnet::cni::run()).unwrap_or(1));
    }
    cli::main()
}
