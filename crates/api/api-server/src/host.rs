//! What admission's webhooks and policies ask of the server: permissions, kinds, and to make whole what they changed.
use crate::ApiServer;
use crate::decode;
use crate::kinds::Kind;
use api_admission::{Host, Served, Way};
use api_auth::{Attributes, Decision};
use api_meta::{ClusterName, ClusterSettings, join_api_version, split_api_version};
use serde_json::Value;
use std::sync::Arc;

impl Host for ApiServer {
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        self.authorizer.authorize(attributes)
    }

    fn serves(&self, cluster: &ClusterName, group: &str, version: &str, kind: &str) -> Option<Served> {
        self.kind_of(cluster, group, version, kind).map(|kind| served(&kind))
    }

    fn versions(&self, cluster: &ClusterName, group: &str, resource: &str) -> Vec<Served> {
        let is = |kind: &Kind| kind.names().group == group && kind.names().plural == resource;
        self.kinds.all(cluster).iter().filter(|kind| is(kind)).map(served).collect()
    }

    fn settle(&self, cluster: &ClusterName, object: &mut Value) -> Result<(), String> {
        let text = |field: &str| object[field].as_str().unwrap_or_default().to_owned();
        let (api_version, kind_name) = (text("apiVersion"), text("kind"));
        let (group, version) = split_api_version(&api_version);
        let mut dropped = Vec::new();
        if let Some(kind) = self.kind_of(cluster, group, version, &kind_name) {
            decode::checked(&kind.schema(), object, &mut dropped)?;
            kind.default(object);
            return Ok(());
        }
        // A subresource's own kind has no resource, but a schema.
        let schema = decode::foreign_schema(group, version, &kind_name).map_err(|status| status.message)?;
        decode::checked(&schema, object, &mut dropped)
    }

    fn cluster_settings(&self, cluster: &ClusterName) -> Option<Arc<ClusterSettings>> {
        self.tenants.get(cluster).map(|tenant| tenant.settings.clone())
    }

    fn clusters_in(&self, namespace: &str) -> Vec<ClusterName> {
        self.tenants.hosted_in(namespace)
    }

    fn way(&self, cluster: &ClusterName) -> Way {
        self.tenants.way(cluster)
    }

    fn convert(&self, cluster: &ClusterName, object: &Value, version: &str) -> Result<Value, String> {
        let (group, own) = split_api_version(object["apiVersion"].as_str().unwrap_or_default());
        let name = object["kind"].as_str().unwrap_or_default();
        if self.kind_of(cluster, group, version, name).is_none() {
            return Err(format!("{name} is not served in version {version:?} of group {group:?}"));
        }
        let to = join_api_version(group, version);
        let own = self.kind_of(cluster, group, own, name);
        let mut converted = match own.as_ref().and_then(|kind| kind.versions()) {
            Some(versions) => self.converter.one_blocking(cluster, versions, object.clone(), &to).map_err(|status| status.message)?,
            None => {
                let mut same = object.clone();
                same["apiVersion"] = to.into();
                same
            }
        };
        self.settle(cluster, &mut converted)?;
        Ok(converted)
    }
}

impl ApiServer {
    fn kind_of(&self, cluster: &ClusterName, group: &str, version: &str, name: &str) -> Option<Kind> {
        let is = |kind: &Kind| kind.names().group == group && kind.names().version == version && kind.names().kind == name;
        // Several resources may speak a kind; the stored one is its own.
        self.kinds.all(cluster).into_iter().find(is)
    }
}

fn served(kind: &Kind) -> Served {
    let names = kind.names();
    Served {
        group: names.group.to_string(),
        version: names.version.to_string(),
        kind: names.kind.to_string(),
        resource: names.plural.to_string(),
        namespaced: kind.namespaced(),
        schema: kind.schema(),
    }
}
