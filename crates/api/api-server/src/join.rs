//! What machines that join a cluster are told, and the secret that lets them ask.
use crate::ApiServer;
use crate::body::{self, Answer};
use crate::tenants::TenantRecord;
use api_auth::User;
use api_meta::{ClusterName, NodeConfig, Status};
use http::{HeaderValue, StatusCode, header};
use pki::{CertificateAuthority, LeafRequest};
use std::sync::Arc;
use std::time::Duration;

/// What the host cluster's nodes are told, and what lets a machine join as one.
pub struct Joining {
    /// `None`: only bootstrap tokens let machines in.
    pub secret: Option<String>,
    pub node_config: NodeConfig,
}

/// Of a machine that came with the secret: as with a bootstrap token, all it may do is ask for a certificate.
const JOINER: &str = "system:bootstrap:node";
const BOOTSTRAPPERS: &str = "system:bootstrappers";
/// What the API server shows a virtual cluster's own nodes is made for one connection.
const SHORT: Duration = Duration::from_hours(1);
const KUBELET_CLIENT: &str = "system:apiserver-kubelet-client";

impl ApiServer {
    /// The user of a cluster's join secret; `None` for every other token.
    pub(crate) fn joiner(&self, cluster: &ClusterName, token: &str) -> Option<User> {
        let secret =
            if cluster.is_root() { self.joining.secret.clone() } else { self.tenants.get(cluster)?.settings.join_secret.clone().map(|secret| secret.0) };
        let secret = secret.filter(|secret| !secret.is_empty())?;
        aws_lc_rs::constant_time::verify_slices_are_equal(secret.as_bytes(), token.as_bytes()).ok()?;
        Some(User::authenticated(JOINER, [BOOTSTRAPPERS.to_owned()]))
    }

    /// The authority of the server's certificate, for whoever asks: who has a token knows its hash.
    pub(crate) fn ca_certificates(&self) -> Answer {
        let mut answer = body::text(StatusCode::OK, self.tenancy.server_ca_pem.clone());
        answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        answer
    }

    pub(crate) async fn node_config(&self, cluster: &ClusterName) -> Result<Answer, Status> {
        let mut config = self.joining.node_config.clone();
        if !cluster.is_root() {
            let record = self.own_nodes_record(cluster).await?;
            config.service_cidr = record.service_cidr;
            // A virtual cluster has one family.
            (config.second_cluster_cidr, config.second_service_cidr) = (None, None);
            config.cluster_dns = record.cluster_dns;
            config.address = self.tenants.address(record.number).map(Into::into);
            config.client_ca_pem = record.client_ca.certificate_pem;
        }
        Ok(body::json(StatusCode::OK, &serde_json::to_value(&config).map_err(Status::internal)?))
    }

    /// TLS to the own nodes of a cluster: they trust its authority, and have their certificates of it.
    pub(crate) async fn node_tls(&self, cluster: &ClusterName) -> Result<Arc<rustls::ClientConfig>, Status> {
        if !self.has_own_nodes(cluster) {
            return Ok(self.nodes.tls.clone());
        }
        let pair = self.own_nodes_record(cluster).await?.client_ca;
        let authority = CertificateAuthority::from_pem(&pair.certificate_pem, &pair.key_pem).map_err(Status::internal)?;
        let request = LeafRequest {
            common_name: KUBELET_CLIENT.into(),
            organizations: vec![],
            dns_names: vec![],
            ip_addresses: vec![],
            server: false,
            client: true,
            validity: SHORT,
        };
        let issued = authority.issue(&request, &*self.clock).map_err(Status::internal)?;
        let config = pki::client_config(&pair.certificate_pem, Some((&issued.certificate_pem, &issued.key_pem))).map_err(Status::internal)?;
        Ok(Arc::new(config))
    }

    /// Whether the cluster's pods run on machines of its own.
    pub(crate) fn has_own_nodes(&self, cluster: &ClusterName) -> bool {
        self.tenants.get(cluster).is_some_and(|tenant| tenant.settings.own_nodes)
    }

    async fn own_nodes_record(&self, cluster: &ClusterName) -> Result<TenantRecord, Status> {
        let none = || Status::bad_request("machines join the host cluster and virtual clusters of mode hcp only");
        if !self.has_own_nodes(cluster) {
            return Err(none());
        }
        let found = self.store.get(&TenantRecord::key(cluster)).await.map_err(crate::errors::from_store)?;
        TenantRecord::decode(&*found.ok_or_else(none)?).map_err(Status::internal)
    }

    /// The certificate a request asks for, signed by the cluster's client authority.
    ///
    /// # Errors
    /// What is wrong with the request, or that the cluster is gone.
    pub async fn sign_certificate(&self, cluster: &ClusterName, request_pem: &str, usage: pki::Usage, validity: Duration) -> Result<String, String> {
        let authority = if cluster.is_root() {
            self.client_authority.clone()
        } else {
            let found = self.store.get(&TenantRecord::key(cluster)).await.map_err(|error| error.to_string())?;
            let record = TenantRecord::decode(&*found.ok_or("the cluster is gone")?).map_err(|error| error.to_string())?;
            let pair = record.client_ca;
            Arc::new(CertificateAuthority::from_pem(&pair.certificate_pem, &pair.key_pem).map_err(|error| error.to_string())?)
        };
        authority.sign_request(request_pem, usage, validity, &*self.clock).map_err(|error| error.to_string())
    }
}
