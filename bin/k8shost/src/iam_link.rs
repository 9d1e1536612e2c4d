//! IamLink: IAM as this server's own issuer of tokens and as answerer at its paths, with no hop between.
use crate::certificates::Certificates;
use api_auth::{MASTERS, TokenIssuer, User};
use api_meta::ClusterName;
use api_server::Extension;
use async_trait::async_trait;
use clock::Clock;
use cloud_api::{Caller, TokenError, TokenVerifier};
use http::Method;
use iam::{Asker, Iam};
use serde_json::{Value, json};
use std::sync::{Arc, OnceLock};

/// Where the lists of revoked certificates are.
const CERTIFICATES: &str = "/apis/iam.plasmacloud.io/v1/crl";

/// Filled once IAM has started, which needs the server itself. Until then nobody has a token of it.
pub struct IamLink {
    iam: OnceLock<Arc<Iam>>,
    /// Those whose certificates may be taken back.
    authorities: Arc<Certificates>,
    clock: Arc<dyn Clock>,
}

impl IamLink {
    pub fn new(authorities: Arc<Certificates>, clock: Arc<dyn Clock>) -> Self {
        Self { iam: OnceLock::new(), authorities, clock }
    }

    /// The list of revoked certificates of each authority.
    fn revocation_lists(&self, iam: &Iam) -> Result<String, pki::PkiError> {
        let revoked = iam.revoked_certificates();
        let lists = [&self.authorities.server_ca, &self.authorities.client_ca].map(|authority| authority.revocation_list(&revoked, &*self.clock));
        lists.into_iter().collect()
    }

    pub fn fill(&self, iam: Arc<Iam>) {
        // It is filled once, at the start.
        let _ = self.iam.set(iam);
    }
}

impl TokenIssuer for IamLink {
    fn user(&self, cluster: &ClusterName, token: &str, audiences: &[String]) -> Option<(User, Vec<String>)> {
        let (user, good) = self.iam.get()?.user_in(cluster, token, audiences)?;
        let mut known = User::authenticated(user.username, user.groups);
        (known.uid, known.extra) = (user.uid, user.extra);
        Some((known, good))
    }

    fn is_revoked(&self, serial: &str) -> bool {
        self.iam.get().is_some_and(|iam| iam.is_revoked_certificate(serial))
    }
}

impl TokenVerifier for IamLink {
    fn verify(&self, token: &str) -> Result<Caller, TokenError> {
        self.iam.get().ok_or(TokenError::UnknownKey)?.verify(token)
    }
}

#[async_trait]
impl Extension for IamLink {
    fn is_open(&self, path: &str) -> Option<bool> {
        self.iam.get().and_then(|_| if path == CERTIFICATES { Some(true) } else { iam::is_open(path) })
    }

    async fn answer(&self, user: &User, peer: &str, method: &Method, path: &str, body: &[u8]) -> (u16, Value) {
        let Some(iam) = self.iam.get() else { return (503, json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 503})) };
        if path == CERTIFICATES {
            return match self.revocation_lists(iam) {
                Ok(lists) => (200, json!({ "crl": lists })),
                Err(error) => (500, json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": error.to_string(), "code": 500})),
            };
        }
        let answer = iam.answer(&asker(user), peer, method, path, body).await;
        (answer.code, answer.body)
    }
}

fn asker(user: &User) -> Asker {
    if user.in_group(MASTERS) {
        return Asker::Platform(user.username.clone());
    }
    // Only IAM's own accounts say their organisation.
    match user.extra.get("org_id") {
        Some(_) => Asker::Account { subject: user.uid.clone(), project: user.extra.get("project_id").and_then(|ids| ids.first()).cloned() },
        None => Asker::Nobody,
    }
}
