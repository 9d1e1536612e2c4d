//! k8shost: Kubernetes hosting in one binary. Reads arguments, starts components; no logic of its own.
mod certificates;
mod cli;
mod component_clients;
mod kubeconfig;
mod notify;
mod server;
mod store_source;

use std::process::ExitCode;

fn main() -> ExitCode {
    // A container runtime calls this binary by its plugin name for every pod: before anything else is set up.
    if prismnet::cni::is_invoked() {
        return prismnet::cni::main();
    }
    cli::main()
}
