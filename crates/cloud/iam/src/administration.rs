//! Administration: an organisation's projects, users, groups, roles, members and programs, for its own administrators and nobody else's.
use crate::directory::{Directory, Sort};
use crate::engine::Iam;
use crate::kinds::{API_VERSION, MAX_PROJECTS, ORG_ADMIN};
use crate::server::{Answer, Asker};
use crate::{IamError, plan};
use http::Method;
use serde_json::{Value, json};

/// What paths start with, below IAM's, at which administrators find what is their own.
pub const OWN: &str = "own/";

/// How far somebody's administration reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    Platform,
    Organization(String),
}

impl Scope {
    fn holds(&self, organization: &str) -> bool {
        match self {
            Self::Platform => true,
            Self::Organization(own) => own == organization,
        }
    }
}

fn not_found(sort: Sort, name: &str) -> IamError {
    IamError::NotFound { kind: sort.singular(), name: name.to_owned() }
}

impl Iam {
    /// What somebody may administer. A token for one project administers none of the organisation.
    pub fn scope_of(&self, asker: &Asker) -> Result<Scope, IamError> {
        let refused = || IamError::Forbidden("only administrators of an organisation may see and change who belongs to it".into());
        match asker {
            Asker::Platform(_) => Ok(Scope::Platform),
            Asker::Account { subject, project: None } => {
                let account = self.directory.account(subject).ok_or_else(refused)?;
                if plan::administers_organization(&self.directory.grants(&account)) {
                    Ok(Scope::Organization(account.principal.organization))
                } else {
                    Err(refused())
                }
            }
            Asker::Account { .. } | Asker::Part(_) | Asker::Nobody => Err(refused()),
        }
    }

    /// All objects of a sort within the scope, by name.
    pub fn objects(&self, scope: &Scope, sort: Sort) -> Vec<Value> {
        let mut all = self.directory.objects(sort);
        all.retain(|object| self.directory.organization_of(sort, object).is_some_and(|organization| scope.holds(&organization)));
        all.sort_by(|a, b| a["metadata"]["name"].as_str().cmp(&b["metadata"]["name"].as_str()));
        all
    }

    /// One object. What is another organisation's is not there.
    pub fn object(&self, scope: &Scope, sort: Sort, name: &str) -> Result<Value, IamError> {
        let found = self.directory.object(sort, name);
        let own = |object: &Value| self.directory.organization_of(sort, object).is_some_and(|organization| scope.holds(&organization));
        found.filter(own).ok_or_else(|| not_found(sort, name))
    }

    /// Makes an object of this name. An organisation that is not named is the scope's own.
    pub async fn create_object(&self, scope: &Scope, sort: Sort, name: &str, mut spec: Value, by: &str) -> Result<Value, IamError> {
        if !matches!(sort, Sort::Organization | Sort::ServiceAccount)
            && spec["organization"].as_str().is_none_or(str::is_empty)
            && let Scope::Organization(own) = scope
        {
            spec["organization"] = own.as_str().into();
        }
        self.check(scope, sort, name, &spec)?;
        let _turn = match (sort, scope) {
            (Sort::Project, Scope::Organization(organization)) => {
                // Two at once would both find room for one.
                let turn = self.turn.lock().await;
                self.check_room(organization)?;
                spec["createdBy"] = self.directory.account(by).map_or_else(|| by.to_owned(), |account| account.principal.username().to_owned()).into();
                Some(turn)
            }
            _ => None,
        };
        let mut metadata = json!({ "name": name });
        if let Some(owner) = self.owner(sort, &spec) {
            metadata["ownerReferences"] = json!([owner]);
        }
        let object = json!({"apiVersion": API_VERSION, "kind": sort.kind(), "metadata": metadata, "spec": spec});
        let written = self.write(Method::POST, &sort.collection(), &object).await?;
        self.directory.wrote(sort, &written);
        self.record("create", by, "allowed", json!({"kind": sort.kind(), "name": name}));
        Ok(written)
    }

    /// Changes fields of an object's spec (a JSON merge patch); with `resource_version`, only if it is still that one.
    pub async fn update_object(
        &self,
        scope: &Scope,
        sort: Sort,
        name: &str,
        patch: &Value,
        resource_version: Option<&str>,
        by: &str,
    ) -> Result<Value, IamError> {
        let mut spec = self.object(scope, sort, name)?["spec"].take();
        if sort == Sort::Project && *scope != Scope::Platform && !patch["createdBy"].is_null() {
            return Err(IamError::Forbidden("who made a project is not changed".into()));
        }
        merge(&mut spec, patch);
        self.check(scope, sort, name, &spec)?;
        let mut change = json!({ "spec": patch });
        if let Some(version) = resource_version {
            change["metadata"]["resourceVersion"] = version.into();
        }
        let written = self.write(Method::PATCH, &format!("{}/{name}", sort.collection()), &change).await?;
        self.directory.wrote(sort, &written);
        self.record("update", by, "allowed", json!({"kind": sort.kind(), "name": name}));
        Ok(written)
    }

    /// Deletes an object, and with a user or group what roles it had: should the name be given again, then without them.
    pub async fn delete_object(&self, scope: &Scope, sort: Sort, name: &str, by: &str) -> Result<(), IamError> {
        self.object(scope, sort, name)?;
        may_be_changed(scope, sort)?;
        if sort == Sort::ApiKey {
            self.remove_key(name).await?;
        } else {
            self.delete(&format!("{}/{name}", sort.collection())).await?;
        }
        if matches!(sort, Sort::User | Sort::Group) {
            for membership in self.directory.objects(Sort::Membership).iter().filter(|membership| membership["spec"]["subject"] == name) {
                let id = membership["metadata"]["name"].as_str().unwrap_or_default();
                self.delete(&format!("{}/{id}", Sort::Membership.collection())).await?;
            }
        }
        self.record("delete", by, "allowed", json!({"kind": sort.kind(), "name": name}));
        Ok(())
    }

    /// Whether an object may say this: all that it names has to be of its organisation, and that of the scope.
    fn check(&self, scope: &Scope, sort: Sort, name: &str, spec: &Value) -> Result<(), IamError> {
        may_be_changed(scope, sort)?;
        let text = |field: &str| spec[field].as_str().unwrap_or_default();
        let organization = match sort {
            Sort::Organization => return Ok(()),
            Sort::ApiKey => return Err(IamError::Invalid("keys are made where they are told, and never changed".into())),
            Sort::ServiceAccount => {
                let project = self.directory.project(text("project"));
                project.map(|project| project.spec.organization.clone()).filter(|organization| scope.holds(organization))
            }
            _ => Some(text("organization").to_owned()).filter(|organization| scope.holds(organization)),
        };
        let known = organization.and_then(|organization| Directory::get(&self.directory.organizations, &organization));
        let missing = if sort == Sort::ServiceAccount { (Sort::Project, text("project")) } else { (Sort::Organization, text("organization")) };
        let known = known.ok_or_else(|| not_found(missing.0, missing.1))?;
        let organization = known.id();
        let within = Scope::Organization(organization.to_owned());
        match sort {
            Sort::User => self.check_email(scope, &known.spec.email_domains, name, text("email")),
            Sort::Group => {
                let mut members = spec["members"].as_array().into_iter().flatten().filter_map(Value::as_str);
                members.try_for_each(|member| self.object(&within, Sort::User, member).map(drop))
            }
            Sort::Membership => {
                let (subject, role, project) = (text("subject"), text("role"), text("project"));
                self.object(&within, if subject.starts_with("group-") { Sort::Group } else { Sort::User }, subject)?;
                if !self.directory.is_role(role, organization) {
                    return Err(not_found(Sort::Role, role));
                }
                match (project, role) {
                    ("", _) => Ok(()),
                    (_, ORG_ADMIN) => Err(IamError::Invalid(format!("{ORG_ADMIN} is a role in an organisation, not in a project"))),
                    (project, _) => self.object(&within, Sort::Project, project).map(drop),
                }
            }
            Sort::ServiceAccount if !self.directory.is_role(text("role"), organization) => Err(not_found(Sort::Role, text("role"))),
            _ => Ok(()),
        }
    }

    /// Each project brings its quotas, so how many an organisation makes itself is the platform's to say.
    fn check_room(&self, organization: &str) -> Result<(), IamError> {
        let limit = Directory::get(&self.directory.organizations, organization).and_then(|found| found.spec.max_projects).unwrap_or(MAX_PROJECTS);
        let count = self.directory.count_projects(organization);
        if u32::try_from(count).is_ok_and(|count| count < limit) {
            return Ok(());
        }
        Err(IamError::Forbidden(format!(
            "organization {organization:?} has {count} projects and may have {limit}; the platform's administrators can let it have more"
        )))
    }

    /// An address names one user alone, whom others may have bound roles to: an organisation gives out those of its domains.
    fn check_email(&self, scope: &Scope, domains: &[String], id: &str, email: &str) -> Result<(), IamError> {
        if email.is_empty() {
            return Ok(());
        }
        let was = Directory::get(&self.directory.users, id).is_some_and(|user| user.spec.email.eq_ignore_ascii_case(email));
        let domain = email.rsplit_once('@').map(|(_, domain)| domain).unwrap_or_default();
        if !was && *scope != Scope::Platform && !domains.iter().any(|own| own.eq_ignore_ascii_case(domain)) {
            return Err(IamError::Forbidden(format!("{domain:?} is none of the organisation's domains; the platform's administrators can add it")));
        }
        if self.directory.has_email_of_another(email, id) {
            return Err(IamError::Invalid(format!("there is a user with email {email:?} already")));
        }
        Ok(())
    }

    /// What an object goes with.
    fn owner(&self, sort: Sort, spec: &Value) -> Option<Value> {
        let text = |field: &str| spec[field].as_str().unwrap_or_default();
        let (sort, name) = match sort {
            Sort::ServiceAccount => (Sort::Project, text("project")),
            Sort::Membership if !text("project").is_empty() => (Sort::Project, text("project")),
            Sort::Membership if text("subject").starts_with("group-") => (Sort::Group, text("subject")),
            Sort::Membership => (Sort::User, text("subject")),
            _ => return None,
        };
        let owner = self.directory.object(sort, name)?;
        Some(json!({"apiVersion": API_VERSION, "kind": sort.kind(), "name": name, "uid": owner["metadata"]["uid"]}))
    }

    /// Answers at a path below [`OWN`].
    pub(crate) async fn administered(&self, asker: &Asker, method: &Method, path: &str, body: &[u8]) -> Result<Answer, IamError> {
        let scope = self.scope_of(asker)?;
        let (plural, name) = path.split_once('/').unwrap_or((path, ""));
        let sort = Sort::of_plural(plural).ok_or_else(|| IamError::NotFound { kind: "path", name: path.to_owned() })?;
        let by = asker.name();
        let read = || serde_json::from_slice::<Value>(body).map_err(|error| IamError::Invalid(format!("the body can't be read: {error}")));
        let ok = |body: Value| Ok(Answer { code: 200, body });
        match (method.as_str(), name) {
            ("GET", "") => {
                let kind = format!("{}List", sort.kind());
                ok(json!({"apiVersion": API_VERSION, "kind": kind, "metadata": {}, "items": self.objects(&scope, sort)}))
            }
            ("GET", name) => ok(self.object(&scope, sort, name)?),
            ("POST", "") => {
                let mut object = read()?;
                let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                let written = self.create_object(&scope, sort, &name, object["spec"].take(), by).await?;
                Ok(Answer { code: 201, body: written })
            }
            ("PATCH", name) if !name.is_empty() => {
                let patch = read()?;
                let version = patch["metadata"]["resourceVersion"].as_str();
                ok(self.update_object(&scope, sort, name, &patch["spec"], version, by).await?)
            }
            ("DELETE", name) if !name.is_empty() => {
                self.delete_object(&scope, sort, name, by).await?;
                ok(json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}))
            }
            _ => Err(IamError::Method),
        }
    }
}

/// Organisations are the platform's to make, to change and to end.
fn may_be_changed(scope: &Scope, sort: Sort) -> Result<(), IamError> {
    match (scope, sort) {
        (Scope::Organization(_), Sort::Organization) => {
            Err(IamError::Forbidden(format!("only the platform's administrators may change an {}", sort.singular())))
        }
        _ => Ok(()),
    }
}

/// RFC 7396.
fn merge(value: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        value.clone_from(patch);
        return;
    };
    if !value.is_object() {
        *value = json!({});
    }
    for (field, change) in fields {
        match (change, value.as_object_mut()) {
            (Value::Null, Some(object)) => drop(object.remove(field)),
            _ => merge(&mut value[field], change),
        }
    }
}
