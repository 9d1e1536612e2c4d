//! Authentication: from a client certificate or a bearer token to a User.
use crate::tokens::{Claims, Reference};
use crate::{AuthError, JwtAuthentication, LegacyUse, ServiceAccountTokens, TokenWebhook, User, bootstrap_token, legacy_token};
use api_meta::{ClusterName, GroupResource, Object};
use api_resource::Lookup;
use aws_lc_rs::digest;
use clock::{Clock, SystemClock};
use jiff::Timestamp;
use parking_lot::{Mutex, RwLock};
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::{CertificateDer, UnixTime};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";
/// Users of certificates seen lately, so that a connection's every request does not cost a signature check.
const REMEMBERED: usize = 4096;
/// An object being deleted keeps its tokens alive this long, for what its pods do last (upstream's leeway).
const DELETION_LEEWAY: i64 = 60;

/// A certificate that a client shows with each of a connection's requests.
#[derive(Clone, Debug)]
pub struct PeerCertificate {
    der: Arc<[u8]>,
    /// SHA-256.
    fingerprint: [u8; 32],
}

impl PeerCertificate {
    pub fn new(der: &[u8]) -> Self {
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(digest::digest(&digest::SHA256, der).as_ref());
        Self { der: der.into(), fingerprint }
    }
}

/// A cluster, and the SHA-256 of a certificate shown to it.
type Fingerprint = (ClusterName, [u8; 32]);
/// The user of a certificate, its serial number, and the second since 1970 that it expires at.
type Remembered = (Arc<User>, Arc<str>, i64);

/// Certificates, service account tokens, bootstrap tokens, tokens of configured issuers, and whatever a webhook knows. A cluster takes only its own of either.
pub struct Authentication {
    authorities: RwLock<HashMap<ClusterName, Arc<dyn ClientCertVerifier>>>,
    certificates: Mutex<HashMap<Fingerprint, Remembered>>,
    tokens: Arc<ServiceAccountTokens>,
    issuer: Option<Arc<dyn TokenIssuer>>,
    jwt: Option<JwtAuthentication>,
    webhook: Option<TokenWebhook>,
    clock: Arc<dyn Clock>,
}

/// Whom a bearer token speaks for.
#[derive(Clone, Debug)]
pub struct Authenticated {
    pub user: User,
    /// Those that were asked about and that it is for; the API server's if none were.
    pub audiences: Vec<String>,
    /// To be made a note of, if it is a token of the old kind.
    pub legacy: Option<LegacyUse>,
}

/// Another issuer of tokens in this process. It is asked at each use, so that what it takes back is gone at once.
pub trait TokenIssuer: Send + Sync + 'static {
    /// Whom a token of its speaks for in a cluster, and those of `audiences` (none given: the API) that it is for.
    fn user(&self, cluster: &ClusterName, token: &str, audiences: &[String]) -> Option<(User, Vec<String>)>;
    /// Whether a certificate, by its serial number in hexadecimal, has been taken back.
    fn is_revoked(&self, serial: &str) -> bool;
}

impl Authentication {
    /// `client_ca_pem` is the authority of the root cluster's client certificates.
    pub fn new(client_ca_pem: &str, tokens: Arc<ServiceAccountTokens>) -> Result<Self, AuthError> {
        Self::with_clock(client_ca_pem, tokens, Arc::new(SystemClock))
    }

    pub fn with_clock(client_ca_pem: &str, tokens: Arc<ServiceAccountTokens>, clock: Arc<dyn Clock>) -> Result<Self, AuthError> {
        let authentication = Self { authorities: RwLock::default(), certificates: Mutex::default(), tokens, issuer: None, jwt: None, webhook: None, clock };
        authentication.add_authority(&ClusterName::root(), client_ca_pem)?;
        Ok(authentication)
    }

    /// Takes the tokens of another issuer too.
    #[must_use]
    pub fn with_issuer(mut self, issuer: Arc<dyn TokenIssuer>) -> Self {
        self.issuer = Some(issuer);
        self
    }

    /// Takes tokens of the issuers of a configuration file too, in the host cluster.
    #[must_use]
    pub fn with_jwt(mut self, jwt: JwtAuthentication) -> Self {
        self.jwt = Some(jwt);
        self
    }

    /// What the configuration file says, if there is one.
    pub fn jwt(&self) -> Option<&JwtAuthentication> {
        self.jwt.as_ref()
    }

    /// Asks `webhook` about tokens that nobody else knows.
    #[must_use]
    pub fn with_webhook(mut self, webhook: TokenWebhook) -> Self {
        self.webhook = Some(webhook);
        self
    }

    /// Accepts certificates signed by `client_ca_pem` in `cluster`, and only there.
    pub fn add_authority(&self, cluster: &ClusterName, client_ca_pem: &str) -> Result<(), AuthError> {
        let verifier = pki::client_certificate_verifier(client_ca_pem).map_err(AuthError::Authority)?;
        self.certificates.lock().retain(|(of, _), _| of != cluster);
        self.authorities.write().insert(cluster.clone(), verifier);
        Ok(())
    }

    pub fn remove_authority(&self, cluster: &ClusterName) {
        self.authorities.write().remove(cluster);
        self.certificates.lock().retain(|(of, _), _| of != cluster);
    }

    pub fn tokens(&self) -> &Arc<ServiceAccountTokens> {
        &self.tokens
    }

    /// The user of a client certificate: its common name, its organizations as groups. The
    /// certificate is checked against the cluster's own authority, whatever TLS let in.
    pub fn certificate(&self, cluster: &ClusterName, certificate: &PeerCertificate) -> Result<Arc<User>, AuthError> {
        let now = self.clock.now();
        let PeerCertificate { der, fingerprint } = certificate;
        let key = (cluster.clone(), *fingerprint);
        let remembered = self.certificates.lock().get(&key).filter(|(_, _, end)| now.as_second() < *end).cloned();
        if let Some((user, serial, _)) = remembered {
            return self.unless_revoked(cluster, user, &serial);
        }
        let verifier = self.authorities.read().get(cluster).cloned().ok_or_else(|| AuthError::NoAuthority(cluster.as_str().to_owned()))?;
        let invalid = |why: String| AuthError::Certificate { cluster: cluster.as_str().to_owned(), why };
        let unix = UnixTime::since_unix_epoch(Duration::from_secs(now.as_second().max(0).unsigned_abs()));
        verifier.verify_client_cert(&CertificateDer::from(&**der), &[], unix).map_err(|error| invalid(error.to_string()))?;
        let subject = pki::subject_of(der).map_err(|error| invalid(error.to_string()))?;
        if subject.common_name.is_empty() {
            return Err(AuthError::NoCommonName);
        }
        let (_, parsed) = x509_parser::parse_x509_certificate(der).map_err(|error| invalid(error.to_string()))?;
        let mut user = User::authenticated(subject.common_name, subject.organizations);
        let hex: String = fingerprint.iter().map(|byte| format!("{byte:02x}")).collect();
        user.extra.insert(CREDENTIAL_ID.into(), vec![format!("X509SHA256={hex}")]);
        let serial: Arc<str> = pki::serial_of(der).map_err(|error| invalid(error.to_string()))?.into();
        let user = Arc::new(user);
        let mut remembered = self.certificates.lock();
        if remembered.len() >= REMEMBERED {
            remembered.clear();
        }
        remembered.insert(key, (user.clone(), serial.clone(), parsed.validity().not_after.timestamp()));
        drop(remembered);
        self.unless_revoked(cluster, user, &serial)
    }

    /// Asked at each use: a connection may be older than what was taken back.
    fn unless_revoked(&self, cluster: &ClusterName, user: Arc<User>, serial: &str) -> Result<Arc<User>, AuthError> {
        if self.issuer.as_ref().is_some_and(|issuer| issuer.is_revoked(serial)) {
            return Err(AuthError::Certificate { cluster: cluster.as_str().to_owned(), why: "it has been revoked".into() });
        }
        Ok(user)
    }

    /// The user of a bearer token for the API server: `None` when nobody knows it, an error when it
    /// must not be accepted, or when who might know it could not say.
    pub async fn bearer(&self, cluster: &ClusterName, token: &str, lookup: &dyn Lookup) -> Result<Option<Authenticated>, AuthError> {
        self.review(cluster, token, &[], lookup).await
    }

    /// As [`bearer`](Self::bearer), for any audiences (a TokenReview): the user, and those of
    /// `audiences` (none given: the API server's) that the token is for.
    pub async fn review(&self, cluster: &ClusterName, token: &str, audiences: &[String], lookup: &dyn Lookup) -> Result<Option<Authenticated>, AuthError> {
        let now = self.clock.now();
        let found = |user, audiences, legacy| Some(Authenticated { user, audiences, legacy });
        // Who knows nothing of audiences gives tokens for the API server.
        let for_api = || {
            let own = self.tokens.default_audiences(cluster);
            if audiences.is_empty() { own } else { audiences.iter().filter(|audience| own.contains(audience)).cloned().collect() }
        };
        if let Some(claims) = self.tokens.legacy(token)? {
            let (user, used) = legacy_token::authenticate(cluster, token, &claims, now, lookup).await?;
            let good: Vec<String> = for_api();
            return if good.is_empty() { Err(AuthError::Audience(audiences.to_vec())) } else { Ok(found(user, good, Some(used))) };
        }
        if !self.tokens.is_ours(token) {
            let own = self.tokens.default_audiences(cluster);
            // Asked about the API by its own names, the issuer is asked about it without.
            let of_api = audiences.is_empty() || audiences.iter().all(|audience| own.contains(audience));
            let issued = self.issuer.as_ref().and_then(|issuer| issuer.user(cluster, token, if of_api { &[] } else { audiences }));
            if let Some((user, good)) = issued {
                return Ok(found(user, if of_api { for_api() } else { good }, None));
            }
            let user = match bootstrap_token::authenticate(cluster, token, now, lookup).await.map_err(AuthError::Lookup)? {
                Some(user) => Some(user),
                None => self.foreign(cluster, token).await?,
            };
            let good = for_api();
            return Ok(user.filter(|_| !good.is_empty()).and_then(|user| found(user, good, None)));
        }
        let claims = self.tokens.review(cluster, token, audiences, now)?;
        check_bound_objects(cluster, &claims, now, lookup).await?;
        let wanted = if audiences.is_empty() { self.tokens.default_audiences(cluster) } else { audiences.to_vec() };
        Ok(found(user_of(&claims), wanted.into_iter().filter(|audience| claims.aud.contains(audience)).collect(), None))
    }

    /// The user of a token of somebody elsewhere. What one refuses another may know.
    async fn foreign(&self, cluster: &ClusterName, token: &str) -> Result<Option<User>, AuthError> {
        let of_issuer = match &self.jwt {
            // Whom an issuer knows is no user of other clusters.
            Some(jwt) if cluster.is_root() => jwt.authenticate(token).await,
            _ => Ok(None),
        };
        match (of_issuer, &self.webhook) {
            (Ok(Some(user)), _) => Ok(Some(user)),
            (Ok(None), Some(webhook)) => webhook.authenticate(cluster, token).await,
            (Err(refused), Some(webhook)) => match webhook.authenticate(cluster, token).await {
                Ok(Some(user)) => Ok(Some(user)),
                _ => Err(refused),
            },
            (of_issuer, None) => of_issuer,
        }
    }
}

/// The user a token's claims describe.
fn user_of(claims: &Claims) -> User {
    let kubernetes = &claims.kubernetes;
    let groups = ["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{}", kubernetes.namespace)];
    let mut user = User::authenticated(&claims.sub, groups);
    user.uid.clone_from(&kubernetes.serviceaccount.uid);
    let mut extra = |key: &str, value: &str| {
        if !value.is_empty() {
            user.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]);
        }
    };
    if !claims.jti.is_empty() {
        extra("credential-id", &format!("JTI={}", claims.jti));
    }
    for (what, reference) in [("pod", &kubernetes.pod), ("node", &kubernetes.node)] {
        if let Some(reference) = reference {
            extra(&format!("{what}-name"), &reference.name);
            extra(&format!("{what}-uid"), &reference.uid);
        }
    }
    user
}

async fn check_bound_objects(cluster: &ClusterName, claims: &Claims, now: Timestamp, lookup: &dyn Lookup) -> Result<(), AuthError> {
    let kubernetes = &claims.kubernetes;
    let namespace = kubernetes.namespace.as_str();
    let bound = [
        ("serviceaccounts", "service account", namespace, Some(&kubernetes.serviceaccount)),
        ("pods", "pod", namespace, kubernetes.pod.as_ref()),
        ("secrets", "secret", namespace, kubernetes.secret.as_ref()),
        // A pod's token only tells of its node; one bound to the node itself ends with it.
        ("nodes", "node", "", kubernetes.node.as_ref().filter(|_| kubernetes.pod.is_none())),
    ];
    for (resource, what, namespace, reference) in bound {
        let Some(reference) = reference else { continue };
        let object = lookup.get(cluster, &GroupResource::new("", resource), namespace, &reference.name).await.map_err(AuthError::Lookup)?;
        still_binds(what, reference, object.as_deref(), now)?;
    }
    Ok(())
}

fn still_binds(what: &str, reference: &Reference, object: Option<&Object>, now: Timestamp) -> Result<(), AuthError> {
    let invalid = |why: &str| Err(AuthError::Invalidated(format!("{what} {:?} {why}", reference.name)));
    let Some(object) = object else { return invalid("is gone") };
    if *object.meta().uid != *reference.uid {
        return invalid("has another uid");
    }
    let deleted = object.meta().deletion_timestamp.as_deref().and_then(|at| at.parse::<Timestamp>().ok());
    if deleted.is_some_and(|at| at.as_second() + DELETION_LEEWAY < now.as_second()) {
        return invalid("has been deleted");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Bound, TokenSpec};
    use api_meta::Status;
    use clock::ManualClock;
    use pki::{CertificateAuthority, LeafRequest, SigningKey};
    use rustls_pki_types::pem::PemObject;
    use serde_json::{Value, json};

    fn clock() -> ManualClock {
        ManualClock::at("2026-01-02T03:04:05Z".parse().unwrap())
    }

    /// Objects by resource.
    struct World(Vec<(&'static str, Value)>);

    #[async_trait::async_trait]
    impl Lookup for World {
        async fn get(&self, _: &ClusterName, resource: &GroupResource, namespace: &str, name: &str) -> Result<Option<Arc<Object>>, Status> {
            let all = self.list(&ClusterName::root(), resource, Some(namespace)).await?;
            Ok(all.into_iter().find(|object| *object.meta().name == *name))
        }
        async fn list(&self, _: &ClusterName, resource: &GroupResource, namespace: Option<&str>) -> Result<Vec<Arc<Object>>, Status> {
            let objects = self.0.iter().filter(|(of, _)| *of == resource.resource);
            let objects = objects.map(|(_, value)| Arc::new(Object::parse(serde_json::to_vec(value).unwrap().into()).unwrap()));
            Ok(objects.filter(|object| namespace.is_none_or(|namespace| *object.meta().namespace == *namespace)).collect())
        }
    }

    fn authentication(authority: &CertificateAuthority, clock: &ManualClock) -> Authentication {
        let tokens = ServiceAccountTokens::new(&SigningKey::generate().unwrap().pem(), "https://issuer").unwrap();
        Authentication::with_clock(authority.certificate_pem(), Arc::new(tokens), Arc::new(clock.clone())).unwrap()
    }

    #[test]
    fn a_certificate_counts_only_in_the_cluster_whose_authority_signed_it() {
        let clock = clock();
        let (root, tenant) = (CertificateAuthority::generate("ca", &clock).unwrap(), CertificateAuthority::generate("ca", &clock).unwrap());
        let authentication = authentication(&root, &clock);
        let name = ClusterName::parse("tenant").unwrap();
        let request = LeafRequest {
            common_name: "eve".into(),
            organizations: vec!["devs".into(), "ops".into()],
            dns_names: vec![],
            ip_addresses: vec![],
            server: false,
            client: true,
            validity: Duration::from_secs(3600),
        };
        let der = |authority: &CertificateAuthority, request: &LeafRequest| {
            let issued = authority.issue(request, &clock).unwrap();
            CertificateDer::from_pem_slice(issued.certificate_pem.as_bytes()).unwrap()
        };
        let eve = der(&root, &request);
        let user = authentication.certificate(&ClusterName::root(), &PeerCertificate::new(&eve)).unwrap();
        assert_eq!((user.username.as_str(), &user.groups[..]), ("eve", &["devs".to_owned(), "ops".into(), "system:authenticated".into()][..]));
        assert!(matches!(authentication.certificate(&name, &PeerCertificate::new(&eve)), Err(AuthError::NoAuthority(_))));
        authentication.add_authority(&name, tenant.certificate_pem()).unwrap();
        assert!(matches!(authentication.certificate(&name, &PeerCertificate::new(&eve)), Err(AuthError::Certificate { .. })));
        authentication.certificate(&name, &PeerCertificate::new(&der(&tenant, &request))).unwrap();
        let server = LeafRequest { server: true, client: false, ..request.clone() };
        assert!(
            authentication.certificate(&ClusterName::root(), &PeerCertificate::new(&der(&root, &server))).is_err(),
            "a server's certificate makes no client"
        );
        clock.advance(Duration::from_secs(3601));
        assert!(authentication.certificate(&ClusterName::root(), &PeerCertificate::new(&eve)).is_err(), "expired, though remembered");
    }

    #[tokio::test]
    async fn a_token_ends_with_the_objects_it_is_bound_to() {
        let clock = clock();
        let authentication = authentication(&CertificateAuthority::generate("ca", &clock).unwrap(), &clock);
        let root = ClusterName::root();
        let spec = TokenSpec {
            cluster: root.clone(),
            namespace: "a".into(),
            name: "sa".into(),
            uid: "u1".into(),
            audiences: vec![],
            expires_in: Duration::from_secs(3600),
            bound: Some(Bound { kind: "Pod".into(), api_version: "v1".into(), name: "p".into(), uid: "u2".into() }),
            node: Some(Reference { name: "n".into(), uid: "u3".into() }),
            warn_after: None,
        };
        let token = authentication.tokens().issue(&spec, clock.now()).unwrap().token;
        let object =
            |name: &str, uid: &str, deleted: Option<&str>| json!({"metadata": {"name": name, "namespace": "a", "uid": uid, "deletionTimestamp": deleted}});
        let world = |account: &str, pod: Option<Value>| {
            let account = ("serviceaccounts", object("sa", account, None));
            World([account].into_iter().chain(pod.map(|pod| ("pods", pod))).collect())
        };
        let whole = world("u1", Some(object("p", "u2", None)));
        let user = authentication.bearer(&root, &token, &whole).await.unwrap().unwrap().user;
        assert_eq!(user.username, "system:serviceaccount:a:sa");
        assert_eq!(user.groups, ["system:serviceaccounts", "system:serviceaccounts:a", "system:authenticated"]);
        assert_eq!(user.extra["authentication.kubernetes.io/pod-name"], ["p"]);
        assert_eq!(user.extra["authentication.kubernetes.io/node-uid"], ["u3"]);
        for (what, world, valid) in [
            ("account made again", world("other", Some(object("p", "u2", None))), false),
            ("pod gone", world("u1", None), false),
            ("pod made again", world("u1", Some(object("p", "other", None))), false),
            ("pod just deleted", world("u1", Some(object("p", "u2", Some("2026-01-02T03:04:00Z")))), true),
            ("pod deleted long ago", world("u1", Some(object("p", "u2", Some("2026-01-02T03:00:00Z")))), false),
        ] {
            assert_eq!(authentication.bearer(&root, &token, &world).await.is_ok(), valid, "{what}");
        }
        assert!(authentication.bearer(&root, "opaque", &whole).await.unwrap().is_none(), "another authenticator may know it");
        let tenant = ClusterName::parse("tenant").unwrap();
        assert!(matches!(authentication.bearer(&tenant, &token, &whole).await, Err(AuthError::OtherCluster)));
        let found = authentication.review(&root, &token, &["https://issuer".into(), "x".into()], &whole).await.unwrap().unwrap();
        assert_eq!(found.audiences, ["https://issuer"]);
    }
}
