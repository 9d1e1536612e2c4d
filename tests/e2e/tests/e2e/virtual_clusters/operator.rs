//! An operator inside a virtual cluster: its kind in two versions, converted, checked and labelled by its own pod.
use crate::SOON;
use std::time::Duration;
use testkit::images::VISITS;
use testkit::{Cluster, wait_until};

const MANIFESTS: &str = r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: operator-is-admin}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}
subjects: [{kind: ServiceAccount, name: default, namespace: default}]
---
apiVersion: v1
kind: Service
metadata: {name: operator}
spec: {selector: {app: operator}, ports: [{port: 443, targetPort: 8443}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: operator}
spec:
  selector: {matchLabels: {app: operator}}
  template:
    metadata: {labels: {app: operator}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: visits-web:v1
        command: [python3, -u, /program/gardener.py]
        readinessProbe: {tcpSocket: {port: 8443}, periodSeconds: 1}
        volumeMounts: [{name: program, mountPath: /program}, {name: tls, mountPath: /tls}]
      volumes: [{name: program, configMap: {name: operator}}, {name: tls, secret: {secretName: operator}}]
"#;

/// The kind and the webhooks, which trust this authority, in base64.
fn definitions(authority: &str) -> String {
    let at = |path: &str| format!("{{service: {{name: operator, namespace: default, path: {path}}}, caBundle: {authority}}}");
    let schema = |field: &str| format!("{{openAPIV3Schema: {{type: object, properties: {{spec: {{type: object, properties: {{{field}}}}}}}}}}}");
    let hook = |name: &str, path: &str| {
        format!(
            "{{name: {name}.ops.example.com, clientConfig: {}, sideEffects: None, admissionReviewVersions: [v1], rules: [{{operations: [CREATE, UPDATE], \
             apiGroups: [ops.example.com], apiVersions: [v2], resources: [gardens]}}]}}",
            at(path)
        )
    };
    format!(
        r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {{name: gardens.ops.example.com}}
spec:
  group: ops.example.com
  scope: Namespaced
  names: {{plural: gardens, singular: garden, kind: Garden}}
  conversion: {{strategy: Webhook, webhook: {{conversionReviewVersions: [v1], clientConfig: {}}}}}
  versions:
  - {{name: v1, served: true, storage: true, schema: {}}}
  - {{name: v2, served: true, storage: false, schema: {}}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {{name: gardens}}
webhooks: [{}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata: {{name: gardens}}
webhooks: [{}]
"#,
        at("/convert"),
        schema("flower: {type: string}"),
        schema("flowers: {type: array, items: {type: string}}"),
        hook("check", "/validate"),
        hook("label", "/mutate"),
    )
}

fn garden(name: &str, flower: &str) -> String {
    format!("apiVersion: ops.example.com/v1\nkind: Garden\nmetadata: {{name: {name}}}\nspec: {{flower: {flower}}}\n")
}

#[test]
fn an_operators_pod_converts_checks_labels_and_tends() {
    let cluster = Cluster::with_images(&[VISITS]);
    let inside = cluster.server.virtual_cluster("team", "ops");
    wait_until("the service account is there", SOON, || inside.k("get serviceaccount default").success);
    let directory = cluster.server.directory.path();
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/virtual_clusters/gardener.py");
    inside.k(&format!("create configmap operator --from-file=gardener.py={program}")).ok();
    let certificate = format!(
        "cd {} && openssl req -x509 -newkey rsa:2048 -nodes -days 1 -keyout tls.key -out tls.crt -subj /CN=operator -addext subjectAltName=DNS:operator.default.svc \
         && kubectl create secret tls operator --cert=tls.crt --key=tls.key && base64 -w0 <tls.crt >ca.base64",
        directory.display()
    );
    inside.sh(&certificate).ok();
    inside.apply(MANIFESTS);
    inside.sh("kubectl rollout status deployment/operator --timeout=90s").ok();
    let authority = std::fs::read_to_string(directory.join("ca.base64")).expect("it was written");
    inside.apply(&definitions(&authority));
    inside.sh("kubectl wait --for=condition=Established crd/gardens.ops.example.com --timeout=30s").ok();

    // Written in one version, checked and labelled in the other, stored in the first.
    inside.until("kubectl get gardens.v2.ops.example.com", SOON, |_| true);
    inside.apply(&garden("front", "rose"));
    let read = |version: &str, path: &str| inside.k(&format!("get gardens.{version}.ops.example.com front -o jsonpath={path}")).ok();
    assert_eq!((read("v1", "{.spec.flower}").as_str(), read("v2", "{.spec.flowers[0]}").as_str()), ("rose", "rose"));
    assert_eq!(read("v2", "{.metadata.labels.tended-by}"), "operator");
    let refused = inside.kubectl_with("apply -f -", &garden("back", "weed")).err();
    assert!(refused.contains("admission webhook \"check.ops.example.com\" denied the request: no weeds here"), "{refused}");
    inside.k("patch gardens.v2.ops.example.com front --type merge -p {\"spec\":{\"flowers\":[\"lily\"]}}").ok();
    assert_eq!(read("v1", "{.spec.flower}"), "lily");

    // Its account watches its kind at the cluster's own API.
    inside.until("kubectl get configmap front-bed -o jsonpath='{.data.flowers}'", SOON, |flowers| flowers == "rose" || flowers == "lily");
    inside.k("delete gardens.v1.ops.example.com front").ok();
    inside.until("kubectl get configmaps -o name", SOON, |names| !names.contains("front-bed"));
    assert!(!cluster.server.host_tool().k("get crd").stdout.contains("gardens"), "the host knows nothing of it");
    // Without its pod nothing of the kind is written, and everything else is.
    inside.k("scale deployment operator --replicas=0").ok();
    wait_until("it is gone", Duration::from_secs(60), || inside.k("get pods -l app=operator -o name").ok().is_empty());
    let failed = inside.kubectl_with("apply -f -", &garden("late", "rose")).err();
    assert!(failed.contains("failed calling webhook") || failed.contains("conversion webhook"), "{failed}");
    inside.k("create configmap other").ok();
    inside.k("delete validatingwebhookconfiguration gardens").ok();
}
