//! `iam cert issue|revoke|list|crl`.
use super::Listing;
use super::references::collection;
use crate::engine::CERTIFICATE;
use anyhow::{Context, Result, bail};
use api_client::is_conflict;
use clap::{Args, Subcommand};
use clock::SystemClock;
use command_line::{Session, texts};
use pki::{CertificateAuthority, LeafRequest};
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Subcommand, Clone, Debug)]
pub enum CertificateCommand {
    /// Refuse a certificate from now on
    Revoke {
        /// The certificate's file (PEM), or its serial number in hexadecimal
        certificate: String,
    },
    /// List what was revoked: tokens by their id, certificates as x509- and the serial number
    List {
        #[command(flatten)]
        listing: Listing,
    },
    /// Print the lists of revoked certificates (PEM), one of each authority
    Crl,
}

/// Issue a certificate by the authorities of a server's data directory
#[derive(Args, Clone, Debug)]
pub struct Issue {
    /// Who it is: a user of the API, or a server's name
    name: String,
    /// Groups of the user
    #[arg(long)]
    group: Vec<String>,
    /// DNS names and addresses of a server
    #[arg(long)]
    san: Vec<String>,
    /// For a server
    #[arg(long, conflicts_with = "client", required_unless_present = "client")]
    server: bool,
    /// For a client
    #[arg(long)]
    client: bool,
    #[arg(long, default_value = "8760h", value_parser = texts::duration)]
    duration: Duration,
    #[arg(long, default_value = "/var/lib/k8shost")]
    data_dir: PathBuf,
    /// Where NAME.crt, NAME.key and ca.crt go
    #[arg(long, value_name = "DIRECTORY")]
    output: PathBuf,
}

impl Issue {
    pub fn run(self) -> Result<()> {
        let tls = self.data_dir.join("server").join("tls");
        let stem = if self.server { "server-ca" } else { "client-ca" };
        if !tls.join(format!("{stem}.key")).is_file() {
            bail!("there is no authority at {tls:?}: has the server run with this data directory?");
        }
        let authority = CertificateAuthority::load_or_create(&tls, stem, "", &SystemClock)?;
        let (mut dns_names, mut ip_addresses) = (Vec::new(), Vec::new());
        for name in self.san {
            match name.parse() {
                Ok(address) => ip_addresses.push(address),
                Err(_) => dns_names.push(name),
            }
        }
        let request = LeafRequest {
            common_name: self.name.clone(),
            organizations: self.group,
            dns_names,
            ip_addresses,
            server: self.server,
            client: self.client,
            validity: self.duration,
        };
        let issued = authority.issue(&request, &SystemClock)?;
        std::fs::create_dir_all(&self.output).with_context(|| format!("directory {:?}", self.output))?;
        pki::write_atomically(&self.output.join(format!("{}.key", self.name)), issued.key_pem.as_bytes(), 0o600)?;
        pki::write_atomically(&self.output.join(format!("{}.crt", self.name)), issued.certificate_pem.as_bytes(), 0o644)?;
        // Whoever gets a client's certificate needs to know the server, and the other way round.
        let other = tls.join(if self.server { "client-ca.crt" } else { "server-ca.crt" });
        let other = std::fs::read(&other).with_context(|| format!("authority {other:?}"))?;
        pki::write_atomically(&self.output.join("ca.crt"), &other, 0o644)?;
        println!("{}", pki::serial_of_pem(&issued.certificate_pem)?);
        Ok(())
    }
}

impl CertificateCommand {
    pub async fn run(self, session: &Session) -> Result<()> {
        match self {
            Self::Revoke { certificate } => {
                let is_serial = !certificate.is_empty() && certificate.bytes().all(|byte| byte.is_ascii_hexdigit());
                let serial = if is_serial {
                    certificate.to_ascii_lowercase().trim_start_matches('0').to_owned()
                } else {
                    pki::serial_of_pem(&std::fs::read_to_string(&certificate).with_context(|| format!("certificate {certificate:?}"))?)?
                };
                let object = json!({
                    "apiVersion": "iam.plasmacloud.io/v1", "kind": "Revocation", "metadata": {"name": format!("{CERTIFICATE}{serial}")}, "spec": {},
                });
                match session.create(&collection("revocations"), &object).await {
                    Err(error) if is_conflict(&error) => eprintln!("Certificate '{serial}' is revoked already"),
                    revoked => {
                        revoked?;
                        eprintln!("Certificate '{serial}' revoked");
                    }
                }
            }
            Self::List { listing } => listing.show(session, "revocations", "revocation").await?,
            Self::Crl => print!("{}", session.create(&collection("crl"), &json!({})).await?["crl"].as_str().unwrap_or_default()),
        }
        Ok(())
    }
}
