//! Provisioner: opens a cluster and makes what belongs to it here: its kubeconfig, its Service, its addons.
use super::secrets::{self, Secrets};
use super::{addons, exposure};
use crate::effective::{Effective, wanted_snapshot};
use crate::kinds::{Cluster, KubeconfigSecret, MANAGER, Mode, RENEW_AFTER, SECRET_TYPE};
use crate::status::host;
use crate::{kubeconfig, names};
use api_client::join::JoinToken;
use api_client::{Access, Clients, Hosting, HostingError, JoinSecret, kube};
use controller_kit::{Error, ObjectKey, Objects};
use ipnet::{IpNet, Ipv6Net};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::sync::Arc;

/// What is so for all virtual clusters of a server.
#[derive(Clone, Debug)]
pub struct HostFacts {
    /// The version of Kubernetes that the server is.
    pub version: String,
    /// The pod network.
    pub cluster_cidr: IpNet,
    /// Of its second family, which virtual clusters tell nothing of.
    pub second_cluster_cidr: Option<Ipv6Net>,
    /// What a cluster that has the host's storage classes begins with.
    pub storage: StorageObjects,
}

/// CustomResourceDefinitions, kept as they are here, and objects of theirs, which are the cluster's own once they are made.
#[derive(Clone, Debug, Default)]
pub struct StorageObjects {
    pub definitions: Vec<Value>,
    /// By their collection's path.
    pub objects: Vec<(String, Value)>,
}

impl HostFacts {
    /// Asks the host cluster.
    ///
    /// # Errors
    /// When the API can't be asked.
    pub async fn of(client: &kube::Client, cluster_cidr: IpNet) -> Result<Self, kube::Error> {
        Ok(Self { version: client.apiserver_version().await?.git_version, cluster_cidr, second_cluster_cidr: None, storage: StorageObjects::default() })
    }
}

/// What is served, for the status.
#[derive(Clone, Debug)]
pub struct Served {
    pub version: String,
    pub cluster_cidr: IpNet,
    pub service_cidr: IpNet,
    pub cluster_dns: IpAddr,
    pub host_name: String,
    pub address: Option<IpAddr>,
    /// TLS names that mean the cluster.
    pub tls_names: Vec<String>,
}

pub struct Provisioner {
    pub clients: Arc<dyn Clients>,
    pub hosting: Arc<dyn Hosting>,
    pub kubeconfigs: Objects<KubeconfigSecret>,
    pub facts: HostFacts,
}

impl Provisioner {
    /// # Errors
    /// [`Error::Invalid`] when the cluster can't be served as it is wanted, others when it may be later.
    pub async fn provision(&self, cluster: &Cluster, effective: &Effective) -> Result<Served, Error> {
        let secrets = Secrets { client: self.clients.cluster(&host()), cluster };
        let mut settings = effective.settings.clone();
        settings.client_ca = secrets.client_authority().await?;
        match &cluster.spec.token_secret_ref {
            Some(reference) => secrets.check_token(&reference.name).await?,
            None if cluster.spec.mode == Mode::Hcp => secrets.ensure_token().await?,
            None => {}
        }
        if cluster.spec.mode == Mode::Hcp {
            settings.join_secret = Some(secrets.join_secret().await?);
        }
        let join_secret = settings.join_secret.clone();
        if let Some(restore) = settings.restore.as_mut().filter(|restore| restore.request != cluster.status.restored_from) {
            restore.snapshot = secrets.snapshot(wanted_snapshot(cluster)).await?;
        }
        let access = self.hosting.open(&effective.cluster, settings).await.map_err(hosting)?;
        if let Some(JoinSecret(secret)) = join_secret.filter(|_| cluster.spec.token_secret_ref.is_none()) {
            secrets.write_node_token(&JoinToken::render(&access.server_ca_pem, Some("node"), &secret)).await?;
        }
        self.write_kubeconfig(&secrets, cluster, &access).await?;
        exposure::ensure(&secrets.client, cluster, &access).await?;
        if effective.settings.storage_classes.is_some() {
            self.storage(&self.clients.cluster(&effective.cluster)).await?;
        }
        for addon in &cluster.spec.addons {
            let manifests = secrets.values(&addon.secret_ref).await?;
            addons::apply(&self.clients.cluster(&effective.cluster), &addon.secret_ref, &manifests).await?;
        }
        Ok(Served {
            version: self.facts.version.clone(),
            cluster_cidr: self.facts.cluster_cidr,
            service_cidr: access.service_cidr,
            cluster_dns: access.cluster_dns,
            host_name: host_name(&access.host).to_owned(),
            address: access.address,
            tls_names: access.tls_names,
        })
    }

    async fn storage(&self, client: &kube::Client) -> Result<(), Error> {
        api_client::install_definitions(client, &self.facts.storage.definitions).await?;
        for (collection, object) in &self.facts.storage.objects {
            match secrets::create::<Value>(client, collection, object).await {
                Err(error) if !error.is_already_exists() => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    pub async fn remove_exposure(&self, key: &ObjectKey) -> Result<(), Error> {
        exposure::remove(&self.clients.cluster(&host()), &key.namespace, &key.name).await
    }

    async fn write_kubeconfig(&self, secrets: &Secrets<'_>, cluster: &Cluster, access: &Access) -> Result<(), Error> {
        let name = names::kubeconfig(cluster.metadata.name.as_deref().unwrap_or_default());
        let renew = renew_after(&access.administrator.certificate_pem)?;
        let mut secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": SECRET_TYPE,
            "metadata": owned(cluster, &name),
            "stringData": {kubeconfig::KEY: kubeconfig::render(&exposure::url(cluster, access), access)},
        });
        secret["metadata"]["annotations"] = json!({RENEW_AFTER: clock::rfc3339_seconds(renew)});
        let written: KubeconfigSecret = secrets.write(&secret).await?;
        self.kubeconfigs.wrote(&host(), written);
        Ok(())
    }
}

/// After two thirds of its time.
fn renew_after(certificate_pem: &str) -> Result<Timestamp, Error> {
    let (from, until) = pki::validity_of(certificate_pem).map_err(|error| Error::NotYet(format!("the administrator's certificate: {error}")))?;
    let time = SignedDuration::from_secs(until.as_second().saturating_sub(from.as_second()) / 3 * 2);
    Ok(from.saturating_add(time).unwrap_or(Timestamp::MAX))
}

/// A server's refusal or trouble, as controllers tell it.
pub fn hosting(error: HostingError) -> Error {
    match error {
        HostingError::Refused(why) => Error::Invalid(why),
        HostingError::Store(source) => {
            let mut why = source.to_string();
            let mut cause = std::error::Error::source(&*source);
            while let Some(next) = cause {
                why = format!("{why}: {next}");
                cause = next.source();
            }
            Error::NotYet(format!("the cluster's data could not be read or written: {why}"))
        }
    }
}

fn host_name(host: &str) -> &str {
    host.rsplit_once(':').map_or(host, |(name, _)| name).trim_start_matches('[').trim_end_matches(']')
}

/// Metadata of an object that goes with its Cluster.
pub fn owned(cluster: &Cluster, name: &str) -> Value {
    let ObjectMeta { name: owner, uid, namespace, .. } = &cluster.metadata;
    json!({
        "name": name,
        "namespace": namespace,
        "labels": {"app.kubernetes.io/managed-by": MANAGER},
        "ownerReferences": [
            {"apiVersion": "k3k.io/v1beta1", "kind": "Cluster", "name": owner, "uid": uid, "controller": true, "blockOwnerDeletion": true}
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_a_name_with_and_without_a_port() {
        for (host, name) in [("10.0.0.1:6443", "10.0.0.1"), ("api.example.com", "api.example.com"), ("[fd00::1]:6443", "fd00::1")] {
            assert_eq!(host_name(host), name);
        }
    }
}
