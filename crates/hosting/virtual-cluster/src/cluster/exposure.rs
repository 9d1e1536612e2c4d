//! Exposure: a Service of the host cluster that leads to a virtual cluster's API, by the address that means no other.
use super::provision::owned;
use super::secrets::{create, request, written};
use crate::kinds::Cluster;
use crate::names;
use api_client::{Access, is_not_found, kube};
use controller_kit::Error;
use http::Method;
use serde_json::{Value, json};

/// K3k's name of the port.
const PORT: &str = "k3s-server-port";

/// The objects an exposed Cluster has, or none.
fn objects(cluster: &Cluster, access: &Access) -> Option<(Value, Option<Value>)> {
    let expose = cluster.spec.expose.as_deref()?;
    let mut port = json!({"name": PORT, "protocol": "TCP", "port": 443, "targetPort": PORT});
    let kind = match (&expose.load_balancer, &expose.node_port) {
        // Zero or less: not to be exposed.
        (Some(balancer), _) => match balancer.server_port {
            Some(number) if number <= 0 => return None,
            Some(number) => {
                port["port"] = json!(number);
                "LoadBalancer"
            }
            None => "LoadBalancer",
        },
        (None, Some(node)) => {
            if let Some(number) = node.server_port {
                port["nodePort"] = json!(number);
            }
            "NodePort"
        }
        (None, None) => return None,
    };
    let name = names::service(cluster.metadata.name.as_deref().unwrap_or_default());
    let mut metadata = owned(cluster, &name);
    metadata["annotations"] = json!(expose.annotations);
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"type": kind, "ports": [port]}});
    let slice = access.address.map(|address| {
        let mut metadata = owned(cluster, &name);
        metadata["labels"]["kubernetes.io/service-name"] = json!(name);
        metadata["labels"]["endpointslice.kubernetes.io/managed-by"] = json!("k3k-cluster-controller.k3k.io");
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata,
            "addressType": if address.is_ipv4() { "IPv4" } else { "IPv6" },
            "ports": [{"name": PORT, "protocol": "TCP", "port": port_of(&access.host)}],
            "endpoints": [{"addresses": [address], "conditions": {"ready": true}}],
        })
    });
    Some((service, slice))
}

/// Where the server listens, at whichever address.
fn port_of(host: &str) -> u16 {
    host.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(443)
}

pub async fn ensure(client: &kube::Client, cluster: &Cluster, access: &Access) -> Result<(), Error> {
    let namespace = cluster.metadata.namespace.as_deref().unwrap_or_default();
    let name = cluster.metadata.name.as_deref().unwrap_or_default();
    let Some((service, slice)) = objects(cluster, access) else {
        // A Cluster that was never served has nothing to take away.
        return if cluster.status.host_version.is_empty() { Ok(()) } else { remove(client, namespace, name).await };
    };
    put(client, &services(namespace), &service).await?;
    match slice {
        Some(slice) => put(client, &slices(namespace), &slice).await,
        None => Ok(()),
    }
}

pub async fn remove(client: &kube::Client, namespace: &str, cluster: &str) -> Result<(), Error> {
    let name = names::service(cluster);
    for collection in [slices(namespace), services(namespace)] {
        let request = request(Method::DELETE, &format!("{collection}/{name}"), Vec::new(), "application/json")?;
        match client.request::<Value>(request).await {
            Err(error) if !is_not_found(&error) => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

/// Creates the object, or merges it into the one of its name.
async fn put(client: &kube::Client, collection: &str, object: &Value) -> Result<(), Error> {
    match create::<Value>(client, collection, object).await {
        Err(error) if error.is_already_exists() => {
            let path = format!("{collection}/{}", object["metadata"]["name"].as_str().unwrap_or_default());
            let request = request(Method::PATCH, &written(&path), serde_json::to_vec(object)?, "application/merge-patch+json")?;
            client.request::<Value>(request).await?;
            Ok(())
        }
        done => done.map(drop),
    }
}

fn services(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/services")
}

fn slices(namespace: &str) -> String {
    format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices")
}

#[cfg(test)]
mod tests {
    use super::*;
    use api_client::KeyPair;

    fn check(expose: Value, expected: Option<Value>) {
        let cluster = serde_json::from_value(json!({"metadata": {"name": "mine", "namespace": "team"}, "spec": {"expose": expose}})).unwrap();
        let access = Access {
            host: "10.0.0.1:6443".into(),
            path: "/clusters/mine.team".into(),
            server_ca_pem: String::new(),
            administrator: KeyPair { certificate_pem: String::new(), key_pem: String::new() },
            address: Some("100.64.0.1".parse().unwrap()),
            service_cidr: "10.96.0.0/12".parse().unwrap(),
            cluster_dns: "10.96.0.10".parse().unwrap(),
            tls_names: vec![],
        };
        let found = objects(&cluster, &access);
        assert_eq!(found.as_ref().map(|(service, _)| service["spec"].clone()), expected);
        if let Some((_, Some(slice))) = found {
            assert_eq!((&slice["endpoints"][0]["addresses"], &slice["ports"][0]["port"]), (&json!(["100.64.0.1"]), &json!(6443)));
        }
    }

    #[test]
    fn the_service_is_of_the_kind_and_port_asked_for() {
        let port = |more: Value| {
            let mut port = json!({"name": PORT, "protocol": "TCP", "port": 443, "targetPort": PORT});
            port.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!([port])
        };
        check(json!({}), None);
        check(json!({"nodePort": {}}), Some(json!({"type": "NodePort", "ports": port(json!({}))})));
        check(json!({"nodePort": {"serverPort": 30443}}), Some(json!({"type": "NodePort", "ports": port(json!({"nodePort": 30443}))})));
        check(json!({"loadBalancer": {"serverPort": 8443}}), Some(json!({"type": "LoadBalancer", "ports": port(json!({"port": 8443}))})));
        check(json!({"loadBalancer": {"serverPort": 0}}), None);
    }
}
