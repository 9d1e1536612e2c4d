//! The commands for virtual clusters and policies, with k3kcli's names and flags.
mod cluster;
mod custom_certificates;
mod dump;
mod kubeconfig;
mod life;
mod policy;
mod snapshot;
mod transfer;
mod waiting;

pub use cluster::ClusterCommand;
pub use kubeconfig::KubeconfigCommand;
pub use policy::PolicyCommand;

use clap::Args;
use std::path::PathBuf;

/// Who writes, in managed fields.
const MANAGER: &str = "k3kcli";

/// Where a Cluster is.
#[derive(Args, Clone, Debug)]
pub struct Place {
    /// The namespace of the Cluster [default: k3k-NAME]
    #[arg(long, short = 'n')]
    namespace: Option<String>,
}

impl Place {
    fn of(&self, name: &str) -> String {
        self.namespace.clone().unwrap_or_else(|| format!("k3k-{name}"))
    }
}

/// Where a kubeconfig goes.
#[derive(Args, Clone, Debug)]
pub struct KubeconfigOutput {
    /// Write the kubeconfig to this file instead of printing it
    #[arg(long, value_name = "FILE", alias = "config-name")]
    kubeconfig_output: Option<PathBuf>,
    /// The server's HOST or HOST:PORT in the kubeconfig [default: as in the kubeconfig that this command uses]
    #[arg(long, value_name = "HOST")]
    kubeconfig_server: Option<String>,
}

/// The path of Clusters in a namespace, or of one of them.
pub fn clusters(namespace: &str, name: &str) -> String {
    let slash = if name.is_empty() { "" } else { "/" };
    format!("/apis/k3k.io/v1beta1/namespaces/{namespace}/clusters{slash}{name}")
}
