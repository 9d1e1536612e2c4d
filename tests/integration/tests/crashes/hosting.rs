//! Stories of projects, virtual clusters and their policies.
use crate::story::{Others, Step, Story, story};
use api_client::{Access, ClusterSettings, Hosting, HostingError, KeyPair, SnapshotFacts};
use api_meta::ClusterName;
use clock::SystemClock;
use controller_kit::async_trait;
use futures::FutureExt;
use pki::{CertificateAuthority, LeafRequest};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use virtual_cluster::{HostFacts, StorageObjects};

pub fn a_project_has_its_namespace_and_what_bounds_it() -> Story {
    const PROJECTS: &str = "/apis/iam.plasmacloud.io/v1/projects";
    const ROLES: &str = "/apis/iam.plasmacloud.io/v1/roles";
    let project = json!({"apiVersion": "iam.plasmacloud.io/v1", "kind": "Project", "metadata": {"name": "proj-NAMESPACE"},
        "spec": {"displayName": "Shop", "organization": "org-NAMESPACE", "orgShared": true, "deletionGracePeriodSeconds": 0}});
    let role = json!({"apiVersion": "iam.plasmacloud.io/v1", "kind": "Role", "metadata": {"name": "role-NAMESPACE"},
        "spec": {"displayName": "Reads", "organization": "org-NAMESPACE", "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]}});
    let told = story(
        &["project-controller", "org-shared-namespace-controller"],
        &[
            "/apis/iam.plasmacloud.io/v1/projects",
            "/api/v1/namespaces?labelSelector=plasmacloud.io%2Forg-id%3Dorg-NAMESPACE",
            "/api/v1/namespaces/project-NAMESPACE/resourcequotas",
            "/apis/rbac.authorization.k8s.io/v1/namespaces/project-NAMESPACE/roles",
            "/apis/rbac.authorization.k8s.io/v1/namespaces/project-NAMESPACE/rolebindings",
            "/apis/rbac.authorization.k8s.io/v1/namespaces/org-NAMESPACE-shared/rolebindings",
            "/apis/networking.k8s.io/v1/namespaces/project-NAMESPACE/networkpolicies",
        ],
        vec![
            Step::Create(PROJECTS, project),
            Step::Create(ROLES, role),
            // As after a mistake.
            Step::Delete("/apis/networking.k8s.io/v1/namespaces/project-NAMESPACE/networkpolicies/default-deny-all", "Background"),
            Step::Delete("/apis/iam.plasmacloud.io/v1/projects/proj-NAMESPACE", "Background"),
            Step::Delete("/apis/iam.plasmacloud.io/v1/roles/role-NAMESPACE", "Background"),
        ],
    );
    let others = Others {
        prepare: |client| {
            let install = async move {
                iam::install(&client).await.unwrap();
                // A project may have a cluster of its own.
                virtual_cluster::install(&client).await.unwrap();
            };
            install.boxed()
        },
        rosters: Arc::new(|kit, shutdown| async move { vec![projects::roster(&kit, shutdown)] }.boxed()),
    };
    Story { others: Some(others), ..told }
}

/// What a server of many clusters keeps of them: it outlives the controllers that ask for it.
struct Kept {
    authority: CertificateAuthority,
    clusters: Mutex<BTreeSet<String>>,
    snapshots: Mutex<BTreeSet<String>>,
}

impl Kept {
    fn administrator(&self) -> KeyPair {
        let request = LeafRequest {
            common_name: "administrator".into(),
            organizations: vec!["system:masters".into()],
            dns_names: vec![],
            ip_addresses: vec![],
            server: false,
            client: true,
            validity: Duration::from_hours(24 * 365),
        };
        let issued = self.authority.issue(&request, &SystemClock).unwrap();
        KeyPair { certificate_pem: issued.certificate_pem, key_pem: issued.key_pem }
    }
}

#[async_trait]
impl Hosting for Kept {
    async fn open(&self, cluster: &ClusterName, _: ClusterSettings) -> Result<Access, HostingError> {
        self.clusters.lock().unwrap().insert(cluster.to_string());
        Ok(Access {
            host: "192.0.2.1:6443".into(),
            path: format!("/clusters/{cluster}"),
            server_ca_pem: self.authority.certificate_pem().to_owned(),
            administrator: self.administrator(),
            address: Some("192.0.2.2".parse().unwrap()),
            service_cidr: "10.96.0.0/16".parse().unwrap(),
            cluster_dns: "10.96.0.10".parse().unwrap(),
            tls_names: Vec::new(),
        })
    }

    async fn remove(&self, cluster: &ClusterName) -> Result<(), HostingError> {
        self.clusters.lock().unwrap().remove(cluster.as_str());
        Ok(())
    }

    async fn snapshot(&self, cluster: &ClusterName, id: &str) -> Result<SnapshotFacts, HostingError> {
        if !self.clusters.lock().unwrap().contains(cluster.as_str()) {
            return Err(HostingError::Refused(format!("cluster {cluster} is not served")));
        }
        self.snapshots.lock().unwrap().insert(id.to_owned());
        Ok(SnapshotFacts { revision: 1, objects: 2, size: 3 })
    }

    async fn forget_snapshot(&self, id: &str) -> Result<(), HostingError> {
        self.snapshots.lock().unwrap().remove(id);
        Ok(())
    }
}

fn virtual_clusters() -> Others {
    let authority = CertificateAuthority::generate("clusters", &SystemClock).unwrap();
    let kept = Arc::new(Kept { authority, clusters: Mutex::default(), snapshots: Mutex::default() });
    let facts =
        HostFacts { version: "v1.37.0".into(), cluster_cidr: "10.244.0.0/16".parse().unwrap(), second_cluster_cidr: None, storage: StorageObjects::default() };
    Others {
        prepare: |client| async move { virtual_cluster::install(&client).await.unwrap() }.boxed(),
        rosters: Arc::new(move |kit, shutdown| {
            let (facts, kept) = (facts.clone(), kept.clone());
            async move { vec![virtual_cluster::roster(facts, &kit, kept, shutdown)] }.boxed()
        }),
    }
}

pub fn a_virtual_cluster_is_served_kept_and_taken_away() -> Story {
    const CLUSTERS: &str = "/apis/k3k.io/v1beta1/namespaces/NAMESPACE/clusters";
    const SNAPSHOTS: &str = "/apis/k8shost.io/v1/namespaces/NAMESPACE/clustersnapshots";
    let object = |version: &str, kind: &str, name: &str, spec: Value| json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec});
    let told = story(
        &["k3k-cluster-controller", "cluster-snapshot-controller"],
        &[CLUSTERS, SNAPSHOTS, "/api/v1/namespaces/NAMESPACE/secrets", "/api/v1/namespaces/NAMESPACE/services"],
        vec![
            Step::Create(CLUSTERS, object("k3k.io/v1beta1", "Cluster", "mine", json!({"mode": "shared", "expose": {"nodePort": {}}}))),
            Step::Create(SNAPSHOTS, object("k8shost.io/v1", "ClusterSnapshot", "before", json!({"clusterName": "mine"}))),
            Step::Patch("/apis/k3k.io/v1beta1/namespaces/NAMESPACE/clusters/mine", json!({"spec": {"expose": null}})),
            Step::Delete("/apis/k8shost.io/v1/namespaces/NAMESPACE/clustersnapshots/before", "Background"),
            Step::Delete("/apis/k3k.io/v1beta1/namespaces/NAMESPACE/clusters/mine", "Background"),
        ],
    );
    // Certificates and ports are others each time, and a life that begins with a new kubeconfig needs one more write to go on.
    Story { but: &["data", "nodePort", "clusterIP", "clusterIPs"], lives: &[2, 3], others: Some(virtual_clusters()), ..told }
}

pub fn a_policy_bounds_the_namespaces_bound_to_it() -> Story {
    const POLICIES: &str = "/apis/k3k.io/v1beta1/virtualclusterpolicies";
    let policy = json!({"apiVersion": "k3k.io/v1beta1", "kind": "VirtualClusterPolicy", "metadata": {"name": "NAMESPACE"},
        "spec": {"quota": {"hard": {"pods": "10"}}, "limit": {"limits": [{"type": "Container", "max": {"cpu": "2"}}]}, "podSecurityAdmissionLevel": "baseline"}});
    let told = story(
        &["k3k-policy-controller", "k3k-policy-binding-controller"],
        &[
            POLICIES,
            "/api/v1/namespaces?labelSelector=story%3DNAMESPACE",
            "/api/v1/namespaces/NAMESPACE/resourcequotas",
            "/api/v1/namespaces/NAMESPACE/limitranges",
            "/apis/networking.k8s.io/v1/namespaces/NAMESPACE/networkpolicies",
        ],
        vec![
            Step::Create(POLICIES, policy),
            Step::Patch("/api/v1/namespaces/NAMESPACE", json!({"metadata": {"labels": {"policy.k3k.io/policy-name": "NAMESPACE"}}})),
            Step::Patch("/apis/k3k.io/v1beta1/virtualclusterpolicies/NAMESPACE", json!({"spec": {"limit": null, "disableNetworkPolicy": true}})),
            Step::Delete("/apis/k3k.io/v1beta1/virtualclusterpolicies/NAMESPACE", "Background"),
        ],
    );
    Story { others: Some(virtual_clusters()), ..told }
}
