//! `k8shost secrets-encrypt`: asks a running server about the encryption of Secrets, and for a new key.
use anyhow::{Context, Result, anyhow};
use api_client::kube;
use clap::Subcommand;
use serde_json::Value;
use std::path::PathBuf;

/// Where the admin's kubeconfig is unless told otherwise, as `server` has it.
const ADMIN_KUBECONFIG: &str = "/etc/k8shost/kubeconfig.yaml";

#[derive(Subcommand)]
pub enum SecretsEncryptCommand {
    /// Print whether Secrets are encrypted at rest, and with which keys
    Status {
        /// [default: $KUBECONFIG, then the admin's]
        #[arg(long, env = "KUBECONFIG", hide_env = true, default_value = ADMIN_KUBECONFIG, hide_default_value = true)]
        kubeconfig: PathBuf,
        #[arg(long, short, default_value = "text", value_parser = ["text", "json"])]
        output: String,
    },
    /// Make a new key and encrypt all Secrets with it
    RotateKeys {
        /// [default: $KUBECONFIG, then the admin's]
        #[arg(long, env = "KUBECONFIG", hide_env = true, default_value = ADMIN_KUBECONFIG, hide_default_value = true)]
        kubeconfig: PathBuf,
    },
}

pub fn main(command: SecretsEncryptCommand) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            SecretsEncryptCommand::Status { kubeconfig, output } => {
                let status = ask(&kubeconfig, "GET", "/v1-k8shost/encrypt/status").await?;
                if output == "json" {
                    println!("{}", serde_json::to_string_pretty(&status)?);
                } else {
                    print!("{}", text(&status));
                }
            }
            SecretsEncryptCommand::RotateKeys { kubeconfig } => {
                let answer = ask(&kubeconfig, "PUT", "/v1-k8shost/encrypt/rotate-keys").await?;
                println!("keys rotated, reencryption finished; the active key is {}", answer["active"]["name"].as_str().unwrap_or_default());
            }
        }
        Ok(())
    })
}

async fn ask(kubeconfig: &PathBuf, method: &str, path: &str) -> Result<Value> {
    let config = kube::config::Kubeconfig::read_from(kubeconfig).with_context(|| format!("kubeconfig {kubeconfig:?}"))?;
    let config = kube::Config::from_custom_kubeconfig(config, &Default::default()).await.with_context(|| format!("kubeconfig {kubeconfig:?}"))?;
    let client = kube::Client::try_from(config)?;
    let request = http::Request::builder().method(method).uri(path).body(Vec::new())?;
    client.request::<Value>(request).await.map_err(|error| match error {
        kube::Error::Api(status) => anyhow!("{}", status.message),
        other => other.into(),
    })
}

/// As k3s prints it.
fn text(status: &Value) -> String {
    if status["enabled"] != true {
        return "Encryption Status: Disabled\n".into();
    }
    let mut out = format!(
        "Encryption Status: Enabled\nCurrent Rotation Stage: {}\n\nActive  Key Type  Name\n------  --------  ----\n",
        status["stage"].as_str().unwrap_or_default()
    );
    for name in status["keys"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let active = if status["active"]["name"] == name { "*" } else { " " };
        out.push_str(&format!(" {active}      {:<8}  {name}\n", status["active"]["type"].as_str().unwrap_or_default()));
    }
    out
}
