//! ClusterRoles of users, nodes and the control plane's own users, and who has them.
use super::{GROUP, READ, READ_WRITE, WRITE, cluster_binding, cluster_role, events, group, named, paths, rule, service_account, user};
use crate::Rule;
use serde_json::{Value, json};

const SIGNERS: &str = "certificates.k8s.io";

pub(super) fn cluster_roles() -> Vec<Value> {
    [user_roles(), system_roles()].concat()
}

fn user_roles() -> Vec<Value> {
    let (to_admin, to_edit, to_view) = (admin_rules(), edit_rules(), view_rules());
    let edit = [to_edit.clone(), to_view.clone()].concat();
    let admin = [to_admin.clone(), edit.clone()].concat();
    vec![
        cluster_role("cluster-admin", vec![rule("*", "*", "*"), paths("*", "*")]),
        aggregated(cluster_role("admin", admin), "admin"),
        aggregates_to(aggregated(cluster_role("edit", edit), "edit"), "admin"),
        aggregates_to(aggregated(cluster_role("view", to_view.clone()), "view"), "edit"),
        aggregates_to(cluster_role("system:aggregate-to-admin", to_admin), "admin"),
        aggregates_to(cluster_role("system:aggregate-to-edit", to_edit), "edit"),
        aggregates_to(cluster_role("system:aggregate-to-view", to_view), "view"),
    ]
}

fn label(to: &str) -> String {
    format!("rbac.authorization.k8s.io/aggregate-to-{to}")
}

fn aggregated(mut role: Value, name: &str) -> Value {
    role["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {label(name): "true"}}]});
    role
}

fn aggregates_to(mut role: Value, to: &str) -> Value {
    role["metadata"]["labels"][label(to)] = "true".into();
    role
}

fn admin_rules() -> Vec<Rule> {
    vec![rule("create", "authorization.k8s.io", "localsubjectaccessreviews"), rule(READ_WRITE, GROUP, "roles rolebindings")]
}

fn edit_rules() -> Vec<Rule> {
    vec![
        rule(READ, "core", "pods/attach pods/proxy pods/exec pods/portforward secrets services/proxy"),
        rule("impersonate", "core", "serviceaccounts"),
        rule(WRITE, "core", "pods pods/attach pods/proxy pods/exec pods/portforward"),
        rule("create", "core", "pods/eviction"),
        rule(
            WRITE,
            "core",
            "replicationcontrollers replicationcontrollers/scale serviceaccounts services services/proxy persistentvolumeclaims configmaps secrets events",
        ),
        rule("create", "core", "serviceaccounts/token"),
        rule(WRITE, "apps", "statefulsets statefulsets/scale daemonsets deployments deployments/scale deployments/rollback replicasets replicasets/scale"),
        rule(WRITE, "autoscaling", "horizontalpodautoscalers"),
        rule(WRITE, "batch", "jobs cronjobs"),
        rule(
            WRITE,
            "extensions",
            "daemonsets deployments deployments/scale deployments/rollback ingresses replicasets replicasets/scale replicationcontrollers/scale networkpolicies",
        ),
        rule(WRITE, "policy", "poddisruptionbudgets"),
        rule(WRITE, "networking.k8s.io", "networkpolicies ingresses"),
        rule(READ_WRITE, "coordination.k8s.io", "leases"),
        rule(WRITE, "resource.k8s.io", "resourceclaims resourceclaimtemplates"),
    ]
}

fn view_rules() -> Vec<Rule> {
    vec![
        rule(
            READ,
            "core",
            "pods replicationcontrollers replicationcontrollers/scale serviceaccounts services services/status endpoints persistentvolumeclaims persistentvolumeclaims/status configmaps",
        ),
        rule(
            READ,
            "core",
            "limitranges resourcequotas bindings events pods/status resourcequotas/status namespaces/status replicationcontrollers/status pods/log",
        ),
        rule(READ, "core", "namespaces"),
        rule(READ, "discovery.k8s.io", "endpointslices"),
        rule(
            READ,
            "apps",
            "controllerrevisions statefulsets statefulsets/status statefulsets/scale daemonsets daemonsets/status deployments deployments/status deployments/scale replicasets replicasets/status replicasets/scale",
        ),
        rule(READ, "autoscaling", "horizontalpodautoscalers horizontalpodautoscalers/status"),
        rule(READ, "batch", "jobs cronjobs cronjobs/status jobs/status"),
        rule(
            READ,
            "extensions",
            "daemonsets daemonsets/status deployments deployments/scale deployments/status ingresses ingresses/status replicasets replicasets/scale replicasets/status replicationcontrollers/scale networkpolicies",
        ),
        rule(READ, "policy", "poddisruptionbudgets poddisruptionbudgets/status"),
        rule(READ, "networking.k8s.io", "networkpolicies ingresses ingresses/status"),
        rule(READ, "resource.k8s.io", "resourceclaims resourceclaims/status resourceclaimtemplates"),
    ]
}

/// What a node may do, as far as a list of rules can say it.
pub fn node_rules() -> Vec<Rule> {
    vec![
        rule("create", "authentication.k8s.io", "tokenreviews"),
        rule("create", "authorization.k8s.io", "localsubjectaccessreviews subjectaccessreviews"),
        rule(READ, "core", "services"),
        rule("create get list watch", "core", "nodes"),
        rule("patch update", "core", "nodes/status"),
        rule("patch update", "core", "nodes"),
        events(),
        rule(READ, "core", "pods"),
        rule("create delete", "core", "pods"),
        rule("patch update", "core", "pods/status"),
        rule("create", "core", "pods/eviction"),
        rule(READ, "core", "configmaps secrets"),
        rule("get", "core", "persistentvolumeclaims persistentvolumes"),
        rule("get", "core", "endpoints"),
        rule("create get list watch", SIGNERS, "certificatesigningrequests"),
        rule("create delete get patch update", "coordination.k8s.io", "leases"),
        rule("get", "storage.k8s.io", "volumeattachments"),
        rule("create", "core", "serviceaccounts/token"),
        rule("get", "core", "serviceaccounts"),
        rule("get patch update", "core", "persistentvolumeclaims/status"),
        rule(READ, "storage.k8s.io", "csidrivers"),
        rule("create delete get patch update", "storage.k8s.io", "csinodes"),
        rule(READ, "node.k8s.io", "runtimeclasses"),
        rule("get", "resource.k8s.io", "resourceclaims"),
        rule("create delete deletecollection get list patch update watch", "resource.k8s.io", "resourceslices"),
        rule(READ, SIGNERS, "clustertrustbundles"),
    ]
}

fn system_roles() -> Vec<Value> {
    let approver = |signer: &str| {
        let name = format!("system:certificates.k8s.io:{signer}-approver");
        let signer = if signer == "legacy-unknown" { "kubernetes.io/legacy-unknown".to_owned() } else { format!("kubernetes.io/{signer}") };
        cluster_role(&name, vec![named("approve", SIGNERS, "signers", &signer)])
    };
    vec![
        cluster_role("system:discovery", vec![paths("get", "/api /api/* /apis /apis/* /healthz /livez /openapi /openapi/* /readyz /version /version/")]),
        cluster_role("system:public-info-viewer", vec![paths("get", "/healthz /livez /readyz /version /version/")]),
        cluster_role("system:monitoring", vec![paths("get", "/healthz /healthz/* /livez /livez/* /metrics /metrics/slis /readyz /readyz/*")]),
        cluster_role(
            "system:basic-user",
            vec![
                rule("create", "authorization.k8s.io", "selfsubjectaccessreviews selfsubjectrulesreviews"),
                rule("create", "authentication.k8s.io", "selfsubjectreviews"),
            ],
        ),
        cluster_role("system:heapster", vec![rule(READ, "core", "events namespaces nodes pods"), rule(READ, "extensions", "deployments")]),
        cluster_role("system:node", node_rules()),
        cluster_role("system:node-problem-detector", vec![rule("get", "core", "nodes"), rule("patch", "core", "nodes/status"), events()]),
        cluster_role(
            "system:node-proxier",
            vec![
                rule("list watch", "core", "services endpoints"),
                rule(READ, "core", "nodes"),
                events(),
                rule("list watch", "discovery.k8s.io", "endpointslices"),
                rule("list watch", "networking.k8s.io", "servicecidrs"),
            ],
        ),
        cluster_role(
            "system:kubelet-api-admin",
            vec![
                rule("get list watch", "core", "nodes"),
                rule("proxy", "core", "nodes"),
                rule("*", "core", "nodes/checkpoint nodes/configz nodes/healthz nodes/log nodes/metrics nodes/pods nodes/proxy nodes/spec nodes/stats"),
            ],
        ),
        cluster_role("system:node-bootstrapper", vec![rule("create get list watch", SIGNERS, "certificatesigningrequests")]),
        // Of machines that join, and of nodes: what k3s has its agents ask at paths of its own.
        cluster_role("k8shost:node-bootstrapper", vec![paths("get", "/v1-k8shost/node-config")]),
        cluster_role(
            "k8shost:node",
            vec![
                paths("get", "/v1-k8shost/node-config /v1-k8shost/tunnel"),
                rule(READ, "core", "nodes"),
                rule("list watch", "discovery.k8s.io", "endpointslices"),
                rule("list watch", "core", "namespaces"),
                rule("list watch", "networking.k8s.io", "networkpolicies"),
                rule("list watch", "k3k.io", "clusters"),
                // Whose the addresses of load balancers are.
                named("list watch", "core", "configmaps", "fiberlb-addresses"),
                // What DNS answers beside the cluster's own names.
                named("list watch", "core", "configmaps", "flashdns-zones"),
            ],
        ),
        cluster_role(
            "system:auth-delegator",
            vec![rule("create", "authentication.k8s.io", "tokenreviews"), rule("create", "authorization.k8s.io", "subjectaccessreviews")],
        ),
        cluster_role("system:kube-aggregator", vec![rule(READ, "core", "services endpoints")]),
        cluster_role("system:kube-dns", vec![rule("list watch", "core", "endpoints services")]),
        cluster_role(
            "system:persistent-volume-provisioner",
            vec![
                rule("create delete get list watch", "core", "persistentvolumes"),
                rule("get list update watch", "core", "persistentvolumeclaims"),
                rule(READ, "storage.k8s.io", "storageclasses"),
                rule("watch", "core", "events"),
                events(),
            ],
        ),
        cluster_role(
            "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
            vec![rule("create", SIGNERS, "certificatesigningrequests/nodeclient")],
        ),
        cluster_role(
            "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
            vec![rule("create", SIGNERS, "certificatesigningrequests/selfnodeclient")],
        ),
        approver("kube-apiserver-client"),
        approver("kube-apiserver-client-kubelet"),
        approver("kubelet-serving"),
        approver("legacy-unknown"),
        cluster_role(
            "system:volume-scheduler",
            vec![
                rule("get list patch update watch", "core", "persistentvolumes"),
                rule(READ, "storage.k8s.io", "storageclasses"),
                rule("get list patch update watch", "core", "persistentvolumeclaims"),
            ],
        ),
        cluster_role(
            "system:service-account-issuer-discovery",
            vec![paths("get", "/.well-known/openid-configuration /.well-known/openid-configuration/ /openid/v1/jwks /openid/v1/jwks/")],
        ),
        cluster_role("system:cluster-trust-bundle-discovery", vec![rule(READ, SIGNERS, "clustertrustbundles")]),
        cluster_role("system:kube-controller-manager", controller_manager_rules()),
        cluster_role("system:kube-scheduler", scheduler_rules()),
    ]
}

fn controller_manager_rules() -> Vec<Rule> {
    vec![
        events(),
        rule("create", "coordination.k8s.io", "leases"),
        named("get update", "coordination.k8s.io", "leases", "kube-controller-manager"),
        rule("create", "core", "secrets serviceaccounts"),
        rule("delete", "core", "secrets"),
        rule("get", "core", "configmaps namespaces secrets serviceaccounts"),
        rule("update", "core", "secrets serviceaccounts"),
        rule("create", "authentication.k8s.io", "tokenreviews"),
        rule("create", "authorization.k8s.io", "subjectaccessreviews"),
        rule("create", "core", "serviceaccounts/token"),
        rule("list watch", "*", "*"),
    ]
}

fn scheduler_rules() -> Vec<Rule> {
    vec![
        events(),
        rule("create", "coordination.k8s.io", "leases"),
        named("get update", "coordination.k8s.io", "leases", "kube-scheduler"),
        rule("create get list update watch delete patch", "coordination.k8s.io", "leasecandidates"),
        rule(READ, "core", "nodes"),
        rule("delete get list watch", "core", "pods"),
        rule("create", "core", "bindings pods/binding"),
        rule("patch update", "core", "pods/status"),
        rule(READ, "core", "replicationcontrollers services"),
        rule(READ, "apps extensions", "replicasets"),
        rule(READ, "apps", "statefulsets"),
        rule(READ, "policy", "poddisruptionbudgets"),
        rule(READ, "core", "persistentvolumeclaims persistentvolumes"),
        rule("create", "authentication.k8s.io", "tokenreviews"),
        rule("create", "authorization.k8s.io", "subjectaccessreviews"),
        rule(READ, "storage.k8s.io", "csinodes"),
        rule(READ, "core", "namespaces"),
        rule(READ, "storage.k8s.io", "csidrivers"),
        rule(READ, "storage.k8s.io", "csistoragecapacities"),
        rule(READ, "storage.k8s.io", "volumeattachments"),
        rule("get list patch update watch", "resource.k8s.io", "resourceclaims"),
        rule("patch update", "resource.k8s.io", "resourceclaims/status"),
        rule("update", "core", "pods/finalizers"),
        rule(READ, "resource.k8s.io", "deviceclasses devicetaintrules resourceslices"),
    ]
}

pub(super) fn bindings() -> Vec<Value> {
    let own = |name: &str, subjects: Vec<Value>| cluster_binding(name, name, subjects);
    vec![
        own("cluster-admin", vec![group("system:masters")]),
        own("system:monitoring", vec![group("system:monitoring")]),
        own("system:discovery", vec![group("system:authenticated")]),
        own("system:basic-user", vec![group("system:authenticated")]),
        own("system:public-info-viewer", vec![group("system:authenticated"), group("system:unauthenticated")]),
        own("system:node-proxier", vec![user("system:kube-proxy")]),
        own("system:kube-controller-manager", vec![user("system:kube-controller-manager")]),
        own("system:kube-dns", vec![service_account("kube-system", "kube-dns")]),
        own("system:kube-scheduler", vec![user("system:kube-scheduler")]),
        own("system:volume-scheduler", vec![user("system:kube-scheduler")]),
        own("k8shost:node-bootstrapper", vec![group("system:bootstrappers")]),
        own("k8shost:node", vec![group("system:nodes")]),
        cluster_binding("k8shost:node-bootstrapper:csr", "system:node-bootstrapper", vec![group("system:bootstrappers")]),
        cluster_binding(
            "k8shost:node-autoapprove-bootstrap",
            "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
            vec![group("system:bootstrappers")],
        ),
        cluster_binding(
            "k8shost:node-autoapprove-certificate-rotation",
            "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
            vec![group("system:nodes")],
        ),
        // The Node authorizer speaks for nodes; the binding is there for those who want to add to it.
        own("system:node", vec![]),
        own("system:service-account-issuer-discovery", vec![group("system:serviceaccounts")]),
        own("system:cluster-trust-bundle-discovery", vec![group("system:serviceaccounts")]),
    ]
}
