//! What is noted of the use of a legacy token: the day on its Secret, and a warning to who uses one that nobody asked for.
use crate::in_process::InProcess;
use crate::request_record::RequestRecord;
use crate::server::ApiServer;
use api_auth::{LAST_USED, LegacyUse, MASTERS, User};
use api_meta::ClusterName;
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::Full;
use serde_json::json;
use std::sync::Arc;
use tower::Service;

const WARNING: &str = "Use tokens from the TokenRequest API or manually created secret-based tokens instead of auto-generated secret-based tokens.";

impl ApiServer {
    pub(crate) async fn legacy_token_used(self: &Arc<Self>, cluster: &ClusterName, used: &LegacyUse, record: &RequestRecord) {
        if used.auto_generated {
            record.warn(vec![WARNING.to_owned()]);
        }
        let Some(today) = &used.note else { return };
        // As the server itself: who uses a token need not be allowed to write its Secret.
        let user = Arc::new(User::authenticated("system:apiserver", [MASTERS.to_owned()]));
        let patch = json!({ "metadata": { "uid": used.secret_uid, "labels": { LAST_USED: today } } });
        let path = format!("/api/v1/namespaces/{}/secrets/{}?fieldManager=kube-apiserver", used.namespace, used.secret);
        let request = Request::builder().method(Method::PATCH).uri(path).header(header::CONTENT_TYPE, "application/merge-patch+json");
        let request = request.body(Full::new(Bytes::from(patch.to_string()))).expect("names of objects make a path");
        let Ok(answer) = InProcess::new(self.clone(), cluster.clone(), user).call(request).await;
        if !answer.status().is_success() {
            tracing::warn!(%cluster, secret = used.secret, namespace = used.namespace, code = %answer.status(), "the use of a legacy token could not be noted");
        }
    }

    /// A token for a Secret of type kubernetes.io/service-account-token.
    ///
    /// # Errors
    /// Why it could not be signed.
    pub fn legacy_token(&self, cluster: &ClusterName, namespace: &str, secret: &str, account: &str, account_uid: &str) -> Result<String, String> {
        self.authentication.tokens().issue_legacy(cluster, namespace, secret, account, account_uid).map_err(|error| error.to_string())
    }
}
