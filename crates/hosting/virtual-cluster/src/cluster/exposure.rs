//! Exposure: what of the host cluster leads to a virtual cluster's API: a Service, by the address that means no other, and an Ingress.
use super::provision::owned;
use super::secrets::{request, written};
use crate::kinds::{Cluster, ExposedHosts};
use crate::{kubeconfig, names};
use api_client::{Access, is_not_found, kube};
use controller_kit::Error;
use http::Method;
use serde_json::{Value, json};
use std::net::IpAddr;

/// K3k's name of the port.
const PORT: &str = "k3s-server-port";
const HTTPS: u16 = 443;
/// Has FiberLB lead TLS to the backend as it is.
const PASSTHROUGH: &str = "fiberlb.plasmacloud.io/ssl-passthrough";

/// Where the objects are that an exposed Cluster may have, in the order they are made.
fn places(namespace: &str, cluster: &str) -> [String; 3] {
    let service = names::service(cluster);
    [
        format!("/api/v1/namespaces/{namespace}/services/{service}"),
        format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices/{service}"),
        format!("/apis/networking.k8s.io/v1/namespaces/{namespace}/ingresses/{}", names::ingress(cluster)),
    ]
}

/// Whether a Cluster is reached by host names.
fn ingress(cluster: &Cluster) -> Option<&ExposedHosts> {
    cluster.spec.expose.as_deref()?.ingress.as_ref()
}

/// The URL of a cluster for its administrator: the first name it is exposed by, else its path at the server.
pub fn url(cluster: &Cluster, access: &Access) -> String {
    match access.tls_names.first().filter(|_| ingress(cluster).is_some()) {
        Some(name) => kubeconfig::url_by_name(name),
        None => kubeconfig::url_by_path(access),
    }
}

/// What is to be at each of these [`places`].
fn objects(cluster: &Cluster, access: &Access) -> [Option<Value>; 3] {
    let Some(service) = service(cluster) else { return [None, None, None] };
    let slice = access.address.map(|address| slice(cluster, address, port_of(&access.host)));
    [Some(service), slice, ingress(cluster).map(|hosts| hosts_led_in(cluster, hosts, &access.tls_names))]
}

fn service(cluster: &Cluster) -> Option<Value> {
    let expose = cluster.spec.expose.as_deref()?;
    let mut port = json!({"name": PORT, "protocol": "TCP", "port": HTTPS, "targetPort": PORT});
    let kind = match (&expose.load_balancer, &expose.node_port, &expose.ingress) {
        // Zero or less: not to be exposed.
        (Some(balancer), _, _) => match balancer.server_port {
            Some(number) if number <= 0 => return None,
            Some(number) => {
                port["port"] = json!(number);
                "LoadBalancer"
            }
            None => "LoadBalancer",
        },
        (None, Some(node), _) => {
            if let Some(number) = node.server_port {
                port["nodePort"] = json!(number);
            }
            "NodePort"
        }
        (None, None, Some(_)) => "ClusterIP",
        (None, None, None) => return None,
    };
    let mut metadata = owned(cluster, &names::service(name_of(cluster)));
    metadata["annotations"] = json!(expose.annotations);
    Some(json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"type": kind, "ports": [port]}}))
}

fn slice(cluster: &Cluster, address: IpAddr, port: u16) -> Value {
    let name = names::service(name_of(cluster));
    let mut metadata = owned(cluster, &name);
    metadata["labels"]["kubernetes.io/service-name"] = json!(name);
    metadata["labels"]["endpointslice.kubernetes.io/managed-by"] = json!("k3k-cluster-controller.k3k.io");
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata,
        "addressType": if address.is_ipv4() { "IPv4" } else { "IPv6" },
        "ports": [{"name": PORT, "protocol": "TCP", "port": port}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": true}}],
    })
}

/// The Ingress that leads the cluster's names to its API. TLS is never ended on the way, or nobody's certificate would arrive.
fn hosts_led_in(cluster: &Cluster, hosts: &ExposedHosts, names: &[String]) -> Value {
    let mut metadata = owned(cluster, &names::ingress(name_of(cluster)));
    metadata["annotations"] = json!({PASSTHROUGH: "true"});
    for (name, value) in &hosts.annotations {
        metadata["annotations"][name] = json!(value);
    }
    let backend = json!({"service": {"name": names::service(name_of(cluster)), "port": {"number": HTTPS}}});
    let rule = |host: &String| json!({"host": host, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}});
    let mut spec = json!({"rules": names.iter().map(rule).collect::<Vec<_>>()});
    if !hosts.ingress_class_name.is_empty() {
        spec["ingressClassName"] = json!(hosts.ingress_class_name);
    }
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata, "spec": spec})
}

fn name_of(cluster: &Cluster) -> &str {
    cluster.metadata.name.as_deref().unwrap_or_default()
}

/// Where the server listens, at whichever address.
fn port_of(host: &str) -> u16 {
    host.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(443)
}

/// Makes what a Cluster has, and takes away what it has no longer.
pub async fn ensure(client: &kube::Client, cluster: &Cluster, access: &Access) -> Result<(), Error> {
    if ingress(cluster).is_some() && access.tls_names.is_empty() {
        return Err(Error::NotYet("expose.ingress: all names in tlsSANs are another cluster's or the server's".to_owned()));
    }
    let namespace = cluster.metadata.namespace.as_deref().unwrap_or_default();
    for (place, object) in places(namespace, name_of(cluster)).into_iter().zip(objects(cluster, access)) {
        match object {
            Some(object) => {
                let path = format!("{}&force=true", written(&place));
                client.request::<Value>(request(Method::PATCH, &path, serde_json::to_vec(&object)?, "application/apply-patch+yaml")?).await?;
            }
            // A Cluster that was never served has nothing to take away.
            None if cluster.status.host_version.is_empty() => {}
            None => delete(client, &place).await?,
        }
    }
    Ok(())
}

pub async fn remove(client: &kube::Client, namespace: &str, cluster: &str) -> Result<(), Error> {
    for place in places(namespace, cluster).into_iter().rev() {
        delete(client, &place).await?;
    }
    Ok(())
}

async fn delete(client: &kube::Client, path: &str) -> Result<(), Error> {
    match client.request::<Value>(request(Method::DELETE, path, Vec::new(), "application/json")?).await {
        Err(error) if !is_not_found(&error) => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api_client::KeyPair;

    fn cluster(expose: Value) -> Cluster {
        serde_json::from_value(json!({"metadata": {"name": "mine", "namespace": "team"}, "spec": {"expose": expose}})).unwrap()
    }

    fn access() -> Access {
        Access {
            host: "10.0.0.1:6443".into(),
            path: "/clusters/mine.team".into(),
            server_ca_pem: String::new(),
            administrator: KeyPair { certificate_pem: String::new(), key_pem: String::new() },
            address: Some("100.64.0.1".parse().unwrap()),
            service_cidr: "10.96.0.0/12".parse().unwrap(),
            cluster_dns: "10.96.0.10".parse().unwrap(),
            tls_names: vec!["mine.example.com".into(), "other.example.com".into()],
        }
    }

    fn check(expose: Value, expected: Option<Value>) {
        let [service, slice, ingress] = objects(&cluster(expose), &access());
        assert_eq!(service.map(|service| service["spec"].clone()), expected);
        assert_eq!((slice.is_some(), ingress), (expected.is_some(), None));
        if let Some(slice) = slice {
            assert_eq!((&slice["endpoints"][0]["addresses"], &slice["ports"][0]["port"]), (&json!(["100.64.0.1"]), &json!(6443)));
        }
    }

    #[test]
    fn an_ingress_leads_every_name_to_the_service_without_ending_tls() {
        let exposed = cluster(json!({"ingress": {"ingressClassName": "edge", "annotations": {"a": "b"}}}));
        let [service, slice, ingress] = objects(&exposed, &access()).map(Option::unwrap);
        assert_eq!((&service["spec"]["type"], &slice["endpoints"][0]["addresses"]), (&json!("ClusterIP"), &json!(["100.64.0.1"])));
        assert_eq!((&ingress["metadata"]["name"], &ingress["metadata"]["annotations"]), (&json!("k3k-mine-ingress"), &json!({PASSTHROUGH: "true", "a": "b"})));
        let backend = json!({"service": {"name": "k3k-mine-service", "port": {"number": 443}}});
        let rule = |host: &str| json!({"host": host, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}});
        assert_eq!(ingress["spec"], json!({"ingressClassName": "edge", "rules": [rule("mine.example.com"), rule("other.example.com")]}));
        assert_eq!(url(&exposed, &access()), "https://mine.example.com");
        assert_eq!(url(&cluster(json!({"nodePort": {}})), &access()), "https://10.0.0.1:6443/clusters/mine.team");
        let [_, _, ingress] = objects(&cluster(json!({"ingress": {}})), &access());
        assert_eq!(ingress.unwrap()["spec"]["ingressClassName"], Value::Null, "the default class is the cluster's to choose");
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
