//! `policy create|list|delete`.
use super::MANAGER;
use super::cluster::Mode;
use crate::names::POLICY_LABEL;
use anyhow::{Context, Result};
use api_client::{is_conflict, is_not_found};
use clap::Subcommand;
use command_line::Session;
use command_line::output::{self, Format};
use command_line::{Connection, texts};
use serde_json::json;

const POLICIES: &str = "/apis/k3k.io/v1beta1/virtualclusterpolicies";

#[derive(Subcommand, Clone, Debug)]
pub enum PolicyCommand {
    /// Create a policy
    Create {
        name: String,
        /// The mode that clusters must have
        #[arg(long, value_enum, default_value = "shared")]
        mode: Mode,
        /// Namespaces to bind to it
        #[arg(long, short = 'n', value_delimiter = ',')]
        namespace: Vec<String>,
        /// Labels of the policy, KEY=VALUE
        #[arg(long)]
        labels: Vec<String>,
        /// Annotations of the policy, KEY=VALUE
        #[arg(long)]
        annotations: Vec<String>,
    },
    /// List the policies
    List {
        #[arg(long, short = 'o')]
        output: Option<Format>,
    },
    /// Delete a policy; its namespaces are bound to none then
    Delete { name: String },
}

impl PolicyCommand {
    pub async fn run(self, connection: &Connection) -> Result<()> {
        let session = Session::open(connection, MANAGER).await?;
        match self {
            Self::Create { name, mode, namespace, labels, annotations } => {
                let policy = json!({
                    "apiVersion": "k3k.io/v1beta1", "kind": "VirtualClusterPolicy", "spec": {"allowedMode": mode.as_str()},
                    "metadata": {"name": name, "labels": texts::pairs(&labels), "annotations": texts::pairs(&annotations)},
                });
                match session.create(POLICIES, &policy).await {
                    Err(error) if is_conflict(&error) => eprintln!("Policy '{name}' already exists"),
                    created => {
                        created?;
                        eprintln!("Policy '{name}' created");
                    }
                }
                for namespace in namespace {
                    let label = json!({"metadata": {"labels": {POLICY_LABEL: name}}});
                    match session.patch(&format!("/api/v1/namespaces/{namespace}"), &label).await {
                        Err(error) if is_not_found(&error) => eprintln!("Namespace '{namespace}' not found, skipping"),
                        bound => {
                            bound.with_context(|| format!("binding namespace {namespace:?}"))?;
                            eprintln!("Added policy '{name}' to namespace '{namespace}'");
                        }
                    }
                }
            }
            Self::List { output } => output::list(&session, POLICIES, "virtualclusterpolicy.k3k.io", &[], output).await?,
            Self::Delete { name } => match session.delete(&format!("{POLICIES}/{name}")).await {
                Err(error) if is_not_found(&error) => eprintln!("Policy '{name}' not found"),
                deleted => {
                    deleted?;
                    eprintln!("Policy '{name}' deleted");
                }
            },
        }
        Ok(())
    }
}
