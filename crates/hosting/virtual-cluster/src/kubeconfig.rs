//! Kubeconfigs: how a cluster's administrator reaches it.
use api_client::Access;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The key of the Secret that holds it.
pub const KEY: &str = "kubeconfig.yaml";

/// A kubeconfig with everything in it, its parts named as K3k names them.
pub fn render(access: &Access) -> String {
    let encode = |text: &str| STANDARD.encode(text);
    format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: default\n  cluster:\n    server: https://{}{}\n    certificate-authority-data: {}\ncontexts:\n- name: default\n  context:\n    cluster: default\n    user: default\ncurrent-context: default\nusers:\n- name: default\n  user:\n    client-certificate-data: {}\n    client-key-data: {}\n",
        access.host,
        access.path,
        encode(&access.server_ca_pem),
        encode(&access.administrator.certificate_pem),
        encode(&access.administrator.key_pem)
    )
}

/// The same kubeconfig with another `host:port` of the server; its path stays.
pub fn at_host(kubeconfig: &str, host: &str) -> String {
    let line = |line: &str| match line.split_once("server: https://") {
        Some((before, url)) => format!("{before}server: https://{host}{}", url.find('/').map_or("", |path| &url[path..])),
        None => line.to_owned(),
    };
    kubeconfig.lines().map(|text| line(text) + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use api_client::KeyPair;

    #[test]
    fn the_host_changes_and_the_path_stays() {
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
        let text = render(&access);
        assert!(text.contains("    server: https://10.0.0.1:6443/clusters/mine.team\n"), "{text}");
        let moved = at_host(&text, "api.example.com:443");
        assert_eq!(moved, text.replace("10.0.0.1:6443", "api.example.com:443"));
        let parsed: kube::config::Kubeconfig = kube::config::Kubeconfig::from_yaml(&moved).unwrap();
        assert_eq!(parsed.current_context.as_deref(), Some("default"));
    }
}
