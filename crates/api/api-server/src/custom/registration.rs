//! Keeps the APIServices of groups that definitions serve: one for each version, gone with the last definition that has it.
use crate::stored::stored;
use crate::{ApiServer, bootstrap};
use api_builtins::local_api_services::{MANAGED, custom};
use api_meta::{ClusterName, GroupResource};
use api_resource::AnyResource;
use std::collections::BTreeSet;
use store::{Key, Op, Precondition, RangeRequest, Scope, StoreError, Txn};

/// The value of the label of those kept here.
const KEPT: &str = "true";

/// Makes the group's APIServices what its definitions say.
pub(super) async fn register(server: &ApiServer, cluster: &ClusterName, group: &str) -> Result<(), StoreError> {
    let kinds = server.kinds.custom.all(cluster);
    let own = kinds.iter().map(|kind| kind.resource.names()).filter(|names| names.group == group);
    let mut wanted: BTreeSet<&str> = own.map(|names| &*names.version).collect();
    let resource = GroupResource::new("apiregistration.k8s.io", "apiservices");
    let scope = Scope::Resource { cluster: cluster.clone(), resource: resource.clone(), namespace: None };
    for record in server.store.range(RangeRequest { scope, after: None, limit: 0, revision: None }).await?.records {
        let Some((version, of)) = record.key.name().split_once('.') else { continue };
        // Whoever else registered this version has it.
        if of != group || wanted.remove(version) {
            continue;
        }
        if api_meta::Labels::label(&stored(&record).object.meta().labels, MANAGED) == Some(KEPT) {
            let key = record.key.clone();
            let txn = Txn { preconditions: vec![Precondition::AtRevision(key.clone(), record.mod_revision)], ops: vec![Op::Delete { key }] };
            unless_changed(server.store.txn(txn).await)?;
        }
    }
    let now = clock::rfc3339_seconds(server.clock.now());
    for version in wanted {
        let key = Key::new(cluster, &resource, "", &format!("{version}.{group}"));
        let object = custom(group, version, &now);
        let Ok(ops) = bootstrap::first_writes(server, cluster, vec![object]) else { continue };
        unless_changed(server.store.txn(Txn { preconditions: vec![Precondition::Absent(key)], ops }).await)?;
    }
    Ok(())
}

/// Somebody was faster: it is theirs now.
fn unless_changed<T>(result: Result<T, StoreError>) -> Result<(), StoreError> {
    match result {
        Ok(_) | Err(StoreError::PreconditionFailed { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}
