//! NodeAuthorizer: a node reads only the objects its own pods refer to, and writes only its own.
use crate::{Attributes, Decision};
use api_meta::{ClusterName, Object};
use parking_lot::RwLock;
use serde_json::Value;
use std::collections::{HashMap, HashSet};

/// What the graph of references is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeGraphKind {
    Pod,
    PersistentVolume,
    VolumeAttachment,
    /// Of all clusters: their certificates are for those nodes that balance.
    Ingress,
    /// Of the host cluster: whether it balances.
    Node,
}

impl NodeGraphKind {
    /// The kind a resource is in the graph; `None` for those that are not in it.
    pub fn of(group: &str, resource: &str) -> Option<Self> {
        match (group, resource) {
            ("", "pods") => Some(Self::Pod),
            ("", "persistentvolumes") => Some(Self::PersistentVolume),
            ("storage.k8s.io", "volumeattachments") => Some(Self::VolumeAttachment),
            ("networking.k8s.io", "ingresses") => Some(Self::Ingress),
            ("", "nodes") => Some(Self::Node),
            _ => None,
        }
    }
}

/// What can be reached from a node: (resource, namespace, name).
type Vertex = (&'static str, Box<str>, Box<str>);

/// A pod's node, and what the pod refers to.
type PodEdges = (Box<str>, Vec<Vertex>);
/// The claim a persistent volume is bound to, and the secrets of its driver.
type VolumeEdges = (Option<Vertex>, Vec<Vertex>);

#[derive(Default)]
struct Graph {
    pods: HashMap<(Box<str>, Box<str>), PodEdges>,
    volumes: HashMap<Box<str>, VolumeEdges>,
    attachments: HashMap<Box<str>, Box<str>>,
    /// node -> what its pods refer to, and by how many of them.
    reach: HashMap<Box<str>, HashMap<Vertex, usize>>,
    /// secret -> volumes: how a node reaches what lies behind its pods' claims.
    volumes_with: HashMap<Vertex, HashSet<Box<str>>>,
    /// The certificates that Ingresses refer to, by namespace and name.
    ingresses: HashMap<(Box<str>, Box<str>), Vec<Vertex>>,
    /// How many Ingresses refer to one.
    certificates: HashMap<Vertex, usize>,
}

/// The label of nodes that balance, which the operator gives, never a node itself (NodeRestriction).
pub const BALANCES: &str = "fiberlb.plasmacloud.io/balances";

/// Fed with Pods, PersistentVolumes and VolumeAttachments by whoever watches them.
#[derive(Default)]
pub struct NodeAuthorizer {
    clusters: RwLock<HashMap<ClusterName, Graph>>,
    balancing: RwLock<HashSet<Box<str>>>,
}

impl NodeAuthorizer {
    pub fn apply(&self, cluster: &ClusterName, kind: NodeGraphKind, object: &Object) {
        if kind == NodeGraphKind::Node {
            if cluster.is_root() {
                self.set_balancing(&object.meta().name, object.mentions(BALANCES) && object.to_value()["metadata"]["labels"][BALANCES] == "true");
            }
            return;
        }
        // A pod without a node gives nobody anything to read, and there are many at once when a workload grows.
        let unbound = kind == NodeGraphKind::Pod && !object.mentions("\"nodeName\":");
        let value = if unbound { Value::Null } else { object.to_value() };
        let (namespace, name) = (&object.meta().namespace, &object.meta().name);
        let mut clusters = self.clusters.write();
        let graph = clusters.entry(cluster.clone()).or_default();
        graph.remove(kind, namespace, name);
        match kind {
            NodeGraphKind::Pod => graph.add_pod(namespace, name, &value),
            NodeGraphKind::PersistentVolume => graph.add_volume(name, &value),
            NodeGraphKind::VolumeAttachment => {
                graph.attachments.insert(name.clone(), value["spec"]["nodeName"].as_str().unwrap_or_default().into());
            }
            NodeGraphKind::Ingress => graph.add_ingress(namespace, name, &value),
            NodeGraphKind::Node => {}
        }
    }

    /// Whether a node of the host cluster answers for external addresses.
    pub fn balances(&self, node: &str) -> bool {
        self.balancing.read().contains(node)
    }

    fn set_balancing(&self, node: &str, balances: bool) {
        if self.balances(node) == balances {
            return;
        }
        let mut balancing = self.balancing.write();
        if balances {
            balancing.insert(node.into())
        } else {
            balancing.remove(node)
        };
    }

    /// `namespace` is "" for the cluster-scoped kinds.
    pub fn remove(&self, cluster: &ClusterName, kind: NodeGraphKind, namespace: &str, name: &str) {
        if kind == NodeGraphKind::Node {
            if cluster.is_root() {
                self.set_balancing(name, false);
            }
            return;
        }
        if let Some(graph) = self.clusters.write().get_mut(cluster) {
            graph.remove(kind, namespace, name);
        }
    }

    /// Forgets the objects of `kind` that are not to be kept: `keep(cluster, namespace, name)`.
    pub fn retain(&self, kind: NodeGraphKind, keep: impl Fn(&ClusterName, &str, &str) -> bool) {
        if kind == NodeGraphKind::Node {
            self.balancing.write().retain(|name| keep(&ClusterName::root(), "", name));
            return;
        }
        for (cluster, graph) in &mut *self.clusters.write() {
            let known: Vec<(Box<str>, Box<str>)> = match kind {
                NodeGraphKind::Pod => graph.pods.keys().cloned().collect(),
                NodeGraphKind::PersistentVolume => graph.volumes.keys().map(|name| ("".into(), name.clone())).collect(),
                NodeGraphKind::VolumeAttachment => graph.attachments.keys().map(|name| ("".into(), name.clone())).collect(),
                NodeGraphKind::Ingress => graph.ingresses.keys().cloned().collect(),
                NodeGraphKind::Node => Vec::new(),
            };
            for (namespace, name) in known.iter().filter(|(namespace, name)| !keep(cluster, namespace, name)) {
                graph.remove(kind, namespace, name);
            }
        }
    }

    /// Forgets a cluster that is gone.
    pub fn remove_cluster(&self, cluster: &ClusterName) {
        self.clusters.write().remove(cluster);
    }

    /// Allow or NoOpinion for nodes, NoOpinion for everyone else.
    pub fn authorize(&self, attributes: &Attributes) -> Decision {
        let Some(node) = attributes.user.node() else { return Decision::NoOpinion(String::new()) };
        if !attributes.is_resource() {
            return Decision::NoOpinion(String::new());
        }
        let Attributes { verb, group, resource, subresource, namespace, name, .. } = *attributes;
        let allow = || Decision::Allow(String::new());
        let refuse = |why: String| Decision::NoOpinion(why);
        let read = |what: &'static str| {
            if !matches!(verb, "get" | "list" | "watch") {
                return refuse("can only read resources of this type".into());
            }
            if !subresource.is_empty() {
                return refuse("cannot read subresource".into());
            }
            if name.is_empty() {
                return refuse("No Object name found".into());
            }
            self.reach(attributes.cluster, node, (what, namespace, name))
        };
        match (group, resource) {
            ("", "secrets")
                if matches!(verb, "get" | "list" | "watch") && subresource.is_empty() && self.may_serve(attributes.cluster, node, namespace, name) =>
            {
                allow()
            }
            ("", "secrets") => read("secrets"),
            // What leads from outside to pods, for those nodes that lead there.
            ("networking.k8s.io", "ingresses" | "ingressclasses") if matches!(verb, "list" | "watch") && subresource.is_empty() && self.balances(node) => {
                allow()
            }
            ("", "configmaps") => read("configmaps"),
            ("", "persistentvolumeclaims") if subresource == "status" => match verb {
                "update" | "patch" => self.reach(attributes.cluster, node, ("persistentvolumeclaims", namespace, name)),
                _ => refuse("can only update and patch this type".into()),
            },
            ("", "persistentvolumeclaims") => read("persistentvolumeclaims"),
            ("resource.k8s.io", "resourceclaims") => read("resourceclaims"),
            ("", "persistentvolumes") => match verb {
                "get" if subresource.is_empty() => self.reach(attributes.cluster, node, ("persistentvolumes", "", name)),
                _ => refuse("can only get individual resources of this type".into()),
            },
            // Upstream's nodes only get these two, again and again; ours watch the one they need.
            ("storage.k8s.io", "volumeattachments") => read("volumeattachments"),
            ("", "serviceaccounts") => match (verb, subresource) {
                ("create", "token") => self.reach(attributes.cluster, node, ("serviceaccounts", namespace, name)),
                ("get", "") => self.reach(attributes.cluster, node, ("serviceaccounts", namespace, name)),
                ("create", _) => refuse("only allowed subresource is token".into()),
                _ => refuse("can only create tokens for individual service accounts".into()),
            },
            ("coordination.k8s.io", "leases") => {
                if !matches!(verb, "get" | "create" | "update" | "patch" | "delete") {
                    refuse("can only get, create, update, patch, or delete a node lease".into())
                } else if namespace != "kube-node-lease" {
                    refuse(format!("can only access leases in the {:?} system namespace", "kube-node-lease"))
                } else if verb != "create" && name != node {
                    refuse("can only access node lease with the same name as the requesting node".into())
                } else {
                    allow()
                }
            }
            ("storage.k8s.io", "csinodes") => {
                if !matches!(verb, "get" | "create" | "update" | "patch" | "delete") {
                    refuse("can only get, create, update, patch, or delete a CSINode".into())
                } else if !subresource.is_empty() {
                    refuse("cannot access CSINode subresource".into())
                } else if verb != "create" && name != node {
                    refuse("can only access CSINode with the same name as the requesting node".into())
                } else {
                    allow()
                }
            }
            ("", "nodes") => match (verb, subresource) {
                ("create", "") => allow(),
                ("get" | "list" | "watch", _) | ("update" | "patch" | "delete", "" | "status") if name == node => allow(),
                ("get" | "list" | "watch", _) if name.is_empty() => refuse(format!("node '{node}' cannot read all nodes, only its own Node object")),
                ("get" | "list" | "watch", _) => refuse(format!("node '{node}' cannot read '{name}', only its own Node object")),
                _ => refuse("node cannot act on other nodes".into()),
            },
            // Which pods a write may concern is admission's to say (NodeRestriction).
            ("", "pods") => match (verb, subresource) {
                ("get" | "list" | "watch" | "create" | "delete", "") | ("update" | "patch", "status") | ("create", "eviction") => allow(),
                _ => Decision::NoOpinion(String::new()),
            },
            _ if granted_to_all_nodes(attributes) => allow(),
            _ => Decision::NoOpinion(String::new()),
        }
    }

    /// Whether a Secret holds a certificate that the node shows clients.
    fn may_serve(&self, cluster: &ClusterName, node: &str, namespace: &str, name: &str) -> bool {
        let certificate: Vertex = ("secrets", namespace.into(), name.into());
        !name.is_empty() && self.balances(node) && self.clusters.read().get(cluster).is_some_and(|graph| graph.certificates.contains_key(&certificate))
    }

    fn reach(&self, cluster: &ClusterName, node: &str, (resource, namespace, name): (&'static str, &str, &str)) -> Decision {
        let vertex: Vertex = (resource, namespace.into(), name.into());
        if self.clusters.read().get(cluster).is_some_and(|graph| graph.reaches(node, &vertex)) {
            Decision::Allow(String::new())
        } else {
            Decision::NoOpinion(format!("no relationship found between node '{node}' and this object"))
        }
    }
}

/// Upstream's node rules beyond those above: the ClusterRole `system:node`.
fn granted_to_all_nodes(attributes: &Attributes) -> bool {
    static RULES: std::sync::LazyLock<Vec<crate::Rule>> = std::sync::LazyLock::new(crate::bootstrap::node_rules);
    RULES.iter().any(|rule| rule.allows(attributes))
}

impl Graph {
    fn reaches(&self, node: &str, vertex: &Vertex) -> bool {
        if vertex.0 == "volumeattachments" {
            return self.attachments.get(&vertex.2).is_some_and(|of| **of == *node);
        }
        let Some(reach) = self.reach.get(node) else { return false };
        if reach.contains_key(vertex) {
            return true;
        }
        let claimed = |volume: &str| self.volumes.get(volume).and_then(|(claim, _)| claim.as_ref()).is_some_and(|claim| reach.contains_key(claim));
        match vertex.0 {
            "persistentvolumes" => claimed(&vertex.2),
            "secrets" => self.volumes_with.get(vertex).is_some_and(|volumes| volumes.iter().any(|volume| claimed(volume))),
            _ => false,
        }
    }

    fn add_pod(&mut self, namespace: &str, name: &str, pod: &Value) {
        let node: Box<str> = pod["spec"]["nodeName"].as_str().unwrap_or_default().into();
        // A mirror pod stands for one the node runs of itself: it gives the node nothing to read.
        let mirror = pod["metadata"]["annotations"].get("kubernetes.io/config.mirror").is_some();
        let finished = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
        if node.is_empty() || mirror || finished {
            return;
        }
        let references = pod_references(namespace, name, pod);
        let reach = self.reach.entry(node.clone()).or_default();
        for vertex in &references {
            *reach.entry(vertex.clone()).or_default() += 1;
        }
        self.pods.insert((namespace.into(), name.into()), (node, references));
    }

    fn add_volume(&mut self, name: &str, volume: &Value) {
        let spec = &volume["spec"];
        let claim = spec["claimRef"]["name"].as_str().map(|claim| {
            let namespace = spec["claimRef"]["namespace"].as_str().unwrap_or_default();
            ("persistentvolumeclaims", namespace.into(), claim.into())
        });
        let claim_namespace = spec["claimRef"]["namespace"].as_str().unwrap_or_default();
        let csi = ["nodePublishSecretRef", "nodeStageSecretRef", "nodeExpandSecretRef", "controllerExpandSecretRef"].map(|key| &spec["csi"][key]);
        let others = ["iscsi", "cephfs", "flexVolume", "rbd", "scaleIO"].map(|driver| &spec[driver]["secretRef"]);
        let secrets: Vec<Vertex> = csi
            .into_iter()
            .chain(others)
            .filter_map(|reference| {
                let namespace = reference["namespace"].as_str().unwrap_or(claim_namespace);
                Some(("secrets", namespace.into(), reference["name"].as_str()?.into()))
            })
            .collect();
        for secret in &secrets {
            self.volumes_with.entry(secret.clone()).or_default().insert(name.into());
        }
        self.volumes.insert(name.into(), (claim, secrets));
    }

    fn add_ingress(&mut self, namespace: &str, name: &str, ingress: &Value) {
        let names = ingress["spec"]["tls"].as_array().into_iter().flatten().filter_map(|tls| tls["secretName"].as_str()).filter(|name| !name.is_empty());
        let secrets: Vec<Vertex> = names.map(|secret| ("secrets", namespace.into(), secret.into())).collect();
        if secrets.is_empty() {
            return;
        }
        secrets.iter().for_each(|secret| *self.certificates.entry(secret.clone()).or_default() += 1);
        self.ingresses.insert((namespace.into(), name.into()), secrets);
    }

    fn remove(&mut self, kind: NodeGraphKind, namespace: &str, name: &str) {
        match kind {
            NodeGraphKind::Node => {}
            NodeGraphKind::Ingress => {
                for secret in self.ingresses.remove(&(namespace.into(), name.into())).unwrap_or_default() {
                    if let Some(count) = self.certificates.get_mut(&secret) {
                        *count -= 1;
                        if *count == 0 {
                            self.certificates.remove(&secret);
                        }
                    }
                }
            }
            NodeGraphKind::Pod => {
                let Some((node, references)) = self.pods.remove(&(namespace.into(), name.into())) else { return };
                let Some(reach) = self.reach.get_mut(&node) else { return };
                for vertex in references {
                    if let Some(count) = reach.get_mut(&vertex) {
                        *count -= 1;
                        if *count == 0 {
                            reach.remove(&vertex);
                        }
                    }
                }
                if reach.is_empty() {
                    self.reach.remove(&node);
                }
            }
            NodeGraphKind::PersistentVolume => {
                let Some((_, secrets)) = self.volumes.remove(name) else { return };
                for secret in secrets {
                    if let Some(volumes) = self.volumes_with.get_mut(&secret) {
                        volumes.remove(name);
                        if volumes.is_empty() {
                            self.volumes_with.remove(&secret);
                        }
                    }
                }
            }
            NodeGraphKind::VolumeAttachment => {
                self.attachments.remove(name);
            }
        }
    }
}

/// Everything a pod's node must be able to read for it.
fn pod_references(namespace: &str, pod_name: &str, pod: &Value) -> Vec<Vertex> {
    let spec = &pod["spec"];
    let mut found: HashSet<Vertex> = HashSet::new();
    let mut add = |resource: &'static str, name: &Value| {
        if let Some(name) = name.as_str().filter(|name| !name.is_empty()) {
            found.insert((resource, namespace.into(), name.into()));
        }
    };
    let each = |list: &Value| list.as_array().cloned().unwrap_or_default();
    add("serviceaccounts", &spec["serviceAccountName"]);
    each(&spec["imagePullSecrets"]).iter().for_each(|secret| add("secrets", &secret["name"]));
    for containers in ["initContainers", "containers", "ephemeralContainers"] {
        for container in each(&spec[containers]) {
            for from in each(&container["envFrom"]) {
                add("configmaps", &from["configMapRef"]["name"]);
                add("secrets", &from["secretRef"]["name"]);
            }
            for variable in each(&container["env"]) {
                add("configmaps", &variable["valueFrom"]["configMapKeyRef"]["name"]);
                add("secrets", &variable["valueFrom"]["secretKeyRef"]["name"]);
            }
        }
    }
    each(&spec["resourceClaims"]).iter().for_each(|claim| add("resourceclaims", &claim["resourceClaimName"]));
    each(&pod["status"]["resourceClaimStatuses"]).iter().for_each(|claim| add("resourceclaims", &claim["resourceClaimName"]));
    for volume in each(&spec["volumes"]) {
        add("secrets", &volume["secret"]["secretName"]);
        add("configmaps", &volume["configMap"]["name"]);
        add("persistentvolumeclaims", &volume["persistentVolumeClaim"]["claimName"]);
        if volume["ephemeral"].is_object() {
            add("persistentvolumeclaims", &format!("{pod_name}-{}", volume["name"].as_str().unwrap_or_default()).into());
        }
        add("secrets", &volume["csi"]["nodePublishSecretRef"]["name"]);
        for driver in ["iscsi", "cephfs", "flexVolume", "rbd", "scaleIO", "storageos"] {
            add("secrets", &volume[driver]["secretRef"]["name"]);
        }
        add("secrets", &volume["azureFile"]["secretName"]);
        for source in each(&volume["projected"]["sources"]) {
            add("secrets", &source["secret"]["name"]);
            add("configmaps", &source["configMap"]["name"]);
        }
    }
    found.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::User;
    use serde_json::json;

    fn object(value: Value) -> Object {
        Object::parse(serde_json::to_vec(&value).unwrap().into()).unwrap()
    }

    #[test]
    fn a_node_reads_what_its_pods_refer_to_and_nothing_else() {
        let (authorizer, cluster) = (NodeAuthorizer::default(), ClusterName::root());
        let pod = json!({"metadata": {"name": "p", "namespace": "a"}, "spec": {"nodeName": "one", "serviceAccountName": "sa",
            "containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "env"}}}]}],
            "resourceClaims": [{"name": "gpu", "resourceClaimName": "shared"}, {"name": "own", "resourceClaimTemplateName": "t"}],
            "volumes": [{"persistentVolumeClaim": {"claimName": "data"}}, {"projected": {"sources": [{"configMap": {"name": "ca"}}]}}]},
            "status": {"resourceClaimStatuses": [{"name": "own", "resourceClaimName": "p-own-x"}]}});
        let volume = json!({"metadata": {"name": "pv"}, "spec": {"claimRef": {"namespace": "a", "name": "data"},
            "csi": {"nodeStageSecretRef": {"name": "disk", "namespace": "drivers"}}}});
        authorizer.apply(&cluster, NodeGraphKind::Pod, &object(pod));
        authorizer.apply(&cluster, NodeGraphKind::PersistentVolume, &object(volume));
        let ask = |node: &str, request: &str| {
            let words: Vec<&str> = request.split(' ').collect();
            let (resource, subresource) = words[1].split_once('/').unwrap_or((words[1], ""));
            let group = match resource {
                "leases" => "coordination.k8s.io",
                "resourceclaims" | "resourceslices" => "resource.k8s.io",
                _ => "",
            };
            let user = User::authenticated(format!("system:node:{node}"), ["system:nodes".to_owned()]);
            let decision = authorizer.authorize(&Attributes {
                cluster: &cluster,
                user: &user,
                verb: words[0],
                group,
                version: "v1",
                resource,
                subresource,
                namespace: words[2].trim_matches('-'),
                name: words[3].trim_matches('-'),
                path: "",
            });
            decision.is_allowed()
        };
        let reached = [
            "get secrets a env",
            "get configmaps a ca",
            "get persistentvolumeclaims a data",
            "get persistentvolumes - pv",
            "get secrets drivers disk",
            "create serviceaccounts/token a sa",
            "get resourceclaims a shared",
            "get resourceclaims a p-own-x",
        ];
        for request in reached {
            assert!(ask("one", request), "{request}");
            assert!(!ask("two", request), "{request} by another node");
        }
        for request in [
            "get secrets a other",
            "get resourceclaims a other",
            "update resourceclaims a shared",
            "list secrets a -",
            "update secrets a env",
            "get secrets b env",
            "create serviceaccounts a sa",
        ] {
            assert!(!ask("one", request), "{request}");
        }
        for request in [
            "update nodes/status - one",
            "get leases kube-node-lease one",
            "list pods - -",
            "create resourceslices - -",
            "update pods/status a x",
            "list services - -",
        ] {
            assert!(ask("one", request), "{request}");
        }
        for request in ["update nodes/status - two", "update leases kube-node-lease two", "update leases a one", "update pods a p"] {
            assert!(!ask("one", request), "{request}");
        }
        authorizer.remove(&cluster, NodeGraphKind::Pod, "a", "p");
        for request in reached {
            assert!(!ask("one", request), "{request} after the pod is gone");
        }
    }

    #[test]
    fn certificates_of_ingresses_are_for_nodes_that_balance() {
        let authorizer = NodeAuthorizer::default();
        let (root, hosted) = (ClusterName::root(), ClusterName::hosted("team", "dev").unwrap());
        let ask = |cluster: &ClusterName, verb: &str, group: &str, resource: &str, namespace: &str, name: &str| {
            let user = User::authenticated("system:node:one".to_owned(), ["system:nodes".to_owned()]);
            let attributes = Attributes { cluster, user: &user, verb, group, version: "v1", resource, subresource: "", namespace, name, path: "" };
            authorizer.authorize(&attributes).is_allowed()
        };
        let ingress = json!({"metadata": {"name": "i", "namespace": "a"}, "spec": {"tls": [{"hosts": ["x"], "secretName": "cert"}, {"hosts": ["y"]}]}});
        let node = |labels: Value| object(json!({"metadata": {"name": "one", "labels": labels}}));
        let may = |cluster: &ClusterName| {
            let ingresses = ask(cluster, "watch", "networking.k8s.io", "ingresses", "", "");
            [
                ask(cluster, "watch", "", "secrets", "a", "cert"),
                ingresses,
                ask(cluster, "get", "", "secrets", "a", "other"),
                ask(cluster, "list", "", "secrets", "", ""),
            ]
        };
        for cluster in [&root, &hosted] {
            authorizer.apply(cluster, NodeGraphKind::Ingress, &object(ingress.clone()));
            assert_eq!(may(cluster), [false; 4]);
        }
        // A virtual cluster's nodes are its own to label, and mean nothing here.
        authorizer.apply(&hosted, NodeGraphKind::Node, &node(json!({BALANCES: "true"})));
        assert_eq!(may(&root), [false; 4]);
        authorizer.apply(&root, NodeGraphKind::Node, &node(json!({BALANCES: "true"})));
        assert_eq!([may(&root), may(&hosted)], [[true, true, false, false]; 2]);
        assert!(!ask(&root, "update", "", "secrets", "a", "cert"));
        authorizer.remove(&hosted, NodeGraphKind::Ingress, "a", "i");
        assert_eq!([may(&root), may(&hosted)], [[true, true, false, false], [false, true, false, false]]);
        authorizer.apply(&root, NodeGraphKind::Node, &node(json!({BALANCES: "false"})));
        assert_eq!(may(&root), [false; 4]);
    }
}
