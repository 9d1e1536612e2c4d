//! ClaimUsers: which placed pods use a claim, kept as pods come and go, so that nobody looks at all pods for it.
use crate::PodInfo;
use crate::volumes::claim_names;
use controller_kit::ObjectKey;
use std::collections::HashMap;

/// By claim.
#[derive(Default)]
pub struct ClaimUsers(HashMap<ObjectKey, Vec<ObjectKey>>);

fn claims(pod: &PodInfo) -> impl Iterator<Item = ObjectKey> {
    let (cluster, namespace) = (pod.key.cluster.clone(), pod.key.namespace.clone());
    claim_names(&pod.pod).into_iter().map(move |(name, _)| ObjectKey::new(&cluster, &namespace, &name))
}

impl ClaimUsers {
    /// The pods that use a claim of the pod's namespace, but this one.
    pub fn others<'a>(&'a self, pod: &'a PodInfo, claim: &str) -> impl Iterator<Item = &'a ObjectKey> {
        let all = self.0.get(&ObjectKey::new(&pod.key.cluster, &pod.key.namespace, claim));
        all.into_iter().flatten().filter(|other| **other != pod.key)
    }

    pub fn add(&mut self, pod: &PodInfo) {
        for claim in claims(pod) {
            let users = self.0.entry(claim).or_default();
            if !users.contains(&pod.key) {
                users.push(pod.key.clone());
            }
        }
    }

    pub fn remove(&mut self, pod: &PodInfo) {
        for claim in claims(pod) {
            let Some(users) = self.0.get_mut(&claim) else { continue };
            users.retain(|other| *other != pod.key);
            if users.is_empty() {
                self.0.remove(&claim);
            }
        }
    }
}
