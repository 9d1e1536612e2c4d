//! Volumes: what each kind shows in a container, and that changes arrive.
use crate::SOON;
use testkit::Cluster;

#[test]
fn volumes_show_what_they_are_made_from() {
    let cluster = Cluster::start();
    let kubectl = cluster.tool();
    let shared = cluster.server.directory.path().join("shared");
    kubectl.sh("kubectl create configmap settings --from-literal=color=blue --from-literal=size=small").ok();
    kubectl.sh("kubectl create secret generic keys --from-literal=token=hidden").ok();
    kubectl.apply(
        &r#"
apiVersion: v1
kind: Pod
metadata: {name: reader, labels: {app: reader}}
spec:
  securityContext: {fsGroup: 2000}
  volumes:
  - {name: settings, configMap: {name: settings}}
  - {name: one, configMap: {name: settings, items: [{key: color, path: deep/color, mode: 0400}]}}
  - {name: keys, secret: {secretName: keys, defaultMode: 0440}}
  - {name: absent, secret: {secretName: absent, optional: true}}
  - {name: empty, emptyDir: {}}
  - {name: memory, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
  - {name: host, hostPath: {path: DIRECTORY, type: DirectoryOrCreate}}
  - {name: about, downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}, {path: limit, resourceFieldRef: {containerName: main, resource: limits.memory}}]}}
  - name: all
    projected:
      sources:
      - {configMap: {name: settings}}
      - {secret: {name: keys}}
      - {serviceAccountToken: {path: own-token, audience: somebody, expirationSeconds: 3600}}
      - {downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}]}}
  containers:
  - name: main
    image: busybox:1.36
    command: [sleep, "100000"]
    resources: {limits: {memory: 64Mi}}
    volumeMounts:
    - {name: settings, mountPath: /settings}
    - {name: settings, mountPath: /etc/color, subPath: color}
    - {name: one, mountPath: /one}
    - {name: keys, mountPath: /keys, readOnly: true}
    - {name: absent, mountPath: /absent}
    - {name: empty, mountPath: /empty}
    - {name: memory, mountPath: /memory}
    - {name: host, mountPath: /host}
    - {name: about, mountPath: /about}
    - {name: all, mountPath: /all}
  - {name: other, image: "busybox:1.36", command: [sleep, "100000"], volumeMounts: [{name: empty, mountPath: /empty, readOnly: true}]}
"#
        .replace("DIRECTORY", &shared.display().to_string()),
    );
    kubectl.sh("kubectl wait --for=condition=Ready pod/reader --timeout=90s").ok();
    let exec = |script: &str| kubectl.sh(&format!("kubectl exec reader -c main -- sh -c '{script}'"));
    assert_eq!(exec("cat /settings/color /settings/size /etc/color /one/deep/color /keys/token").ok(), "bluesmallbluebluehidden");
    assert_eq!(exec("ls /absent | wc -l").ok(), "0\n");
    assert_eq!(exec("stat -L -c %a:%g /keys/token; stat -L -c %a /one/deep/color").ok(), "440:2000\n440\n");
    assert!(exec("touch /keys/new").err().contains("Read-only file system"));
    assert_eq!(exec("cat /about/labels /about/limit; echo; cat /all/name /all/color /all/token").ok(), "app=\"reader\"67108864\nreaderbluehidden");
    assert!(exec("mount | grep /memory").ok().contains("tmpfs"));
    // Containers of a pod share its volumes; the group owns them.
    exec("echo shared >/empty/file && echo kept >/host/file").ok();
    assert_eq!(kubectl.sh("kubectl exec reader -c other -- cat /empty/file").ok(), "shared\n");
    assert_eq!(exec("stat -c %g /empty").ok(), "2000\n");
    assert_eq!(std::fs::read_to_string(shared.join("file")).unwrap(), "kept\n");

    // The token is the pod's: bound to it, for the audience that was asked for.
    let claims = exec("cut -d. -f2 /all/own-token").ok();
    let claims = String::from_utf8(
        kubectl.sh(&format!("python3 -c \"import base64,sys; print(base64.urlsafe_b64decode('{}' + '==').decode())\"", claims.trim())).ok().into_bytes(),
    )
    .unwrap();
    let claims: serde_json::Value = serde_json::from_str(&claims).unwrap();
    assert_eq!((&claims["aud"][0], &claims["kubernetes.io"]["pod"]["name"]), (&"somebody".into(), &"reader".into()), "{claims}");
    // Every pod finds the API server, the CA and its token where clients look for them.
    let directory = "/var/run/secrets/kubernetes.io/serviceaccount";
    assert_eq!(exec(&format!("cat {directory}/namespace")).ok(), "default");
    exec("timeout 5 nc -w 1 kubernetes.default.svc 443 </dev/null").ok();
    kubectl.sh(&format!("kubectl exec reader -c main -- cat {directory}/ca.crt >ca.crt")).ok();
    let ask = "curl -sS --cacert ca.crt --resolve kubernetes.default.svc:443:10.96.0.1 -H \"Authorization: Bearer $TOKEN\" https://kubernetes.default.svc";
    let token = format!("TOKEN=$(kubectl exec reader -c main -- cat {directory}/token)");
    let who = r#"-H 'Content-Type: application/json' -d '{"kind":"SelfSubjectReview","apiVersion":"authentication.k8s.io/v1"}'"#;
    let said = kubectl.sh(&format!("{token}; {ask}/apis/authentication.k8s.io/v1/selfsubjectreviews {who}")).ok();
    assert!(said.contains("system:serviceaccount:default:default") && said.contains("authentication.kubernetes.io/pod-name"), "{said}");
    assert!(kubectl.sh(&format!("{token}; {ask}/api/v1/secrets")).ok().contains("is forbidden"));

    // Changes arrive without a restart.
    kubectl.sh(r#"kubectl patch configmap settings -p '{"data":{"color":"red"}}' && kubectl label pod reader app=writer --overwrite"#).ok();
    kubectl.until("kubectl exec reader -c main -- cat /settings/color /all/color /about/labels", 2 * SOON, |text| text == "redredapp=\"writer\"");
    assert_eq!(exec("cat /etc/color").ok(), "blue", "a subPath stays as it was");

    // The volume goes with its pod; what is on the machine stays.
    let uid = kubectl.sh("kubectl get pod reader -o jsonpath='{.metadata.uid}'").ok();
    kubectl.sh("kubectl delete pod reader --grace-period=1").ok();
    assert!(!std::fs::read_to_string("/proc/self/mountinfo").unwrap().contains(&uid), "mounts are left");
    assert!(shared.join("file").exists());
}
