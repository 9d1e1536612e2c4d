//! `cluster snapshot create|list|delete|restore`.
use super::waiting::{until_taken, until_told};
use super::{MANAGER, Place, clusters};
use crate::names::{RESTORE_AT, RESTORE_FROM};
use anyhow::{Result, bail};
use api_client::is_not_found;
use clap::Subcommand;
use clock::{Clock, SystemClock};
use command_line::output::{self, Format};
use command_line::{Connection, Session, texts};
use serde_json::json;
use std::time::Duration;

#[derive(Subcommand, Clone, Debug)]
pub enum SnapshotCommand {
    /// Take a snapshot of a cluster, and print its name
    Create {
        cluster: String,
        /// The snapshot's name [default: the cluster's, with the time]
        name: Option<String>,
        #[command(flatten)]
        place: Place,
        /// How long to wait, e.g. 10s, 5m, 1h
        #[arg(long, default_value = "3m", value_parser = texts::duration)]
        timeout: Duration,
    },
    /// List the snapshots
    List {
        /// Only those in this cluster's namespace
        cluster: Option<String>,
        #[command(flatten)]
        place: Place,
        #[arg(long, short = 'o')]
        output: Option<Format>,
    },
    /// Delete a snapshot
    Delete {
        cluster: String,
        name: String,
        #[command(flatten)]
        place: Place,
    },
    /// Have a cluster hold what a snapshot holds, and nothing else
    Restore {
        cluster: String,
        name: String,
        #[command(flatten)]
        place: Place,
        /// How long to wait, e.g. 10s, 5m, 1h
        #[arg(long, default_value = "3m", value_parser = texts::duration)]
        timeout: Duration,
    },
}

fn snapshots(namespace: &str) -> String {
    format!("/apis/k8shost.io/v1/namespaces/{namespace}/clustersnapshots")
}

impl SnapshotCommand {
    pub async fn run(self, connection: &Connection) -> Result<()> {
        let session = Session::open(connection, MANAGER).await?;
        match self {
            Self::Create { cluster, name, place, timeout } => {
                let collection = snapshots(&place.of(&cluster));
                let name = name.unwrap_or_else(|| format!("{cluster}-{}", SystemClock.now().strftime("%Y%m%d%H%M%S")));
                let object = json!({"apiVersion": "k8shost.io/v1", "kind": "ClusterSnapshot", "metadata": {"name": name}, "spec": {"clusterName": cluster}});
                match session.get(&clusters(&place.of(&cluster), &cluster)).await {
                    Err(error) if is_not_found(&error) => bail!("cluster {cluster:?} not found in namespace {:?}", place.of(&cluster)),
                    found => found?,
                };
                let made = session.create(&collection, &object).await?;
                let taken = until_taken(&session, &collection, made, timeout).await?;
                eprintln!("Snapshot '{name}' holds {} objects of cluster '{cluster}'", taken["status"]["objects"]);
                println!("{name}");
                Ok(())
            }
            Self::List { cluster, place, output } => {
                let namespace = cluster.map(|cluster| place.of(&cluster)).or(place.namespace);
                let path = namespace.map_or_else(|| "/apis/k8shost.io/v1/clustersnapshots".to_owned(), |namespace| snapshots(&namespace));
                output::list(&session, &path, "clustersnapshot.k8shost.io", &[], output).await
            }
            Self::Delete { cluster, name, place } => {
                let namespace = place.of(&cluster);
                match session.delete(&format!("{}/{name}", snapshots(&namespace))).await {
                    Err(error) if is_not_found(&error) => bail!("snapshot {name:?} not found in namespace {namespace:?}"),
                    answer => answer?,
                };
                eprintln!("Snapshot '{name}' deleted");
                Ok(())
            }
            Self::Restore { cluster, name, place, timeout } => {
                let namespace = place.of(&cluster);
                match session.get(&format!("{}/{name}", snapshots(&namespace))).await {
                    Err(error) if is_not_found(&error) => bail!("snapshot {name:?} not found in namespace {namespace:?}"),
                    found => found?,
                };
                // Asked for again, it is restored again.
                let at = SystemClock.now().to_string();
                let patch = json!({"metadata": {"annotations": {RESTORE_FROM: name, RESTORE_AT: at}}});
                let patched = match session.patch(&clusters(&namespace, &cluster), &patch).await {
                    Err(error) if is_not_found(&error) => bail!("cluster {cluster:?} not found in namespace {namespace:?}"),
                    answer => answer?,
                };
                let wanted = format!("{name}@{at}");
                until_told(&session, patched, timeout, |status| status["restoredFrom"] == *wanted).await?;
                eprintln!("Cluster '{cluster}' restored from snapshot '{name}'");
                Ok(())
            }
        }
    }
}
