//! Iam: who a token speaks for, and everything that makes or ends tokens.
use crate::administration::Scope;
use crate::kinds::{ApiKey, NAMESPACE, Project, Revocation, Secret, ServiceAccount, User};
use crate::oidc::{Provider, ProviderSettings};
use crate::plan::{self, Grant, KubernetesUser};
use crate::rate_limit::RateLimit;
use crate::signing_keys::{DATA, SIGNING_KEYS, SigningKeys};
use crate::tokens::{Audience, Claims, Tokens};
use crate::{Directory, IamError, IamSettings, password};
use api_client::{is_conflict, is_not_found, kube};
use api_meta::ClusterName;
use aws_lc_rs::{constant_time, digest};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use clock::Clock;
use cloud_api::{Caller, TokenError, TokenVerifier};
use http::{Method, Request, header};
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// What every refused token's review says, whatever is wrong with it.
pub const REFUSED: &str = "Invalid or expired token";
/// Where decisions are told. Called for each: it must be quick.
pub type AuditSink = Arc<dyn Fn(&Value) + Send + Sync>;

/// Types of IAM's Secrets.
pub const PASSWORD_TYPE: &str = "iam.plasmacloud.io/password";
pub const API_KEY_TYPE: &str = "iam.plasmacloud.io/api-key";
pub const SIGNING_KEYS_TYPE: &str = "iam.plasmacloud.io/signing-keys";
const HASH: &str = "hash";
/// What names of revocations start with that are about certificates.
pub const CERTIFICATE: &str = "x509-";
/// Decisions remembered; the log has all.
const DECISIONS: usize = 1000;
/// The first letters of API keys, for whoever finds one lying around.
const KEY_PREFIX: &str = "k8i_";

pub struct Iam {
    pub settings: IamSettings,
    pub directory: Directory,
    tokens: Tokens,
    client: kube::Client,
    clock: Arc<dyn Clock>,
    audit: AuditSink,
    logins: RateLimit,
    reviews: RateLimit,
    providers: Vec<Provider>,
    /// The latest decisions, oldest first.
    decisions: Mutex<VecDeque<Value>>,
    /// Held while what is made is counted.
    pub(crate) turn: tokio::sync::Mutex<()>,
}

/// Whom a good token speaks for.
#[derive(Clone, Debug)]
pub struct Identity {
    pub user: KubernetesUser,
    pub claims: Arc<Claims>,
    pub grants: Vec<Grant>,
}

/// A token to be made.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct TokenRequest {
    /// The id or email of a user, or `sa-<name>@<project>`.
    pub subject: String,
    /// What it is for; empty: all of the subject's projects.
    pub project: String,
    /// Empty: the API.
    pub audiences: Vec<String>,
    pub expiration_seconds: Option<u64>,
}

/// A token that was made.
#[derive(Clone, Debug)]
pub struct Issued {
    pub token: String,
    pub id: String,
    pub expires: Timestamp,
}

impl Iam {
    /// # Errors
    /// When a provider of logins can't be used.
    pub fn new(settings: IamSettings, directory: Directory, client: kube::Client, clock: Arc<dyn Clock>, audit: AuditSink) -> Result<Arc<Self>, IamError> {
        let provider = |settings: &ProviderSettings| Provider::new(settings.clone(), clock.clone()).map_err(|error| IamError::Provider(format!("{error:#}")));
        let providers = settings.providers.iter().map(provider).collect::<Result<Vec<_>, _>>()?;
        let tokens = Tokens::new(&settings, clock.clone());
        let logins = RateLimit::new(settings.logins_per_minute, Duration::from_secs(60), clock.clone());
        let reviews = RateLimit::new(settings.reviews_per_second, Duration::from_secs(1), clock.clone());
        let iam = Arc::new(Self {
            settings,
            directory,
            tokens,
            client,
            clock,
            audit,
            logins,
            reviews,
            providers,
            decisions: Mutex::default(),
            turn: Default::default(),
        });
        let weak = Arc::downgrade(&iam);
        // The guard is forgotten on purpose: keys are followed for as long as the cache lives.
        std::mem::forget(iam.directory.signing_keys.listen(move |change| {
            if let (Some(iam), Some(secret)) = (weak.upgrade(), &change.new)
                && let Err(error) = SigningKeys::read(secret).and_then(|keys| iam.tokens.replace(&keys))
            {
                tracing::error!(%error, "the signing keys in the API can't be used; those before stay");
            }
        }));
        Ok(iam)
    }

    /// Whom a token speaks for, now.
    pub fn identify(&self, token: &str, audiences: &[String]) -> Result<Identity, TokenError> {
        let own = [self.settings.audience.clone()];
        let claims = self.tokens.verify(token, if audiences.is_empty() { &own } else { audiences }, self.clock.now())?;
        // The account, its organisation and its roles are asked for at each use: what is taken away is gone at once.
        let account = self.directory.account(&claims.sub).filter(|account| account.principal.organization == claims.org_id).ok_or(TokenError::Revoked)?;
        let issued = claims.iat.or(claims.nbf);
        let ended = account.tokens_not_before.is_some_and(|end| issued.is_none_or(|issued| issued < end.as_second()));
        if ended || (!claims.jti.is_empty() && self.directory.is_revoked(&claims.jti)) {
            return Err(TokenError::Revoked);
        }
        let grants = self.directory.grants(&account);
        let projects = self.directory.projects_of(&account.principal.organization);
        let scope = Some(claims.project_id.as_str()).filter(|project| !project.is_empty());
        let user = plan::kubernetes_user(&account.principal, &grants, &projects, scope).ok_or(TokenError::Revoked)?;
        Ok(Identity { user, claims, grants })
    }

    /// The user of a token in a cluster, and those of `audiences` (none given: the API's) that it is for. In the host
    /// cluster that is any account; in a project's own virtual cluster, only those with a part in the project.
    pub fn user_in(&self, cluster: &ClusterName, token: &str, audiences: &[String]) -> Option<(KubernetesUser, Vec<String>)> {
        let found = self.identify(token, audiences);
        if let Err(error) = &found {
            tracing::debug!(%error, %cluster, "a token is not one of ours, or not good");
        }
        let identity = found.ok()?;
        if let Some((namespace, _)) = cluster.host_object() {
            let projects = self.directory.projects_of(&identity.claims.org_id);
            let project = projects.iter().find(|project| plan::namespace_of(project) == namespace)?;
            let of_project = format!("project:{project}");
            identity.user.groups.iter().find(|group| group.strip_prefix(&of_project).is_some_and(|rest| rest.is_empty() || rest.starts_with(':')))?;
        }
        let good = audiences.iter().filter(|audience| identity.claims.aud.names().contains(audience)).cloned().collect();
        self.record("authenticate", &identity.user.uid, "allowed", json!({"jti": identity.claims.jti, "cluster": cluster.as_str()}));
        Some((identity.user, good))
    }

    /// A TokenReview with its status.
    pub fn review(&self, review: &Value) -> Value {
        let token = review["spec"]["token"].as_str().unwrap_or_default();
        let asked: Vec<String> = review["spec"]["audiences"].as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect();
        let found = self.identify(token, &[]).or_else(|error| match error {
            // For another audience, but perhaps for one that is asked about.
            TokenError::Audience if !asked.is_empty() => self.identify(token, &asked),
            error => Err(error),
        });
        let status = match &found {
            Ok(identity) => {
                self.record("review", &identity.user.uid, "allowed", json!({"jti": identity.claims.jti}));
                let KubernetesUser { username, uid, groups, extra } = &identity.user;
                let mut status = json!({"authenticated": true, "user": {"username": username, "uid": uid, "groups": groups, "extra": extra}});
                let good: Vec<&String> = asked.iter().filter(|audience| identity.claims.aud.names().contains(audience)).collect();
                if !good.is_empty() {
                    status["audiences"] = json!(good);
                }
                status
            }
            Err(error) => {
                self.record("review", "", "refused", json!({"why": error.to_string()}));
                json!({"authenticated": false, "error": REFUSED})
            }
        };
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "status": status})
    }

    /// A SubjectAccessReview with its status: no to whoever reaches for the namespace of a project they have no part in.
    ///
    /// What is allowed is for the API server's own rules to say, so everything else gets no opinion.
    pub fn access(&self, review: &Value) -> Value {
        let spec = &review["spec"];
        let namespace = spec["resourceAttributes"]["namespace"].as_str().unwrap_or_default();
        let groups: Vec<&str> = spec["groups"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let organization = spec["extra"]["org_id"][0].as_str();
        let project = self.directory.projects.all().into_iter().map(|(_, project)| project).find(|project| plan::namespace_of(project.id()) == namespace);
        let denied = match (&project, organization) {
            // Only accounts of IAM say which organisation they are of.
            (Some(project), Some(organization)) => {
                let id = project.id();
                let of_project = format!("project:{id}");
                let of_organization = format!("org:{}", project.spec.organization);
                let part = |group: &&str| {
                    **group == of_organization || **group == of_project || group.strip_prefix(&of_project).is_some_and(|rest| rest.starts_with(':'))
                };
                organization != project.spec.organization || !groups.iter().any(part)
            }
            _ => false,
        };
        self.record("access", spec["uid"].as_str().unwrap_or_default(), if denied { "refused" } else { "no opinion" }, json!({"namespace": namespace}));
        let mut status = json!({ "allowed": false });
        if denied {
            status["denied"] = true.into();
            status["reason"] = format!("the user has no part in the project of namespace {namespace:?}").into();
        }
        json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec, "status": status})
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Whether one more review of this client's may be done.
    pub fn may_review(&self, client: &str) -> bool {
        self.reviews.allows(client)
    }

    pub fn jwks(&self) -> Result<Value, IamError> {
        self.tokens.jwks().ok_or(IamError::NotReady)
    }

    /// Makes a token. Whether who asks may have it is the caller's to know.
    pub fn issue(&self, request: &TokenRequest) -> Result<Issued, IamError> {
        let subject = self.subject(&request.subject)?;
        let account = self.directory.account(&subject).ok_or_else(|| IamError::NotFound { kind: "account", name: request.subject.clone() })?;
        let ttl = request.expiration_seconds.map_or(self.settings.token_ttl, Duration::from_secs);
        if ttl < Duration::from_secs(60) || ttl > self.settings.longest_token {
            let longest = self.settings.longest_token.as_secs();
            return Err(IamError::Invalid(format!("a token lasts 60 to {longest} seconds, not {}", ttl.as_secs())));
        }
        let scope = Some(request.project.as_str()).filter(|project| !project.is_empty());
        let organization = &account.principal.organization;
        if let Some(project) = scope
            && self.directory.project(project).is_none_or(|project| project.spec.organization != *organization)
        {
            return Err(IamError::NotFound { kind: "project", name: project.to_owned() });
        }
        let grants = self.directory.grants(&account);
        let roles = plan::roles_in(&grants, scope);
        if scope.is_some() && roles.is_empty() {
            return Err(IamError::Forbidden(format!("{:?} has no role in project {:?}", request.subject, request.project)));
        }
        let now = self.clock.now().as_second();
        let expires = now + i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
        // What is made in the second in which all before was revoked is none of that.
        let since = account.tokens_not_before.map(|end| end.as_second()).filter(|end| *end == now + 1).unwrap_or(now);
        let id = uuid::Uuid::new_v4().to_string();
        let claims = Claims {
            iss: Some(self.settings.issuer.clone()),
            sub: subject,
            aud: Audience::Many(if request.audiences.is_empty() { vec![self.settings.audience.clone()] } else { request.audiences.clone() }),
            exp: expires,
            nbf: Some(since),
            iat: Some(since),
            jti: id.clone(),
            email: account.principal.email.clone(),
            org_id: organization.clone(),
            project_id: request.project.clone(),
            roles: roles.into_iter().collect(),
        };
        let token = self.tokens.sign(&claims)?;
        self.record("issue", &claims.sub, "allowed", json!({"jti": id, "project": request.project, "audiences": claims.aud.names()}));
        Ok(Issued { token, id, expires: Timestamp::from_second(expires).unwrap_or(Timestamp::MAX) })
    }

    /// The `sub` of a user's id or email, or of a service account.
    pub fn subject(&self, name: &str) -> Result<String, IamError> {
        if name.starts_with("sa-") && name.contains('@') || name.starts_with("user-") && !name.contains('@') {
            return Ok(name.to_owned());
        }
        let user = self.directory.user_by_email(name).ok_or_else(|| IamError::NotFound { kind: "user", name: name.to_owned() })?;
        Ok(user.id().to_owned())
    }

    /// A token, and a session that gives more of them, for a user's password.
    pub async fn login(&self, email: &str, password: &str, project: &str) -> Result<(Issued, String), IamError> {
        if !self.logins.allows(&email.to_lowercase()) {
            self.record("login", email, "refused", json!({"why": "too many attempts"}));
            return Err(IamError::TooMany);
        }
        let user = self.directory.user_by_email(email);
        let hash = match &user {
            Some(user) => self.secret(user.id()).await?.filter(|secret| secret.type_ == PASSWORD_TYPE).and_then(|secret| text(&secret, HASH)),
            None => None,
        };
        let given = password.to_owned();
        let right = tokio::task::spawn_blocking(move || password::verify(&given, hash.as_deref())).await.unwrap_or(false);
        let Some(user) = user.filter(|_| right) else {
            self.record("login", email, "refused", json!({"why": "wrong email or password"}));
            return Err(IamError::Credentials);
        };
        self.logged_in(&user, project, json!({})).await
    }

    /// Where users may log in elsewhere: the issuers, and as which client.
    pub fn issuers(&self) -> Vec<(&str, &str)> {
        self.providers.iter().map(|provider| (provider.settings.issuer.as_str(), provider.settings.client_id.as_str())).collect()
    }

    /// The same as for a password, for an ID token of a provider.
    pub async fn login_elsewhere(&self, issuer: &str, token: &str, project: &str) -> Result<(Issued, String), IamError> {
        let refused = |why: &str| {
            self.record("login", "", "refused", json!({"why": why, "issuer": issuer}));
            IamError::Credentials
        };
        let provider = self.providers.iter().find(|provider| provider.settings.issuer == issuer).ok_or_else(|| refused("no such provider"))?;
        let email = provider.verify(token).await.map_err(|error| refused(&error.to_string()))?;
        let own = |user: &Arc<User>| provider.settings.organization.as_ref().is_none_or(|organization| *organization == user.spec.organization);
        let user = self.directory.user_by_email(&email).filter(own).ok_or_else(|| refused("nobody of the provider's has this address"))?;
        self.logged_in(&user, project, json!({ "issuer": issuer })).await
    }

    async fn logged_in(&self, user: &User, project: &str, more: Value) -> Result<(Issued, String), IamError> {
        let request = TokenRequest { subject: user.id().to_owned(), project: project.to_owned(), ..TokenRequest::default() };
        // A disabled account is told nothing that a wrong password is not.
        let issued =
            self.issue(&request).map_err(|error| if matches!(error, IamError::NotFound { kind: "account", .. }) { IamError::Credentials } else { error })?;
        let end = self.clock.now().saturating_add(SignedDuration::try_from(self.settings.session_ttl).unwrap_or(SignedDuration::MAX));
        let (_, session) = self.create_key(user.id(), project, "login", end.ok(), true).await?;
        let mut more = more;
        more["jti"] = issued.id.as_str().into();
        self.record("login", user.id(), "allowed", more);
        Ok((issued, session))
    }

    /// A token for an API key; a session's key is another one from then on, and using the old one again ends the session.
    pub async fn exchange(&self, key: &str, project: Option<&str>) -> Result<(Issued, String), IamError> {
        let refused = |why: &str| {
            self.record("exchange", "", "refused", json!({ "why": why }));
            IamError::Credentials
        };
        let Some((id, proof)) = key.strip_prefix(KEY_PREFIX).and_then(|rest| rest.split_once('_')) else { return Err(refused("not a key")) };
        // Nobody guesses a key; this is for the load alone.
        if !self.reviews.allows(id) {
            return Err(IamError::TooMany);
        }
        let name = format!("key-{id}");
        let found = Directory::get(&self.directory.api_keys, &name).ok_or_else(|| refused("no such key"))?;
        if found.spec.expires.is_some_and(|end| end <= self.clock.now()) {
            return Err(refused("the key has expired"));
        }
        let secret = self.secret(&name).await?.ok_or_else(|| refused("the key has no hash"))?;
        let stored = text(&secret, HASH).unwrap_or_default();
        if constant_time::verify_slices_are_equal(stored.as_bytes(), fingerprint(proof).as_bytes()).is_err() {
            if found.spec.session {
                // Somebody holds an old one: whoever that is, neither goes on.
                self.remove_key(&name).await?;
            }
            return Err(refused("the key's proof is wrong"));
        }
        let mut next = key.to_owned();
        if found.spec.session {
            let proof = random();
            let mut patch = json!({"metadata": {"resourceVersion": secret.metadata.resource_version}});
            patch["stringData"] = json!({HASH: fingerprint(&proof)});
            match self.write(Method::PATCH, &secret_path(&name), &patch).await {
                Err(error) if is_conflict(&error) => return Err(refused("the key was used twice at once")),
                written => written?,
            };
            next = format!("{KEY_PREFIX}{id}_{proof}");
        }
        let project = if found.spec.project.is_empty() { project.unwrap_or_default() } else { &found.spec.project };
        let request = TokenRequest { subject: found.spec.subject.clone(), project: project.to_owned(), ..TokenRequest::default() };
        let issued = self.issue(&request).map_err(|error| if matches!(error, IamError::NotFound { .. }) { IamError::Credentials } else { error })?;
        Ok((issued, next))
    }

    /// Makes an API key: its id, and the key itself, which is told this once.
    pub async fn create_key(
        &self,
        subject: &str,
        project: &str,
        description: &str,
        expires: Option<Timestamp>,
        session: bool,
    ) -> Result<(String, String), IamError> {
        let subject = self.subject(subject)?;
        self.directory.account(&subject).ok_or_else(|| IamError::NotFound { kind: "account", name: subject.clone() })?;
        let (id, proof) = (clock::random_suffix(16), random());
        let name = format!("key-{id}");
        let key = json!({
            "apiVersion": crate::kinds::API_VERSION, "kind": "APIKey", "metadata": {"name": name},
            "spec": {"subject": subject, "project": project, "description": description, "expires": expires.map(clock::rfc3339_seconds), "session": session},
        });
        let written: ApiKey = serde_json::from_value(self.write(Method::POST, "/apis/iam.plasmacloud.io/v1/apikeys", &without_nulls(key)).await?)
            .map_err(kube::Error::SerdeError)?;
        let owner = json!([{"apiVersion": crate::kinds::API_VERSION, "kind": "APIKey", "name": name, "uid": written.metadata.uid}]);
        self.put_secret(&name, API_KEY_TYPE, HASH, &fingerprint(&proof), Some(owner)).await?;
        self.directory.api_keys.wrote(&ClusterName::root(), written);
        self.record("create-key", &subject, "allowed", json!({"key": name}));
        Ok((name, format!("{KEY_PREFIX}{id}_{proof}")))
    }

    /// Ends a key by itself. One that is wrong or gone changes nothing.
    pub async fn end_key(&self, key: &str) -> Result<(), IamError> {
        let Some((id, proof)) = key.strip_prefix(KEY_PREFIX).and_then(|rest| rest.split_once('_')) else { return Ok(()) };
        let name = format!("key-{id}");
        let stored = self.secret(&name).await?.and_then(|secret| text(&secret, HASH)).unwrap_or_default();
        if constant_time::verify_slices_are_equal(stored.as_bytes(), fingerprint(proof).as_bytes()).is_ok() {
            self.remove_key(&name).await?;
        }
        Ok(())
    }

    pub(crate) async fn remove_key(&self, name: &str) -> Result<(), IamError> {
        self.delete(&key_path(name)).await?;
        self.delete(&secret_path(name)).await?;
        self.record("end-key", "", "allowed", json!({ "key": name }));
        Ok(())
    }

    pub async fn set_password(&self, user: &str, password: &str) -> Result<(), IamError> {
        let subject = self.subject(user)?;
        // One that was just made may not have been told of yet.
        let uid = match Directory::get(&self.directory.users, &subject) {
            Some(found) => found.metadata.uid.clone(),
            None => self.stored_user(&subject).await?.metadata.uid,
        };
        let given = password.to_owned();
        let hash = tokio::task::spawn_blocking(move || password::hash(&given)).await.map_err(|error| IamError::Invalid(error.to_string()))??;
        let owner = json!([{"apiVersion": crate::kinds::API_VERSION, "kind": "User", "name": subject, "uid": uid}]);
        self.put_secret(&subject, PASSWORD_TYPE, HASH, &hash, Some(owner)).await?;
        self.record("set-password", &subject, "allowed", json!({}));
        Ok(())
    }

    /// Refuses one token from now on.
    pub async fn revoke(&self, id: &str, expires: Timestamp) -> Result<(), IamError> {
        let expires = clock::rfc3339_seconds(expires);
        let revocation = json!({"apiVersion": crate::kinds::API_VERSION, "kind": "Revocation", "metadata": {"name": id}, "spec": {"expires": expires}});
        match self.write(Method::POST, "/apis/iam.plasmacloud.io/v1/revocations", &revocation).await {
            Err(error) if is_conflict(&error) => {}
            written => {
                let written = serde_json::from_value(written?).map_err(kube::Error::SerdeError)?;
                self.directory.revocations.wrote(&ClusterName::root(), written);
            }
        }
        self.record("revoke", "", "allowed", json!({"jti": id}));
        // What has ended need not be remembered; whoever revokes next takes it away.
        let now = self.clock.now();
        for (key, old) in self.directory.revocations.all() {
            if old.spec.expires.is_some_and(|end| end.saturating_add(SignedDuration::from_secs(60)).unwrap_or(end) < now) {
                self.delete(&format!("/apis/iam.plasmacloud.io/v1/revocations/{}", key.name)).await?;
            }
        }
        Ok(())
    }

    /// Whether a certificate has been taken back, by its serial number in hexadecimal.
    pub fn is_revoked_certificate(&self, serial: &str) -> bool {
        self.directory.is_revoked(&format!("{CERTIFICATE}{serial}"))
    }

    /// The serial numbers of certificates that were taken back, and since when.
    pub fn revoked_certificates(&self) -> Vec<(String, Timestamp)> {
        let all = self.directory.revocations.all();
        let since = |revocation: &Revocation| revocation.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
        all.iter().filter_map(|(key, revocation)| Some((key.name.strip_prefix(CERTIFICATE)?.to_owned(), since(revocation)))).collect()
    }

    /// Refuses all tokens of a user or service account that were made until now.
    pub async fn revoke_all(&self, subject: &str) -> Result<(), IamError> {
        let subject = self.subject(subject)?;
        // Tokens say whole seconds, so those of this one are meant too.
        let end = clock::rfc3339_seconds(self.clock.now().saturating_add(SignedDuration::from_secs(1)).unwrap_or(Timestamp::MAX));
        let patch = json!({"spec": {"tokensNotBefore": end}});
        let root = ClusterName::root();
        match subject.split_once('@') {
            Some((name, project)) => {
                let path = format!("/apis/iam.plasmacloud.io/v1/serviceaccounts/{name}.{project}");
                let written: ServiceAccount = serde_json::from_value(self.write(Method::PATCH, &path, &patch).await?).map_err(kube::Error::SerdeError)?;
                self.directory.service_accounts.wrote(&root, written);
            }
            None => {
                let written: User = serde_json::from_value(self.write(Method::PATCH, &format!("/apis/iam.plasmacloud.io/v1/users/{subject}"), &patch).await?)
                    .map_err(kube::Error::SerdeError)?;
                self.directory.users.wrote(&root, written);
            }
        }
        self.record("revoke-all", &subject, "allowed", json!({}));
        Ok(())
    }

    /// A new signing key. The old ones' tokens stay good until they end, or (`at_once`) end now.
    pub async fn rotate(&self, at_once: bool) -> Result<(), IamError> {
        let secret = self.secret(SIGNING_KEYS).await?;
        let keys = match &secret {
            Some(secret) if !at_once => SigningKeys::read(secret)?.rotated(self.settings.signing_algorithm, self.settings.longest_token, &*self.clock)?,
            _ => SigningKeys::replaced(self.settings.signing_algorithm, &*self.clock)?,
        };
        self.put_secret(SIGNING_KEYS, SIGNING_KEYS_TYPE, DATA, &keys.write(), None).await?;
        self.tokens.replace(&keys)?;
        self.record("rotate", "", "allowed", json!({"atOnce": at_once}));
        Ok(())
    }

    /// Makes the first signing key, unless there is one, and another when the newest signs in another way than it shall.
    pub async fn ensure_keys(&self) -> Result<(), IamError> {
        let keys = self.secret(SIGNING_KEYS).await?.as_ref().map(SigningKeys::read).transpose()?;
        match keys {
            None => self.rotate(true).await,
            Some(keys) if self.settings.makes_keys && keys.algorithm() != Some(self.settings.signing_algorithm) => self.rotate(false).await,
            Some(keys) => self.tokens.replace(&keys),
        }
    }

    /// Whether an identity may manage who is in a project.
    pub fn may_manage(&self, identity: &Identity, project: &Project) -> bool {
        project.spec.organization == identity.claims.org_id && plan::may_manage_project(&identity.grants, project.id())
    }

    pub fn record(&self, decision: &str, subject: &str, outcome: &str, more: Value) {
        let mut entry = json!({"time": clock::rfc3339_micros(self.clock.now()), "decision": decision, "subject": subject, "outcome": outcome});
        if let (Some(entry), Value::Object(more)) = (entry.as_object_mut(), more) {
            entry.extend(more);
        }
        (self.audit)(&entry);
        let mut decisions = self.decisions.lock();
        if decisions.len() >= DECISIONS {
            decisions.pop_front();
        }
        decisions.push_back(entry);
    }

    /// The latest decisions about accounts within a scope, newest first.
    pub fn decisions(&self, scope: &Scope, limit: usize) -> Vec<Value> {
        let decisions = self.decisions.lock();
        let within = |entry: &&Value| match scope {
            Scope::Platform => true,
            Scope::Organization(own) => self.directory.organization_of_subject(entry["subject"].as_str().unwrap_or_default()).is_some_and(|of| of == *own),
        };
        decisions.iter().rev().filter(within).take(limit).cloned().collect()
    }

    async fn secret(&self, name: &str) -> Result<Option<Secret>, IamError> {
        let request = Request::get(secret_path(name)).body(Vec::new()).map_err(kube::Error::HttpError)?;
        match self.client.request(request).await {
            Ok(secret) => Ok(Some(secret)),
            Err(error) if is_not_found(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn put_secret(&self, name: &str, type_: &str, key: &str, value: &str, owners: Option<Value>) -> Result<(), IamError> {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": type_, "stringData": {key: value},
            "metadata": {"name": name, "namespace": NAMESPACE, "ownerReferences": owners.unwrap_or_else(|| json!([]))},
        });
        match self.write(Method::POST, &format!("/api/v1/namespaces/{NAMESPACE}/secrets"), &secret).await {
            Err(error) if is_conflict(&error) => self.write(Method::PATCH, &secret_path(name), &json!({"stringData": {key: value}})).await.map(drop)?,
            written => drop(written?),
        }
        Ok(())
    }

    pub(crate) async fn write(&self, method: Method, path: &str, body: &Value) -> Result<Value, kube::Error> {
        let media_type = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let request = Request::builder().method(method).uri(format!("{path}?fieldManager=iam")).header(header::CONTENT_TYPE, media_type);
        self.client.request(request.body(body.to_string().into_bytes()).map_err(kube::Error::HttpError)?).await
    }

    async fn stored_user(&self, name: &str) -> Result<User, IamError> {
        let request = Request::get(format!("/apis/iam.plasmacloud.io/v1/users/{name}")).body(Vec::new()).map_err(kube::Error::HttpError)?;
        let unknown = || IamError::NotFound { kind: "user", name: name.to_owned() };
        self.client.request(request).await.map_err(|error| if is_not_found(&error) { unknown() } else { error.into() })
    }

    pub(crate) async fn delete(&self, path: &str) -> Result<(), IamError> {
        let request = Request::delete(path).body(Vec::new()).map_err(kube::Error::HttpError)?;
        match self.client.request::<Value>(request).await {
            Err(error) if !is_not_found(&error) => Err(error.into()),
            _ => Ok(()),
        }
    }
}

impl TokenVerifier for Iam {
    fn verify(&self, token: &str) -> Result<Caller, TokenError> {
        let identity = self.identify(token, &[])?;
        let roles = identity.user.extra.get("roles").into_iter().flatten().cloned().collect();
        let Claims { sub, email, org_id, project_id, .. } = &*identity.claims;
        Ok(Caller { subject: sub.clone(), email: email.clone(), org_id: org_id.clone(), project_id: project_id.clone(), roles, platform: false })
    }
}

fn secret_path(name: &str) -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/secrets/{name}")
}

fn key_path(name: &str) -> String {
    format!("/apis/iam.plasmacloud.io/v1/apikeys/{name}")
}

fn text(secret: &Secret, key: &str) -> Option<String> {
    String::from_utf8(STANDARD.decode(secret.data.get(key)?).ok()?).ok()
}

/// Keys are random enough that a plain hash of one tells nothing of it.
fn fingerprint(proof: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, proof.as_bytes()))
}

fn random() -> String {
    URL_SAFE_NO_PAD.encode(clock::random_bytes::<32>()).replace('_', "-")
}

fn without_nulls(mut value: Value) -> Value {
    if let Some(spec) = value["spec"].as_object_mut() {
        spec.retain(|_, value| !value.is_null());
    }
    value
}
