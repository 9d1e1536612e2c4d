//! Directory: IAM's objects as they are now, found by what is asked for; follows the API by watch.
use crate::kinds::{ApiKey, Group, Membership, NAMESPACE, Organization, Project, Revocation, Role, Secret, ServiceAccount, User};
use crate::plan::{Grant, Principal, PrincipalKind};
use crate::signing_keys::SIGNING_KEYS;
use api_cache::{Cache, Cached, IndexFunction, ObjectKey, Selection, Source};
use api_meta::ClusterName;
use jiff::Timestamp;
use std::sync::Arc;

const BY_EMAIL: &str = "email";
const BY_MEMBER: &str = "member";
const BY_SUBJECT: &str = "subject";
const BY_ORGANIZATION: &str = "organization";

pub struct Directory {
    pub organizations: Arc<Cache<Organization>>,
    pub projects: Arc<Cache<Project>>,
    pub users: Arc<Cache<User>>,
    pub service_accounts: Arc<Cache<ServiceAccount>>,
    pub groups: Arc<Cache<Group>>,
    pub roles: Arc<Cache<Role>>,
    pub memberships: Arc<Cache<Membership>>,
    pub api_keys: Arc<Cache<ApiKey>>,
    pub revocations: Arc<Cache<Revocation>>,
    pub signing_keys: Arc<Cache<Secret>>,
}

/// A principal, and what its account says of its tokens.
pub struct Account {
    pub principal: Principal,
    pub tokens_not_before: Option<Timestamp>,
    /// Of a service account: the role it has in its project.
    own: Option<Grant>,
}

impl Directory {
    /// Starts following. Must be called inside a tokio runtime.
    pub fn follow(source: &dyn Source) -> Self {
        fn of<K: Cached>(source: &dyn Source, indexes: &[(&'static str, IndexFunction<K>)]) -> Arc<Cache<K>> {
            let selection = Selection { cluster: Some(ClusterName::root()), ..Selection::of::<K>(K::URL_PATH_SEGMENT) };
            Cache::start(source, selection, indexes)
        }
        let keys = Selection {
            cluster: Some(ClusterName::root()),
            fields: Some(format!("metadata.namespace={NAMESPACE},metadata.name={SIGNING_KEYS}")),
            ..Selection::of::<Secret>("secrets")
        };
        Self {
            organizations: of(source, &[]),
            projects: of(source, &[(BY_ORGANIZATION, |project: &Project| vec![project.spec.organization.clone()])]),
            users: of(source, &[(BY_EMAIL, |user: &User| vec![user.spec.email.to_lowercase()])]),
            service_accounts: of(source, &[]),
            groups: of(source, &[(BY_MEMBER, |group: &Group| group.spec.members.clone())]),
            roles: of(source, &[]),
            memberships: of(source, &[(BY_SUBJECT, |membership: &Membership| vec![membership.spec.subject.clone()])]),
            api_keys: of(source, &[]),
            revocations: of(source, &[]),
            signing_keys: Cache::start(source, keys, &[]),
        }
    }

    /// Waits until all of it is known.
    pub async fn synced(&self) {
        tokio::join!(
            self.organizations.synced(),
            self.projects.synced(),
            self.users.synced(),
            self.service_accounts.synced(),
            self.groups.synced(),
            self.roles.synced(),
            self.memberships.synced(),
            self.api_keys.synced(),
            self.revocations.synced(),
            self.signing_keys.synced(),
        );
    }

    pub fn get<K: Cached>(cache: &Cache<K>, name: &str) -> Option<Arc<K>> {
        cache.get(&ObjectKey::new(&ClusterName::root(), "", name))
    }

    pub fn project(&self, id: &str) -> Option<Arc<Project>> {
        Self::get(&self.projects, id)
    }

    /// The one user with this address. That there is only one is seen to when users are made; should two have it, it is nobody's.
    pub fn user_by_email(&self, email: &str) -> Option<Arc<User>> {
        let mut found = self.users.by_index(BY_EMAIL, &ClusterName::root(), &email.to_lowercase());
        if found.len() == 1 { found.pop() } else { None }
    }

    /// The ids of an organisation's projects that are not going away.
    pub fn projects_of(&self, organization: &str) -> Vec<String> {
        let found = self.projects.by_index(BY_ORGANIZATION, &ClusterName::root(), organization);
        found.iter().filter(|project| project.metadata.deletion_timestamp.is_none()).map(|project| project.id().to_owned()).collect()
    }

    pub fn is_revoked(&self, token: &str) -> bool {
        Self::get(&self.revocations, token).is_some()
    }

    /// The account of a `sub`: `None` when there is none, or it may not be used.
    pub fn account(&self, subject: &str) -> Option<Account> {
        let account = match subject.split_once('@') {
            Some((name, project)) => {
                let account = Self::get(&self.service_accounts, &format!("{name}.{project}"))?;
                if account.spec.disabled || account.spec.project != project || account.metadata.deletion_timestamp.is_some() {
                    return None;
                }
                let organization = self.project(project)?.spec.organization.clone();
                Account {
                    principal: Principal { kind: PrincipalKind::ServiceAccount, id: subject.to_owned(), email: String::new(), organization },
                    tokens_not_before: account.spec.tokens_not_before,
                    own: Some(Grant::new(&account.spec.role, Some(project))),
                }
            }
            None => {
                let user = Self::get(&self.users, subject)?;
                if user.spec.disabled || user.metadata.deletion_timestamp.is_some() {
                    return None;
                }
                // An address that two users have says nothing of who they are.
                let email = self.user_by_email(&user.spec.email).map(|user| user.spec.email.clone()).unwrap_or_default();
                Account {
                    principal: Principal { kind: PrincipalKind::User, id: subject.to_owned(), email, organization: user.spec.organization.clone() },
                    tokens_not_before: user.spec.tokens_not_before,
                    own: None,
                }
            }
        };
        Self::get(&self.organizations, &account.principal.organization).filter(|organization| organization.metadata.deletion_timestamp.is_none())?;
        Some(account)
    }

    /// What an account may be, in which projects: its own roles and those of its groups, within its organisation.
    pub fn grants(&self, account: &Account) -> Vec<Grant> {
        let root = ClusterName::root();
        let Principal { id, organization, .. } = &account.principal;
        let mut subjects = vec![id.clone()];
        let groups = self.groups.by_index(BY_MEMBER, &root, id);
        subjects.extend(groups.iter().filter(|group| group.spec.organization == *organization).map(|group| group.id().to_owned()));
        let mut grants: Vec<Grant> = account.own.iter().cloned().collect();
        for membership in subjects.iter().flat_map(|subject| self.memberships.by_index(BY_SUBJECT, &root, subject)) {
            let spec = &membership.spec;
            if spec.organization == *organization && self.is_role(&spec.role, organization) && membership.metadata.deletion_timestamp.is_none() {
                grants.push(Grant::new(&spec.role, Some(spec.project.as_str()).filter(|project| !project.is_empty())));
            }
        }
        grants.sort();
        grants.dedup();
        grants
    }

    /// Whether an organisation has such a role.
    pub fn is_role(&self, role: &str, organization: &str) -> bool {
        use crate::kinds::{ORG_ADMIN, PROJECT_ADMIN, PROJECT_MEMBER, PROJECT_VIEWER};
        [ORG_ADMIN, PROJECT_ADMIN, PROJECT_MEMBER, PROJECT_VIEWER].contains(&role)
            || Self::get(&self.roles, role).is_some_and(|role| role.spec.organization == organization)
    }
}
