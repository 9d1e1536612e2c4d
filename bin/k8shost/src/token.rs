//! `k8shost token`: the tokens that let machines join, as bootstrap tokens of the cluster that the kubeconfig is for.
use anyhow::{Context, Result, bail};
use api_client::join::JoinToken;
use api_client::kube;
use api_meta::CA_PATH;
use clap::Subcommand;
use clock::{Clock, SystemClock};
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where the admin's kubeconfig is unless told otherwise, as `server` has it.
const ADMIN_KUBECONFIG: &str = "/etc/k8shost/kubeconfig.yaml";
const NAMESPACE: &str = "kube-system";
const TYPE: &str = "bootstrap.kubernetes.io/token";
const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";

#[derive(Subcommand)]
pub enum TokenCommand {
    /// Make a token that lets machines join, and print it
    Create {
        /// How long it can be used; 0s means for ever
        #[arg(long, default_value = "24h")]
        ttl: SignedDuration,
        /// What it is for
        #[arg(long, default_value = "")]
        description: String,
        /// [default: $KUBECONFIG, then the admin's]
        #[arg(long, env = "KUBECONFIG", hide_env = true, default_value = ADMIN_KUBECONFIG, hide_default_value = true)]
        kubeconfig: PathBuf,
    },
    /// List the tokens there are, without their secrets
    List {
        /// [default: $KUBECONFIG, then the admin's]
        #[arg(long, env = "KUBECONFIG", hide_env = true, default_value = ADMIN_KUBECONFIG, hide_default_value = true)]
        kubeconfig: PathBuf,
    },
    /// Take tokens away; machines that have joined stay
    Delete {
        /// The first six characters of a token's secret, as `list` shows them
        #[arg(required = true)]
        ids: Vec<String>,
        /// [default: $KUBECONFIG, then the admin's]
        #[arg(long, env = "KUBECONFIG", hide_env = true, default_value = ADMIN_KUBECONFIG, hide_default_value = true)]
        kubeconfig: PathBuf,
    },
}

pub fn main(command: TokenCommand) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            TokenCommand::Create { ttl, description, kubeconfig } => create(&client(&kubeconfig).await?, ttl, &description).await,
            TokenCommand::List { kubeconfig } => list(&client(&kubeconfig).await?).await,
            TokenCommand::Delete { ids, kubeconfig } => delete(&client(&kubeconfig).await?, &ids).await,
        }
    })
}

async fn client(kubeconfig: &Path) -> Result<kube::Client> {
    let read = kube::config::Kubeconfig::read_from(kubeconfig).with_context(|| format!("kubeconfig {kubeconfig:?}"))?;
    let config = kube::Config::from_custom_kubeconfig(read, &kube::config::KubeConfigOptions::default()).await.context("using the kubeconfig")?;
    Ok(kube::Client::try_from(config)?)
}

async fn create(client: &kube::Client, ttl: SignedDuration, description: &str) -> Result<()> {
    if ttl.is_negative() {
        bail!("--ttl {ttl:#} is less than nothing");
    }
    let ca_pem = client.request_text(http::Request::get(CA_PATH).body(Vec::new())?).await?;
    let (id, secret) = (letters::<6>(), letters::<16>());
    let mut data = BTreeMap::from([
        ("token-id".to_owned(), id.clone()),
        ("token-secret".to_owned(), secret.clone()),
        ("usage-bootstrap-authentication".to_owned(), "true".to_owned()),
    ]);
    if !description.is_empty() {
        data.insert("description".into(), description.into());
    }
    if !ttl.is_zero() {
        data.insert("expiration".into(), clock::rfc3339_seconds(SystemClock.now().checked_add(ttl).context("--ttl is too long")?));
    }
    let object = Secret {
        metadata: ObjectMeta { name: Some(format!("bootstrap-token-{id}")), namespace: Some(NAMESPACE.into()), ..Default::default() },
        type_: Some(TYPE.into()),
        string_data: Some(data),
        ..Default::default()
    };
    Api::<Secret>::namespaced(client.clone(), NAMESPACE).create(&PostParams::default(), &object).await?;
    println!("{}", JoinToken::render(&ca_pem, None, &format!("{id}.{secret}")));
    Ok(())
}

async fn list(client: &kube::Client) -> Result<()> {
    let found = Api::<Secret>::namespaced(client.clone(), NAMESPACE).list(&ListParams::default().fields(&format!("type={TYPE}"))).await?;
    println!("{:<8} {:<22} DESCRIPTION", "TOKEN", "EXPIRES");
    for secret in found {
        let text = |key: &str| secret.data.as_ref().and_then(|data| String::from_utf8(data.get(key)?.0.clone()).ok());
        let expires = text("expiration").unwrap_or_else(|| "<never>".into());
        println!("{:<8} {expires:<22} {}", text("token-id").unwrap_or_default(), text("description").unwrap_or_default());
    }
    Ok(())
}

async fn delete(client: &kube::Client, ids: &[String]) -> Result<()> {
    let api = Api::<Secret>::namespaced(client.clone(), NAMESPACE);
    for id in ids {
        // A whole token may be given, too.
        let id = id.rsplit("::").next().unwrap_or(id).split('.').next().unwrap_or(id);
        api.delete(&format!("bootstrap-token-{id}"), &DeleteParams::default()).await.with_context(|| format!("deleting token {id:?}"))?;
        println!("token {id:?} deleted");
    }
    Ok(())
}

/// Random letters and digits, all equally likely.
fn letters<const N: usize>() -> String {
    let mut out = String::with_capacity(N);
    while out.len() < N {
        // 252 is the greatest multiple of 36 that a byte holds.
        let usable = clock::random_bytes::<32>().into_iter().filter(|byte| *byte < 252);
        out.extend(usable.take(N - out.len()).map(|byte| char::from(LETTERS[usize::from(byte) % LETTERS.len()])));
    }
    out
}
