//! Credentials: which of a pod's pull secrets fit an image (upstream's docker keyring).
use super::ImageName;
use base64::Engine;
use cri::v1::AuthConfig;
use k8s_openapi::api::core::v1::Secret;
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Clone, Deserialize)]
struct Entry {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    auth: String,
    #[serde(default, alias = "identitytoken")]
    identity_token: String,
}

/// Credentials of these secrets for the image, the closest match first.
pub fn for_image(secrets: &[std::sync::Arc<Secret>], image: &ImageName) -> Vec<AuthConfig> {
    let mut found: Vec<(usize, AuthConfig)> = Vec::new();
    for secret in secrets {
        for (registry, entry) in entries(secret) {
            if let Some(closeness) = matches(&registry, image)
                && let Some(auth) = auth(entry)
            {
                found.push((closeness, auth));
            }
        }
    }
    found.sort_by_key(|(closeness, _)| std::cmp::Reverse(*closeness));
    found.into_iter().map(|(_, auth)| auth).collect()
}

fn entries(secret: &Secret) -> BTreeMap<String, Entry> {
    let data = |key: &str| secret.data.as_ref().and_then(|data| data.get(key)).map(|bytes| bytes.0.as_slice());
    if let Some(json) = data(".dockerconfigjson") {
        return serde_json::from_slice::<DockerConfig>(json).map(|config| config.auths).unwrap_or_default();
    }
    data(".dockercfg").and_then(|json| serde_json::from_slice(json).ok()).unwrap_or_default()
}

fn auth(entry: Entry) -> Option<AuthConfig> {
    if !entry.identity_token.is_empty() {
        return Some(AuthConfig { identity_token: entry.identity_token, ..Default::default() });
    }
    if !entry.username.is_empty() || !entry.password.is_empty() {
        return Some(AuthConfig { username: entry.username, password: entry.password, ..Default::default() });
    }
    let decoded = base64::engine::general_purpose::STANDARD.decode(entry.auth.trim().trim_end_matches('\0')).ok()?;
    let (username, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    Some(AuthConfig { username: username.into(), password: password.into(), ..Default::default() })
}

/// How closely a registry entry (`host`, `*.host`, `host/path`, `https://host/v1/`) fits the image; `None` if it does not.
fn matches(entry: &str, image: &ImageName) -> Option<usize> {
    let entry = entry.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    let (host, path) = entry.split_once('/').unwrap_or((entry, ""));
    let path = if matches!(path, "v1" | "v2") { "" } else { path };
    let is_docker_hub = |host: &str| matches!(host, "docker.io" | "index.docker.io" | "registry-1.docker.io");
    let host_fits = if is_docker_hub(host) { is_docker_hub(&image.registry) } else { host_matches(host, &image.registry) };
    let path_fits = path.is_empty() || image.repository == path || image.repository.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
    (host_fits && path_fits).then_some(entry.len())
}

/// `*` stands for within one label.
fn host_matches(pattern: &str, host: &str) -> bool {
    let split = |text: &str| text.split_once(':').map_or((text.to_owned(), String::new()), |(name, port)| (name.to_owned(), port.to_owned()));
    let ((pattern, pattern_port), (host, port)) = (split(pattern), split(host));
    let (pattern, host): (Vec<&str>, Vec<&str>) = (pattern.split('.').collect(), host.split('.').collect());
    pattern_port == port && pattern.len() == host.len() && pattern.iter().zip(&host).all(|(p, h)| label_matches(p, h))
}

fn label_matches(pattern: &str, label: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == label,
        Some((start, rest)) => {
            label.strip_prefix(start).is_some_and(|tail| (0..=tail.len()).filter(|at| tail.is_char_boundary(*at)).any(|at| label_matches(rest, &tail[at..])))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn secret(config: serde_json::Value) -> Arc<Secret> {
        let data = base64::engine::general_purpose::STANDARD.encode(config.to_string());
        Arc::new(serde_json::from_value(serde_json::json!({"data": {".dockerconfigjson": data}})).unwrap())
    }

    #[test]
    fn the_closest_entry_comes_first() {
        let secrets = [secret(serde_json::json!({"auths": {
            "reg.example.com:5000": {"username": "host", "password": "p"},
            "reg.example.com:5000/team": {"auth": base64::engine::general_purpose::STANDARD.encode("path:p:q")},
            "*.example.com:5000": {"username": "glob"},
            "https://index.docker.io/v1/": {"username": "hub"},
            "other": {"username": "no"}
        }}))];
        let names = |image: &str| for_image(&secrets, &ImageName::parse(image).unwrap()).into_iter().map(|a| a.username).collect::<Vec<_>>();
        assert_eq!(names("reg.example.com:5000/team/app:1"), ["path", "host", "glob"]);
        assert_eq!(names("reg.example.com:5000/teams/app:1"), ["host", "glob"]);
        assert_eq!(names("busybox"), ["hub"]);
        assert!(names("reg.example.com/app").is_empty());
        let password = for_image(&secrets, &ImageName::parse("reg.example.com:5000/team/app").unwrap()).remove(0).password;
        assert_eq!(password, "p:q");
    }
}
