//! Who a principal is to Kubernetes: from roles to a username and groups, by the table of the specification.
//!
//! | principal | username | groups |
//! |---|---|---|
//! | user | the email, or without one the id | `project:<id>` where a member, `project:<id>:viewer` where a viewer, `project:<id>:<role>` by roles of the organisation's own, `org:<id>:member`, `system:authenticated` |
//! | service account | `sa-<name>@<project>` | the same, with `system:serviceaccounts` |
//! | administrator of an organisation | as a user | `org:<id>`, `project:<id>` of all its projects, `k8s:org-admin` |
//!
//! `org:<id>` is bound to the Role `org-admin` of every project, so it is the administrators' alone (ADR 12).
use crate::kinds::{ORG_ADMIN, PROJECT_ADMIN, PROJECT_MEMBER, PROJECT_VIEWER};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrincipalKind {
    User,
    ServiceAccount,
}

/// Who a token speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    pub kind: PrincipalKind,
    /// As in `sub`.
    pub id: String,
    /// Empty for none.
    pub email: String,
    pub organization: String,
}

impl Principal {
    /// The Kubernetes username.
    pub fn username(&self) -> &str {
        if self.email.is_empty() { &self.id } else { &self.email }
    }
}

/// A role, in one project or (`None`) in all of the organisation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Grant {
    pub role: String,
    pub project: Option<String>,
}

impl Grant {
    pub fn new(role: &str, project: Option<&str>) -> Self {
        Self { role: role.to_owned(), project: project.map(str::to_owned) }
    }
}

/// A user as TokenReview tells of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubernetesUser {
    pub username: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

/// The roles that count: those in `scope`, or, without one, in any project. An administrator's count everywhere.
pub fn roles_in(grants: &[Grant], scope: Option<&str>) -> BTreeSet<String> {
    grants.iter().filter(|grant| counts(grant, scope)).map(|grant| grant.role.clone()).collect()
}

fn counts(grant: &Grant, scope: Option<&str>) -> bool {
    match (&grant.project, scope) {
        // An organisation has administrators, a part of it has not.
        (Some(_), _) if grant.role == ORG_ADMIN => false,
        (None, _) | (_, None) => true,
        (Some(project), Some(scope)) => project == scope,
    }
}

/// `projects` are all of the organisation. `None`: it has no role in the project its token is for.
pub fn kubernetes_user(principal: &Principal, grants: &[Grant], projects: &[String], scope: Option<&str>) -> Option<KubernetesUser> {
    if scope.is_some_and(|scope| !projects.iter().any(|project| project == scope)) {
        return None;
    }
    let roles = roles_in(grants, scope);
    if scope.is_some() && roles.is_empty() {
        return None;
    }
    let organization = &principal.organization;
    let mut groups = Vec::new();
    let administrator = roles.contains(ORG_ADMIN);
    if administrator {
        groups.push(format!("org:{organization}"));
        groups.extend(projects.iter().map(|project| format!("project:{project}")));
        groups.push("k8s:org-admin".to_owned());
    } else {
        let mut of_projects = BTreeSet::new();
        for project in projects.iter().filter(|project| scope.is_none_or(|scope| scope == *project)) {
            let here = grants.iter().filter(|grant| counts(grant, Some(project)));
            of_projects.extend(here.map(|grant| project_group(project, &grant.role)));
        }
        groups.push(format!("org:{organization}:member"));
        groups.extend(of_projects);
    }
    groups.push(
        match principal.kind {
            PrincipalKind::User => "system:authenticated",
            PrincipalKind::ServiceAccount => "system:serviceaccounts",
        }
        .to_owned(),
    );
    let mut extra = BTreeMap::from([("org_id".to_owned(), vec![organization.clone()])]);
    if let Some(scope) = scope {
        extra.insert("project_id".into(), vec![scope.to_owned()]);
    }
    extra.insert("roles".into(), roles.into_iter().collect());
    Some(KubernetesUser { username: principal.username().to_owned(), uid: principal.id.clone(), groups, extra })
}

/// The namespace of a project: `project-`, and its id without what all ids of projects start with.
pub fn namespace_of(project: &str) -> String {
    format!("project-{}", project.strip_prefix("proj-").unwrap_or(project))
}

/// The group that a role in a project means.
pub fn project_group(project: &str, role: &str) -> String {
    match role {
        PROJECT_ADMIN | PROJECT_MEMBER => format!("project:{project}"),
        PROJECT_VIEWER => format!("project:{project}:viewer"),
        other => format!("project:{project}:{other}"),
    }
}

/// Whether somebody administers the organisation.
pub fn administers_organization(grants: &[Grant]) -> bool {
    grants.iter().any(|grant| grant.role == ORG_ADMIN && grant.project.is_none())
}

/// Whether somebody with these roles may manage who has which in a project: its administrators, and the organisation's.
pub fn may_manage_project(grants: &[Grant], project: &str) -> bool {
    grants.iter().any(|grant| match &grant.project {
        None => grant.role == ORG_ADMIN || grant.role == PROJECT_ADMIN,
        Some(of) => of == project && grant.role == PROJECT_ADMIN,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(email: &str) -> Principal {
        Principal { kind: PrincipalKind::User, id: "user-550e8400".into(), email: email.into(), organization: "org-123".into() }
    }

    #[track_caller]
    fn check(principal: &Principal, grants: &[(&str, Option<&str>)], scope: Option<&str>, expected: Option<(&str, &[&str])>) {
        let grants: Vec<Grant> = grants.iter().map(|(role, project)| Grant::new(role, *project)).collect();
        let projects = ["proj-456".to_owned(), "proj-789".to_owned()];
        let found = kubernetes_user(principal, &grants, &projects, scope);
        let told = found.as_ref().map(|user| (user.username.as_str(), user.groups.iter().map(String::as_str).collect::<Vec<_>>()));
        assert_eq!(told, expected.map(|(name, groups)| (name, groups.to_vec())));
    }

    #[test]
    fn principals_are_mapped_by_the_table() {
        let (eve, nameless) = (user("user@example.com"), user(""));
        let account = Principal { kind: PrincipalKind::ServiceAccount, id: "sa-ci@proj-456".into(), ..user("") };
        let here = Some("proj-456");
        let member: &[(&str, Option<&str>)] = &[(PROJECT_MEMBER, here)];
        let groups = ["org:org-123:member", "project:proj-456", "system:authenticated"];
        check(&eve, member, here, Some(("user@example.com", &groups)));
        check(&nameless, member, here, Some(("user-550e8400", &groups)));
        check(&eve, member, None, Some(("user@example.com", &groups)));
        check(&eve, &[(PROJECT_ADMIN, here)], here, Some(("user@example.com", &groups)));
        let groups = ["org:org-123:member", "project:proj-456", "system:serviceaccounts"];
        check(&account, member, here, Some(("sa-ci@proj-456", &groups)));
        let groups = ["org:org-123:member", "project:proj-456:viewer", "system:authenticated"];
        check(&eve, &[(PROJECT_VIEWER, here)], here, Some(("user@example.com", &groups)));
        let groups = ["org:org-123:member", "project:proj-456:deployers", "system:authenticated"];
        check(&eve, &[("deployers", here)], here, Some(("user@example.com", &groups)));
        let groups = ["org:org-123", "project:proj-456", "project:proj-789", "k8s:org-admin", "system:authenticated"];
        check(&eve, &[(ORG_ADMIN, None)], here, Some(("user@example.com", &groups)));
        check(&eve, &[(ORG_ADMIN, None), (PROJECT_VIEWER, here)], None, Some(("user@example.com", &groups)));
    }

    #[test]
    fn what_a_token_is_for_bounds_what_it_gives() {
        let eve = user("user@example.com");
        let grants: &[(&str, Option<&str>)] = &[(PROJECT_MEMBER, Some("proj-456")), (PROJECT_VIEWER, Some("proj-789"))];
        let groups = ["org:org-123:member", "project:proj-789:viewer", "system:authenticated"];
        check(&eve, grants, Some("proj-789"), Some(("user@example.com", &groups)));
        let both = ["org:org-123:member", "project:proj-456", "project:proj-789:viewer", "system:authenticated"];
        check(&eve, grants, None, Some(("user@example.com", &both)));
        check(&eve, grants, Some("proj-foreign"), None);
        check(&eve, &grants[..1], Some("proj-789"), None);
        check(&eve, &[(ORG_ADMIN, None)], Some("proj-foreign"), None);
        check(&eve, &[(ORG_ADMIN, Some("proj-456"))], Some("proj-456"), None);
        check(&eve, &[], None, Some(("user@example.com", &["org:org-123:member", "system:authenticated"])));
        let everywhere = ["org:org-123:member", "project:proj-456:viewer", "project:proj-789:viewer", "system:authenticated"];
        check(&eve, &[(PROJECT_VIEWER, None)], None, Some(("user@example.com", &everywhere)));
    }

    #[test]
    fn projects_are_managed_by_their_administrators() {
        let may = |role: &str, project: Option<&str>| may_manage_project(&[Grant::new(role, project)], "proj-456");
        assert!(may(ORG_ADMIN, None) && may(PROJECT_ADMIN, Some("proj-456")) && may(PROJECT_ADMIN, None));
        assert!(!may(PROJECT_MEMBER, Some("proj-456")) && !may(PROJECT_ADMIN, Some("proj-789")) && !may(ORG_ADMIN, Some("proj-456")));
    }
}
