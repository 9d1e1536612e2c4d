//! Directory: IAM's objects as they are now, found by what is asked for; follows the API by watch.
use crate::kinds::{API_VERSION, ApiKey, Group, Membership, NAMESPACE, Organization, Project, Revocation, Role, Secret, ServiceAccount, User};
use crate::plan::{Grant, Principal, PrincipalKind};
use crate::signing_keys::SIGNING_KEYS;
use api_cache::{Cache, Cached, IndexFunction, Listening, ObjectKey, Selection, Source};
use api_meta::ClusterName;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::HashMap;
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
    project_ids: Arc<ProjectIds>,
    _listening: Listening,
}

/// The ids of organisations' projects, as each token asks for those of its organisation: all are forgotten when a project changes.
#[derive(Default)]
struct ProjectIds(Mutex<KnownIds>);

#[derive(Default)]
struct KnownIds {
    changes: u64,
    by_organization: HashMap<String, Arc<[String]>>,
}

impl ProjectIds {
    fn forget(&self) {
        let mut known = self.0.lock();
        known.changes += 1;
        known.by_organization.clear();
    }

    fn of(&self, organization: &str, look: impl FnOnce() -> Arc<[String]>) -> Arc<[String]> {
        let before = {
            let known = self.0.lock();
            match known.by_organization.get(organization) {
                Some(ids) => return ids.clone(),
                None => known.changes,
            }
        };
        let ids = look();
        let mut known = self.0.lock();
        // What was found may be older than a change that came meanwhile.
        if known.changes == before {
            known.by_organization.insert(organization.to_owned(), ids.clone());
        }
        ids
    }
}

/// The sorts of objects that are administered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    Organization,
    Project,
    User,
    ServiceAccount,
    Group,
    Role,
    Membership,
    ApiKey,
}

impl Sort {
    const ALL: [Self; 8] = [Self::Organization, Self::Project, Self::User, Self::ServiceAccount, Self::Group, Self::Role, Self::Membership, Self::ApiKey];

    /// Kind, plural, and what people call one.
    fn names(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Organization => ("Organization", "organizations", "organization"),
            Self::Project => ("Project", "projects", "project"),
            Self::User => ("User", "users", "user"),
            Self::ServiceAccount => ("ServiceAccount", "serviceaccounts", "service account"),
            Self::Group => ("Group", "groups", "group"),
            Self::Role => ("Role", "roles", "role"),
            Self::Membership => ("Membership", "memberships", "membership"),
            Self::ApiKey => ("APIKey", "apikeys", "API key"),
        }
    }
    pub fn kind(self) -> &'static str {
        self.names().0
    }
    pub fn singular(self) -> &'static str {
        self.names().2
    }
    /// Its collection's path.
    pub fn collection(self) -> String {
        format!("/apis/{API_VERSION}/{}", self.names().1)
    }
    pub fn of_plural(plural: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|sort| sort.names().1 == plural)
    }
}

/// Calls something with the cache of a sort.
macro_rules! with_cache {
    ($directory:expr, $sort:expr, |$cache:ident| $done:expr) => {
        match $sort {
            Sort::Organization => {
                let $cache = &$directory.organizations;
                $done
            }
            Sort::Project => {
                let $cache = &$directory.projects;
                $done
            }
            Sort::User => {
                let $cache = &$directory.users;
                $done
            }
            Sort::ServiceAccount => {
                let $cache = &$directory.service_accounts;
                $done
            }
            Sort::Group => {
                let $cache = &$directory.groups;
                $done
            }
            Sort::Role => {
                let $cache = &$directory.roles;
                $done
            }
            Sort::Membership => {
                let $cache = &$directory.memberships;
                $done
            }
            Sort::ApiKey => {
                let $cache = &$directory.api_keys;
                $done
            }
        }
    };
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
        let projects: Arc<Cache<Project>> = of(source, &[(BY_ORGANIZATION, |project: &Project| vec![project.spec.organization.clone()])]);
        let project_ids = Arc::new(ProjectIds::default());
        let forgetful = project_ids.clone();
        Self {
            _listening: projects.listen(move |_| forgetful.forget()),
            project_ids,
            organizations: of(source, &[]),
            projects,
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
        if email.is_empty() {
            return None;
        }
        let mut found = self.users.by_index(BY_EMAIL, &ClusterName::root(), &email.to_lowercase());
        if found.len() == 1 { found.pop() } else { None }
    }

    /// The ids of an organisation's projects that are not going away.
    pub fn projects_of(&self, organization: &str) -> Arc<[String]> {
        self.project_ids.of(organization, || {
            let found = self.projects.by_index(BY_ORGANIZATION, &ClusterName::root(), organization);
            found.iter().filter(|project| project.metadata.deletion_timestamp.is_none()).map(|project| project.id().to_owned()).collect()
        })
    }

    /// How many projects an organisation has, with those that are going away: their namespaces are there still.
    pub fn count_projects(&self, organization: &str) -> usize {
        self.projects.by_index(BY_ORGANIZATION, &ClusterName::root(), organization).len()
    }

    pub fn is_revoked(&self, token: &str) -> bool {
        Self::get(&self.revocations, token).is_some()
    }

    /// Whether somebody else than `id` has this address.
    pub fn has_email_of_another(&self, email: &str, id: &str) -> bool {
        self.users.by_index(BY_EMAIL, &ClusterName::root(), &email.to_lowercase()).iter().any(|user| user.id() != id)
    }

    /// All objects of a sort, as the API would show them.
    pub fn objects(&self, sort: Sort) -> Vec<Value> {
        with_cache!(self, sort, |cache| cache.all().iter().filter_map(|(_, object)| shown(sort, &**object)).collect())
    }

    pub fn object(&self, sort: Sort, name: &str) -> Option<Value> {
        with_cache!(self, sort, |cache| shown(sort, &*Self::get(cache, name)?))
    }

    /// Has an object that was just written found before the watch tells of it.
    pub fn wrote(&self, sort: Sort, written: &Value) {
        with_cache!(self, sort, |cache| {
            // One that can't be read comes by the watch, or not at all.
            if let Ok(object) = serde_json::from_value(written.clone()) {
                cache.wrote(&ClusterName::root(), object);
            }
        });
    }

    /// The organisation that an object belongs to; none when what says so is not there.
    pub fn organization_of(&self, sort: Sort, object: &Value) -> Option<String> {
        let text = |field: &str| object["spec"][field].as_str().map(str::to_owned);
        match sort {
            Sort::Organization => object["metadata"]["name"].as_str().map(str::to_owned),
            Sort::ServiceAccount => Some(self.project(&text("project")?)?.spec.organization.clone()),
            Sort::ApiKey => self.organization_of_subject(&text("subject")?),
            _ => text("organization"),
        }
    }

    /// The organisation of a `sub`, or of the user with an address.
    pub fn organization_of_subject(&self, subject: &str) -> Option<String> {
        match subject.split_once('@') {
            Some((account, project)) if account.starts_with("sa-") && self.project(project).is_some() => Some(self.project(project)?.spec.organization.clone()),
            Some(_) => Some(self.user_by_email(subject)?.spec.organization.clone()),
            None => Some(Self::get(&self.users, subject)?.spec.organization.clone()),
        }
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

fn shown<K: Serialize>(sort: Sort, object: &K) -> Option<Value> {
    let mut shown = serde_json::to_value(object).ok()?;
    (shown["apiVersion"], shown["kind"]) = (API_VERSION.into(), sort.kind().into());
    if sort == Sort::Project {
        let namespace = crate::plan::namespace_of(shown["metadata"]["name"].as_str().unwrap_or_default());
        if !shown["status"].is_object() {
            shown["status"] = json!({});
        }
        shown["status"]["namespace"] = namespace.into();
    }
    Some(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_looked_up_again_after_a_change_also_one_that_came_meanwhile() {
        let (known, ids) = (ProjectIds::default(), |id: &str| -> Arc<[String]> { [id.to_owned()].into() });
        assert_eq!(*known.of("o", || ids("a")), ["a"]);
        assert_eq!(*known.of("o", || ids("b")), ["a"]);
        known.forget();
        let meanwhile = known.of("o", || {
            known.forget();
            ids("b")
        });
        assert_eq!(*meanwhile, ["b"]);
        assert_eq!(*known.of("o", || ids("c")), ["c"]);
    }
}
