//! Payloads: the files that ConfigMaps, Secrets and pod fields become in a volume. Pure.
use crate::atomic_writer::{FileProjection, Payload};
use crate::downward::{metadata_field, resource_field};
use crate::error::SetUpError;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, Secret};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

/// A ConfigMap's keys, or the chosen ones. `config_map` is `None` when it is missing and need not be there.
pub fn of_config_map(config_map: Option<&ConfigMap>, items: Option<&[KeyToPath]>, mode: u32, optional: bool) -> Result<Payload, SetUpError> {
    let text = config_map.and_then(|c| c.data.as_ref());
    let binary = config_map.and_then(|c| c.binary_data.as_ref());
    let keys = text.into_iter().flatten().map(|(key, value)| (key.as_str(), value.as_bytes()));
    let keys = binary.into_iter().flatten().map(|(key, ByteString(value))| (key.as_str(), value.as_slice())).chain(keys).collect();
    project(&keys, items, mode, optional, SetUpError::MissingConfigKey)
}

/// A Secret's keys, or the chosen ones. `secret` is `None` when it is missing and need not be there.
pub fn of_secret(secret: Option<&Secret>, items: Option<&[KeyToPath]>, mode: u32, optional: bool) -> Result<Payload, SetUpError> {
    let data = secret.and_then(|s| s.data.as_ref());
    let keys = data.into_iter().flatten().map(|(key, ByteString(value))| (key.as_str(), value.as_slice())).collect();
    project(&keys, items, mode, optional, SetUpError::MissingSecretKey)
}

/// Fields and resources of the pod itself.
pub fn of_pod(pod: &Pod, files: &[DownwardAPIVolumeFile], mode: u32, allocatable: &BTreeMap<String, Quantity>) -> Result<Payload, SetUpError> {
    let (mut payload, mut errors) = (Payload::new(), Vec::new());
    for file in files {
        let value = match (&file.field_ref, &file.resource_field_ref) {
            (Some(field), _) => metadata_field(pod, &field.field_path),
            (None, Some(resource)) => resource_field(pod, "", resource, allocatable),
            (None, None) => Ok(String::new()),
        };
        match value {
            Ok(value) => {
                payload.insert(file.path.clone(), projection(value.as_bytes(), file.mode, mode));
            }
            Err(error) => errors.push(error.into()),
        }
    }
    if errors.is_empty() { Ok(payload) } else { Err(SetUpError::aggregate(errors)) }
}

fn project(
    keys: &BTreeMap<&str, &[u8]>,
    items: Option<&[KeyToPath]>,
    mode: u32,
    optional: bool,
    missing: fn(String) -> SetUpError,
) -> Result<Payload, SetUpError> {
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        return Ok(keys.iter().map(|(key, value)| (key.to_string(), projection(value, None, mode))).collect());
    };
    let mut payload = Payload::new();
    for item in items {
        match keys.get(item.key.as_str()) {
            Some(value) => {
                payload.insert(item.path.clone(), projection(value, item.mode, mode));
            }
            None if optional => {}
            None => return Err(missing(item.key.clone())),
        }
    }
    Ok(payload)
}

fn projection(data: &[u8], own_mode: Option<i32>, default_mode: u32) -> FileProjection {
    FileProjection { data: data.to_vec(), mode: own_mode.map_or(default_mode, mode_bits), owner: None }
}

/// The API's mode as permission bits.
pub fn mode_bits(mode: i32) -> u32 {
    mode.unsigned_abs() & 0o777
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chosen_keys_get_their_paths_and_modes() {
        let config_map: ConfigMap = serde_json::from_value(serde_json::json!({"data": {"a": "1"}, "binaryData": {"b": "/w=="}})).unwrap();
        let all = of_config_map(Some(&config_map), None, 0o644, false).unwrap();
        assert_eq!(all.iter().map(|(k, f)| (k.as_str(), f.data.as_slice(), f.mode)).collect::<Vec<_>>(), [("a", &b"1"[..], 0o644), ("b", &[255], 0o644)]);
        let item = |key: &str, mode| KeyToPath { key: key.into(), path: format!("x/{key}"), mode, user: None };
        let chosen = of_config_map(Some(&config_map), Some(&[item("a", Some(0o400))]), 0o644, false).unwrap();
        assert_eq!(chosen["x/a"].mode, 0o400);
        assert_eq!(chosen.len(), 1);
        let missing = of_config_map(Some(&config_map), Some(&[item("c", None)]), 0o644, false).unwrap_err();
        assert_eq!(missing.to_string(), "configmap references non-existent config key: c");
        assert!(of_config_map(Some(&config_map), Some(&[item("c", None)]), 0o644, true).unwrap().is_empty());
        assert_eq!(of_secret(None, Some(&[item("c", None)]), 0o644, false).unwrap_err().to_string(), "references non-existent secret key: c");
    }
}
