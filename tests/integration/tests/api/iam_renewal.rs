//! Certificates that others put into files are shown to who connects from then on: the webhook's own, and the one it is asked with.
use crate::iam::{IAM, alone, asking, iam, server};
use crate::support::SOON;
use serde_json::json;
use testkit::{Ask, wait_until};

#[test]
fn the_webhook_shows_the_certificate_that_is_put_into_its_files() {
    let server = server();
    iam(&server, "org create Acme --id org-a");
    iam(&server, "user create eve@example.com --org Acme");
    let token = iam(&server, "token create eve@example.com");
    let (_running, webhook) = alone(&server, "");
    let review = Ask::new("POST", &format!("{IAM}/authenticate"))
        .json(&json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}));
    let mut open = webhook.connection();
    wait_until("it knows the user", SOON, || open.send(&review).ok()["status"]["authenticated"] == true);
    let first = webhook.shown_certificate().unwrap();
    let issue = format!(
        "{} iam issue-cert iam-server --server --san 127.0.0.1 --data-dir {} --output certs/server",
        testkit::binary().display(),
        server.data_dir().display()
    );
    server.tool().sh(&issue).ok();
    wait_until("the new one is shown", SOON, || webhook.shown_certificate().unwrap() != first);
    assert_eq!(open.send(&review).ok()["status"]["authenticated"], true, "who was there before is served on");
    assert_eq!(webhook.send(&review).ok()["status"]["authenticated"], true);
}

#[test]
fn a_server_asks_the_webhook_with_the_certificate_that_is_put_into_its_files() {
    let server = server();
    iam(&server, "org create Acme --id org-a");
    iam(&server, "user create eve@example.com --org Acme");
    let token = iam(&server, "token create eve@example.com");
    let (_running, _) = alone(&server, "");
    let asking = asking(&server, "1s");
    let eve = asking.api().bearer(&token);
    let known = || eve.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &json!({})).code == 201;
    wait_until("she is known", SOON, known);
    let (k8shost, tool) = (testkit::binary().display().to_string(), server.tool());
    iam(&server, &format!("cert revoke {}", tool.home.join("certs/client/k8s-apiserver.crt").display()));
    wait_until("nobody is known to who asks with a certificate that was taken back", SOON, || eve.get("/api").code == 401);
    tool.sh(&format!("{k8shost} iam issue-cert k8s-apiserver --client --data-dir {} --output certs/client", server.data_dir().display())).ok();
    wait_until("she is known again, on a connection with the new one", SOON, known);
}
