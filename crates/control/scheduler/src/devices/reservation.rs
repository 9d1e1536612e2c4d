//! Reservation: the devices a pod is to have, from the decision until they are written, or given back.
use super::{ClaimWriter, Deallocation, Decided, Devices, Stores, has_claims};
use crate::{NodeInfo, PodInfo};
use controller_kit::{Error, ObjectKey};

/// What is to be written to a pod's claims.
#[derive(Default)]
pub struct Reservation {
    claims: Vec<ObjectKey>,
    decided: Vec<Decided>,
}

impl Devices {
    /// Claims of which one may give its devices up, so that the pod finds others elsewhere.
    pub fn movable(&self) -> Vec<ObjectKey> {
        self.allocated.iter().filter(|claim| claim.nodes.is_some() && claim.is_only_ours).map(|claim| claim.key.clone()).collect()
    }
}

impl Stores {
    /// From now on the devices on this node are the claims'.
    pub fn take(&self, devices: &Devices, node: &NodeInfo) -> Reservation {
        // The filter has found some a moment ago, and nothing can have changed since.
        let decided = devices.on(node).ok().flatten().unwrap_or_default();
        let mut taken = self.taken.lock();
        decided.iter().for_each(|decided| taken.decide(&decided.key, &decided.uid, &decided.allocation));
        Reservation { claims: devices.keys(), decided }
    }

    /// What was not written is free again.
    pub fn undo(&self, reservation: &Reservation) {
        let mut taken = self.taken.lock();
        reservation.claims.iter().for_each(|key| taken.undo(key));
    }
}

impl ClaimWriter {
    /// Writes what was decided, so that the node finds it when the pod comes.
    pub async fn reserve_all(&self, pod: &PodInfo, reservation: &Reservation) -> Result<(), Error> {
        for key in &reservation.claims {
            let decided = reservation.decided.iter().find(|decided| decided.key == *key);
            self.reserve(key, pod, decided.map(|decided| &decided.allocation)).await?;
        }
        Ok(())
    }

    pub async fn release_all(&self, pod: &PodInfo, reservation: &Reservation) {
        for key in &reservation.claims {
            if let Err(error) = self.release(key, pod).await {
                tracing::debug!(pod = %pod.key, claim = %key, %error, "a claim could not be released");
            }
        }
    }

    /// Takes the devices of one of these claims away, which keep the pod from where there is room.
    pub async fn deallocate_one(&self, pod: &PodInfo, claims: &[ObjectKey]) -> Deallocation {
        for key in claims {
            match self.deallocate(key, pod).await {
                Ok(Deallocation::Done) => return Deallocation::Done,
                Ok(_) => {}
                Err(error) => tracing::debug!(pod = %pod.key, claim = %key, %error, "a claim could not be deallocated"),
            }
        }
        if has_claims(&pod.pod) { Deallocation::StillUnschedulable } else { Deallocation::NoneToTry }
    }
}
