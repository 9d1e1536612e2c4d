//! The certificates of a server and its node, kept in the data directory and renewed when they must be.
use anyhow::{Context, Result};
use api_server::FRONT_PROXY;
use clock::Clock;
use jiff::Timestamp;
use pki::{CertificateAuthority, Issued, LeafRequest, SigningKey};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// Everything that proves who a part of this server is.
pub struct Certificates {
    pub server_ca: CertificateAuthority,
    pub client_ca: Arc<CertificateAuthority>,
    pub serving: Issued,
    pub admin: Issued,
    /// What the API server shows nodes.
    pub node_client: Issued,
    /// What this machine's node shows the API server: of the clients' authority, as all nodes have it.
    pub node_serving: Issued,
    /// Of the certificate that aggregated servers believe.
    pub front_proxy_ca: CertificateAuthority,
    /// What the API server shows aggregated servers.
    pub front_proxy_client: Issued,
    pub service_account_key: SigningKey,
}

pub struct Names<'a> {
    pub addresses: Vec<IpAddr>,
    pub dns_names: Vec<String>,
    pub node_name: &'a str,
    pub node_address: IpAddr,
}

impl Certificates {
    pub fn load_or_issue(directory: &Path, names: Names, clock: &dyn Clock) -> Result<Self> {
        let authority = |stem: &str, name: &str| {
            CertificateAuthority::load_or_create(directory, stem, name, clock).with_context(|| format!("certificate authority {stem:?}"))
        };
        let (server_ca, client_ca) = (authority("server-ca", "k8shost-server-ca")?, authority("client-ca", "k8shost-client-ca")?);
        let front_proxy_ca = authority("front-proxy-ca", "k8shost-front-proxy-ca")?;
        let leaf = |authority: &CertificateAuthority, stem: &str, request: LeafRequest| {
            authority.load_or_issue(directory, stem, &request, clock).with_context(|| format!("certificate {stem:?}"))
        };
        let server = |name: &str, dns_names: Vec<String>, ip_addresses: Vec<IpAddr>| LeafRequest {
            common_name: name.into(),
            organizations: vec![],
            dns_names,
            ip_addresses,
            server: true,
            client: false,
            validity: YEAR,
        };
        let client = |name: &str, organization: &str| LeafRequest {
            common_name: name.into(),
            organizations: vec![organization.into()],
            dns_names: vec![],
            ip_addresses: vec![],
            server: false,
            client: true,
            validity: YEAR,
        };
        let serving = leaf(&server_ca, "serving-kube-apiserver", server("kube-apiserver", names.dns_names, names.addresses))?;
        let node_serving = leaf(
            &client_ca,
            "serving-kubelet",
            server(names.node_name, vec![names.node_name.to_owned()], vec![names.node_address, IpAddr::from([127, 0, 0, 1])]),
        )?;
        let admin = leaf(&client_ca, "client-admin", client("system:admin", "system:masters"))?;
        let node_client = leaf(&client_ca, "client-kube-apiserver", client("system:apiserver-kubelet-client", "system:masters"))?;
        let front_proxy_client = leaf(&front_proxy_ca, "client-front-proxy", LeafRequest { organizations: vec![], ..client(FRONT_PROXY, "") })?;
        let service_account_key = SigningKey::load_or_create(&directory.join("service.key")).context("service account signing key")?;
        let client_ca = Arc::new(client_ca);
        Ok(Self { server_ca, client_ca, serving, admin, node_client, node_serving, front_proxy_ca, front_proxy_client, service_account_key })
    }

    /// When the first of them is to be issued again.
    pub fn renewed_from(&self) -> Result<Timestamp> {
        let all = [&self.serving, &self.admin, &self.node_client, &self.node_serving, &self.front_proxy_client];
        let times: Vec<_> = all.iter().map(|issued| pki::renewal_of(&issued.certificate_pem)).collect::<Result<_, _>>()?;
        Ok(times.into_iter().min().unwrap_or(Timestamp::MAX))
    }
}
