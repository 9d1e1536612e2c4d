//! ServerSettings: what `k8shost server` runs with, resolved and checked.
use crate::Setting;
use crate::server_args::{Given, ServerTable, Table};
use crate::setting::SettingKind;
use crate::{ServerArgs, SettingsError, Source, config_file};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

pub const DEFAULT_CONFIG_FILE: &str = "/etc/k8shost/config.yaml";

/// What `--disable` can leave out.
pub const COMPONENTS: &[&str] = &["controllers", "fiberlb", "flashdns", "hosting", "iam", "lightningstor", "prismnet", "scheduler", "service-proxy"];

/// Ports from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    pub first: u16,
    pub last: u16,
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    pub data_dir: PathBuf,
    /// The file that was read; `None` when there is none at the default place.
    pub config: Option<PathBuf>,
    pub bind_address: IpAddr,
    pub https_listen_port: u16,
    /// `None`: the address of the default route, which the caller finds.
    pub advertise_address: Option<IpAddr>,
    pub tls_san: Vec<String>,
    pub token: Option<String>,
    pub node_name: String,
    pub cluster_cidr: IpNet,
    pub service_cidr: IpNet,
    /// The second ranges of the two, where the cluster has both families.
    pub second_cluster_cidr: Option<Ipv6Net>,
    pub second_service_cidr: Option<Ipv6Net>,
    /// Each virtual cluster has an address of this range, at which its own pods reach its API and DNS.
    pub virtual_cluster_cidr: Ipv4Net,
    pub cluster_dns: IpAddr,
    pub cluster_domain: String,
    pub service_node_port_range: PortRange,
    /// CIDRs and ranges, as they were written; empty: the nodes' own addresses.
    pub external_ip_pool: Vec<String>,
    /// Where volumes lie, by their type, where it is not the data directory.
    pub lightningstor_dirs: BTreeMap<String, PathBuf>,
    /// As they were written: addresses, some for a domain alone; empty: this machine's own.
    pub dns_forward: Vec<String>,
    /// Questions a second of one address; 0: any number.
    pub dns_rate_limit: u32,
    /// As they were written: names and networks, and who may make zones of them.
    pub dns_delegation: Vec<String>,
    /// `None`: the gRPC APIs are not served.
    pub cloud_api_listen: Option<SocketAddr>,
    pub disable: Vec<String>,
    pub disable_agent: bool,
    pub write_kubeconfig: PathBuf,
    /// Permission bits.
    pub write_kubeconfig_mode: u32,
    /// `None`: a containerd of our own. Always with a scheme: `unix:///run/containerd/containerd.sock`.
    pub container_runtime_endpoint: Option<String>,
    pub authentication_config: Option<PathBuf>,
    pub authorization_config: Option<PathBuf>,
    pub authentication_token_webhook_config_file: Option<PathBuf>,
    /// A duration, as the API server's arguments are written.
    pub authentication_token_webhook_cache_ttl: String,
    /// `None`: IAM answers with the API alone.
    pub iam_listen: Option<SocketAddr>,
    /// `ES256` or `RS256`.
    pub iam_signing_algorithm: String,
    pub iam_oidc_config_file: Option<PathBuf>,
    pub iam_shared_secret_file: Option<PathBuf>,
    /// (name, value) in the order given.
    pub kube_apiserver_arg: Vec<(String, String)>,
    pub kubelet_arg: Vec<(String, String)>,
}

impl ServerSettings {
    /// Joins the sources and checks the outcome. `env` looks up a variable; `read` reads a file (the
    /// config, and the host's name when no node name is given).
    pub fn resolve(args: &Given<ServerTable>, env: &dyn Fn(&str) -> Option<String>, read: &dyn Fn(&Path) -> io::Result<String>) -> Result<Self, SettingsError> {
        let (layers, config) = Layers::join(args, env, read)?;
        layers.settings(config, read)
    }

    /// [`resolve`](Self::resolve) with this process's environment and files.
    pub fn load(args: &ServerArgs) -> Result<Self, SettingsError> {
        Self::resolve(args, &|name| std::env::var(name).ok(), &|path| std::fs::read_to_string(path))
    }

    pub fn is_disabled(&self, component: &str) -> bool {
        self.disable.iter().any(|disabled| disabled == component)
    }
}

/// Each setting's values and where they came from.
pub(crate) struct Layers {
    table: &'static [Setting],
    values: BTreeMap<&'static str, (Vec<String>, Source)>,
}

impl Layers {
    /// All sources in their order, and the config file that was read, if any.
    pub(crate) fn join<T: Table>(
        args: &Given<T>,
        env: &dyn Fn(&str) -> Option<String>,
        read: &dyn Fn(&Path) -> io::Result<String>,
    ) -> Result<(Self, Option<PathBuf>), SettingsError> {
        let mut layers = Self { table: T::SETTINGS, values: BTreeMap::new() };
        layers.defaults();
        let mut over = Self { table: T::SETTINGS, values: BTreeMap::new() };
        over.environment(env);
        over.flags(&args.values);
        let explicit = over.values.get("config").and_then(|(values, _)| values.last().cloned());
        let path = PathBuf::from(explicit.as_deref().unwrap_or(DEFAULT_CONFIG_FILE));
        let config = match read(&path) {
            Ok(text) => {
                layers.file(&path, &text)?;
                Some(path)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && explicit.is_none() => None,
            Err(source) => return Err(SettingsError::Read { path, source }),
        };
        layers.values.extend(over.values);
        Ok((layers, config))
    }

    fn defaults(&mut self) {
        for setting in self.table.iter().filter(|setting| !setting.default.is_empty()) {
            self.values.insert(setting.name, (vec![setting.default.to_owned()], Source::Default));
        }
    }
    fn file(&mut self, path: &Path, text: &str) -> Result<(), SettingsError> {
        for (name, values) in config_file::parse(self.table, path, text)? {
            self.values.insert(name, (values, Source::File(path.to_owned())));
        }
        Ok(())
    }
    fn environment(&mut self, env: &dyn Fn(&str) -> Option<String>) {
        for setting in self.table {
            let variable = setting.variable();
            if let Some(value) = env(&variable).filter(|value| !value.is_empty()) {
                self.values.insert(setting.name, (vec![value], Source::Environment(variable)));
            }
        }
    }
    fn flags(&mut self, given: &BTreeMap<&'static str, Vec<String>>) {
        for (name, values) in given {
            self.values.insert(name, (values.clone(), Source::Flag));
        }
    }

    fn source(&self, name: &'static str) -> Source {
        self.values.get(name).map_or(Source::Default, |(_, source)| source.clone())
    }
    pub(crate) fn invalid(&self, name: &'static str, why: impl Into<String>) -> SettingsError {
        SettingsError::Invalid { name, source_of: self.source(name), why: why.into() }
    }
    /// The one value of a setting; "" counts as not set.
    pub(crate) fn text(&self, name: &'static str) -> Result<Option<&str>, SettingsError> {
        match self.values.get(name).map(|(values, _)| &values[..]) {
            None => Ok(None),
            Some([one]) => Ok(Some(one.trim()).filter(|text| !text.is_empty())),
            Some(_) => Err(self.invalid(name, "takes one value")),
        }
    }
    pub(crate) fn needed(&self, name: &'static str) -> Result<&str, SettingsError> {
        self.text(name)?.ok_or_else(|| self.invalid(name, "must not be empty"))
    }
    pub(crate) fn list(&self, name: &'static str) -> Vec<String> {
        let setting = self.table.iter().find(|setting| setting.name == name);
        let values = self.values.get(name).map(|(values, _)| values.clone()).unwrap_or_default();
        if setting.is_some_and(|setting| setting.kind == SettingKind::Arguments) {
            return values;
        }
        values.iter().flat_map(|value| value.split(',')).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty()).collect()
    }
    pub(crate) fn parsed<T: std::str::FromStr>(&self, name: &'static str, what: &str) -> Result<Option<T>, SettingsError> {
        let parse = |text: &str| text.parse().map_err(|_| self.invalid(name, format!("{text:?} is not {what}")));
        self.text(name)?.map(parse).transpose()
    }
    pub(crate) fn needed_parsed<T: std::str::FromStr>(&self, name: &'static str, what: &str) -> Result<T, SettingsError> {
        self.needed(name)?;
        Ok(self.parsed(name, what)?.expect("needed says that it is set"))
    }
    fn switch(&self, name: &'static str) -> Result<bool, SettingsError> {
        match self.text(name)? {
            None => Ok(false),
            Some("true" | "1") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(other) => Err(self.invalid(name, format!("{other:?} is neither true nor false"))),
        }
    }
    fn network(&self, name: &'static str) -> Result<IpNet, SettingsError> {
        let network: IpNet = self.needed_parsed(name, "a network such as 10.0.0.0/16")?;
        if network.addr() != network.network() {
            return Err(self.invalid(name, format!("{network} has bits set behind its prefix, did you mean {}?", network.trunc())));
        }
        Ok(network)
    }
    /// A network, and one of IPv6 behind a comma where the cluster has both families.
    fn networks(&self, name: &'static str) -> Result<(IpNet, Option<Ipv6Net>), SettingsError> {
        let ranges = self.list(name);
        let network = |text: &str| -> Result<IpNet, SettingsError> {
            let network: IpNet = text.trim().parse().map_err(|_| self.invalid(name, format!("{text:?} is not a network such as 10.0.0.0/16")))?;
            if network.addr() != network.network() {
                return Err(self.invalid(name, format!("{network} has bits set behind its prefix, did you mean {}?", network.trunc())));
            }
            Ok(network)
        };
        match &ranges[..] {
            [first, second] => match (network(first)?, network(second)?) {
                (first @ IpNet::V4(_), IpNet::V6(second)) => Ok((first, Some(second))),
                (first, second) => Err(self.invalid(name, format!("{first},{second} is not one range of IPv4 and then one of IPv6"))),
            },
            _ => Ok((self.network(name)?, None)),
        }
    }
    pub(crate) fn arguments(&self, name: &'static str) -> Result<Vec<(String, String)>, SettingsError> {
        let pair = |argument: &String| match argument.trim_start_matches('-').split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
            _ => Err(self.invalid(name, format!("{argument:?} is not of the form key=value"))),
        };
        self.list(name).iter().map(pair).collect()
    }

    fn settings(&self, config: Option<PathBuf>, read: &dyn Fn(&Path) -> io::Result<String>) -> Result<ServerSettings, SettingsError> {
        let address = "an IP address";
        let (cluster_cidr, second_cluster_cidr) = self.networks("cluster-cidr")?;
        let (service_cidr, second_service_cidr) = self.networks("service-cidr")?;
        if cluster_cidr.contains(&service_cidr) || service_cidr.contains(&cluster_cidr) {
            return Err(self.invalid("cluster-cidr", format!("{cluster_cidr} overlaps service-cidr {service_cidr} ({})", self.source("service-cidr"))));
        }
        if service_cidr.max_prefix_len() - service_cidr.prefix_len() < 4 {
            return Err(self.invalid("service-cidr", format!("{service_cidr} is too small, it needs 16 addresses at least")));
        }
        let IpNet::V4(virtual_cluster_cidr) = self.network("virtual-cluster-cidr")? else {
            return Err(self.invalid("virtual-cluster-cidr", "it has to be an IPv4 range"));
        };
        // A cluster's number is half of a packet's mark, so there are no more than 65,534.
        if !(16..=30).contains(&virtual_cluster_cidr.prefix_len()) {
            return Err(self.invalid("virtual-cluster-cidr", format!("{virtual_cluster_cidr} has a prefix length that is not between 16 and 30")));
        }
        for (name, other) in [("cluster-cidr", cluster_cidr), ("service-cidr", service_cidr)] {
            if other.contains(&IpNet::V4(virtual_cluster_cidr)) || IpNet::V4(virtual_cluster_cidr).contains(&other) {
                return Err(self.invalid("virtual-cluster-cidr", format!("{virtual_cluster_cidr} overlaps {name} {other} ({})", self.source(name))));
            }
        }
        let cluster_dns: IpAddr = match self.parsed("cluster-dns", address)? {
            Some(given) => given,
            None => nth(service_cidr, 10),
        };
        if !service_cidr.contains(&cluster_dns) {
            return Err(self.invalid("cluster-dns", format!("{cluster_dns} is not within service-cidr {service_cidr} ({})", self.source("service-cidr"))));
        }
        if cluster_dns == nth(service_cidr, 0) || cluster_dns == nth(service_cidr, 1) {
            return Err(self.invalid("cluster-dns", format!("{cluster_dns} is the network's own or the kubernetes Service's address")));
        }
        let https_listen_port = self.needed_parsed("https-listen-port", "a port, 1 to 65535")?;
        if https_listen_port == 0 {
            return Err(self.invalid("https-listen-port", "0 is not a port, 1 to 65535"));
        }
        let service_node_port_range = self.port_range("service-node-port-range")?;
        if (service_node_port_range.first..=service_node_port_range.last).contains(&https_listen_port) {
            let why = format!("{service_node_port_range} holds https-listen-port {https_listen_port}");
            return Err(self.invalid("service-node-port-range", why));
        }
        match self.needed("prismnet-backend")? {
            "native" => {}
            "ovn" => return Err(self.invalid("prismnet-backend", "there is no engine for OVN yet, only \"native\"")),
            other => return Err(self.invalid("prismnet-backend", format!("{other:?} is no engine; there is \"native\""))),
        }
        let disable = self.disable(COMPONENTS)?;
        let cluster_domain = self.needed("cluster-domain")?.trim_end_matches('.').to_owned();
        if !is_domain(&cluster_domain) {
            return Err(self.invalid("cluster-domain", format!("{cluster_domain:?} is not a domain name")));
        }
        let tls_san = self.list("tls-san");
        if let Some(wrong) = tls_san.iter().find(|name| name.parse::<IpAddr>().is_err() && !is_domain(name.strip_prefix("*.").unwrap_or(name))) {
            return Err(self.invalid("tls-san", format!("{wrong:?} is neither a DNS name nor an IP address")));
        }
        Ok(ServerSettings {
            data_dir: self.needed("data-dir")?.into(),
            config,
            bind_address: self.needed_parsed("bind-address", address)?,
            https_listen_port,
            advertise_address: self.advertise_address()?,
            tls_san,
            token: self.text("token")?.map(str::to_owned),
            node_name: self.node_name(read)?,
            cluster_cidr,
            service_cidr,
            second_cluster_cidr,
            second_service_cidr,
            virtual_cluster_cidr,
            cluster_dns,
            cluster_domain,
            service_node_port_range,
            external_ip_pool: self.list("external-ip-pool"),
            lightningstor_dirs: self.lightningstor_dirs()?,
            dns_forward: self.list("dns-forward"),
            dns_rate_limit: self.needed_parsed("dns-rate-limit", "a number")?,
            dns_delegation: self.list("dns-delegation"),
            cloud_api_listen: self.parsed("cloud-api-listen", "an address and a port")?,
            disable,
            disable_agent: self.switch("disable-agent")?,
            write_kubeconfig: self.needed("write-kubeconfig")?.into(),
            write_kubeconfig_mode: self.mode("write-kubeconfig-mode")?,
            container_runtime_endpoint: self.endpoint()?,
            authentication_config: self.text("authentication-config")?.map(Into::into),
            authorization_config: self.text("authorization-config")?.map(Into::into),
            authentication_token_webhook_config_file: self.text("authentication-token-webhook-config-file")?.map(Into::into),
            authentication_token_webhook_cache_ttl: self.needed("authentication-token-webhook-cache-ttl")?.into(),
            iam_listen: self.socket_address("iam-listen")?,
            iam_signing_algorithm: self.one_of("iam-signing-algorithm", &["ES256", "RS256"])?,
            iam_oidc_config_file: self.text("iam-oidc-config-file")?.map(Into::into),
            iam_shared_secret_file: self.text("iam-shared-secret-file")?.map(Into::into),
            kube_apiserver_arg: self.arguments("kube-apiserver-arg")?,
            kubelet_arg: self.arguments("kubelet-arg")?,
        })
    }

    pub(crate) fn lightningstor_dirs(&self) -> Result<BTreeMap<String, PathBuf>, SettingsError> {
        let mut chosen = BTreeMap::new();
        for (kind, setting) in [("ssd", "lightningstor-ssd-dir"), ("hdd", "lightningstor-hdd-dir")] {
            let Some(directory) = self.text(setting)?.map(PathBuf::from) else { continue };
            // The server's working directory is nobody's choice.
            if !directory.is_absolute() {
                return Err(self.invalid(setting, format!("{} is not absolute", directory.display())));
            }
            chosen.insert(kind.to_owned(), directory);
        }
        let mut all: Vec<&PathBuf> = chosen.values().collect();
        all.dedup();
        if all.len() < chosen.len() {
            return Err(self.invalid("lightningstor-hdd-dir", "it is the directory of type ssd"));
        }
        Ok(chosen)
    }

    pub(crate) fn disable(&self, components: &[&str]) -> Result<Vec<String>, SettingsError> {
        let disable = self.list("disable");
        match disable.iter().find(|name| !components.contains(&name.as_str())) {
            Some(unknown) => Err(self.invalid("disable", format!("{unknown:?} is none of {}", components.join(", ")))),
            None => Ok(disable),
        }
    }

    fn advertise_address(&self) -> Result<Option<IpAddr>, SettingsError> {
        let given: Option<IpAddr> = self.parsed("advertise-address", "an IP address")?;
        match given {
            Some(address) if address.is_unspecified() || address.is_multicast() => {
                Err(self.invalid("advertise-address", format!("{address} is no address others can connect to")))
            }
            given => Ok(given),
        }
    }

    pub(crate) fn node_name(&self, read: &dyn Fn(&Path) -> io::Result<String>) -> Result<String, SettingsError> {
        let name = match self.text("node-name")? {
            Some(name) => name.to_owned(),
            None => {
                let path = Path::new("/proc/sys/kernel/hostname");
                let name = read(path).map_err(|source| SettingsError::Read { path: path.to_owned(), source })?;
                name.trim().to_lowercase()
            }
        };
        if is_domain(&name) { Ok(name) } else { Err(self.invalid("node-name", format!("{name:?} is not a lower case DNS name"))) }
    }

    fn port_range(&self, name: &'static str) -> Result<PortRange, SettingsError> {
        let text = self.needed(name)?;
        let wrong = || self.invalid(name, format!("{text:?} is not a range of ports such as 30000-32767"));
        // Upstream also takes FIRST+SIZE.
        let (first, last) = match (text.split_once('-'), text.split_once('+')) {
            (Some((first, last)), _) => (first.trim().parse().map_err(|_| wrong())?, last.trim().parse().map_err(|_| wrong())?),
            (_, Some((first, size))) => {
                let (first, size): (u16, u16) = (first.trim().parse().map_err(|_| wrong())?, size.trim().parse().map_err(|_| wrong())?);
                (first, first.checked_add(size).ok_or_else(wrong)?)
            }
            _ => return Err(wrong()),
        };
        if first == 0 || first > last { Err(wrong()) } else { Ok(PortRange { first, last }) }
    }

    fn mode(&self, name: &'static str) -> Result<u32, SettingsError> {
        let text = self.needed(name)?;
        match u32::from_str_radix(text.trim_start_matches("0o"), 8) {
            Ok(mode) if mode <= 0o777 => Ok(mode),
            _ => Err(self.invalid(name, format!("{text:?} is not a file mode such as 0600"))),
        }
    }

    fn socket_address(&self, name: &'static str) -> Result<Option<SocketAddr>, SettingsError> {
        let parsed = |text: &str| text.parse().map_err(|_| self.invalid(name, format!("{text:?} is not an address and port such as 0.0.0.0:3000")));
        self.text(name)?.map(parsed).transpose()
    }
    fn one_of(&self, name: &'static str, all: &[&str]) -> Result<String, SettingsError> {
        let text = self.needed(name)?;
        if all.contains(&text) { Ok(text.to_owned()) } else { Err(self.invalid(name, format!("{text:?} is none of {}", all.join(", ")))) }
    }
    pub(crate) fn endpoint(&self) -> Result<Option<String>, SettingsError> {
        let name = "container-runtime-endpoint";
        match self.text(name)? {
            None => Ok(None),
            Some(text) if text.starts_with('/') => Ok(Some(format!("unix://{text}"))),
            Some(text) if text.starts_with("unix:///") => Ok(Some(text.to_owned())),
            Some(text) => Err(self.invalid(name, format!("{text:?} is not a unix socket such as unix:///run/containerd/containerd.sock"))),
        }
    }
}

/// The `n`th address of a network, counted from 0.
fn nth(network: IpNet, n: u8) -> IpAddr {
    match network.network() {
        IpAddr::V4(first) => IpAddr::from((u32::from(first).wrapping_add(n.into())).to_be_bytes()),
        IpAddr::V6(first) => IpAddr::from((u128::from(first).wrapping_add(n.into())).to_be_bytes()),
    }
}

pub(crate) fn is_domain(name: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let is_label = |label: &str| {
        let bytes = label.as_bytes();
        bytes.len() <= 63 && edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(flags: &[(&str, &str)], env: &[(&str, &str)], file: Option<&str>) -> Result<ServerSettings, String> {
        let args = flags.iter().fold(ServerArgs::default(), |args, (name, value)| args.with(name, *value));
        let env = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let read = |path: &Path| match path.to_str() {
            Some("/proc/sys/kernel/hostname") => Ok("Host-1\n".to_owned()),
            Some(DEFAULT_CONFIG_FILE) => file.map(str::to_owned).ok_or_else(|| io::ErrorKind::NotFound.into()),
            _ => Err(io::ErrorKind::NotFound.into()),
        };
        ServerSettings::resolve(&args, &env, &read).map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_stand_alone() {
        let settings = resolve(&[], &[], None).unwrap();
        assert_eq!(settings.https_listen_port, 6443);
        assert_eq!(settings.cluster_dns.to_string(), "10.96.0.10");
        assert_eq!(settings.service_node_port_range, PortRange { first: 30000, last: 32767 });
        assert_eq!(settings.write_kubeconfig_mode, 0o600);
        assert_eq!(settings.node_name, "host-1");
        assert_eq!(settings.config, None);
        assert!(!settings.disable_agent);
    }

    #[test]
    fn a_flag_beats_the_environment_and_that_the_file() {
        let file = "https-listen-port: 1\ncluster-domain: file\ndata-dir: /file\ndisable: scheduler\ntls-san: [a, 10.0.0.1]\ndisable-agent: true\nwrite-kubeconfig-mode: \"0644\"\n";
        let env = [("K8SHOST_CLUSTER_DOMAIN", "env"), ("K8SHOST_DATA_DIR", "/env"), ("K8SHOST_DISABLE", "flashdns,prismnet")];
        let settings = resolve(&[("data-dir", "/flag")], &env, Some(file)).unwrap();
        assert_eq!((settings.https_listen_port, settings.cluster_domain.as_str()), (1, "env"));
        assert_eq!(settings.data_dir, Path::new("/flag"));
        assert_eq!(settings.disable, ["flashdns", "prismnet"]);
        assert_eq!(settings.tls_san, ["a", "10.0.0.1"]);
        assert_eq!((settings.disable_agent, settings.write_kubeconfig_mode), (true, 0o644));
        let other = resolve(&[("service-cidr", "10.43.0.0/16"), ("container-runtime-endpoint", "/run/c.sock")], &[], None).unwrap();
        assert_eq!(other.cluster_dns.to_string(), "10.43.0.10");
        assert_eq!(other.container_runtime_endpoint.as_deref(), Some("unix:///run/c.sock"));
    }

    #[test]
    fn what_cannot_work_is_refused_by_name_and_source() {
        for (flags, file, want) in [
            (vec![("prismnet-backend", "ovn")], "", "prismnet-backend (set by flag): there is no engine for OVN yet, only \"native\""),
            (vec![("https-listen-port", "x")], "", "https-listen-port (set by flag): \"x\" is not a port, 1 to 65535"),
            (vec![], "cluster-dns: 1.2.3.4", "cluster-dns (set in /etc/k8shost/config.yaml): 1.2.3.4 is not within service-cidr 10.96.0.0/12 (default)"),
            (vec![("cluster-cidr", "10.97.0.0/16")], "", "cluster-cidr (set by flag): 10.97.0.0/16 overlaps service-cidr 10.96.0.0/12 (default)"),
            (
                vec![("virtual-cluster-cidr", "10.96.0.0/16")],
                "",
                "virtual-cluster-cidr (set by flag): 10.96.0.0/16 overlaps service-cidr 10.96.0.0/12 (default)",
            ),
            (
                vec![("virtual-cluster-cidr", "100.64.0.0/10")],
                "",
                "virtual-cluster-cidr (set by flag): 100.64.0.0/10 has a prefix length that is not between 16 and 30",
            ),
            (vec![("cluster-cidr", "10.97.0.1/16")], "", "cluster-cidr (set by flag): 10.97.0.1/16 has bits set behind its prefix, did you mean 10.97.0.0/16?"),
            (vec![("service-node-port-range", "9-3")], "", "service-node-port-range (set by flag): \"9-3\" is not a range of ports such as 30000-32767"),
            (vec![("lightningstor-ssd-dir", "disk")], "", "lightningstor-ssd-dir (set by flag): disk is not absolute"),
            (
                vec![("lightningstor-ssd-dir", "/disk"), ("lightningstor-hdd-dir", "/disk")],
                "",
                "lightningstor-hdd-dir (set by flag): it is the directory of type ssd",
            ),
            (vec![("https-listen-port", "30001")], "", "service-node-port-range (default): 30000-32767 holds https-listen-port 30001"),
            (vec![], "cluster_cidr: x", "config file `/etc/k8shost/config.yaml`: unknown setting `cluster_cidr`, did you mean `cluster-cidr`?"),
            (vec![("kubelet-arg", "v")], "", "kubelet-arg (set by flag): \"v\" is not of the form key=value"),
            (vec![("config", "/none")], "", "reading config file `/none`"),
            (
                vec![("disable", "traefik")],
                "",
                "disable (set by flag): \"traefik\" is none of controllers, fiberlb, flashdns, hosting, iam, lightningstor, prismnet, scheduler, service-proxy",
            ),
        ] {
            assert_eq!(resolve(&flags, &[], Some(file)).unwrap_err(), want);
        }
    }

    #[test]
    fn clap_reads_every_kind_of_flag() {
        use clap::{Args, FromArgMatches};
        let command = ServerArgs::augment_args(clap::Command::new("server"));
        let line = ["server", "--disable-agent", "--tls-san=a", "--tls-san", "b", "--kubelet-arg=v=1,2", "--data-dir", "/d"];
        let args = ServerArgs::from_arg_matches(&command.clone().try_get_matches_from(line).unwrap()).unwrap();
        let expected =
            ServerArgs::default().with("disable-agent", "true").with("tls-san", "a").with("tls-san", "b").with("kubelet-arg", "v=1,2").with("data-dir", "/d");
        assert_eq!(args, expected);
        assert!(command.try_get_matches_from(["server", "--no-such-flag"]).is_err());
    }
}
