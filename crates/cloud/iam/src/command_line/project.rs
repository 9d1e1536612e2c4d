//! `iam project create|list|rename|move|delete`.
use super::Listing;
use super::references::{collection, id, organization, own_name, path, project};
use anyhow::{Context, Result, bail};
use clap::Subcommand;
use command_line::{Session, texts};
use serde_json::{Value, json};
use std::time::Duration;

/// How often a project is looked at while it is waited for.
const LOOK: Duration = Duration::from_millis(50);

#[derive(Subcommand, Clone, Debug)]
pub enum ProjectCommand {
    /// Create a project and its namespace; prints its id
    Create {
        name: String,
        /// The organisation it belongs to
        #[arg(long)]
        org: String,
        /// The id [default: proj- and a UUID]
        #[arg(long)]
        id: Option<String>,
        /// Give it a cluster of its own instead of a namespace of the host's
        #[arg(long)]
        virtual_cluster: bool,
        /// Let its pods reach the namespace that the organisation's projects share
        #[arg(long)]
        org_shared: bool,
        /// How long its namespace stays after it is deleted
        #[arg(long, default_value = "5m", value_parser = texts::duration)]
        grace_period: Duration,
        /// How long to wait until it can be used
        #[arg(long, default_value = "1m", value_parser = texts::duration)]
        timeout: Duration,
    },
    /// List the projects
    List {
        #[command(flatten)]
        listing: Listing,
    },
    /// Call a project something else
    Rename { project: String, name: String },
    /// Give a project to another organisation; nobody of the old one keeps a role in it
    Move {
        project: String,
        #[arg(long)]
        org: String,
    },
    /// Delete a project, and its namespace after the time of grace
    Delete {
        project: String,
        /// Instead of the project's own
        #[arg(long, value_parser = texts::duration)]
        grace_period: Option<Duration>,
    },
}

impl ProjectCommand {
    pub async fn run(self, session: &Session) -> Result<()> {
        match self {
            Self::Create { name, org, id, virtual_cluster, org_shared, grace_period, timeout } => {
                let id = id.unwrap_or_else(|| format!("proj-{}", uuid::Uuid::new_v4()));
                let object = json!({
                    "apiVersion": "iam.plasmacloud.io/v1", "kind": "Project", "metadata": {"name": id},
                    "spec": {
                        "displayName": name, "organization": organization(session, &org).await?, "createdBy": own_name(session).await?,
                        "virtualCluster": virtual_cluster, "orgShared": org_shared, "deletionGracePeriodSeconds": grace_period.as_secs(),
                    },
                });
                session.create(&collection("projects"), &object).await?;
                let ready = tokio::time::timeout(timeout, until_active(session, &id)).await;
                ready.with_context(|| format!("project {id:?} was made, but is not ready in time"))??;
                println!("{id}");
            }
            Self::List { listing } => listing.show(session, "projects", "project").await?,
            Self::Rename { project: found, name } => {
                let id = id(&project(session, &found).await?);
                session.patch(&path("projects", &id), &json!({"spec": {"displayName": name}})).await?;
                eprintln!("Project '{id}' renamed");
            }
            Self::Move { project: found, org } => {
                let id = id(&project(session, &found).await?);
                session.patch(&path("projects", &id), &json!({"spec": {"organization": organization(session, &org).await?}})).await?;
                eprintln!("Project '{id}' moved");
            }
            Self::Delete { project: found, grace_period } => {
                let id = id(&project(session, &found).await?);
                if let Some(grace) = grace_period {
                    session.patch(&path("projects", &id), &json!({"spec": {"deletionGracePeriodSeconds": grace.as_secs()}})).await?;
                }
                session.delete(&path("projects", &id)).await?;
                eprintln!("Project '{id}' deleted");
            }
        }
        Ok(())
    }
}

async fn until_active(session: &Session, id: &str) -> Result<()> {
    loop {
        let found: Value = session.get(&path("projects", id)).await?;
        let status = &found["status"];
        match status["phase"].as_str() {
            Some("Active") if status["observedGeneration"] == found["metadata"]["generation"] => return Ok(()),
            Some("Failed") => bail!("project {id:?}: {}", status["message"].as_str().unwrap_or_default()),
            _ => tokio::time::sleep(LOOK).await,
        }
    }
}
