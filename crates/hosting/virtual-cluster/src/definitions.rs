//! The definitions of Cluster, VirtualClusterPolicy and ClusterSnapshot.
use api_client::kube;
use serde_json::Value;

const DEFINITIONS: [&str; 3] =
    [include_str!("../data/clusters.json"), include_str!("../data/virtualclusterpolicies.json"), include_str!("../data/clustersnapshots.json")];

/// Gives a cluster the definitions, as this binary has them.
///
/// # Errors
/// When the API refuses or can't be asked.
pub async fn install(client: &kube::Client) -> Result<(), kube::Error> {
    let definitions: Result<Vec<Value>, _> = DEFINITIONS.iter().map(|text| serde_json::from_str(text)).collect();
    api_client::install_definitions(client, &definitions.map_err(kube::Error::SerdeError)?).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(at: usize) -> Value {
        let definition: Value = serde_json::from_str(DEFINITIONS[at]).unwrap();
        definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
    }

    #[test]
    fn nothing_is_left_to_expand() {
        for text in DEFINITIONS {
            assert!(!text.contains("$ref") && !text.contains("$patch"));
        }
        let affinity = "/properties/spec/properties/agentAffinity/properties/podAffinity/properties";
        assert!(schema(0).pointer(&format!("{affinity}/requiredDuringSchedulingIgnoredDuringExecution/items/required/0")).is_some());
        assert!(schema(1).pointer("/properties/spec/properties/quota/properties/hard/additionalProperties/x-kubernetes-int-or-string").is_some());
    }
}
