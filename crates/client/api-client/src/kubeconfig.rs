//! Clients by a kubeconfig for processes that run for long: a certificate is shown as the file has it then.
use crate::{Clients, RemoteClients};
use api_meta::ClusterName;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kube::client::ConfigExt;
use kube::config::{AuthInfo, Kubeconfig};
use pki::{CertificateFiles, Issued, PkiError};
use secrecy::ExposeSecret;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum KubeconfigError {
    #[error(transparent)]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    #[error("the user's certificate")]
    Certificate(#[from] PkiError),
    #[error("the address of the cluster")]
    Address(#[from] http::uri::InvalidUri),
    #[error(transparent)]
    Client(#[from] kube::Error),
}

/// The client of a configuration that was made of the kubeconfig in `file`. Whoever renews the user's certificate puts the
/// new one into the file, or the files it names; connections made from then on show it.
///
/// # Errors
/// When the file can't be used.
pub fn client_of_kubeconfig(config: kube::Config, file: &Path) -> Result<kube::Client, KubeconfigError> {
    let user = user_of(file)?;
    let mut files = vec![file.to_owned()];
    let named = [&user.client_certificate, &user.client_key];
    files.extend(named.into_iter().flatten().map(PathBuf::from));
    // What is reached by a way of its own keeps the certificate that it began with.
    let own_way = config.tls_server_name.is_some() || config.proxy_url.is_some() || !config.headers.is_empty();
    if own_way || issued(&user)?.is_none() {
        return Ok(kube::Client::try_from(config)?);
    }
    let place = file.to_owned();
    let unusable = |place: &Path, why: String| PkiError::File { path: place.to_owned(), what: "kubeconfig", why };
    let read = move || {
        let user = user_of(&place).map_err(|error| unusable(&place, error.to_string()))?;
        issued(&user)?.ok_or_else(|| unusable(&place, "its user has no certificate".into()))
    };
    let mut tls = config.rustls_client_config()?;
    tls.client_auth_cert_resolver = CertificateFiles::reading(files, read)?;
    Ok(RemoteClients::new(&config.cluster_url.to_string(), tls)?.cluster(&ClusterName::root()))
}

/// The user of the current context.
fn user_of(file: &Path) -> Result<AuthInfo, kube::config::KubeconfigError> {
    let kubeconfig = Kubeconfig::read_from(file)?;
    let current = kubeconfig.current_context.unwrap_or_default();
    let context = kubeconfig.contexts.into_iter().find(|named| named.name == current).and_then(|named| named.context);
    let user = context.and_then(|context| context.user).unwrap_or_default();
    Ok(kubeconfig.auth_infos.into_iter().find(|named| named.name == user).and_then(|named| named.auth_info).unwrap_or_default())
}

fn issued(user: &AuthInfo) -> Result<Option<Issued>, PkiError> {
    let key_data = user.client_key_data.as_ref().map(|data| data.expose_secret());
    let certificate = text(user.client_certificate_data.as_deref(), user.client_certificate.as_deref())?;
    let key = text(key_data, user.client_key.as_deref())?;
    Ok(certificate.zip(key).map(|(certificate_pem, key_pem)| Issued { certificate_pem, key_pem }))
}

/// What is inlined, or else in the file that is named.
fn text(data: Option<&str>, file: Option<&str>) -> Result<Option<String>, PkiError> {
    let unusable = |path: &str, why: String| PkiError::File { path: path.into(), what: "certificate or key", why };
    match (data.filter(|data| !data.is_empty()), file) {
        (Some(data), _) => {
            let decoded = STANDARD.decode(data.trim()).map_err(|error| unusable("kubeconfig", error.to_string()))?;
            String::from_utf8(decoded).map(Some).map_err(|error| unusable("kubeconfig", error.to_string()))
        }
        (None, Some(file)) => std::fs::read_to_string(file).map(Some).map_err(|error| unusable(file, error.to_string())),
        (None, None) => Ok(None),
    }
}
