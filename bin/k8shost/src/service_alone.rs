//! What every cloud service that stands alone is told and does: whose tokens it takes, its certificate, and its end.
use anyhow::{Context, Result};
use clock::Clock;
use cloud_api::JwksVerifier;
use pki::{CertificateAuthority, CertificateFiles, LeafRequest, Renewable};
use rustls::server::ResolvesServerCert;
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
    #[command(flatten)]
    certificate: CertificateArgs,
}

/// What a service that stands alone shows of itself.
#[derive(clap::Args, Clone, Debug)]
pub struct CertificateArgs {
    /// Certificate (PEM) of the API [default: one of an authority made in the data directory, and renewed]
    #[arg(long, value_name = "FILE", visible_alias = "tls-cert-file", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE", visible_alias = "tls-private-key-file", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// More names and addresses of the certificate that is made
    #[arg(long, value_name = "NAME", value_delimiter = ',', conflicts_with = "tls_cert")]
    tls_san: Vec<String>,
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

    /// The API's TLS. Must be called inside a tokio runtime.
    pub fn tls(&self, name: &'static str, data_dir: &Path, clock: Arc<dyn Clock>) -> Result<rustls::ServerConfig> {
        Ok(pki::server_config_renewable(self.certificate.shown(name, data_dir, clock)?, &[], &[b"h2"])?)
    }
}

impl CertificateArgs {
    /// The certificate in the files given, which are read again when they change, or one that is made for the service of
    /// this name, and renewed. Must be called inside a tokio runtime.
    pub fn shown(&self, name: &'static str, data_dir: &Path, clock: Arc<dyn Clock>) -> Result<Arc<dyn ResolvesServerCert>> {
        if let (Some(certificate), Some(key)) = (&self.tls_cert, &self.tls_key) {
            return Ok(CertificateFiles::open(certificate, key).context("the certificate")?);
        }
        let directory = data_dir.join("tls");
        let request = self.request(name);
        let authority = CertificateAuthority::load_or_create(&directory, "ca", name, &*clock)?;
        let issued = authority.load_or_issue(&directory, "serving", &request, &*clock)?;
        let (shown, due) = (Renewable::new(&issued)?, pki::renewal_of(&issued.certificate_pem)?);
        let kept = shown.clone();
        tokio::spawn(async move {
            let renew = || {
                let issued = authority.load_or_issue(&directory, "serving", &request, &*clock);
                std::future::ready(issued.and_then(|issued| kept.replace(&issued).and_then(|()| pki::renewal_of(&issued.certificate_pem))))
            };
            pki::keep_current(clock.clone(), &[&kept], due, renew).await;
        });
        Ok(shown)
    }

    fn request(&self, name: &str) -> LeafRequest {
        let mut request = LeafRequest {
            common_name: name.into(),
            organizations: Vec::new(),
            dns_names: vec![name.into(), "localhost".into()],
            ip_addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST), crate::node::address()],
            server: true,
            client: false,
            validity: VALIDITY,
        };
        for name in &self.tls_san {
            match name.parse() {
                Ok(address) => request.ip_addresses.push(address),
                Err(_) => request.dns_names.push(name.clone()),
            }
        }
        request
    }
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
