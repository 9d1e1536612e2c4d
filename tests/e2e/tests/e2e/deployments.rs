//! A Deployment's life, by the commands of kubectl's own cheat sheet.
use crate::SOON;
use testkit::Cluster;
use testkit::images::{HTTPD, HTTPD_2};

#[test]
fn a_deployment_is_created_exposed_scaled_rolled_out_and_undone() {
    let cluster = Cluster::with_images(&[HTTPD, HTTPD_2]);
    let kubectl = cluster.tool();
    let answer = || kubectl.sh("kubectl get --raw /api/v1/namespaces/default/services/web:80/proxy/");

    assert_eq!(kubectl.sh("kubectl create deployment web --image=httpd:1 --port=80").ok(), "deployment.apps/web created\n");
    assert!(kubectl.sh("kubectl rollout status deployment/web --timeout=90s").ok().ends_with("deployment \"web\" successfully rolled out\n"));
    assert_eq!(kubectl.sh("kubectl expose deployment web --port=80").ok(), "service/web exposed\n");
    kubectl.until("kubectl get --raw /api/v1/namespaces/default/services/web:80/proxy/", SOON, |page| page == "httpd version 1");

    assert_eq!(kubectl.sh("kubectl scale deployment web --replicas=3").ok(), "deployment.apps/web scaled\n");
    kubectl.sh("kubectl wait --for=jsonpath='{.status.readyReplicas}'=3 deployment/web --timeout=90s").ok();
    let wide = kubectl.sh("kubectl get pods -l app=web -o wide").ok();
    assert_eq!(wide.matches("1/1     Running   0").count(), 3, "{wide}");
    assert_eq!(wide.matches(" 10.244.").count(), 3, "{wide}");
    let table = kubectl.sh("kubectl get deployment web -o wide").ok();
    assert!(
        table.starts_with("NAME   READY   UP-TO-DATE   AVAILABLE   AGE") && table.contains("web    3/3     3            3") && table.contains("httpd:1"),
        "{table}"
    );

    assert_eq!(kubectl.sh("kubectl set image deployment/web httpd=httpd:2").ok(), "deployment.apps/web image updated\n");
    kubectl.sh("kubectl annotate deployment/web kubernetes.io/change-cause='version 2'").ok();
    kubectl.sh("kubectl rollout status deployment/web --timeout=90s").ok();
    kubectl.until("kubectl get --raw /api/v1/namespaces/default/services/web:80/proxy/", SOON, |page| page == "httpd version 2");
    let history = kubectl.sh("kubectl rollout history deployment/web").ok();
    assert!(history.contains("1         <none>") && history.contains("2         version 2"), "{history}");
    assert!(kubectl.sh("kubectl rollout history deployment/web --revision=1").ok().contains("httpd:1"));
    assert_eq!(kubectl.sh("kubectl rollout undo deployment/web").ok(), "deployment.apps/web rolled back\n");
    kubectl.sh("kubectl rollout status deployment/web --timeout=90s").ok();
    kubectl.until("kubectl get pods -l app=web -o jsonpath='{.items[*].spec.containers[0].image}'", SOON, |images| images == "httpd:1 httpd:1 httpd:1");
    assert_eq!(answer().ok(), "httpd version 1\n");

    let described = kubectl.sh("kubectl describe deployment web").ok();
    for part in [
        "StrategyType:           RollingUpdate",
        "3 desired | 3 updated | 3 total | 3 available | 0 unavailable",
        "ScalingReplicaSet",
        "NewReplicaSetAvailable",
    ] {
        assert!(described.contains(part), "{part:?} is not in {described}");
    }
    let yaml = kubectl.sh("kubectl get deployment web -o yaml").ok();
    assert!(yaml.contains("observedGeneration:") && yaml.contains("progressDeadlineSeconds: 600"), "{yaml}");
    kubectl.sh("kubectl rollout restart deployment/web && kubectl rollout status deployment/web --timeout=90s").ok();

    // A pod that is lost is made anew; all go with their Deployment.
    let lost = kubectl.sh("kubectl get pods -l app=web -o jsonpath='{.items[0].metadata.name}'").ok();
    kubectl.sh(&format!("kubectl delete pod {lost} --wait=false --ignore-not-found")).ok();
    kubectl.until("kubectl get pods -l app=web --field-selector=status.phase=Running -o name | sort", SOON, |names| {
        names.lines().count() == 3 && !names.contains(&lost)
    });
    kubectl.sh("kubectl delete deployment web").ok();
    kubectl.until_it_prints("kubectl get replicasets,pods -l app=web -o name", "");
}

#[test]
fn a_rollout_that_cannot_progress_keeps_the_old_pods() {
    let cluster = Cluster::with_images(&[HTTPD]);
    let kubectl = cluster.tool();
    kubectl.sh("kubectl create deployment web --image=httpd:1 --replicas=2 && kubectl rollout status deployment/web --timeout=90s").ok();
    kubectl.sh(r#"kubectl patch deployment web -p '{"spec":{"progressDeadlineSeconds":5}}'"#).ok();
    kubectl.sh("kubectl set image deployment/web httpd=httpd:there-is-no-such-version").ok();
    let stuck = kubectl.sh("kubectl rollout status deployment/web --timeout=60s").err();
    assert!(stuck.contains("exceeded its progress deadline"), "{stuck}");
    assert_eq!(kubectl.sh("kubectl get deployment web -o jsonpath='{.status.availableReplicas}'").ok(), "2");
    kubectl.sh("kubectl rollout undo deployment/web && kubectl rollout status deployment/web --timeout=90s").ok();
}
