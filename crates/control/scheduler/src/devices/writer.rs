//! What the scheduler writes to claims: their devices, and for whom these are.
use crate::PodInfo;
use controller_kit::{Error, ObjectKey, Objects, Preconditions};
use k8s_openapi::api::resource::v1::{AllocationResult, ResourceClaim, ResourceClaimConsumerReference};
use serde_json::{Value, json};

/// Keeps a claim from going while it has devices.
const FINALIZER: &str = "resource.kubernetes.io/delete-protection";
/// Others write claims too: the next try sees what was in its way.
const TRIES: usize = 5;

#[derive(Clone)]
pub struct ClaimWriter(pub Objects<ResourceClaim>);

/// What came of taking the devices from a claim that nobody needs where they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deallocation {
    /// There are no claims with devices.
    NoneToTry,
    Done,
    StillUnschedulable,
}

impl Deallocation {
    /// In upstream's words.
    pub fn message(self) -> &'static str {
        match self {
            Self::NoneToTry => "no new claims to deallocate",
            Self::Done => "deallocation of ResourceClaim completed",
            Self::StillUnschedulable => "still not schedulable",
        }
    }
}

impl ClaimWriter {
    /// The claim is for this pod from now on, with these devices if it has none yet.
    pub async fn reserve(&self, key: &ObjectKey, pod: &PodInfo, devices: Option<&AllocationResult>) -> Result<(), Error> {
        self.try_again(|| self.try_reserve(key, pod, devices)).await
    }

    async fn try_reserve(&self, key: &ObjectKey, pod: &PodInfo, devices: Option<&AllocationResult>) -> Result<(), Error> {
        let name = &key.name;
        let mut claim = self.0.fresh(key).await?.ok_or_else(|| Error::NotYet(format!("claim {name} got deleted in the meantime")))?;
        if claim.metadata.deletion_timestamp.is_some() {
            return Err(Error::NotYet(format!("claim {name} got deleted in the meantime")));
        }
        let allocated = claim.status.as_ref().and_then(|status| status.allocation.as_ref());
        match (allocated, devices) {
            (Some(allocated), Some(devices)) if allocated != devices => {
                return Err(Error::NotYet(format!("claim {name} got allocated elsewhere in the meantime")));
            }
            (None, None) => return Err(Error::NotYet(format!("claim {name} got deallocated elsewhere in the meantime"))),
            _ => {}
        }
        if !claim.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER) {
            let finalizers: Vec<&str> = claim.metadata.finalizers.iter().flatten().map(String::as_str).chain([FINALIZER]).collect();
            let patch = json!({"metadata": {"finalizers": finalizers}});
            claim = (*self.0.patch(key, "", &patch, &Preconditions::exactly(&claim.metadata)).await?).clone();
        }
        let mut users = users(&claim);
        if users.iter().any(|user| user.uid == pod.uid()) {
            return Ok(());
        }
        users.push(ResourceClaimConsumerReference { resource: "pods".into(), name: pod.key.name.to_string(), uid: pod.uid().to_owned(), api_group: None });
        let mut status = json!({"reservedFor": users});
        if let Some(devices) = devices {
            status["allocation"] = serde_json::to_value(devices)?;
        }
        self.write(&claim, key, status).await
    }

    /// The claim is not for this pod after all; its devices stay.
    pub async fn release(&self, key: &ObjectKey, pod: &PodInfo) -> Result<(), Error> {
        self.try_again(|| async {
            let Some(claim) = self.0.fresh(key).await? else { return Ok(()) };
            let (all, uid) = (users(&claim), pod.uid());
            let others: Vec<_> = all.iter().filter(|user| user.uid != uid).collect();
            if others.len() == all.len() { Ok(()) } else { self.write(&claim, key, json!({"reservedFor": others})).await }
        })
        .await
    }

    /// Takes the claim's devices away, if nobody but this pod uses it.
    pub async fn deallocate(&self, key: &ObjectKey, pod: &PodInfo) -> Result<Deallocation, Error> {
        let Some(claim) = self.0.fresh(key).await? else { return Ok(Deallocation::StillUnschedulable) };
        if users(&claim).iter().any(|user| user.uid != pod.uid()) {
            return Ok(Deallocation::StillUnschedulable);
        }
        self.write(&claim, key, json!({"allocation": null, "reservedFor": null, "devices": null})).await?;
        Ok(Deallocation::Done)
    }

    async fn write(&self, claim: &ResourceClaim, key: &ObjectKey, status: Value) -> Result<(), Error> {
        self.0.patch(key, "/status", &json!({"status": status}), &Preconditions::exactly(&claim.metadata)).await.map(drop)
    }

    async fn try_again<F: Future<Output = Result<(), Error>>>(&self, attempt: impl Fn() -> F) -> Result<(), Error> {
        let mut result = attempt().await;
        for _ in 1..TRIES {
            if !result.as_ref().is_err_and(Error::is_conflict) {
                break;
            }
            result = attempt().await;
        }
        result
    }
}

fn users(claim: &ResourceClaim) -> Vec<ResourceClaimConsumerReference> {
    claim.status.as_ref().and_then(|status| status.reserved_for.clone()).unwrap_or_default()
}
