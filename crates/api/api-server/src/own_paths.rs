//! Paths of this server's own, as k3s has its `/v1-k3s`: the encryption of Secrets, and `/metrics`.
use crate::ApiServer;
use crate::body::{self, Answer};
use crate::errors;
use api_meta::Status;
use http::{Method, StatusCode};
use serde_json::json;

impl ApiServer {
    /// Answers what is neither a resource nor one of upstream's documents; `None` for every other path.
    pub(crate) async fn own_path(&self, method: &Method, path: &str) -> Option<Result<Answer, Status>> {
        let read = *method == Method::GET || *method == Method::HEAD;
        Some(match path {
            "/metrics" if read => self.metrics_page().await,
            "/v1-k8shost/encrypt/status" if read => Ok(self.encryption_status()),
            "/v1-k8shost/encrypt/rotate-keys" if *method == Method::PUT => self.rotate_keys().await,
            "/v1-k8shost/encrypt/status" | "/v1-k8shost/encrypt/rotate-keys" => Err(errors::method_not_allowed()),
            _ => return None,
        })
    }

    fn encryption_status(&self) -> Answer {
        let status = match &self.options.encryption {
            Some(encryption) => {
                let keys = encryption.keys();
                json!({ "enabled": true, "stage": encryption.stage(), "active": { "type": "AES-GCM", "name": keys.first() }, "keys": keys })
            }
            None => json!({ "enabled": false }),
        };
        body::json(StatusCode::OK, &status)
    }

    async fn rotate_keys(&self) -> Result<Answer, Status> {
        let encryption = self.options.encryption.as_ref().ok_or_else(|| Status::bad_request("secrets encryption is not enabled"))?;
        let name = encryption.rotate().await.map_err(Status::internal)?;
        Ok(body::json(StatusCode::OK, &json!({ "active": { "type": "AES-GCM", "name": name } })))
    }
}
