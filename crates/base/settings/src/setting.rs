//! Setting: the one table that flags, environment variables, file keys and the reference come from.
use std::fmt;
use std::path::PathBuf;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettingKind {
    Text,
    /// May be given several times, or with commas; the last source that gives any wins whole.
    List,
    /// As List, but commas belong to the value (`--kubelet-arg=a=1,2`).
    Arguments,
    Switch,
}

/// One setting: `--name`, `K8SHOST_NAME`, and `name:` in the file.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    pub name: &'static str,
    pub kind: SettingKind,
    pub value_name: &'static str,
    /// "" when there is none, or when it depends on other settings or the machine (the help says how).
    pub default: &'static str,
    pub help: &'static str,
}

impl Setting {
    const fn text(name: &'static str, value_name: &'static str, default: &'static str, help: &'static str) -> Self {
        Self { name, kind: SettingKind::Text, value_name, default, help }
    }
    const fn list(name: &'static str, value_name: &'static str, help: &'static str) -> Self {
        Self { name, kind: SettingKind::List, value_name, default: "", help }
    }
    const fn arguments(name: &'static str, help: &'static str) -> Self {
        Self { name, kind: SettingKind::Arguments, value_name: "KEY=VALUE", default: "", help }
    }
    const fn switch(name: &'static str, help: &'static str) -> Self {
        Self { name, kind: SettingKind::Switch, value_name: "", default: "", help }
    }
    /// `K8SHOST_HTTPS_LISTEN_PORT` of `https-listen-port`.
    pub fn variable(&self) -> String {
        format!("K8SHOST_{}", self.name.to_uppercase().replace('-', "_"))
    }
}

/// The settings of `k8shost server`.
pub const SERVER: &[Setting] = &[
    Setting::text("config", "FILE", "/etc/k8shost/config.yaml", "Settings in YAML, by the names of these flags"),
    Setting::text("data-dir", "DIRECTORY", "/var/lib/k8shost", "Where all state is kept"),
    Setting::text("bind-address", "ADDRESS", "0.0.0.0", "Address the API server listens on"),
    Setting::text("https-listen-port", "PORT", "6443", "Port the API server listens on"),
    Setting::text("advertise-address", "ADDRESS", "", "Address others reach the API server at [default: the one of the default route]"),
    Setting::list("tls-san", "NAME", "More names and addresses for the API server's certificate"),
    Setting::text("token", "TOKEN", "", "Shared secret that lets servers and nodes join [default: one made at the first start]"),
    Setting::text("node-name", "NAME", "", "Name of this node [default: the host's name]"),
    Setting::text("node-ip", "ADDRESS", "", "Addresses of this node, one or one of each family: 192.0.2.1,2001:db8::1 [default: the API server's]"),
    Setting::text("cluster-cidr", "CIDR", "10.244.0.0/16", "Addresses of pods: one range, or one of IPv4 and one of IPv6 with a comma between them"),
    Setting::text("service-cidr", "CIDR", "10.96.0.0/12", "Addresses of Services, in the same way"),
    Setting::text("virtual-cluster-cidr", "CIDR", "100.64.0.0/16", "One address for each virtual cluster, reached by its own pods alone"),
    Setting::text("cluster-dns", "ADDRESS", "", "Address of the cluster's DNS [default: the tenth of service-cidr]"),
    Setting::text("cluster-domain", "DOMAIN", "cluster.local", "The cluster's DNS domain"),
    Setting::text("service-node-port-range", "RANGE", "30000-32767", "Ports for Services of type NodePort"),
    Setting::list(
        "external-ip-pool",
        "RANGE",
        "Addresses for LoadBalancer Services and Ingresses: 192.0.2.0/24, 192.0.2.10-192.0.2.20 [default: the nodes' own, port by port]",
    ),
    Setting::text("lightningstor-ssd-dir", "DIRECTORY", "", "Where volumes of type ssd lie [default: lightningstor/ssd in the data directory]"),
    Setting::text("lightningstor-hdd-dir", "DIRECTORY", "", "Where volumes of type hdd lie [default: lightningstor/hdd in the data directory]"),
    Setting::list(
        "dns-forward",
        "[DOMAIN=]ADDRESS",
        "Who is asked for other names than the cluster's: 192.0.2.53, or for those of a domain: corp.example=192.0.2.54 [default: as this machine does]",
    ),
    Setting::text("dns-rate-limit", "NUMBER", "10000", "DNS questions that one address may ask a second; 0 for as many as it likes"),
    Setting::list(
        "dns-delegation",
        "WHAT=ORG[/PROJECT]",
        "Whose to make DNS zones are a name and all below it, or addresses: shop.example.org=org-1/proj-1, 192.0.2.0/24=org-1",
    ),
    Setting::text("cloud-api-listen", "ADDRESS:PORT", "", "Where the cloud services' gRPC APIs answer to tokens of IAM [default: nowhere]"),
    Setting::text("prismnet-backend", "ENGINE", "native", "What makes the pod network: native, the kernel's own devices"),
    Setting::list("disable", "COMPONENT", "Parts not to start"),
    Setting::switch("disable-agent", "Run no pods on this machine"),
    Setting::text("write-kubeconfig", "FILE", "/etc/k8shost/kubeconfig.yaml", "Where the admin's kubeconfig is written"),
    Setting::text("write-kubeconfig-mode", "MODE", "0600", "Mode of that file, octal"),
    Setting::text("container-runtime-endpoint", "ENDPOINT", "", "CRI socket of a container runtime to use [default: a containerd of our own]"),
    Setting::text(
        "authentication-config",
        "FILE",
        "",
        "AuthenticationConfiguration: whose JSON Web Tokens are taken, and where nobody need say who they are; followed",
    ),
    Setting::text("authorization-config", "FILE", "", "AuthorizationConfiguration: which authorizers are asked, in which order; followed"),
    Setting::text("authentication-token-webhook-config-file", "FILE", "", "Kubeconfig of a webhook that knows bearer tokens (TokenReview)"),
    Setting::text("authentication-token-webhook-cache-ttl", "DURATION", "2m0s", "How long that webhook's answers are remembered"),
    Setting::text("iam-listen", "ADDRESS", "", "Where IAM answers by itself too, over HTTPS and gRPC, such as 0.0.0.0:3000 [default: only with the API]"),
    Setting::text("iam-signing-algorithm", "NAME", "ES256", "What IAM's tokens are signed with: ES256 or RS256"),
    Setting::text("iam-oidc-config-file", "FILE", "", "Providers (OpenID Connect) at which users may log in [default: none]"),
    Setting::text("iam-shared-secret-file", "FILE", "", "A secret whose tokens (HS256) IAM accepts too [default: none]"),
    Setting::arguments("kube-apiserver-arg", "Arguments for the API server, by upstream's names"),
    Setting::arguments("kubelet-arg", "Arguments for the node agent, by upstream's names"),
];

/// The settings of `k8shost agent`.
pub const AGENT: &[Setting] = &[
    Setting::text("config", "FILE", "/etc/k8shost/config.yaml", "Settings in YAML, by the names of these flags"),
    Setting::text("server", "URL", "", "The server to join, such as https://192.0.2.1:6443"),
    Setting::text("token", "TOKEN", "", "What lets this machine join: what `k8shost token create` printed, or the server's node-token file holds"),
    Setting::text("token-file", "FILE", "", "A file that holds the token"),
    Setting::text("data-dir", "DIRECTORY", "/var/lib/k8shost", "Where all state is kept"),
    Setting::text("node-name", "NAME", "", "Name of this node [default: the host's name]"),
    Setting::text(
        "node-ip",
        "ADDRESS",
        "",
        "Addresses others reach this node at, one or one of each family: 192.0.2.1,2001:db8::1 [default: the one that leads to the server]",
    ),
    Setting::list("node-label", "KEY=VALUE", "Labels of this node"),
    Setting::list("node-taint", "KEY=VALUE:EFFECT", "Taints this node gets when it is first registered"),
    Setting::text("lightningstor-ssd-dir", "DIRECTORY", "", "Where volumes of type ssd lie [default: lightningstor/ssd in the data directory]"),
    Setting::text("lightningstor-hdd-dir", "DIRECTORY", "", "Where volumes of type hdd lie [default: lightningstor/hdd in the data directory]"),
    Setting::list("disable", "COMPONENT", "Parts not to start: lightningstor"),
    Setting::text("container-runtime-endpoint", "ENDPOINT", "", "CRI socket of a container runtime to use [default: a containerd of our own]"),
    Setting::arguments("kubelet-arg", "Arguments for the node agent, by upstream's names"),
];

/// Where a setting's value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Default,
    File(PathBuf),
    Environment(String),
    Flag,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "set in {}", path.display()),
            Self::Environment(variable) => write!(f, "set by {variable}"),
            Self::Flag => f.write_str("set by flag"),
        }
    }
}
