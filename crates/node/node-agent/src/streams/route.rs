//! Routes: what a path of this server means. Pure.
use api_meta::ClusterName;
use percent_encoding::percent_decode_str;

/// A path's meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    Healthz,
    Pods {
        cluster: ClusterName,
    },
    Summary {
        cluster: ClusterName,
    },
    Metrics {
        cluster: ClusterName,
    },
    Logs(ContainerPath),
    Exec(ContainerPath),
    Attach(ContainerPath),
    PortForward(PodPath),
    /// The socket of a CSI driver, for the controllers of its volumes.
    Driver(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodPath {
    pub cluster: ClusterName,
    pub namespace: String,
    pub pod: String,
    /// When given, only the pod with this uid is meant.
    pub uid: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerPath {
    pub pod: PodPath,
    pub container: String,
}

impl Route {
    /// `None` for paths that mean nothing here.
    pub fn parse(path: &str) -> Option<Self> {
        let decoded: Vec<String> = path.trim_start_matches('/').trim_end_matches('/').split('/').map(decode).collect::<Option<_>>()?;
        let segments: Vec<&str> = decoded.iter().map(String::as_str).collect();
        let (cluster, rest) = match segments.as_slice() {
            ["clusters", cluster, rest @ ..] => (ClusterName::parse(cluster).ok()?, rest),
            rest => (ClusterName::root(), rest),
        };
        let pod = |namespace: &str, pod: &str, uid: Option<&str>| PodPath {
            cluster: cluster.clone(),
            namespace: namespace.into(),
            pod: pod.into(),
            uid: uid.map(str::to_owned),
        };
        Some(match *rest {
            ["healthz"] => Self::Healthz,
            ["pods"] => Self::Pods { cluster },
            ["stats", "summary"] => Self::Summary { cluster },
            ["metrics"] => Self::Metrics { cluster },
            ["containerLogs", namespace, name, container] => Self::Logs(ContainerPath { pod: pod(namespace, name, None), container: container.into() }),
            ["portForward", namespace, name] => Self::PortForward(pod(namespace, name, None)),
            ["portForward", namespace, name, uid] => Self::PortForward(pod(namespace, name, Some(uid))),
            // Drivers are the node's, never a cluster's.
            ["v1-k8shost", "csi", driver] if cluster.is_root() => Self::Driver(driver.into()),
            [verb @ ("exec" | "attach"), namespace, name, container] => of_container(verb, pod(namespace, name, None), container),
            [verb @ ("exec" | "attach"), namespace, name, uid, container] => of_container(verb, pod(namespace, name, Some(uid)), container),
            _ => return None,
        })
    }

    /// The subresource of nodes that upstream authorizes a path by.
    pub fn subresource(&self) -> &'static str {
        match self {
            Self::Summary { .. } => "stats",
            Self::Metrics { .. } => "metrics",
            Self::Healthz => "healthz",
            Self::Pods { .. } => "pods",
            Self::Logs(_) | Self::Exec(_) | Self::Attach(_) | Self::PortForward(_) | Self::Driver(_) => "proxy",
        }
    }
}

fn of_container(verb: &str, pod: PodPath, container: &str) -> Route {
    let path = ContainerPath { pod, container: container.into() };
    if verb == "exec" { Route::Exec(path) } else { Route::Attach(path) }
}

fn decode(segment: &str) -> Option<String> {
    let text = percent_decode_str(segment).decode_utf8().ok()?.into_owned();
    (!text.contains('/') && !text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_a_cluster_or_mean_root() {
        let Some(Route::Logs(root)) = Route::parse("/containerLogs/n/p/c") else { panic!("no logs") };
        assert!(root.pod.cluster.is_root());
        let Some(Route::Exec(tenant)) = Route::parse("/clusters/team-a/exec/n/p/u/c") else { panic!("no exec") };
        assert_eq!((tenant.pod.cluster.as_str(), tenant.pod.uid.as_deref(), tenant.container.as_str()), ("team-a", Some("u"), "c"));
        assert!(matches!(Route::parse("/clusters/x/stats/summary"), Some(Route::Summary { .. })));
        assert!(matches!(Route::parse("/portForward/n/p"), Some(Route::PortForward(_))));
        assert_eq!(Route::parse(&format!("{}d.example", api_meta::DRIVER_PATH)), Some(Route::Driver("d.example".into())));
        assert_eq!(Route::parse(&format!("/clusters/team-a{}d.example", api_meta::DRIVER_PATH)), None);
        for nothing in ["/", "/exec", "/clusters/A_b/pods", "/clusters/x", "/containerLogs/n/p", "/containerLogs//p/c", "/containerLogs/n/..%2Fp/c"] {
            assert_eq!(Route::parse(nothing), None, "{nothing}");
        }
    }
}
