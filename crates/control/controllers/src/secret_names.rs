//! Secrets a pod needs: for its images, its environment and its volumes.
use k8s_openapi::api::core::v1::{EnvFromSource, EnvVar, Pod, Volume};

/// Their names, some more than once.
pub fn secrets_of(pod: &Pod) -> impl Iterator<Item = &str> {
    let spec = pod.spec.iter();
    let pulls = spec.clone().flat_map(|spec| spec.image_pull_secrets.iter().flatten()).map(|reference| reference.name.as_str());
    let volumes = spec.clone().flat_map(|spec| spec.volumes.iter().flatten()).flat_map(of_volume);
    let containers = spec.clone().flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
    let containers = containers.map(|container| (container.env.as_ref(), container.env_from.as_ref()));
    let ephemeral = spec.flat_map(|spec| spec.ephemeral_containers.iter().flatten()).map(|container| (container.env.as_ref(), container.env_from.as_ref()));
    let variables = containers
        .chain(ephemeral)
        .flat_map(|(env, env_from)| env.into_iter().flatten().filter_map(of_variable).chain(env_from.into_iter().flatten().filter_map(of_environment)));
    pulls.chain(volumes).chain(variables)
}

fn of_variable(variable: &EnvVar) -> Option<&str> {
    Some(variable.value_from.as_ref()?.secret_key_ref.as_ref()?.name.as_str())
}

fn of_environment(source: &EnvFromSource) -> Option<&str> {
    Some(source.secret_ref.as_ref()?.name.as_str())
}

fn of_volume(volume: &Volume) -> Vec<&str> {
    let mut names: Vec<Option<&str>> = vec![
        volume.secret.as_ref().and_then(|source| source.secret_name.as_deref()),
        volume.csi.as_ref().and_then(|source| source.node_publish_secret_ref.as_ref()).map(|reference| reference.name.as_str()),
        volume.azure_file.as_ref().map(|source| source.secret_name.as_str()),
        volume.cephfs.as_ref().and_then(|source| source.secret_ref.as_ref()).map(|reference| reference.name.as_str()),
        volume.cinder.as_ref().and_then(|source| source.secret_ref.as_ref()).map(|reference| reference.name.as_str()),
        volume.flex_volume.as_ref().and_then(|source| source.secret_ref.as_ref()).map(|reference| reference.name.as_str()),
        volume.iscsi.as_ref().and_then(|source| source.secret_ref.as_ref()).map(|reference| reference.name.as_str()),
        volume.rbd.as_ref().and_then(|source| source.secret_ref.as_ref()).map(|reference| reference.name.as_str()),
        volume.scale_io.as_ref().map(|source| source.secret_ref.name.as_str()),
        volume.storageos.as_ref().and_then(|source| source.secret_ref.as_ref()).map(|reference| reference.name.as_str()),
    ];
    let projected = volume.projected.iter().flat_map(|source| source.sources.iter().flatten());
    names.extend(projected.map(|source| source.secret.as_ref().map(|secret| secret.name.as_str())));
    names.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_place_that_names_a_secret_is_found() {
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "imagePullSecrets": [{"name": "a"}],
            "containers": [{"name": "c", "env": [{"name": "V", "valueFrom": {"secretKeyRef": {"name": "b", "key": "k"}}}], "envFrom": [{"secretRef": {"name": "c"}}]}],
            "initContainers": [{"name": "i", "envFrom": [{"secretRef": {"name": "d"}}]}],
            "ephemeralContainers": [{"name": "e", "envFrom": [{"secretRef": {"name": "e"}}]}],
            "volumes": [{"name": "1", "secret": {"secretName": "f"}}, {"name": "2", "projected": {"sources": [{"secret": {"name": "g"}}, {"configMap": {"name": "no"}}]}},
                {"name": "3", "csi": {"driver": "d", "nodePublishSecretRef": {"name": "h"}}}],
        }}))
        .unwrap();
        let mut names: Vec<&str> = secrets_of(&pod).collect();
        names.sort_unstable();
        assert_eq!(names, ["a", "b", "c", "d", "e", "f", "g", "h"]);
    }
}
