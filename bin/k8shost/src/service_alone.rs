//! What every cloud service that stands alone is told and does: whose tokens it takes, its certificate, and its end.
use crate::renewal::kept_current;
use anyhow::{Context, Result};
use clock::Clock;
use cloud_api::JwksVerifier;
use pki::{CertificateAuthority, CertificateFiles, Issued, LeafRequest, Renewable};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

const VALIDITY: Duration = Duration::from_secs(365 * 24 * 3600);

#[derive(clap::Args)]
pub struct ServiceArgs {
    /// Public keys (JWKS) whose tokens are accepted, as the IAM service publishes them
    #[arg(long, value_name = "FILE")]
    iam_jwks: PathBuf,
    /// Only tokens of this issuer
    #[arg(long, value_name = "NAME")]
    iam_issuer: Option<String>,
    /// Only tokens that name this audience
    #[arg(long, value_name = "NAME")]
    iam_audience: Option<String>,
    /// Certificate (PEM) of the API [default: one of an authority made in the data directory]
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

impl ServiceArgs {
    /// Who tells good tokens.
    pub fn verifier(&self, clock: Arc<dyn Clock>) -> Result<JwksVerifier> {
        let keys = std::fs::read(&self.iam_jwks).with_context(|| format!("reading {:?}", self.iam_jwks))?;
        let mut verifier = JwksVerifier::new(&keys, clock).with_context(|| format!("reading {:?}", self.iam_jwks))?;
        if let Some(issuer) = &self.iam_issuer {
            verifier = verifier.of_issuer(issuer);
        }
        if let Some(audience) = &self.iam_audience {
            verifier = verifier.for_audience(audience);
        }
        Ok(verifier)
    }

    /// The API's TLS, with the certificate in the files given, which are read again when they change, or one that is made
    /// for the service of this name, and renewed. Must be called inside a tokio runtime.
    pub fn tls(&self, name: &'static str, data_dir: &Path, clock: Arc<dyn Clock>) -> Result<rustls::ServerConfig> {
        if let (Some(certificate), Some(key)) = (&self.tls_cert, &self.tls_key) {
            return Ok(pki::server_config_renewable(CertificateFiles::open(certificate, key)?, &[], &[b"h2"])?);
        }
        let directory = data_dir.join("tls");
        let shown = Renewable::new(&own_certificate(name, &directory, &*clock)?)?;
        tokio::spawn(kept_current(shown.clone(), clock, move |clock| own_certificate(name, &directory, clock)));
        Ok(pki::server_config_renewable(shown, &[], &[b"h2"])?)
    }
}

fn own_certificate(name: &str, directory: &Path, clock: &dyn Clock) -> Result<Issued> {
    let authority = CertificateAuthority::load_or_create(directory, "ca", name, clock)?;
    let request = LeafRequest {
        common_name: name.into(),
        organizations: Vec::new(),
        dns_names: vec![name.into(), "localhost".into()],
        ip_addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST), crate::node::address()],
        server: true,
        client: false,
        validity: VALIDITY,
    };
    Ok(authority.load_or_issue(directory, "serving", &request, clock)?)
}

/// Cancelled when the process is told to end.
pub fn until_told_to_end() -> Result<CancellationToken> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let stop = CancellationToken::new();
    let told = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        told.cancel();
    });
    Ok(stop)
}
