//! The admin kubeconfig.
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// A kubeconfig for one server with a client certificate.
pub fn render(server: &str, ca_pem: &str, certificate_pem: &str, key_pem: &str) -> String {
    let encode = |text: &str| STANDARD.encode(text);
    format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: k8shost\n  cluster:\n    server: {server}\n    certificate-authority-data: {}\ncontexts:\n- name: k8shost\n  context:\n    cluster: k8shost\n    user: admin\ncurrent-context: k8shost\nusers:\n- name: admin\n  user:\n    client-certificate-data: {}\n    client-key-data: {}\n",
        encode(ca_pem),
        encode(certificate_pem),
        encode(key_pem)
    )
}
