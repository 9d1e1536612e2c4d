//! `cluster pause` and `cluster resume`.
use super::waiting::until_told;
use super::{MANAGER, Place, clusters};
use crate::names::PAUSED;
use anyhow::{Result, bail};
use api_client::is_not_found;
use clap::Args;
use command_line::{Connection, Session, texts};
use serde_json::json;
use std::time::Duration;

#[derive(Args, Clone, Debug)]
pub struct Life {
    name: String,
    #[command(flatten)]
    place: Place,
    /// How long to wait, e.g. 10s, 5m, 1h
    #[arg(long, default_value = "3m", value_parser = texts::duration)]
    timeout: Duration,
}

impl Life {
    pub async fn run(&self, connection: &Connection, pause: bool) -> Result<()> {
        let session = Session::open(connection, MANAGER).await?;
        let (name, namespace) = (&self.name, self.place.of(&self.name));
        let patch = json!({"metadata": {"annotations": {PAUSED: pause.then_some("true")}}});
        let cluster = match session.patch(&clusters(&namespace, name), &patch).await {
            Err(error) if is_not_found(&error) => bail!("cluster {name:?} not found in namespace {namespace:?}"),
            answer => answer?,
        };
        until_told(&session, cluster, self.timeout, |status| (status["paused"] == true) == pause && status["phase"] == if pause { "Paused" } else { "Ready" })
            .await?;
        eprintln!("Cluster '{name}' {}", if pause { "paused" } else { "resumed" });
        Ok(())
    }
}
