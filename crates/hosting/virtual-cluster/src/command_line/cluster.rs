//! `cluster create|list|update|delete`, and the way to the other commands for one cluster.
use super::clusters;
use super::kubeconfig::hand_out;
use super::life::Life;
use super::snapshot::SnapshotCommand;
use super::transfer::{Export, Import};
use super::waiting::{until_gone, until_ready};
use super::{KubeconfigOutput, MANAGER, Place, custom_certificates};
use crate::names::{self, POLICY_LABEL, RESERVED};
use anyhow::{Context, Result, bail};
use api_client::{has_code, is_conflict, is_not_found};
use api_meta::Quantity;
use clap::{Args, Subcommand, ValueEnum};
use command_line::Session;
use command_line::output::{self, Format};
use command_line::{Connection, texts};
use serde_json::{Value, json};
use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;
use std::time::Duration;

#[derive(Subcommand, Clone, Debug)]
pub enum ClusterCommand {
    /// Create a cluster, wait until it is ready and print its kubeconfig
    Create(Box<Create>),
    /// List the clusters
    List {
        /// Only those of this namespace
        #[arg(long, short = 'n')]
        namespace: Option<String>,
        #[arg(long, short = 'o')]
        output: Option<Format>,
    },
    /// Update a cluster
    Update(Update),
    /// Delete a cluster with everything in it, and wait until it is gone
    Delete {
        name: String,
        #[command(flatten)]
        place: Place,
        /// Not possible here: a cluster's data goes with it
        #[arg(long, hide = true)]
        keep_data: bool,
        /// How long to wait, e.g. 10s, 5m, 1h
        #[arg(long, default_value = "3m", value_parser = texts::duration)]
        timeout: Duration,
    },
    /// Stop all that runs in a cluster; it can be read, and not changed, until it is resumed
    Pause(Life),
    /// Have a paused cluster go on as it was
    Resume(Life),
    /// Snapshots of clusters
    Snapshot {
        #[command(subcommand)]
        command: SnapshotCommand,
    },
    /// Print a cluster's objects as manifests, in the order they can be applied in
    Export(Export),
    /// Apply manifests in a cluster
    Import(Import),
}

#[derive(Args, Clone, Debug)]
pub struct Create {
    name: String,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    output: KubeconfigOutput,
    /// Pods on this cluster's nodes (shared), or on machines that join (hcp)
    #[arg(long, value_enum, default_value = "shared")]
    mode: Mode,
    /// The policy to bind the namespace to, when it is made
    #[arg(long)]
    policy: Option<String>,
    /// A Kubernetes or k3s version; every cluster runs the server's own
    #[arg(long, default_value = "")]
    version: String,
    /// The range of Service addresses
    #[arg(long, default_value = "", value_name = "CIDR")]
    service_cidr: String,
    /// The range of pod addresses; pods are in the server's own
    #[arg(long, default_value = "", value_name = "CIDR")]
    cluster_cidr: String,
    /// See nodes as they are, with labels, addresses and conditions
    #[arg(long)]
    mirror_host_nodes: bool,
    /// The token that machines join with
    #[arg(long)]
    token: Option<String>,
    /// A directory with authorities of your own, laid out as k3s's
    #[arg(long, value_name = "DIRECTORY")]
    custom_certs: Option<PathBuf>,
    /// Labels of the Cluster, KEY=VALUE
    #[arg(long)]
    labels: Vec<String>,
    /// Annotations of the Cluster, KEY=VALUE
    #[arg(long)]
    annotations: Vec<String>,
    /// A snapshot of the same namespace that the cluster's content is taken from
    #[arg(long, value_name = "SNAPSHOT")]
    from_snapshot: Option<String>,
    /// How long to wait, e.g. 10s, 5m, 1h
    #[arg(long, default_value = "3m", value_parser = texts::duration)]
    timeout: Duration,
    /// Every server of this cluster serves every virtual one
    #[arg(long, default_value_t = 1)]
    servers: u32,
    /// Only mode virtual has agents
    #[arg(long, default_value_t = 0)]
    agents: u32,
    /// Kept in the Cluster; its objects are in the server's store
    #[arg(long, default_value = "dynamic", value_parser = ["dynamic", "ephemeral"])]
    persistence_type: String,
    #[arg(long, hide = true)]
    storage_class_name: Option<String>,
    #[arg(long, hide = true)]
    storage_request_size: Option<String>,
    #[arg(long, value_delimiter = ',', allow_hyphen_values = true, hide = true)]
    server_args: Vec<String>,
    #[arg(long, value_delimiter = ',', allow_hyphen_values = true, hide = true)]
    agent_args: Vec<String>,
    #[arg(long, value_delimiter = ',', hide = true)]
    server_envs: Vec<String>,
    #[arg(long, value_delimiter = ',', hide = true)]
    agent_envs: Vec<String>,
}

#[derive(Args, Clone, Debug)]
pub struct Update {
    name: String,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    output: KubeconfigOutput,
    #[arg(long)]
    servers: Option<u32>,
    #[arg(long)]
    agents: Option<u32>,
    /// A later version than the one before
    #[arg(long)]
    version: Option<String>,
    /// Labels to add, KEY=VALUE
    #[arg(long)]
    labels: Vec<String>,
    /// Annotations to add, KEY=VALUE
    #[arg(long)]
    annotations: Vec<String>,
    /// How long to wait, e.g. 10s, 5m, 1h
    #[arg(long, default_value = "3m", value_parser = texts::duration)]
    timeout: Duration,
    /// Do not ask
    #[arg(long, short = 'y', alias = "y")]
    no_confirm: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    Shared,
    Virtual,
    Hcp,
}

impl Mode {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Virtual => "virtual",
            Self::Hcp => "hcp",
        }
    }
}

impl ClusterCommand {
    pub async fn run(self, connection: &Connection) -> Result<()> {
        match self {
            Self::Create(create) => create.run(connection).await,
            Self::List { namespace, output } => {
                let session = Session::open(connection, MANAGER).await?;
                let path = namespace.map_or_else(|| "/apis/k3k.io/v1beta1/clusters".to_owned(), |namespace| clusters(&namespace, ""));
                output::list(&session, &path, "cluster.k3k.io", &[], output).await
            }
            Self::Update(update) => update.run(connection).await,
            Self::Pause(life) => life.run(connection, true).await,
            Self::Resume(life) => life.run(connection, false).await,
            Self::Snapshot { command } => command.run(connection).await,
            Self::Export(export) => export.run(connection).await,
            Self::Import(import) => import.run(connection).await,
            Self::Delete { name, place, keep_data, timeout } => {
                if keep_data {
                    bail!("a cluster's data is in the server's store and goes with it");
                }
                let session = Session::open(connection, MANAGER).await?;
                let namespace = place.of(&name);
                let going = match session.delete(&clusters(&namespace, &name)).await {
                    Err(error) if is_not_found(&error) => bail!("cluster {name:?} not found in namespace {namespace:?}"),
                    answer => answer?,
                };
                if going["kind"] == "Cluster" {
                    until_gone(&session, going, timeout).await?;
                }
                eprintln!("Cluster '{name}' deleted");
                Ok(())
            }
        }
    }
}

impl Create {
    fn check(&self) -> Result<()> {
        if self.name == RESERVED {
            bail!("invalid cluster name");
        }
        if self.servers == 0 {
            bail!("invalid number of servers");
        }
        if self.mode == Mode::Shared && self.agents != 0 {
            bail!("invalid flag, --agents flag is only allowed in virtual mode");
        }
        if let Some(size) = &self.storage_request_size
            && Quantity::parse(size).is_err()
        {
            bail!("invalid storage size, should be a valid resource quantity e.g \"10Gi\"");
        }
        Ok(())
    }

    async fn run(&self, connection: &Connection) -> Result<()> {
        self.check()?;
        let mut spec = self.spec()?;
        let session = Session::open(connection, MANAGER).await?;
        let (name, namespace) = (&self.name, self.place.of(&self.name));
        ensure_namespace(&session, &namespace, self.policy.as_deref()).await?;
        if let Some(token) = &self.token {
            let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": names::token(name)}, "stringData": {"token": token}});
            session.create(&format!("/api/v1/namespaces/{namespace}/secrets"), &secret).await.context("creating the token's Secret")?;
            spec["tokenSecretRef"] = json!({"name": names::token(name), "namespace": namespace});
        }
        if let Some(directory) = &self.custom_certs {
            spec["customCAs"] = custom_certificates::create(&session, &namespace, name, directory).await?;
        }
        eprintln!("Creating cluster '{name}' in namespace '{namespace}'");
        let mut object = json!({
            "apiVersion": "k3k.io/v1beta1", "kind": "Cluster", "spec": spec,
            "metadata": {"name": name, "namespace": namespace, "labels": texts::pairs(&self.labels), "annotations": texts::pairs(&self.annotations)},
        });
        if let Some(snapshot) = &self.from_snapshot {
            object["metadata"]["annotations"][names::RESTORE_FROM] = json!(snapshot);
        }
        let cluster = match session.create(&clusters(&namespace, ""), &object).await {
            Err(error) if is_conflict(&error) => {
                eprintln!("Cluster '{name}' already exists");
                session.get(&clusters(&namespace, name)).await?
            }
            created => created?,
        };
        until_ready(&session, cluster, self.timeout).await?;
        hand_out(&session, &namespace, name, &self.output).await
    }

    fn spec(&self) -> Result<Value> {
        let mut spec = json!({
            "mode": self.mode.as_str(), "servers": self.servers, "agents": self.agents,
            "persistence": {"type": self.persistence_type},
        });
        let texts = [("version", &self.version), ("serviceCIDR", &self.service_cidr), ("clusterCIDR", &self.cluster_cidr)];
        for (field, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
            spec[field] = json!(text);
        }
        if self.mirror_host_nodes {
            spec["mirrorHostNodes"] = true.into();
        }
        if let Some(class) = &self.storage_class_name {
            spec["persistence"]["storageClassName"] = json!(class);
        }
        if let Some(size) = &self.storage_request_size {
            spec["persistence"]["storageRequestSize"] = json!(size);
        }
        for (field, list) in [("serverArgs", &self.server_args), ("agentArgs", &self.agent_args)].into_iter().filter(|(_, list)| !list.is_empty()) {
            spec[field] = json!(list);
        }
        for (field, list) in [("serverEnvs", &self.server_envs), ("agentEnvs", &self.agent_envs)].into_iter().filter(|(_, list)| !list.is_empty()) {
            let variable = |text: &String| {
                let (name, value) = text.split_once('=').with_context(|| format!("incorrect value for environment variable {text}"))?;
                Ok(json!({"name": name, "value": value}))
            };
            spec[field] = list.iter().map(variable).collect::<Result<Value>>()?;
        }
        Ok(spec)
    }
}

/// Makes the namespace when it is missing, bound to the policy.
async fn ensure_namespace(session: &Session, name: &str, policy: Option<&str>) -> Result<()> {
    let mut namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    if let Some(policy) = policy {
        namespace["metadata"]["labels"] = json!({POLICY_LABEL: policy});
    }
    let refused = match session.create("/api/v1/namespaces", &namespace).await {
        Ok(_) => return Ok(()),
        // Who may not make namespaces may still use one that is there.
        Err(error) if is_conflict(&error) || has_code(&error, 403) => error,
        Err(error) => return Err(error).with_context(|| format!("creating namespace {name:?}")),
    };
    let Some(policy) = policy else { return Ok(()) };
    let found = session.get(&format!("/api/v1/namespaces/{name}")).await.map_err(|_| refused).with_context(|| format!("creating namespace {name:?}"))?;
    match found["metadata"]["labels"][POLICY_LABEL].as_str() {
        Some(bound) if bound == policy => Ok(()),
        _ => bail!("namespace {name:?} exists and is not bound to policy {policy:?}; bind it with: kubectl label namespace {name} {POLICY_LABEL}={policy}"),
    }
}

impl Update {
    async fn run(&self, connection: &Connection) -> Result<()> {
        if self.servers == Some(0) {
            bail!("invalid number of servers");
        }
        let session = Session::open(connection, MANAGER).await?;
        let (name, namespace) = (&self.name, self.place.of(&self.name));
        let path = clusters(&namespace, name);
        let cluster = match session.get(&path).await {
            Err(error) if is_not_found(&error) => {
                bail!("cluster {name} not found in namespace {namespace}. Please verify the cluster name and namespace are correct")
            }
            found => found?,
        };
        if let Some(version) = &self.version {
            let text = |pointer: &str| cluster.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
            let current = text("/spec/version").or_else(|| text("/status/hostVersion")).unwrap_or_default();
            if texts::is_downgrade(version, &current)? {
                bail!("downgrading cluster version is not supported");
            }
        }
        let mut patch = json!({"metadata": {"labels": texts::pairs(&self.labels), "annotations": texts::pairs(&self.annotations)}, "spec": {}});
        for (field, number) in [("servers", self.servers), ("agents", self.agents)] {
            if let Some(number) = number {
                patch["spec"][field] = number.into();
            }
        }
        if let Some(version) = &self.version {
            patch["spec"]["version"] = json!(version);
        }
        if !self.no_confirm && !confirmed(&patch)? {
            return Ok(());
        }
        eprintln!("Updating cluster '{name}' in namespace '{namespace}'");
        let updated = session.patch(&path, &patch).await?;
        until_ready(&session, updated, self.timeout).await?;
        hand_out(&session, &namespace, name, &self.output).await
    }
}

fn confirmed(patch: &Value) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!("nobody is there to ask; use --no-confirm");
    }
    eprint!("{patch:#}\nDo you want to update the cluster? [y/N]: ");
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim().to_lowercase().starts_with('y'))
}
