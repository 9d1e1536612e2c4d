//! ImageLocality: nodes that have the pod's images, weighted by size and by how common they are.
use super::{MAX, Score};
use crate::{NodeInfo, PodInfo, Snapshot};

const MEGABYTE: i64 = 1024 * 1024;
const MIN: i64 = 23 * MEGABYTE;
const MAX_PER_CONTAINER: i64 = 1000 * MEGABYTE;

pub struct ImageLocality {
    /// Names, with what having one is worth.
    images: Vec<(String, i64)>,
    containers: i64,
}

pub fn prepare(pod: &PodInfo, snapshot: &Snapshot) -> Option<ImageLocality> {
    if !snapshot.has_images() {
        return None;
    }
    let spec = pod.pod.spec.as_ref()?;
    let containers: Vec<_> = spec.init_containers.iter().flatten().chain(&spec.containers).collect();
    let all = snapshot.nodes().len().max(1) as f64;
    let images: Vec<(String, i64)> = containers
        .iter()
        .filter_map(|container| {
            let name = normalized(container.image.as_deref()?);
            let state = snapshot.image(&name);
            // Rarer images weigh less, or all pods of one image would heap on the one node that has it.
            (state.nodes > 0).then(|| (name, (state.size as f64 * (state.nodes as f64 / all)) as i64))
        })
        .collect();
    (!images.is_empty()).then_some(ImageLocality { images, containers: containers.len() as i64 })
}

/// With `:latest` when there is neither tag nor digest.
fn normalized(image: &str) -> String {
    if image.rfind(':').is_none_or(|colon| image.rfind('/').is_some_and(|slash| slash > colon)) { format!("{image}:latest") } else { image.to_owned() }
}

impl Score for ImageLocality {
    fn weight(&self) -> i64 {
        1
    }
    fn score(&self, node: &NodeInfo) -> i64 {
        let has = |name: &str| {
            let mut names = node.node.status.iter().flat_map(|status| status.images.iter().flatten()).flat_map(|image| image.names.iter().flatten());
            names.any(|other| other == name)
        };
        let sum: i64 = self.images.iter().filter(|(name, _)| has(name)).map(|(_, worth)| worth).sum();
        let max = MAX_PER_CONTAINER * self.containers;
        MAX * (sum.clamp(MIN, max) - MIN) / (max - MIN)
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use serde_json::json;

    #[test]
    fn the_node_with_the_image_wins() {
        let has = json!({"status": {"images": [{"names": ["big:latest"], "sizeBytes": 800_000_000}]}});
        let snapshot = snapshot(vec![node("n1", json!({})), node("n2", has)], &[]);
        assert_eq!(outcome(&pod("a", json!({"containers": [{"name": "c", "image": "big"}]})), &snapshot), "n2");
        assert_eq!(super::normalized("host:5000/a"), "host:5000/a:latest");
        assert_eq!(super::normalized("a@sha256:0"), "a@sha256:0");
    }
}
