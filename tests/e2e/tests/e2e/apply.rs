//! Writing objects as people do: apply of both kinds, diff, edit, explain, patch, label, watch, wait.
use crate::SOON;
use testkit::Server;

const SETTINGS: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings, labels: {app: web}}\ndata: {color: blue, size: small}\n";

#[test]
fn client_side_apply_changes_what_the_manifest_says() {
    let server = Server::control_plane();
    let kubectl = server.tool();
    assert_eq!(kubectl.kubectl_with("apply -f -", SETTINGS).ok(), "configmap/settings created\n");
    assert_eq!(kubectl.kubectl_with("apply -f -", SETTINGS).ok(), "configmap/settings unchanged\n");
    let changed = SETTINGS.replace("blue", "red").replace(", size: small", "");
    // diff ends with 1 where there is a difference, and says which.
    let diff = kubectl.kubectl_with("diff -f -", &changed);
    assert!(!diff.success && diff.stdout.contains("-  color: blue") && diff.stdout.contains("+  color: red"), "{diff:?}");
    assert_eq!(kubectl.kubectl_with("apply -f -", &changed).ok(), "configmap/settings configured\n");
    // What an earlier manifest had and this one lacks is gone; what others added stays.
    kubectl.sh("kubectl annotate configmap settings by=hand").ok();
    kubectl.kubectl_with("apply -f -", &changed).ok();
    assert_eq!(kubectl.sh("kubectl get configmap settings -o jsonpath='{.data} {.metadata.annotations.by}'").ok(), r#"{"color":"red"} hand"#);
    assert_eq!(kubectl.kubectl_with("diff -f -", &changed).ok(), "");
    // Nothing is written by a dry run.
    assert_eq!(kubectl.kubectl_with("apply --dry-run=server -f -", SETTINGS).ok(), "configmap/settings configured (server dry run)\n");
    assert_eq!(kubectl.sh("kubectl get configmap settings -o jsonpath='{.data.color}'").ok(), "red");
    assert_eq!(kubectl.kubectl_with("delete -f -", SETTINGS).ok(), "configmap \"settings\" deleted from default namespace\n");
}

#[test]
fn server_side_apply_keeps_managers_apart() {
    let server = Server::control_plane();
    let kubectl = server.tool();
    let apply = |manager: &str, color: &str, more: &str| {
        let manifest = SETTINGS.replace("blue", color);
        kubectl.kubectl_with(&format!("apply --server-side --field-manager={manager} {more} -f -"), &manifest)
    };
    assert_eq!(apply("one", "blue", "").ok(), "configmap/settings serverside-applied\n");
    assert_eq!(apply("two", "blue", "").ok(), "configmap/settings serverside-applied\n");
    let conflict = apply("two", "red", "").err();
    assert!(conflict.contains("Apply failed with 1 conflict: conflict with \"one\": .data.color"), "{conflict}");
    assert_eq!(apply("two", "red", "--force-conflicts").ok(), "configmap/settings serverside-applied\n");
    let managers =
        kubectl.sh("kubectl get configmap settings --show-managed-fields -o jsonpath='{range .metadata.managedFields[*]}{.manager}:{.operation} {end}'").ok();
    assert_eq!(managers.trim(), "one:Apply two:Apply");
    // A field that nobody wants any more goes.
    let without = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\n";
    for manager in ["one", "two"] {
        kubectl.kubectl_with(&format!("apply --server-side --field-manager={manager} -f -"), without).ok();
    }
    assert_eq!(kubectl.sh("kubectl get configmap settings -o jsonpath='{.data}'").ok(), "");
}

#[test]
fn edit_patch_label_and_explain_work() {
    let server = Server::control_plane();
    let kubectl = server.tool();
    kubectl.apply(SETTINGS);
    assert_eq!(kubectl.sh("KUBE_EDITOR='sed -i s/blue/green/' kubectl edit configmap settings").ok(), "configmap/settings edited\n");
    assert_eq!(kubectl.sh("kubectl get configmap settings -o jsonpath='{.data.color}'").ok(), "green");
    assert_eq!(kubectl.sh("KUBE_EDITOR=true kubectl edit configmap settings 2>&1").ok(), "Edit cancelled, no changes made.\n");
    kubectl.sh(r#"kubectl patch configmap settings --type=json -p '[{"op":"replace","path":"/data/color","value":"black"}]'"#).ok();
    kubectl.sh(r#"kubectl patch configmap settings --type=merge -p '{"data":{"size":null}}'"#).ok();
    kubectl.sh(r#"kubectl patch configmap settings -p '{"metadata":{"labels":{"tier":"front"}}}'"#).ok();
    assert_eq!(kubectl.sh("kubectl get configmap settings -o jsonpath='{.data} {.metadata.labels.tier}'").ok(), r#"{"color":"black"} front"#);

    assert_eq!(kubectl.sh("kubectl label configmap settings tier=back --overwrite").ok(), "configmap/settings labeled\n");
    assert_eq!(kubectl.sh("kubectl get configmaps -l tier=back,app -o name").ok(), "configmap/settings\n");
    assert_eq!(kubectl.sh("kubectl get configmaps -l 'tier notin (back),app' -o name").ok(), "");
    assert_eq!(kubectl.sh("kubectl label configmap settings tier-").ok(), "configmap/settings unlabeled\n");

    let explained = kubectl.sh("kubectl explain deployment.spec.strategy.rollingUpdate.maxSurge").ok();
    assert!(
        explained.contains("GROUP:      apps") && explained.contains("maximum number of pods that can be scheduled above the desired number"),
        "{explained}"
    );
    assert!(kubectl.sh("kubectl explain pods --recursive").ok().contains("terminationGracePeriodSeconds"));
    let unknown = kubectl.sh("kubectl explain pod.spec.nothing").err();
    assert!(unknown.contains("field \"nothing\" does not exist"), "{unknown}");
}

#[test]
fn a_watch_shows_changes_as_they_come() {
    let server = Server::control_plane();
    let kubectl = server.tool();
    kubectl.apply(SETTINGS);
    let watch = kubectl.background("kubectl get configmap settings -w -o jsonpath='{.data.color}{\"\\n\"}'");
    watch.until_printed("blue\n", SOON);
    kubectl.sh(r#"kubectl patch configmap settings -p '{"data":{"color":"white"}}'"#).ok();
    watch.until_printed("blue\nwhite\n", SOON);
    let mut waiting = kubectl.background("kubectl wait --for=jsonpath='{.data.color}'=grey configmap/settings --timeout=60s");
    kubectl.sh(r#"kubectl patch configmap settings -p '{"data":{"color":"grey"}}'"#).ok();
    assert_eq!(waiting.until_ended(SOON), (true, "configmap/settings condition met\n".to_owned()));
    let mut waiting = kubectl.background("kubectl wait --for=delete configmap/settings --timeout=60s");
    kubectl.sh("kubectl delete configmap settings").ok();
    assert!(waiting.until_ended(SOON).0);
}

#[test]
fn bad_input_is_refused_in_the_words_of_upstream() {
    let server = Server::control_plane();
    let kubectl = server.tool();
    let refuse = |manifest: &str, expected: &str| {
        let said = kubectl.kubectl_with("create --validate=strict -f -", manifest).err();
        assert!(said.contains(expected), "expected {expected:?}, got {said:?}");
    };
    refuse("{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, dataa: {}}", r#"strict decoding error: unknown field "dataa""#);
    refuse("{apiVersion: v1, kind: ConfigMap, metadata: {name: A_b}}", "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters");
    refuse("{apiVersion: v1, kind: Confusion, metadata: {name: a}}", r#"no matches for kind "Confusion" in version "v1""#);
    refuse("{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: []}}", "spec.containers: Required value");
    let deployment = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: a}, spec: {selector: {matchLabels: {app: a}}, template: {metadata: {labels: {app: b}}, spec: {containers: [{name: a, image: a}]}}}}";
    refuse(deployment, "`selector` does not match template `labels`");
    kubectl.kubectl_with("create -f -", &deployment.replace("app: b", "app: a")).ok();
    let immutable = kubectl.sh(r#"kubectl patch deployment a --type=merge -p '{"spec":{"selector":{"matchLabels":{"app":"c"}}}}'"#).err();
    assert!(immutable.contains("field is immutable"), "{immutable}");
    let stale =
        kubectl.sh("kubectl get deployment a -o json | sed 's/\"resourceVersion\": \"[0-9]*\"/\"resourceVersion\": \"1\"/' | kubectl replace -f -").err();
    assert!(stale.contains("the object has been modified; please apply your changes to the latest version and try again"), "{stale}");
    assert_eq!(kubectl.sh("kubectl get configmaps -o name").ok(), "configmap/kube-root-ca.crt\n");
}
