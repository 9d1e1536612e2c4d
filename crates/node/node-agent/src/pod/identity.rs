//! PodId: what tells pods of all clusters apart, and the labels that carry it to the runtime.
use api_meta::ClusterName;
use k8s_openapi::api::core::v1::Pod;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

pub const CLUSTER_LABEL: &str = "io.k8shost.cluster";
pub const POD_NAME_LABEL: &str = "io.kubernetes.pod.name";
pub const POD_NAMESPACE_LABEL: &str = "io.kubernetes.pod.namespace";
pub const POD_UID_LABEL: &str = "io.kubernetes.pod.uid";
pub const CONTAINER_NAME_LABEL: &str = "io.kubernetes.container.name";
pub const HASH_ANNOTATION: &str = "io.kubernetes.container.hash";
pub const RESTART_COUNT_ANNOTATION: &str = "io.kubernetes.container.restartCount";
pub const MESSAGE_PATH_ANNOTATION: &str = "io.kubernetes.container.terminationMessagePath";
pub const MESSAGE_POLICY_ANNOTATION: &str = "io.kubernetes.container.terminationMessagePolicy";
pub const GRACE_ANNOTATION: &str = "io.kubernetes.pod.terminationGracePeriod";
pub const DELETION_GRACE_ANNOTATION: &str = "io.kubernetes.pod.deletionGracePeriod";
pub const PORTS_ANNOTATION: &str = "io.kubernetes.container.ports";

/// A pod among those of all clusters. Two clusters may hold the same uid, for example after a restore.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodId {
    pub cluster: ClusterName,
    pub uid: Arc<str>,
}

impl PodId {
    pub fn of(cluster: &ClusterName, pod: &Pod) -> Self {
        Self { cluster: cluster.clone(), uid: pod.metadata.uid.as_deref().unwrap_or_default().into() }
    }

    /// From a sandbox's or container's labels; `None` for those that are not ours.
    pub fn of_labels(labels: &BTreeMap<String, String>) -> Option<Self> {
        let cluster = ClusterName::parse(labels.get(CLUSTER_LABEL)?).ok()?;
        Some(Self { cluster, uid: labels.get(POD_UID_LABEL)?.as_str().into() })
    }

    /// Labels that pick this pod's sandboxes and containers.
    pub fn selector(&self) -> BTreeMap<String, String> {
        BTreeMap::from([(CLUSTER_LABEL.into(), self.cluster.to_string()), (POD_UID_LABEL.into(), self.uid.to_string())])
    }

    /// A name for directories and cgroups: the uid, and for other clusters than root the cluster too.
    pub fn directory_name(&self) -> String {
        if self.cluster.is_root() { self.uid.to_string() } else { format!("{}_{}", self.uid, self.cluster) }
    }
}

impl fmt::Display for PodId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.cluster, self.uid)
    }
}

/// A pod's namespace, "" if it has none.
pub fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or_default()
}

/// A pod's name, "" if it has none.
pub fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

/// A pod as upstream's messages name it: `name_namespace(uid)`.
pub fn pod_text(pod: &Pod) -> String {
    format!("{}_{}({})", name(pod), namespace(pod), pod.metadata.uid.as_deref().unwrap_or_default())
}
