//! Environment variables: those of services, of ConfigMaps, Secrets and fields, and `$(NAME)` in values.
use super::containers::spec;
use super::identity::namespace;
use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, Secret, Service};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;
use volumes::downward::{PodAddresses, environment_field, resource_field};

/// What variables are made from, read beforehand so that this stays a pure function.
#[derive(Debug, Default)]
pub struct EnvironmentInput {
    /// Services of the pod's namespace, and `kubernetes` of the namespace `default`.
    pub services: Vec<std::sync::Arc<Service>>,
    /// By name; `None` for one that does not exist.
    pub config_maps: BTreeMap<String, Option<std::sync::Arc<ConfigMap>>>,
    pub secrets: BTreeMap<String, Option<std::sync::Arc<Secret>>>,
    pub addresses: PodAddresses,
    pub allocatable: BTreeMap<String, Quantity>,
    /// Contents of `fileKeyRef` files, by volume and path.
    pub files: BTreeMap<(String, String), String>,
}

/// The names of ConfigMaps and Secrets that a container's variables need.
pub fn references(container: &Container) -> (Vec<String>, Vec<String>) {
    let (mut config_maps, mut secrets) = (Vec::new(), Vec::new());
    for source in container.env_from.iter().flatten() {
        config_maps.extend(source.config_map_ref.as_ref().map(|r| r.name.clone()));
        secrets.extend(source.secret_ref.as_ref().map(|r| r.name.clone()));
    }
    for source in container.env.iter().flatten().filter_map(|v| v.value_from.as_ref()) {
        config_maps.extend(source.config_map_key_ref.as_ref().map(|r| r.name.clone()));
        secrets.extend(source.secret_key_ref.as_ref().map(|r| r.name.clone()));
    }
    for names in [&mut config_maps, &mut secrets] {
        names.sort();
        names.dedup();
    }
    (config_maps, secrets)
}

/// A container's variables in order. The error is the text of upstream's `CreateContainerConfigError`.
pub fn environment(pod: &Pod, container: &Container, input: &EnvironmentInput) -> Result<Vec<(String, String)>, String> {
    let service_variables = service_variables(pod, &input.services);
    let (mut known, mut out) = (BTreeMap::new(), Vec::new());
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        let mut add = |name: &str, value: String| {
            // Relaxed names: everything printable but "=".
            let name = format!("{prefix}{name}");
            if !name.is_empty() && name.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=') {
                known.insert(name.clone(), value.clone());
                set(&mut out, name, value);
            }
        };
        if let Some(reference) = &source.config_map_ref {
            match input.config_maps.get(&reference.name).and_then(Option::as_ref) {
                Some(map) => map.data.iter().flatten().for_each(|(name, value)| add(name, value.clone())),
                None if reference.optional == Some(true) => {}
                None => return Err(format!("configmap \"{}\" not found", reference.name)),
            }
        }
        if let Some(reference) = &source.secret_ref {
            match input.secrets.get(&reference.name).and_then(Option::as_ref) {
                Some(secret) => secret.data.iter().flatten().for_each(|(name, value)| add(name, String::from_utf8_lossy(&value.0).into_owned())),
                None if reference.optional == Some(true) => {}
                None => return Err(format!("secret \"{}\" not found", reference.name)),
            }
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match (&variable.value, &variable.value_from) {
            (Some(value), _) if !value.is_empty() => Some(expand(value, |name| known.get(name).or_else(|| service_variables.get(name)).map(String::as_str))),
            (_, Some(_)) => from_source(pod, container, variable, input)?,
            _ => Some(String::new()),
        };
        let Some(value) = value else { continue };
        known.insert(variable.name.clone(), value.clone());
        set(&mut out, variable.name.clone(), value);
    }
    for (name, value) in service_variables {
        if !known.contains_key(&name) {
            out.push((name, value));
        }
    }
    Ok(out)
}

fn set(out: &mut Vec<(String, String)>, name: String, value: String) {
    match out.iter_mut().find(|(existing, _)| *existing == name) {
        Some(existing) => existing.1 = value,
        None => out.push((name, value)),
    }
}

/// A variable's value from elsewhere; `None` leaves the variable out.
fn from_source(pod: &Pod, container: &Container, variable: &k8s_openapi::api::core::v1::EnvVar, input: &EnvironmentInput) -> Result<Option<String>, String> {
    let Some(source) = &variable.value_from else { return Ok(Some(String::new())) };
    if let Some(field) = &source.field_ref {
        return environment_field(pod, &input.addresses, field).map(Some).map_err(|error| error.to_string());
    }
    if let Some(resource) = &source.resource_field_ref {
        return resource_field(pod, &container.name, resource, &input.allocatable).map(Some).map_err(|error| error.to_string());
    }
    if let Some(reference) = &source.config_map_key_ref {
        let optional = reference.optional == Some(true);
        return match input.config_maps.get(&reference.name).and_then(Option::as_ref) {
            None if optional => Ok(None),
            None => Err(format!("configmap \"{}\" not found", reference.name)),
            Some(map) => match map.data.as_ref().and_then(|data| data.get(&reference.key)) {
                Some(value) => Ok(Some(value.clone())),
                None if optional => Ok(None),
                None => Err(format!("couldn't find key {} in ConfigMap {}/{}", reference.key, namespace(pod), reference.name)),
            },
        };
    }
    if let Some(reference) = &source.secret_key_ref {
        let optional = reference.optional == Some(true);
        return match input.secrets.get(&reference.name).and_then(Option::as_ref) {
            None if optional => Ok(None),
            None => Err(format!("secret \"{}\" not found", reference.name)),
            Some(secret) => match secret.data.as_ref().and_then(|data| data.get(&reference.key)) {
                Some(value) => Ok(Some(String::from_utf8_lossy(&value.0).into_owned())),
                None if optional => Ok(None),
                None => Err(format!("couldn't find key {} in Secret {}/{}", reference.key, namespace(pod), reference.name)),
            },
        };
    }
    if let Some(reference) = &source.file_key_ref {
        let text = input.files.get(&(reference.volume_name.clone(), reference.path.clone()));
        let value = text.and_then(|text| file_value(text, &reference.key));
        return match value {
            Some(value) => Ok(Some(value)),
            None if reference.optional == Some(true) => Ok(None),
            None if text.is_some() => Err(format!("environment variable key \"{}\" not found in file \"{}\"", reference.key, reference.path)),
            None => Err(format!("couldn't parse env file \"{}\" of volume \"{}\"", reference.path, reference.volume_name)),
        };
    }
    Ok(Some(String::new()))
}

/// A key of an environment file: lines `KEY='value'`, where the value is quoted and may span lines.
fn file_value(text: &str, key: &str) -> Option<String> {
    let mut rest = text;
    while !rest.is_empty() {
        let line_end = rest.find('\n').unwrap_or(rest.len());
        let line = rest[..line_end].trim_start();
        if line.is_empty() || line.starts_with('#') {
            rest = rest.get(line_end + 1..).unwrap_or_default();
            continue;
        }
        let (name, after) = rest.split_once('=')?;
        let after = after.strip_prefix('\'')?;
        let (value, next) = after.split_once('\'')?;
        if name.trim() == key {
            return Some(value.to_owned());
        }
        rest = next.split_once('\n').map_or("", |(_, next)| next);
    }
    None
}

/// Variables that tell of services, as docker links did (upstream's `envvars.FromServices`).
pub fn service_variables(pod: &Pod, services: &[std::sync::Arc<Service>]) -> BTreeMap<String, String> {
    let links = spec(pod).enable_service_links != Some(false);
    let mut out = BTreeMap::new();
    for service in services {
        let (name, of) = (service.metadata.name.as_deref().unwrap_or_default(), service.metadata.namespace.as_deref().unwrap_or_default());
        let is_api = name == "kubernetes" && of == "default";
        let linked = links && of == namespace(pod);
        if !is_api && !linked {
            continue;
        }
        let Some(service) = &service.spec else { continue };
        let Some(ip) = service.cluster_ip.as_deref().filter(|ip| !ip.is_empty() && *ip != "None") else { continue };
        let Some(first) = service.ports.iter().flatten().next() else { continue };
        let name = shell_name(name);
        out.insert(format!("{name}_SERVICE_HOST"), ip.to_owned());
        out.insert(format!("{name}_SERVICE_PORT"), first.port.to_string());
        let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
        for (at, port) in service.ports.iter().flatten().enumerate() {
            if let Some(port_name) = port.name.as_deref().filter(|n| !n.is_empty()) {
                out.insert(format!("{name}_SERVICE_PORT_{}", shell_name(port_name)), port.port.to_string());
            }
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let url = format!("{}://{host}:{}", protocol.to_lowercase(), port.port);
            if at == 0 {
                out.insert(format!("{name}_PORT"), url.clone());
            }
            let prefix = format!("{name}_PORT_{}_{}", port.port, protocol.to_uppercase());
            out.insert(format!("{prefix}_PROTO"), protocol.to_lowercase());
            out.insert(format!("{prefix}_PORT"), port.port.to_string());
            out.insert(format!("{prefix}_ADDR"), ip.to_owned());
            out.insert(prefix, url);
        }
    }
    out
}

fn shell_name(name: &str) -> String {
    name.replace('-', "_").to_uppercase()
}

/// Replaces `$(NAME)` by its value where it has one; `$$` is a `$` (upstream's `third_party/forked/golang/expansion`).
pub fn expand<'a>(text: &str, value_of: impl Fn(&str) -> Option<&'a str>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match value_of(name) {
                Some(value) => out.push_str(value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn pod_with(container: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "ns"}, "spec": {"containers": [container]}})).unwrap()
    }

    fn input() -> EnvironmentInput {
        let service = |namespace: &str, name: &str, ip: &str| -> Arc<Service> {
            let ports = json!([{"name": "http", "port": 80, "protocol": "TCP"}, {"name": "dns-udp", "port": 53, "protocol": "UDP"}]);
            Arc::new(serde_json::from_value(json!({"metadata": {"namespace": namespace, "name": name}, "spec": {"clusterIP": ip, "ports": ports}})).unwrap())
        };
        let map: ConfigMap = serde_json::from_value(json!({"data": {"A": "from map", "B": "b"}})).unwrap();
        let secret: Secret = serde_json::from_value(json!({"data": {"key": "c2VjcmV0"}})).unwrap();
        EnvironmentInput {
            services: vec![service("ns", "my-web", "10.96.0.5"), service("default", "kubernetes", "10.96.0.1"), service("ns", "headless", "None")],
            config_maps: [("map".to_owned(), Some(Arc::new(map))), ("gone".to_owned(), None)].into(),
            secrets: [("secret".to_owned(), Some(Arc::new(secret)))].into(),
            ..Default::default()
        }
    }

    fn of(container: Value) -> Result<BTreeMap<String, String>, String> {
        let pod = pod_with(container);
        environment(&pod, &spec(&pod).containers[0], &input()).map(|list| list.into_iter().collect())
    }

    #[test]
    fn later_sources_win_and_values_expand() {
        let env = of(json!({"name": "c", "envFrom": [{"configMapRef": {"name": "map"}}, {"prefix": "S_", "secretRef": {"name": "secret"}}], "env": [
            {"name": "A", "value": "own $(B) $(MY_WEB_SERVICE_HOST) $(UNKNOWN) $$(B)"},
            {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "secret", "key": "key"}}},
            {"name": "NONE", "valueFrom": {"configMapKeyRef": {"name": "gone", "key": "x", "optional": true}}},
            {"name": "C", "value": "$(A)!"}
        ]}))
        .unwrap();
        assert_eq!(env["A"], "own b 10.96.0.5 $(UNKNOWN) $(B)");
        assert_eq!((env["S_key"].as_str(), env["KEY"].as_str()), ("secret", "secret"));
        assert_eq!(env["C"], "own b 10.96.0.5 $(UNKNOWN) $(B)!");
        assert!(!env.contains_key("NONE"));
        assert_eq!(env["MY_WEB_PORT_53_UDP"], "udp://10.96.0.5:53");
        assert_eq!(env["MY_WEB_SERVICE_PORT_DNS_UDP"], "53");
        assert_eq!(env["KUBERNETES_SERVICE_HOST"], "10.96.0.1");
        assert!(!env.contains_key("HEADLESS_SERVICE_HOST"));
    }

    #[test]
    fn what_is_missing_is_named() {
        for (variable, want) in [
            (json!({"configMapKeyRef": {"name": "gone", "key": "x"}}), "configmap \"gone\" not found"),
            (json!({"configMapKeyRef": {"name": "map", "key": "x"}}), "couldn't find key x in ConfigMap ns/map"),
            (json!({"secretKeyRef": {"name": "secret", "key": "x"}}), "couldn't find key x in Secret ns/secret"),
        ] {
            assert_eq!(of(json!({"name": "c", "env": [{"name": "V", "valueFrom": variable}]})).unwrap_err(), want);
        }
        assert_eq!(of(json!({"name": "c", "envFrom": [{"secretRef": {"name": "none"}}]})).unwrap_err(), "secret \"none\" not found");
    }

    #[test]
    fn links_can_be_turned_off_but_the_api_stays() {
        let mut pod = pod_with(json!({"name": "c"}));
        pod.spec.as_mut().unwrap().enable_service_links = Some(false);
        let variables = service_variables(&pod, &input().services);
        assert!(variables.keys().all(|name| name.starts_with("KUBERNETES_")) && variables.len() > 2, "{variables:?}");
    }

    #[test]
    fn environment_files_are_quoted_lines() {
        let text = "# comment\nA='one'\nB='two\nlines'\n";
        assert_eq!((file_value(text, "A"), file_value(text, "B"), file_value(text, "C")), (Some("one".into()), Some("two\nlines".into()), None));
    }
}
