//! Authorities of one's own: the Secrets that a Cluster names, made from a directory of k3s's layout.
use anyhow::{Context, Result};
use api_client::is_conflict;
use command_line::Session;
use serde_json::{Value, json};
use std::path::Path;

/// Field of the Cluster, part of the Secret's name, file below the directory, whether it has a certificate.
const SOURCES: [(&str, &str, &str, bool); 6] = [
    ("clientCA", "client-ca", "client-ca", true),
    ("serverCA", "server-ca", "server-ca", true),
    ("requestHeaderCA", "request-header-ca", "request-header-ca", true),
    ("etcdServerCA", "etcd-server-ca", "etcd/server-ca", true),
    ("etcdPeerCA", "etcd-peer-ca", "etcd/peer-ca", true),
    ("serviceAccountToken", "service-account-token", "service", false),
];

/// Makes the Secrets; gives the Cluster's `customCAs`.
pub async fn create(session: &Session, namespace: &str, cluster: &str, directory: &Path) -> Result<Value> {
    let mut sources = json!({});
    for (field, part, file, certified) in SOURCES {
        let read = |extension: &str| {
            let path = directory.join(format!("{file}.{extension}"));
            std::fs::read_to_string(&path).with_context(|| format!("reading {path:?}"))
        };
        let name = format!("k3k-{cluster}-{part}");
        let mut data = json!({"tls.key": read("key")?, "tls.crt": ""});
        if certified {
            data["tls.crt"] = read("crt")?.into();
        }
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": {"name": name}, "stringData": data});
        match session.create(&format!("/api/v1/namespaces/{namespace}/secrets"), &secret).await {
            Err(error) if !is_conflict(&error) => return Err(error).with_context(|| format!("creating secret {name:?}")),
            _ => {}
        }
        sources[field] = json!({"secretName": name});
    }
    Ok(json!({"enabled": true, "sources": sources}))
}
