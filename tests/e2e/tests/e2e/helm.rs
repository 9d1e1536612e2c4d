//! helm's own chart, with an image that exists here.
use crate::SOON;
use testkit::Cluster;
use testkit::images::{HTTPD, HTTPD_2};

#[test]
fn a_chart_is_installed_upgraded_rolled_back_and_uninstalled() {
    let cluster = Cluster::with_images(&[HTTPD, HTTPD_2]);
    let helm = cluster.tool();
    let page = "kubectl get --raw /api/v1/namespaces/default/services/site:80/proxy/";

    helm.sh("helm create site && sed -i 's/image: busybox/image: busybox:1.36/' site/templates/tests/test-connection.yaml").ok();
    let installed = helm.sh("helm install site ./site --set image.repository=httpd --set-string image.tag=1 --wait --timeout 120s").ok();
    assert!(installed.contains("STATUS: deployed") && installed.contains("REVISION: 1"), "{installed}");
    helm.until(page, SOON, |page| page == "httpd version 1");
    assert!(helm.sh("helm list").ok().contains("site-0.1.0"));
    let upgraded = helm.sh("helm upgrade site ./site --set image.repository=httpd --set-string image.tag=2 --set replicaCount=2 --wait --timeout 120s").ok();
    assert!(upgraded.contains("REVISION: 2"), "{upgraded}");
    helm.until(page, SOON, |page| page == "httpd version 2");
    assert_eq!(helm.sh("kubectl get deployment site -o jsonpath='{.status.readyReplicas}'").ok(), "2");
    helm.sh("helm rollback site 1 --wait --timeout 120s").ok();
    helm.until(page, SOON, |page| page == "httpd version 1");
    let history = helm.sh("helm history site").ok();
    assert!(history.contains("superseded") && history.contains("Rollback to 1"), "{history}");
    // The chart's own test is a pod that fetches the page through the Service's name.
    // Helm leaves it there.
    helm.sh("helm test site --timeout 120s && kubectl delete pod site-test-connection").ok();
    assert_eq!(helm.sh("helm uninstall site --wait --timeout 120s").ok(), "release \"site\" uninstalled\n");
    helm.until_it_prints("kubectl get all,serviceaccounts,secrets -l app.kubernetes.io/instance=site -o name", "");
}
