//! The ledger as controllers read and write it.
use api_cache::AddressLedger;
use api_meta::ClusterName;
use controller_kit::{Error, Kit, ObjectKey, Objects};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::sync::Arc;

/// The ConfigMap the ledger is kept in.
#[derive(Clone)]
pub struct LedgerObject {
    pub objects: Objects<ConfigMap>,
}

impl LedgerObject {
    pub fn of(kit: &Kit) -> Self {
        Self { objects: kit.selected::<ConfigMap>(&format!("metadata.name={}", AddressLedger::NAME)) }
    }

    pub fn key() -> ObjectKey {
        ObjectKey::new(&ClusterName::root(), AddressLedger::NAMESPACE, AddressLedger::NAME)
    }

    pub fn get(&self) -> Option<Arc<ConfigMap>> {
        self.objects.get(&Self::key())
    }

    /// Writes what was decided from `read`. A conflict says that another was faster: the decision has to be made again.
    pub async fn write(&self, read: Option<&ConfigMap>, ledger: &AddressLedger) -> Result<(), Error> {
        let metadata = read.map(|object| object.metadata.clone()).unwrap_or_else(|| ObjectMeta {
            name: Some(AddressLedger::NAME.into()),
            namespace: Some(AddressLedger::NAMESPACE.into()),
            ..ObjectMeta::default()
        });
        let object = ConfigMap { metadata, data: Some(ledger.write()), ..ConfigMap::default() };
        match read {
            Some(_) => self.objects.replace(&ClusterName::root(), &object).await?,
            None => self.objects.create(&ClusterName::root(), &object).await?,
        };
        Ok(())
    }
}
