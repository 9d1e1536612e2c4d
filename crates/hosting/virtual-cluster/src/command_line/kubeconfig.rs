//! `kubeconfig generate`: a cluster's kubeconfig, as it is reached from here.
use super::clusters;
use super::waiting::until_ready;
use super::{KubeconfigOutput, MANAGER, Place};
use crate::{kubeconfig, names};
use anyhow::{Context, Result, bail};
use api_client::is_not_found;
use api_meta::ClusterName;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Subcommand;
use command_line::Connection;
use command_line::Session;
use std::time::Duration;

/// As long as it is waited for a cluster that is being made.
const TIMEOUT: Duration = Duration::from_mins(3);
/// What can be read by its owner alone.
const SECRET_FILE: u32 = 0o600;

#[derive(Subcommand, Clone, Debug)]
pub enum KubeconfigCommand {
    /// Print a cluster's kubeconfig
    Generate {
        /// The cluster's name
        name: Option<String>,
        #[arg(long = "name", value_name = "NAME", hide = true, conflicts_with = "name")]
        name_flag: Option<String>,
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        output: KubeconfigOutput,
        /// Client certificates have no use for other names
        #[arg(long = "altNames", value_delimiter = ',', hide = true)]
        alternative_names: Vec<String>,
        #[arg(long, hide = true)]
        cn: Option<String>,
        #[arg(long, value_delimiter = ',', hide = true)]
        org: Vec<String>,
        #[arg(long, hide = true)]
        expiration_days: Option<u32>,
    },
}

impl KubeconfigCommand {
    pub async fn run(self, connection: &Connection) -> Result<()> {
        let Self::Generate { name, name_flag, place, output, alternative_names: _, cn, org, expiration_days } = self;
        if cn.is_some() || !org.is_empty() || expiration_days.is_some() {
            bail!("the certificate in the kubeconfig is the administrator's and is renewed by the server; for others, use service accounts of the cluster");
        }
        let name = name.or(name_flag).context("expected exactly one cluster name")?;
        let session = Session::open(connection, MANAGER).await?;
        let namespace = place.of(&name);
        let cluster = match session.get(&clusters(&namespace, &name)).await {
            Err(error) if is_not_found(&error) => bail!("cluster {name:?} not found in namespace {namespace:?}"),
            found => found?,
        };
        until_ready(&session, cluster, TIMEOUT).await?;
        hand_out(&session, &namespace, &name, &output).await
    }
}

/// The kubeconfig of a cluster that is ready, as its Secret holds it.
async fn kubeconfig_of(session: &Session, namespace: &str, name: &str) -> Result<String> {
    let secret = session.get(&format!("/api/v1/namespaces/{namespace}/secrets/{}", names::kubeconfig(name))).await;
    let secret = secret.with_context(|| format!("the kubeconfig of cluster {name:?} in namespace {namespace:?}"))?;
    let text = secret["data"][kubeconfig::KEY].as_str().and_then(|text| String::from_utf8(STANDARD.decode(text).ok()?).ok());
    text.context("the cluster's Secret holds no kubeconfig")
}

/// The same by the cluster's path, at another HOST or HOST:PORT than this session's if one is given.
pub(super) async fn kubeconfig_by_path(session: &Session, namespace: &str, name: &str, server: Option<&str>) -> Result<String> {
    let cluster = ClusterName::hosted(namespace, name).map_err(anyhow::Error::msg)?;
    Ok(kubeconfig::at_server(&kubeconfig_of(session, namespace, name).await?, &host(server, &session.server), &cluster))
}

/// Prints or writes the kubeconfig of a cluster that is ready.
pub(super) async fn hand_out(session: &Session, namespace: &str, name: &str, output: &KubeconfigOutput) -> Result<()> {
    let text = kubeconfig_of(session, namespace, name).await?;
    // A name it is exposed by is the same wherever one is.
    let text = match output.kubeconfig_server.as_deref() {
        None if kubeconfig::is_by_name(&text) => text,
        server => kubeconfig_by_path(session, namespace, name, server).await?,
    };
    match &output.kubeconfig_output {
        Some(path) => {
            pki::write_atomically(path, text.as_bytes(), SECRET_FILE).with_context(|| format!("writing the kubeconfig {path:?}"))?;
            eprintln!("You can start using the cluster with:\n\n\texport KUBECONFIG={}\n\tkubectl cluster-info", path.display());
        }
        None => print!("{text}"),
    }
    Ok(())
}

/// The host of a flag, with this server's port unless it names one; without a flag this server.
fn host(flag: Option<&str>, server: &str) -> String {
    let port = server.rsplit_once(':').map_or("443", |(_, port)| port);
    match flag {
        None => server.to_owned(),
        Some(host) if host.starts_with('[') && !host.contains("]:") => format!("{host}:{port}"),
        Some(host) if host.matches(':').count() > 1 && !host.starts_with('[') => format!("[{host}]:{port}"),
        Some(host) if host.contains(':') => host.to_owned(),
        Some(host) => format!("{host}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_keeps_its_port_or_gets_the_servers() {
        for (flag, expected) in [
            (None, "127.0.0.1:6443"),
            (Some("api.example.com"), "api.example.com:6443"),
            (Some("api.example.com:443"), "api.example.com:443"),
            (Some("fd00::1"), "[fd00::1]:6443"),
            (Some("[fd00::1]"), "[fd00::1]:6443"),
            (Some("[fd00::1]:443"), "[fd00::1]:443"),
        ] {
            assert_eq!(host(flag, "127.0.0.1:6443"), expected);
        }
    }
}
