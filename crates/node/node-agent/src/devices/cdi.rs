//! CDI: what the names of devices mean to a container, for runtimes that do not know it themselves.
//!
//! Source: the Container Device Interface (github.com/cncf-tags/container-device-interface), of which CRI can say
//! variables, device nodes and mounts. What needs a hook needs a runtime that knows CDI.
use cri::v1::{Device, Mount, MountPropagation};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// What devices add to a container.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Edits {
    /// For the runtime to look up; empty where the rest says it all.
    pub names: Vec<String>,
    pub environment: Vec<(String, String)>,
    pub devices: Vec<Device>,
    pub mounts: Vec<Mount>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Description {
    kind: String,
    #[serde(default)]
    devices: Vec<Described>,
    #[serde(default)]
    container_edits: ContainerEdits,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Described {
    name: String,
    #[serde(default)]
    container_edits: ContainerEdits,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ContainerEdits {
    env: Vec<String>,
    device_nodes: Vec<DeviceNode>,
    mounts: Vec<Mounted>,
    hooks: Vec<serde_json::Value>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeviceNode {
    path: String,
    host_path: Option<String>,
    permissions: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mounted {
    host_path: String,
    container_path: String,
    #[serde(default)]
    options: Vec<String>,
}

/// Looks the names up (`vendor/class=device`). A later directory's device stands for one of the same name before.
///
/// # Errors
/// Which device is not described, or can't be said in CRI.
pub fn resolve(names: &[String], directories: &[PathBuf]) -> Result<Edits, String> {
    let described: Vec<Description> = directories.iter().flat_map(|directory| read_all(directory)).collect();
    let mut edits = Edits::default();
    // What concerns all devices of a description is done once.
    let mut seen: Vec<usize> = Vec::new();
    for name in names {
        let (kind, device) = name.split_once('=').ok_or_else(|| format!("{name:?} is not the name of a CDI device"))?;
        let mut all = described.iter().enumerate().rev().filter(|(_, description)| description.kind == kind);
        let found = all.find_map(|(at, description)| Some((at, description.devices.iter().find(|described| described.name == device)?)));
        let (at, device) = found.ok_or_else(|| format!("CDI device injection failed: unresolvable CDI devices {name}"))?;
        edits.add(name, &device.container_edits)?;
        if !seen.contains(&at) {
            seen.push(at);
            edits.add(name, &described[at].container_edits)?;
        }
    }
    Ok(edits)
}

fn read_all(directory: &Path) -> Vec<Description> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    files.sort();
    let read = |path: &PathBuf| match std::fs::read(path).map_err(|error| error.to_string()).and_then(|text| parse(&text)) {
        Ok(description) => Some(description),
        Err(error) => {
            tracing::debug!(path = %path.display(), error, "a description of devices can't be read");
            None
        }
    };
    files.iter().filter(|path| path.extension().is_some_and(|extension| extension == "json")).filter_map(read).collect()
}

fn parse(text: &[u8]) -> Result<Description, String> {
    serde_json::from_slice(text).map_err(|error| error.to_string())
}

impl Edits {
    fn add(&mut self, name: &str, edits: &ContainerEdits) -> Result<(), String> {
        if !edits.hooks.is_empty() {
            return Err(format!("CDI device {name} has hooks, and this container runtime does not know CDI"));
        }
        let variables = edits.env.iter().filter_map(|variable| variable.split_once('='));
        self.environment.extend(variables.map(|(name, value)| (name.to_owned(), value.to_owned())));
        self.devices.extend(edits.device_nodes.iter().map(|node| Device {
            container_path: node.path.clone(),
            host_path: node.host_path.clone().unwrap_or_else(|| node.path.clone()),
            permissions: node.permissions.clone().unwrap_or_else(|| "rwm".into()),
        }));
        self.mounts.extend(edits.mounts.iter().map(|mount| {
            let has = |option: &str| mount.options.iter().any(|other| other == option);
            let propagation = match () {
                () if has("rshared") => MountPropagation::PropagationBidirectional,
                () if has("rslave") => MountPropagation::PropagationHostToContainer,
                () => MountPropagation::PropagationPrivate,
            };
            Mount {
                container_path: mount.container_path.clone(),
                host_path: mount.host_path.clone(),
                readonly: has("ro"),
                propagation: propagation.into(),
                ..Default::default()
            }
        }));
        Ok(())
    }
}
