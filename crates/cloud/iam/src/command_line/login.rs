//! `iam login`, `iam logout`, and the credential plugin that kubeconfigs call (KEP-541).
use super::provider;
use super::references::collection;
use super::secret_from_stdin;
use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use clock::{Clock, SystemClock};
use command_line::{Connection, Session};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fs::File;
use std::path::{Path, PathBuf};

/// A token is replaced this long before it ends.
const EARLY: SignedDuration = SignedDuration::from_secs(60);

#[derive(Args, Clone, Debug)]
pub struct Login {
    /// Whose password is read from standard input
    #[arg(required_unless_present = "issuer")]
    email: Option<String>,
    /// Log in at this provider, which the server trusts, with a browser instead
    #[arg(long, value_name = "URL", conflicts_with = "email")]
    issuer: Option<String>,
    /// The authority of the provider's certificate [default: those that this machine trusts]
    #[arg(long, value_name = "FILE", requires = "issuer")]
    issuer_certificate_authority: Option<PathBuf>,
    /// Type a code into a browser on another machine
    #[arg(long, requires = "issuer")]
    device: bool,
    /// For this project alone, by its id
    #[arg(long)]
    project: Option<String>,
    /// The server, https://HOST:PORT [default: as in --kubeconfig]
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// The authority of the server's certificate [default: as in --kubeconfig]
    #[arg(long, value_name = "FILE", requires = "server")]
    certificate_authority: Option<PathBuf>,
    /// Where to write the kubeconfig
    #[arg(long, value_name = "FILE")]
    kubeconfig_output: PathBuf,
    /// Where to keep the login [default: beside the kubeconfig, with the ending .login]
    #[arg(long, value_name = "FILE")]
    credential_file: Option<PathBuf>,
}

#[derive(Args, Clone, Debug)]
pub struct Logout {
    /// The file that `login` has made
    #[arg(long, value_name = "FILE")]
    credential_file: PathBuf,
}

#[derive(Args, Clone, Debug)]
pub struct Credential {
    /// The file that `login` has made
    #[arg(long, value_name = "FILE")]
    credential_file: PathBuf,
}

/// A login, as it lies in its file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    server: String,
    certificate_authority: String,
    /// What gives more tokens; another one after each.
    key: String,
    token: String,
    expires: Timestamp,
}

impl Login {
    pub async fn run(self, connection: &Connection) -> Result<()> {
        let (server, authority) = match (&self.server, &self.certificate_authority) {
            (Some(server), Some(file)) => {
                (server.trim_end_matches('/').to_owned(), std::fs::read_to_string(file).with_context(|| format!("authority {file:?}"))?)
            }
            (Some(_), None) => bail!("--server needs --certificate-authority"),
            (None, _) => Session::server_of(connection)?,
        };
        let project = self.project.as_deref().unwrap_or_default();
        let (path, request) = match (&self.issuer, &self.email) {
            (Some(issuer), _) => ("oidc", json!({"issuer": issuer, "idToken": self.id_token(&server, &authority, issuer).await?, "project": project})),
            (None, email) => ("login", json!({"email": email, "password": secret_from_stdin()?, "project": project})),
        };
        let answer = ask(&server, &authority, path, &request).await.context("logging in")?;
        let kept = Kept::of(server, authority, &answer)?;
        let file = self.credential_file.unwrap_or_else(|| self.kubeconfig_output.with_extension("login"));
        let file = std::path::absolute(file)?;
        kept.write(&file)?;
        let program = std::env::current_exe().context("this program's own path")?;
        let kubeconfig = kubeconfig(&kept, &program, &file);
        pki::write_atomically(&self.kubeconfig_output, kubeconfig.as_bytes(), 0o600)?;
        match &self.email {
            Some(email) => eprintln!("Logged in as '{email}'"),
            None => eprintln!("Logged in"),
        }
        Ok(())
    }

    async fn id_token(&self, server: &str, authority: &str, issuer: &str) -> Result<String> {
        let known = session(server, authority, None).await?.get(&collection("providers")).await.context("asking for the server's providers")?;
        let of_issuer = |provider: &&Value| provider["issuer"] == issuer;
        let provider = known["providers"].as_array().into_iter().flatten().find(of_issuer);
        let provider = provider.with_context(|| format!("the server trusts no provider {issuer:?}"))?;
        let read = |file: &PathBuf| std::fs::read_to_string(file).with_context(|| format!("authority {file:?}"));
        let authority = self.issuer_certificate_authority.as_ref().map(read).transpose()?;
        let login = provider::Login { issuer, client_id: provider["clientId"].as_str().unwrap_or_default(), authority_pem: authority.as_deref() };
        if self.device { login.by_device().await } else { login.by_browser().await }
    }
}

impl Logout {
    pub async fn run(self) -> Result<()> {
        let kept = Kept::read(&self.credential_file)?;
        let session = session(&kept.server, &kept.certificate_authority, Some(&kept.token)).await?;
        session.create(&collection("revoke"), &json!({"token": kept.token, "key": kept.key})).await.context("logging out")?;
        std::fs::remove_file(&self.credential_file)?;
        eprintln!("Logged out");
        Ok(())
    }
}

impl Credential {
    pub async fn run(self) -> Result<()> {
        // Several kubectls may ask at once, and a login's key works once.
        let lock_path = self.credential_file.with_extension("lock");
        let lock = File::options().create(true).append(true).open(&lock_path).with_context(|| format!("lock {lock_path:?}"))?;
        lock.lock()?;
        let mut kept = Kept::read(&self.credential_file)?;
        if kept.expires.saturating_sub(EARLY).unwrap_or(kept.expires) <= SystemClock.now() {
            let request = json!({"key": kept.key});
            let answer = ask(&kept.server, &kept.certificate_authority, "exchange", &request).await.context("the login has ended: log in again")?;
            kept = Kept::of(kept.server, kept.certificate_authority, &answer)?;
            kept.write(&self.credential_file)?;
        }
        println!("{}", exec_credential(&kept));
        Ok(())
    }
}

impl Kept {
    fn of(server: String, certificate_authority: String, answer: &Value) -> Result<Self> {
        let text = |field: &str| answer[field].as_str().map(str::to_owned).with_context(|| format!("the server's answer has no {field:?}"));
        Ok(Self { server, certificate_authority, key: text("key")?, token: text("token")?, expires: text("expires")?.parse()? })
    }
    fn read(file: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(file).with_context(|| format!("login {file:?}"))?;
        serde_json::from_str(&text).with_context(|| format!("login {file:?}"))
    }
    fn write(&self, file: &Path) -> Result<()> {
        Ok(pki::write_atomically(file, serde_json::to_string(self)?.as_bytes(), 0o600)?)
    }
}

fn exec_credential(kept: &Kept) -> Value {
    json!({
        "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
        // kubectl asks again once this has passed.
        "status": {"token": kept.token, "expirationTimestamp": clock::rfc3339_seconds(kept.expires.saturating_sub(EARLY).unwrap_or(kept.expires))},
    })
}

fn kubeconfig(kept: &Kept, program: &Path, file: &Path) -> String {
    let text = |path: &Path| Value::from(path.display().to_string());
    format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: default\n  cluster:\n    server: {}\n    certificate-authority-data: {}\ncontexts:\n- name: default\n  context:\n    cluster: default\n    user: default\ncurrent-context: default\nusers:\n- name: default\n  user:\n    exec:\n      apiVersion: client.authentication.k8s.io/v1\n      command: {}\n      args: [iam, credential, --credential-file, {}]\n      interactiveMode: Never\n      provideClusterInfo: false\n",
        kept.server,
        STANDARD.encode(&kept.certificate_authority),
        text(program),
        text(file)
    )
}

async fn ask(server: &str, authority: &str, path: &str, request: &Value) -> Result<Value> {
    match session(server, authority, None).await?.create(&collection(path), request).await {
        Err(api_client::kube::Error::Api(status)) => bail!("{}", status.message),
        answer => Ok(answer?),
    }
}

async fn session(server: &str, authority: &str, token: Option<&str>) -> Result<Session> {
    Session::with_token(server, authority, token, super::MANAGER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubeconfig_calls_this_program_for_its_tokens() {
        let kept = Kept {
            server: "https://10.0.0.1:6443".into(),
            certificate_authority: "ca".into(),
            key: "k8i_a_b".into(),
            token: "t".into(),
            expires: "2026-01-02T03:04:05Z".parse().unwrap(),
        };
        let text = kubeconfig(&kept, Path::new("/usr/bin/k8shost"), Path::new("/home/me/a b.login"));
        let parsed = api_client::kube::config::Kubeconfig::from_yaml(&text).unwrap();
        let exec = parsed.auth_infos[0].auth_info.as_ref().unwrap().exec.clone().unwrap();
        assert_eq!((exec.command.as_deref(), exec.args.unwrap().last().map(String::as_str)), (Some("/usr/bin/k8shost"), Some("/home/me/a b.login")));
        let credential = exec_credential(&kept);
        assert_eq!(credential["status"], json!({"token": "t", "expirationTimestamp": "2026-01-02T03:03:05Z"}));
    }
}
