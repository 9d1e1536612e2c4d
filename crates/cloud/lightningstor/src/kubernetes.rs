//! LightningStor in Kubernetes: the parameters of its classes, and the objects every cluster starts with.
use crate::{DRIVER, Error};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What a class, and whoever makes volumes of it, can say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameters {
    pub volume_type: String,
    pub replication: u32,
    pub org_id: String,
    pub project_id: String,
}

impl Parameters {
    /// # Errors
    /// An unknown parameter, or a value that is none.
    pub fn parse(parameters: &BTreeMap<String, String>) -> Result<Self, Error> {
        let mut all = Self { volume_type: "ssd".into(), replication: 1, org_id: String::new(), project_id: String::new() };
        for (key, value) in parameters {
            match key.as_str() {
                "type" => all.volume_type = value.clone(),
                "replication" => all.replication = value.parse().map_err(|_| Error::Invalid(format!("parameter replication {value:?} is no number")))?,
                "org_id" => all.org_id = value.clone(),
                "project_id" => all.project_id = value.clone(),
                // What the provisioner adds of its own: names of the claim and the volume.
                other if other.starts_with("csi.storage.k8s.io/") => {}
                other => return Err(Error::Invalid(format!("parameter {other:?} is none of type, replication, org_id, project_id"))),
            }
        }
        Ok(all)
    }
}

/// The driver and its two classes.
pub fn objects() -> Vec<Value> {
    let class = |name: &str, kind: &str, binding: &str, reclaim: &str, default: bool| {
        json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
            "metadata": {"name": name, "annotations": {"storageclass.kubernetes.io/is-default-class": default.to_string()}},
            "provisioner": DRIVER, "parameters": {"type": kind, "replication": "1"},
            "volumeBindingMode": binding, "allowVolumeExpansion": true, "reclaimPolicy": reclaim,
        })
    };
    let driver = json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": {"name": DRIVER},
        "spec": {"attachRequired": true, "podInfoOnMount": false, "fsGroupPolicy": "File", "storageCapacity": true, "volumeLifecycleModes": ["Persistent"]},
    });
    vec![driver, class("lightningstor-ssd", "ssd", "WaitForFirstConsumer", "Delete", true), class("lightningstor-hdd", "hdd", "Immediate", "Retain", false)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_the_documented_ones() {
        let parse = |pairs: &[(&str, &str)]| Parameters::parse(&pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect());
        let all = parse(&[("type", "hdd"), ("replication", "3"), ("org_id", "o"), ("project_id", "p"), ("csi.storage.k8s.io/pvc/name", "x")]).unwrap();
        assert_eq!((all.volume_type.as_str(), all.replication, all.org_id.as_str(), all.project_id.as_str()), ("hdd", 3, "o", "p"));
        assert!(parse(&[("replication", "many")]).unwrap_err().to_string().contains("is no number"));
        assert!(parse(&[("sort", "ssd")]).unwrap_err().to_string().contains("\"sort\" is none of"));
    }
}
