//! Kubeconfigs: how a cluster's administrator reaches it.
use api_client::Access;
use api_meta::ClusterName;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The key of the Secret that holds it.
pub const KEY: &str = "kubeconfig.yaml";

/// The URL of a cluster by a host name that means it.
pub fn url_by_name(name: &str) -> String {
    format!("https://{name}")
}

/// The URL of a cluster by its path at the server.
pub fn url_by_path(access: &Access) -> String {
    format!("https://{}{}", access.host, access.path)
}

/// A kubeconfig with everything in it, its parts named as K3k names them.
pub fn render(url: &str, access: &Access) -> String {
    let encode = |text: &str| STANDARD.encode(text);
    format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: default\n  cluster:\n    server: {url}\n    certificate-authority-data: {}\ncontexts:\n- name: default\n  context:\n    cluster: default\n    user: default\ncurrent-context: default\nusers:\n- name: default\n  user:\n    client-certificate-data: {}\n    client-key-data: {}\n",
        encode(&access.server_ca_pem),
        encode(&access.administrator.certificate_pem),
        encode(&access.administrator.key_pem)
    )
}

/// Whether a kubeconfig leads to its cluster by a host name of the cluster's own.
pub fn is_by_name(kubeconfig: &str) -> bool {
    kubeconfig.lines().any(|line| line.split_once("server: https://").is_some_and(|(_, url)| !url.contains('/')))
}

/// The same kubeconfig by the cluster's path at a server, `host:port`. One that leads by a name has no path yet.
pub fn at_server(kubeconfig: &str, host: &str, cluster: &ClusterName) -> String {
    let path = |url: &str| url.find('/').map_or_else(|| format!("/clusters/{cluster}"), |at| url[at..].to_owned());
    let line = |line: &str| match line.split_once("server: https://") {
        Some((before, url)) => format!("{before}server: https://{host}{}", path(url)),
        None => line.to_owned(),
    };
    kubeconfig.lines().map(|text| line(text) + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use api_client::KeyPair;

    #[test]
    fn a_cluster_is_reached_by_its_path_or_by_a_name() {
        let access = Access {
            host: "10.0.0.1:6443".into(),
            path: "/clusters/mine.team".into(),
            server_ca_pem: "ca".into(),
            administrator: KeyPair { certificate_pem: "certificate".into(), key_pem: "key".into() },
            address: None,
            service_cidr: "10.96.0.0/12".parse().unwrap(),
            cluster_dns: "10.96.0.10".parse().unwrap(),
            tls_names: vec![],
        };
        let text = render(&url_by_path(&access), &access);
        assert!(text.contains("    server: https://10.0.0.1:6443/clusters/mine.team\n"), "{text}");
        let cluster = ClusterName::hosted("team", "mine").unwrap();
        let moved = at_server(&text, "api.example.com:443", &cluster);
        assert_eq!(moved, text.replace("10.0.0.1:6443", "api.example.com:443"));
        let parsed: kube::config::Kubeconfig = kube::config::Kubeconfig::from_yaml(&moved).unwrap();
        assert_eq!(parsed.current_context.as_deref(), Some("default"));
        let named = render(&url_by_name("mine.example.com"), &access);
        assert!(is_by_name(&named) && !is_by_name(&text), "{named}");
        assert_eq!(at_server(&named, "10.0.0.1:6443", &cluster), text);
    }
}
