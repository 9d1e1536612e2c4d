//! Who calls: the organisation, project and roles that a token speaks for.
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use tonic::{Request, Status};

/// The principal behind a call, as its token's claims name it (`seeds`: sub, email, org_id, project_id, roles).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// `sub`: `user-<uuid>`, `sa-<name>@<project>`, or a component's own name.
    pub subject: String,
    pub email: String,
    pub org_id: String,
    /// Empty for somebody who acts for a whole organisation.
    pub project_id: String,
    pub roles: BTreeSet<String>,
    /// A part of this very process, or of the platform: bound to no organisation.
    pub platform: bool,
}

impl Caller {
    /// A component of the platform, calling inside this process.
    pub fn component(name: &str) -> Self {
        Self { subject: name.to_owned(), platform: true, ..Self::default() }
    }

    /// Who made `request`. Only requests that came through [`serve`](crate::serve), or that were made with
    /// [`Caller::call`], have one: all others are `UNAUTHENTICATED`.
    pub fn of<T>(request: &Request<T>) -> Result<&Self, Status> {
        request.extensions().get().ok_or_else(|| Status::unauthenticated("the call names no caller"))
    }

    /// A request of this caller's to a service in the same process.
    pub fn call<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.extensions_mut().insert(self.clone());
        request
    }

    /// Whether what belongs to `org_id` and `project_id` is this caller's to use: the platform's all, an organisation
    /// administrator's all of it, everybody else's their own project.
    pub fn may_use(&self, org_id: &str, project_id: &str) -> bool {
        self.platform || (self.org_id == org_id && !org_id.is_empty() && (self.roles.contains("org_admin") || self.project_id == project_id))
    }
}

/// Whose something is.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ownership {
    pub org_id: String,
    pub project_id: String,
}

impl Ownership {
    /// Whom a call that makes something names as its owner; where it leaves that out, its caller.
    ///
    /// # Errors
    /// `PERMISSION_DENIED` for a project that is not the caller's to use.
    pub fn named(caller: &Caller, org_id: String, project_id: String) -> Result<Self, Status> {
        let or = |given: String, own: &str| if given.is_empty() { own.to_owned() } else { given };
        let owner = Self { org_id: or(org_id, &caller.org_id), project_id: or(project_id, &caller.project_id) };
        if owner.is_usable_by(caller) { Ok(owner) } else { Err(Status::permission_denied("the project is not the caller's")) }
    }

    pub fn is_usable_by(&self, caller: &Caller) -> bool {
        caller.may_use(&self.org_id, &self.project_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(org: &str, project: &str, roles: &[&str]) -> Caller {
        Caller { org_id: org.into(), project_id: project.into(), roles: roles.iter().map(|&role| role.into()).collect(), ..Caller::default() }
    }

    #[test]
    fn what_belongs_to_others_may_not_be_used() {
        assert!(Caller::component("csi").may_use("org-1", "proj-1"));
        assert!(caller("org-1", "proj-1", &[]).may_use("org-1", "proj-1"));
        assert!(!caller("org-1", "proj-1", &[]).may_use("org-1", "proj-2"));
        assert!(caller("org-1", "proj-1", &["org_admin"]).may_use("org-1", "proj-2"));
        assert!(!caller("org-1", "proj-1", &["org_admin"]).may_use("org-2", "proj-1"));
        assert!(!caller("", "", &["org_admin"]).may_use("", ""), "nobody's is not everybody's");
    }
}
