//! ClusterRoles of the controllers, one each, bound to the controller's service account in kube-system.
use super::{READ, cluster_binding, cluster_role, events, paths, rule, service_account};
use crate::Rule;
use serde_json::Value;

const PREFIX: &str = "system:controller:";

pub(super) fn cluster_roles() -> Vec<Value> {
    controllers().into_iter().map(|(name, rules)| cluster_role(&format!("{PREFIX}{name}"), rules)).collect()
}

pub(super) fn bindings() -> Vec<Value> {
    let bind = |name: &str| cluster_binding(&format!("{PREFIX}{name}"), &format!("{PREFIX}{name}"), vec![service_account("kube-system", name)]);
    controllers().iter().map(|(name, _)| bind(name)).collect()
}

fn controllers() -> Vec<(&'static str, Vec<Rule>)> {
    [workloads(), networking(), storage(), cluster()].concat()
}

fn workloads() -> Vec<(&'static str, Vec<Rule>)> {
    vec![
        (
            "cronjob-controller",
            vec![
                rule("get list update watch", "batch", "cronjobs"),
                rule("create delete get list patch update watch", "batch", "jobs"),
                rule("update", "batch", "cronjobs/status"),
                rule("update", "batch", "cronjobs/finalizers"),
                rule("delete list", "core", "pods"),
                events(),
            ],
        ),
        (
            "daemon-set-controller",
            vec![
                rule(READ, "apps extensions", "daemonsets"),
                rule("update", "apps extensions", "daemonsets/status"),
                rule("update", "apps extensions", "daemonsets/finalizers"),
                rule("list watch", "core", "nodes"),
                rule("create delete list patch watch", "core", "pods"),
                rule("create delete get list patch update watch", "apps", "controllerrevisions"),
                events(),
            ],
        ),
        (
            "deployment-controller",
            vec![
                rule("get list update watch", "apps extensions", "deployments"),
                rule("update", "apps extensions", "deployments/status"),
                rule("update", "apps extensions", "deployments/finalizers"),
                rule("create delete get list patch update watch", "apps extensions", "replicasets"),
                rule("get list update watch", "core", "pods"),
                events(),
            ],
        ),
        (
            "disruption-controller",
            vec![
                rule(READ, "apps extensions", "deployments"),
                rule(READ, "apps extensions", "replicasets"),
                rule(READ, "core", "replicationcontrollers"),
                rule(READ, "policy", "poddisruptionbudgets"),
                rule(READ, "apps", "statefulsets"),
                rule("update", "policy", "poddisruptionbudgets/status"),
                rule("patch update", "core", "pods/status"),
                rule("get", "*", "*/scale"),
                rule(READ, "core", "pods"),
                events(),
            ],
        ),
        (
            "horizontal-pod-autoscaler",
            vec![
                rule(READ, "autoscaling", "horizontalpodautoscalers"),
                rule("update", "autoscaling", "horizontalpodautoscalers/status"),
                rule("get update", "*", "*/scale"),
                rule("list", "core", "pods"),
                rule("list", "metrics.k8s.io", "pods"),
                rule("get list", "custom.metrics.k8s.io", "*"),
                rule("get list", "external.metrics.k8s.io", "*"),
                events(),
            ],
        ),
        (
            "job-controller",
            vec![
                rule("get list patch update watch", "batch", "jobs"),
                rule("update", "batch", "jobs/status"),
                rule("update", "batch", "jobs/finalizers"),
                rule("create delete list patch watch", "core", "pods"),
                events(),
            ],
        ),
        (
            "replicaset-controller",
            vec![
                rule("get list update watch", "apps extensions", "replicasets"),
                rule("update", "apps extensions", "replicasets/status"),
                rule("update", "apps extensions", "replicasets/finalizers"),
                rule("create delete list patch watch", "core", "pods"),
                events(),
            ],
        ),
        (
            "replication-controller",
            vec![
                rule("get list update watch", "core", "replicationcontrollers"),
                rule("update", "core", "replicationcontrollers/status"),
                rule("update", "core", "replicationcontrollers/finalizers"),
                rule("create delete list patch watch", "core", "pods"),
                events(),
            ],
        ),
        (
            "statefulset-controller",
            vec![
                rule("list watch", "core", "pods"),
                rule(READ, "apps", "statefulsets"),
                rule("update", "apps", "statefulsets/status"),
                rule("update", "apps", "statefulsets/finalizers"),
                rule("create delete get patch update", "core", "pods"),
                rule("create delete get list patch update watch", "apps", "controllerrevisions"),
                rule("create get", "core", "persistentvolumeclaims"),
                rule("delete list update watch", "core", "persistentvolumeclaims"),
                events(),
            ],
        ),
        ("ttl-after-finished-controller", vec![rule("delete get list watch", "batch", "jobs"), events()]),
        (
            "device-taint-eviction-controller",
            vec![
                rule("delete get list watch", "core", "pods"),
                rule("patch update", "core", "pods/status"),
                rule(READ, "resource.k8s.io", "deviceclasses devicetaintrules resourceclaims resourceslices"),
                rule("patch update", "resource.k8s.io", "devicetaintrules/status"),
                events(),
            ],
        ),
        (
            "resource-claim-controller",
            vec![
                rule(READ, "core", "pods"),
                rule("update", "core", "pods/finalizers"),
                rule("create delete get list watch", "resource.k8s.io", "resourceclaims"),
                rule(READ, "resource.k8s.io", "resourceclaimtemplates"),
                rule("update patch", "resource.k8s.io", "resourceclaims resourceclaims/status"),
                rule("patch update", "core", "pods/status"),
                events(),
            ],
        ),
    ]
}

fn networking() -> Vec<(&'static str, Vec<Rule>)> {
    vec![
        (
            "endpoint-controller",
            vec![
                rule(READ, "core", "pods services"),
                rule("create delete get list update watch", "core", "endpoints"),
                rule("create", "core", "endpoints/restricted"),
                events(),
            ],
        ),
        (
            "endpointslice-controller",
            vec![
                rule(READ, "core", "nodes pods services"),
                rule("update", "core", "services/finalizers"),
                rule("create delete get list update watch", "discovery.k8s.io", "endpointslices"),
                rule("create", "discovery.k8s.io", "endpointslices/restricted"),
                events(),
            ],
        ),
        (
            "endpointslicemirroring-controller",
            vec![
                rule(READ, "core", "endpoints services"),
                rule("update", "core", "services/finalizers"),
                rule("update", "core", "endpoints/finalizers"),
                rule("create delete get list update watch", "discovery.k8s.io", "endpointslices"),
                rule("create", "discovery.k8s.io", "endpointslices/restricted"),
                events(),
            ],
        ),
        ("route-controller", vec![rule("list watch", "core", "nodes"), rule("patch", "core", "nodes/status"), events()]),
        (
            "service-controller",
            vec![rule(READ, "core", "services"), rule("patch update", "core", "services/status"), rule("list watch", "core", "nodes"), events()],
        ),
        (
            "service-cidrs-controller",
            vec![
                rule("get list patch update watch", "networking.k8s.io", "servicecidrs"),
                rule("patch update", "networking.k8s.io", "servicecidrs/finalizers"),
                rule("patch update", "networking.k8s.io", "servicecidrs/status"),
                rule(READ, "networking.k8s.io", "ipaddresses"),
                events(),
            ],
        ),
    ]
}

fn storage() -> Vec<(&'static str, Vec<Rule>)> {
    vec![
        (
            "attachdetach-controller",
            vec![
                rule("list watch", "core", "persistentvolumes persistentvolumeclaims"),
                rule(READ, "core", "nodes"),
                rule("patch update", "core", "nodes/status"),
                rule("list watch", "core", "pods"),
                events(),
                rule("create delete get list watch", "storage.k8s.io", "volumeattachments"),
                rule(READ, "storage.k8s.io", "csidrivers"),
                rule(READ, "storage.k8s.io", "csinodes"),
            ],
        ),
        (
            "ephemeral-volume-controller",
            vec![
                rule("update", "core", "pods/finalizers"),
                rule(READ, "core", "pods"),
                rule("create get list watch", "core", "persistentvolumeclaims"),
                events(),
            ],
        ),
        (
            "expand-controller",
            vec![
                rule("get list patch update watch", "core", "persistentvolumes"),
                rule("patch update", "core", "persistentvolumeclaims/status"),
                rule(READ, "core", "persistentvolumeclaims"),
                rule(READ, "storage.k8s.io", "storageclasses"),
                rule("get", "core", "endpoints services"),
                rule("get", "core", "secrets"),
                events(),
            ],
        ),
        (
            "persistent-volume-binder",
            vec![
                rule("create delete get list update watch", "core", "persistentvolumes"),
                rule("update", "core", "persistentvolumes/status"),
                rule("get list update watch", "core", "persistentvolumeclaims"),
                rule("update", "core", "persistentvolumeclaims/status"),
                rule("create delete get list watch", "core", "pods"),
                rule(READ, "storage.k8s.io", "storageclasses"),
                rule("create delete get", "core", "endpoints services"),
                rule("get", "core", "secrets"),
                rule("get list", "core", "nodes"),
                rule("watch", "core", "events"),
                events(),
            ],
        ),
        ("pv-protection-controller", vec![rule("get list update watch", "core", "persistentvolumes"), events()]),
        ("pvc-protection-controller", vec![rule("get list update watch", "core", "persistentvolumeclaims"), rule(READ, "core", "pods"), events()]),
        (
            "volumeattributesclass-protection-controller",
            vec![
                rule(READ, "core", "persistentvolumeclaims persistentvolumes"),
                rule("get list update watch", "storage.k8s.io", "volumeattributesclasses"),
                events(),
            ],
        ),
    ]
}

fn cluster() -> Vec<(&'static str, Vec<Rule>)> {
    vec![
        (
            "certificate-controller",
            vec![
                rule("delete get list watch", "certificates.k8s.io", "certificatesigningrequests"),
                rule("update", "certificates.k8s.io", "certificatesigningrequests/approval certificatesigningrequests/status"),
                super::named("approve", "certificates.k8s.io", "signers", "kubernetes.io/kube-apiserver-client-kubelet"),
                super::named(
                    "sign",
                    "certificates.k8s.io",
                    "signers",
                    "kubernetes.io/kube-apiserver-client kubernetes.io/kube-apiserver-client-kubelet kubernetes.io/kubelet-serving kubernetes.io/legacy-unknown",
                ),
                rule("create", "authorization.k8s.io", "subjectaccessreviews"),
                events(),
            ],
        ),
        ("clusterrole-aggregation-controller", vec![rule("escalate get list patch update watch", "rbac.authorization.k8s.io", "clusterroles")]),
        ("generic-garbage-collector", vec![rule("delete get list patch update watch", "*", "*"), events()]),
        (
            "legacy-service-account-token-cleaner",
            vec![super::named("get", "core", "configmaps", "kube-apiserver-legacy-service-account-token-tracking"), rule("delete patch", "core", "secrets")],
        ),
        (
            "namespace-controller",
            vec![
                rule("delete get list watch", "core", "namespaces"),
                rule("update", "core", "namespaces/finalize namespaces/status"),
                rule("delete deletecollection get list", "*", "*"),
            ],
        ),
        (
            "node-controller",
            vec![
                rule("delete get list patch update", "core", "nodes"),
                rule("patch update", "core", "nodes/status"),
                rule("patch update", "core", "pods/status"),
                rule("delete get list", "core", "pods"),
                rule(READ, "networking.k8s.io", "clustercidrs"),
                events(),
            ],
        ),
        ("pod-garbage-collector", vec![rule("delete list watch", "core", "pods"), rule("get list", "core", "nodes"), rule("patch", "core", "pods/status")]),
        ("resourcequota-controller", vec![rule("list watch", "*", "*"), rule("update", "core", "resourcequotas/status"), events()]),
        ("root-ca-cert-publisher", vec![rule("create update", "core", "configmaps"), events()]),
        ("service-account-controller", vec![rule("create", "core", "serviceaccounts"), events()]),
        (
            "storage-version-migrator-controller",
            vec![
                rule(READ, "storagemigration.k8s.io", "storageversionmigrations"),
                rule("update", "storagemigration.k8s.io", "storageversionmigrations/status"),
                rule("get list patch", "*", "*"),
                paths("get", "/api /api/* /apis /apis/*"),
            ],
        ),
        (
            "taint-eviction-controller",
            vec![rule("get", "core", "nodes"), rule("delete get list", "core", "pods"), rule("patch update", "core", "pods/status"), events()],
        ),
        ("ttl-controller", vec![rule("list patch update watch", "core", "nodes"), events()]),
        (
            "validatingadmissionpolicy-status-controller",
            vec![
                rule(READ, "admissionregistration.k8s.io", "validatingadmissionpolicies"),
                rule("get patch update", "admissionregistration.k8s.io", "validatingadmissionpolicies/status"),
                events(),
            ],
        ),
    ]
}
