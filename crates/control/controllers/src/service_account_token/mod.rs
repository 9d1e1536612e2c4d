//! Service account tokens in Secrets: fills each Secret of their type, and deletes it when its account is gone.
//!
//! Source: upstream's serviceaccount-token-controller.
pub mod cleaner;
pub mod tracking;

use api_meta::ClusterName;
use controller_kit::{Controller, Deletion, Error, Kit, ObjectKey, Objects, Plan, Preconditions, Runner, async_trait};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use serde_json::json;
use std::sync::Arc;

const TYPE: &str = "kubernetes.io/service-account-token";
const NAME: &str = "kubernetes.io/service-account.name";
const UID: &str = "kubernetes.io/service-account.uid";
const BY_ACCOUNT: &str = "account";

/// Signs tokens that last as long as their Secrets. `bin` fills it with the server.
pub trait TokenSigner: Send + Sync + 'static {
    /// # Errors
    /// Why it can't be had.
    fn sign(&self, cluster: &ClusterName, namespace: &str, secret: &str, account: &str, account_uid: &str) -> Result<String, String>;
}

type Pem = Arc<dyn Fn(&ClusterName) -> String + Send + Sync>;

pub struct ServiceAccountTokens {
    secrets: Objects<Secret>,
    accounts: Objects<ServiceAccount>,
    signer: Arc<dyn TokenSigner>,
    pem: Pem,
}

pub enum World {
    /// The Secret is gone, and these accounts name it.
    Gone(Vec<Arc<ServiceAccount>>),
    Here {
        secret: Arc<Secret>,
        account: Option<Arc<ServiceAccount>>,
        pem: String,
    },
}

#[derive(Debug, PartialEq)]
pub enum Action {
    /// Its account is not known: it goes, if the API does not know the account either.
    Delete,
    Fill {
        account: String,
        account_uid: String,
        pem: String,
    },
    /// The account no longer names the Secret.
    Forget(Arc<ServiceAccount>),
}

pub fn secrets(kit: &Kit) -> Objects<Secret> {
    kit.selected::<Secret>(&format!("type={TYPE}"))
}

fn annotation<'a>(secret: &'a Secret, name: &str) -> &'a str {
    secret.metadata.annotations.as_ref().and_then(|all| all.get(name)).map_or("", String::as_str)
}

fn by_account(secret: &Secret) -> Vec<String> {
    vec![format!("{}/{}", secret.metadata.namespace.as_deref().unwrap_or_default(), annotation(secret, NAME))]
}

fn names(account: &ServiceAccount, secret: &str) -> bool {
    account.secrets.iter().flatten().any(|reference| reference.name.as_deref() == Some(secret))
}

/// Whether the token is this account's and no earlier one's of its name.
fn is_of(secret: &Secret, account: &ServiceAccount) -> bool {
    let uid = annotation(secret, UID);
    uid.is_empty() || account.metadata.uid.as_deref() == Some(uid)
}

/// The account of a token, if it is known and the same.
fn account_of(accounts: &Objects<ServiceAccount>, key: &ObjectKey, secret: &Secret) -> Option<Arc<ServiceAccount>> {
    let account = accounts.get(&ObjectKey::new(&key.cluster, &key.namespace, annotation(secret, NAME)));
    account.filter(|account| is_of(secret, account))
}

pub(crate) fn runner(kit: &Kit, signer: Arc<dyn TokenSigner>, pem: Pem) -> Runner<ServiceAccountTokens> {
    let (secrets, accounts) = (secrets(kit), kit.objects::<ServiceAccount>());
    secrets.add_index(BY_ACCOUNT, by_account);
    let of_account = secrets.clone();
    Runner::new(ServiceAccountTokens { secrets: secrets.clone(), accounts: accounts.clone(), signer, pem }).watch_own(&secrets).watch(
        &accounts,
        move |change| {
            let found = of_account.by_index(BY_ACCOUNT, &change.key.cluster, &format!("{}/{}", change.key.namespace, change.key.name));
            found.iter().map(|secret| ObjectKey::of(&change.key.cluster, &secret.metadata)).collect()
        },
    )
}

#[async_trait]
impl Controller for ServiceAccountTokens {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "serviceaccount-token-controller"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        let Some(secret) = self.secrets.get(key) else {
            let all = self.accounts.list(&key.cluster, Some(&key.namespace));
            return Some(World::Gone(all.into_iter().filter(|account| names(account, &key.name)).collect()));
        };
        Some(World::Here { account: account_of(&self.accounts, key, &secret), secret, pem: (self.pem)(&key.cluster) })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        let (secret, account, pem) = match world {
            World::Gone(accounts) => return accounts.iter().cloned().map(Action::Forget).collect::<Vec<_>>().into(),
            World::Here { secret, account, pem } => (secret, account, pem),
        };
        if secret.metadata.deletion_timestamp.is_some() {
            return Plan::nothing();
        }
        let Some(account) = account else { return vec![Action::Delete].into() };
        let held = |key: &str| secret.data.as_ref().and_then(|data| data.get(key)).map_or(&[][..], |bytes| &bytes.0);
        let lacks_authority = !pem.is_empty() && held("ca.crt") != pem.as_bytes();
        if !lacks_authority && !held("namespace").is_empty() && !held("token").is_empty() {
            return Plan::nothing();
        }
        let metadata = &account.metadata;
        let (name, uid) = (metadata.name.clone().unwrap_or_default(), metadata.uid.clone().unwrap_or_default());
        vec![Action::Fill { account: name, account_uid: uid, pem: pem.clone() }].into()
    }

    async fn act(&self, key: &ObjectKey, action: Action) -> Result<(), Error> {
        match action {
            Action::Forget(account) => self.forget(key, &account).await,
            Action::Delete => self.delete(key).await,
            Action::Fill { account, account_uid, pem } => self.fill(key, &account, &account_uid, &pem).await,
        }
    }
}

impl ServiceAccountTokens {
    async fn forget(&self, key: &ObjectKey, account: &ServiceAccount) -> Result<(), Error> {
        let left: Vec<_> = account.secrets.iter().flatten().filter(|reference| reference.name.as_deref() != Some(&*key.name)).collect();
        let at = ObjectKey::of(&key.cluster, &account.metadata);
        match self.accounts.patch(&at, "", &json!({"secrets": left}), &Preconditions::exactly(&account.metadata)).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), Error> {
        let Some(secret) = self.secrets.get(key) else { return Ok(()) };
        // The Secret may be known before its account.
        let account = self.accounts.fresh(&ObjectKey::new(&key.cluster, &key.namespace, annotation(&secret, NAME))).await?;
        if account.is_some_and(|account| is_of(&secret, &account)) {
            return Err(Error::NotYet("its account is not known yet".into()));
        }
        self.secrets.delete(key, &Deletion { preconditions: Preconditions::uid_of(&secret.metadata), ..Default::default() }).await
    }

    async fn fill(&self, key: &ObjectKey, account: &str, account_uid: &str, pem: &str) -> Result<(), Error> {
        let Some(secret) = self.secrets.get(key) else { return Ok(()) };
        let mut filled = (*secret).clone();
        let data = filled.data.get_or_insert_default();
        if !pem.is_empty() {
            data.insert("ca.crt".into(), ByteString(pem.as_bytes().to_vec()));
        }
        let empty = |bytes: &ByteString| bytes.0.is_empty();
        if data.get("namespace").is_none_or(empty) {
            data.insert("namespace".into(), ByteString(key.namespace.as_bytes().to_vec()));
        }
        if data.get("token").is_none_or(empty) {
            let token = self.signer.sign(&key.cluster, &key.namespace, &key.name, account, account_uid).map_err(Error::NotYet)?;
            data.insert("token".into(), ByteString(token.into_bytes()));
        }
        let annotations = filled.metadata.annotations.get_or_insert_default();
        annotations.insert(NAME.into(), account.to_owned());
        annotations.insert(UID.into(), account_uid.to_owned());
        match self.secrets.replace(&key.cluster, &filled).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use controller_kit::converges;
    use serde_json::Value;

    fn secret(with: Value) -> Arc<Secret> {
        let mut secret = json!({"metadata": {"name": "s", "namespace": "n", "annotations": {NAME: "sa"}}, "type": TYPE});
        secret.as_object_mut().unwrap().extend(with.as_object().cloned().unwrap());
        Arc::new(serde_json::from_value(secret).unwrap())
    }

    fn account(uid: &str) -> Arc<ServiceAccount> {
        Arc::new(serde_json::from_value(json!({"metadata": {"name": "sa", "uid": uid}, "secrets": [{"name": "s"}]})).unwrap())
    }

    fn decided(secret: Arc<Secret>, account: Option<Arc<ServiceAccount>>) -> Vec<Action> {
        let account = account.filter(|account| is_of(&secret, account));
        ServiceAccountTokens::reconcile(&World::Here { secret, account, pem: "PEM".into() }).actions
    }

    #[test]
    fn what_a_secret_lacks_is_filled_in_once() {
        let fill = || vec![Action::Fill { account: "sa".into(), account_uid: "u".into(), pem: "PEM".into() }];
        let data = |token: &str, pem: &str| json!({"data": {"token": token, "namespace": "bg==", "ca.crt": pem}});
        assert_eq!(decided(secret(json!({})), Some(account("u"))), fill());
        assert_eq!(decided(secret(data("", "UEVN")), Some(account("u"))), fill());
        assert_eq!(decided(secret(data("dA==", "b2xk")), Some(account("u"))), fill(), "an authority that is no longer in force");
        assert_eq!(decided(secret(data("dA==", "UEVN")), Some(account("u"))), []);
    }

    #[test]
    fn a_token_goes_with_its_account_and_is_no_later_ones() {
        let of = |uid: &str| secret(json!({"metadata": {"name": "s", "annotations": {NAME: "sa", UID: uid}}}));
        assert_eq!(decided(of("u"), None), [Action::Delete]);
        assert_eq!(decided(of("u"), Some(account("later"))), [Action::Delete]);
        let going = secret(json!({"metadata": {"name": "s", "deletionTimestamp": "2026-01-01T00:00:00Z"}}));
        assert_eq!(decided(going, None), []);
        let named = account("u");
        assert_eq!(ServiceAccountTokens::reconcile(&World::Gone(vec![named.clone()])).actions, [Action::Forget(named)]);
    }

    #[test]
    fn a_secret_is_filled_once_and_goes_once() {
        let here = World::Here { secret: secret(json!({})), account: Some(account("u")), pem: "PEM".into() };
        let end = converges(here, 1, ServiceAccountTokens::reconcile, |world, action| {
            let (World::Here { secret, .. }, Action::Fill { account, account_uid, pem }) = (world, action) else { panic!("it has its account") };
            let secret = Arc::make_mut(secret);
            secret.metadata.annotations = Some([(NAME.to_owned(), account), (UID.to_owned(), account_uid)].into());
            let data = [("token", "t"), ("namespace", "n"), ("ca.crt", &*pem)];
            secret.data = Some(data.map(|(key, value)| (key.to_owned(), ByteString(value.as_bytes().to_vec()))).into());
        });
        let World::Here { secret, pem, .. } = end else { panic!("it stays") };
        let gone = World::Here { secret, account: None, pem };
        converges(gone, 1, ServiceAccountTokens::reconcile, |world, action| {
            assert_eq!(action, Action::Delete);
            *world = World::Gone(Vec::new());
        });
    }
}
