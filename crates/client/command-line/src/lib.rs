//! What the commands that talk to a server have in common: the kubeconfig, requests, lists as tables, values of flags.
pub mod output;
mod session;
pub mod texts;

pub use session::Session;

use clap::Args;
use std::path::PathBuf;

/// What every command takes.
#[derive(Args, Clone, Debug)]
pub struct Connection {
    /// The kubeconfig to use [default: $KUBECONFIG, then /etc/k8shost/kubeconfig.yaml]
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
}
