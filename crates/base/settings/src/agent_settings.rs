//! AgentSettings: what `k8shost agent` runs with, resolved and checked.
use crate::server_settings::{Layers, is_domain};
use crate::{AgentArgs, SettingsError};
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// The parts of a machine that joined which it can do without.
const COMPONENTS: &[&str] = &["lightningstor"];
const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// A taint as flags write it: `key=value:Effect`, the value may be missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taint {
    pub key: String,
    pub value: Option<String>,
    pub effect: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentSettings {
    pub config: Option<PathBuf>,
    /// Without a slash at its end: `https://192.0.2.1:6443`, or with the path of a virtual cluster.
    pub server: String,
    /// `None` is right for a machine that has joined before.
    pub token: Option<String>,
    pub data_dir: PathBuf,
    pub node_name: String,
    /// One, or one of each family, the first first; none: the address of the route to the server, which the caller finds.
    pub node_ips: Vec<IpAddr>,
    pub node_labels: BTreeMap<String, String>,
    pub node_taints: Vec<Taint>,
    /// By type, where that was chosen.
    pub lightningstor_dirs: BTreeMap<String, PathBuf>,
    pub disable: Vec<String>,
    /// As of the server's settings.
    pub container_runtime_endpoint: Option<String>,
    pub kubelet_arg: Vec<(String, String)>,
}

impl AgentSettings {
    /// Joins the sources and checks the outcome, as [`ServerSettings::resolve`](crate::ServerSettings::resolve).
    pub fn resolve(args: &AgentArgs, env: &dyn Fn(&str) -> Option<String>, read: &dyn Fn(&Path) -> io::Result<String>) -> Result<Self, SettingsError> {
        let (layers, config) = Layers::join(args, env, read)?;
        let node_labels = layers.list("node-label");
        let node_labels = node_labels.iter().map(|label| match label.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
            _ => Err(layers.invalid("node-label", format!("{label:?} is not of the form key=value"))),
        });
        let node_labels = node_labels.collect::<Result<_, _>>()?;
        let node_taints = layers.list("node-taint");
        let wrong = |taint: &str| layers.invalid("node-taint", format!("{taint:?} is not of the form key=value:effect, with one of {}", EFFECTS.join(", ")));
        let node_taints = node_taints.iter().map(|text| taint(text).ok_or_else(|| wrong(text))).collect::<Result<_, _>>()?;
        Ok(Self {
            config,
            server: server(&layers)?,
            token: token(&layers, read)?,
            data_dir: layers.needed("data-dir")?.into(),
            node_name: layers.node_name(read)?,
            node_ips: layers.node_ips()?,
            node_labels,
            node_taints,
            lightningstor_dirs: layers.lightningstor_dirs()?,
            disable: layers.disable(COMPONENTS)?,
            container_runtime_endpoint: layers.endpoint()?,
            kubelet_arg: layers.arguments("kubelet-arg")?,
        })
    }

    /// [`resolve`](Self::resolve) with this process's environment and files.
    pub fn load(args: &AgentArgs) -> Result<Self, SettingsError> {
        Self::resolve(args, &|name| std::env::var(name).ok(), &|path| std::fs::read_to_string(path))
    }
}

fn server(layers: &Layers) -> Result<String, SettingsError> {
    let url = layers.needed("server")?.trim_end_matches('/');
    let host = url.strip_prefix("https://").and_then(|rest| rest.split('/').next());
    let good = host.is_some_and(|host| {
        let name = host.rsplit_once(':').map_or(host, |(name, port)| if port.parse::<u16>().is_ok() { name } else { host });
        name.parse::<IpAddr>().is_ok()
            || is_domain(name)
            || name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).is_some_and(|v6| v6.parse::<IpAddr>().is_ok())
    });
    if good { Ok(url.to_owned()) } else { Err(layers.invalid("server", format!("{url:?} is not a URL such as https://192.0.2.1:6443"))) }
}

fn token(layers: &Layers, read: &dyn Fn(&Path) -> io::Result<String>) -> Result<Option<String>, SettingsError> {
    let (given, file) = (layers.text("token")?, layers.text("token-file")?);
    match (given, file) {
        (Some(_), Some(_)) => Err(layers.invalid("token-file", "there is a token too")),
        (Some(token), None) => Ok(Some(token.to_owned())),
        (None, Some(path)) => {
            let path = PathBuf::from(path);
            let text = read(&path).map_err(|error| layers.invalid("token-file", format!("reading {}: {error}", path.display())))?;
            Ok(Some(text.trim().to_owned()).filter(|token| !token.is_empty()))
        }
        (None, None) => Ok(None),
    }
}

fn taint(text: &str) -> Option<Taint> {
    let (rest, effect) = text.rsplit_once(':')?;
    let (key, value) = rest.split_once('=').map_or((rest, None), |(key, value)| (key, Some(value.to_owned()).filter(|value| !value.is_empty())));
    (!key.is_empty() && EFFECTS.contains(&effect)).then(|| Taint { key: key.into(), value, effect: effect.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(flags: &[(&str, &str)]) -> Result<AgentSettings, String> {
        let args = flags.iter().fold(AgentArgs::default(), |args, (name, value)| args.with(name, *value));
        let read = |path: &Path| match path.to_str() {
            Some("/proc/sys/kernel/hostname") => Ok("host-2\n".to_owned()),
            Some("/token") => Ok("secret\n".to_owned()),
            _ => Err(io::ErrorKind::NotFound.into()),
        };
        AgentSettings::resolve(&args, &|_| None, &read).map_err(|error| error.to_string())
    }

    #[test]
    fn a_machine_needs_a_server_and_says_what_it_is() {
        let url = ("server", "https://192.0.2.1:6443/");
        let settings = resolve(&[url, ("token-file", "/token"), ("node-label", "pool=a,rack="), ("node-taint", "k=v:NoSchedule,only:NoExecute")]).unwrap();
        assert_eq!((settings.server.as_str(), settings.token.as_deref(), settings.node_name.as_str()), ("https://192.0.2.1:6443", Some("secret"), "host-2"));
        assert_eq!(settings.node_labels["rack"], "");
        assert_eq!((settings.node_taints[0].value.as_deref(), settings.node_taints[1].value.as_deref()), (Some("v"), None));
        resolve(&[("server", "https://api.example:6443/clusters/dev.team")]).unwrap();
        for (flags, want) in [
            (vec![], "server (default): must not be empty"),
            (vec![("server", "192.0.2.1")], "server (set by flag): \"192.0.2.1\" is not a URL such as https://192.0.2.1:6443"),
            (vec![("server", "http://192.0.2.1:6443")], "server (set by flag): \"http://192.0.2.1:6443\" is not a URL such as https://192.0.2.1:6443"),
            (vec![url, ("token", "a"), ("token-file", "/token")], "token-file (set by flag): there is a token too"),
            (vec![url, ("lightningstor-ssd-dir", "disk")], "lightningstor-ssd-dir (set by flag): disk is not absolute"),
            (vec![url, ("disable", "prismnet")], "disable (set by flag): \"prismnet\" is none of lightningstor"),
            (vec![url, ("node-label", "a")], "node-label (set by flag): \"a\" is not of the form key=value"),
            (
                vec![url, ("node-taint", "a=b")],
                "node-taint (set by flag): \"a=b\" is not of the form key=value:effect, with one of NoSchedule, PreferNoSchedule, NoExecute",
            ),
        ] {
            assert_eq!(resolve(&flags).unwrap_err(), want);
        }
    }
}
