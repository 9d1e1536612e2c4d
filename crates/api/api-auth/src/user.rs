//! User: who a request comes from.
use std::collections::BTreeMap;

pub const ANONYMOUS: &str = "system:anonymous";
pub const AUTHENTICATED: &str = "system:authenticated";
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The group that may do everything, before any policy is asked.
pub const MASTERS: &str = "system:masters";

/// An authenticated (or anonymous) requester. Groups already hold `system:authenticated` or `system:unauthenticated`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    pub username: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// A user that proved who it is; `system:authenticated` is added to its groups.
    pub fn authenticated(username: impl Into<String>, groups: impl IntoIterator<Item = String>) -> Self {
        let mut groups: Vec<String> = groups.into_iter().collect();
        if !groups.iter().any(|g| g == AUTHENTICATED) {
            groups.push(AUTHENTICATED.into());
        }
        Self { username: username.into(), groups, ..Self::default() }
    }
    pub fn anonymous() -> Self {
        Self { username: ANONYMOUS.into(), groups: vec![UNAUTHENTICATED.into()], ..Self::default() }
    }
    pub fn is_anonymous(&self) -> bool {
        self.username == ANONYMOUS
    }
    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }
    /// The (namespace, name) of the ServiceAccount this user is.
    pub fn service_account(&self) -> Option<(&str, &str)> {
        self.username.strip_prefix("system:serviceaccount:")?.split_once(':')
    }
    /// The name of the node this user is: `system:node:NAME` in the group `system:nodes`.
    pub fn node(&self) -> Option<&str> {
        self.username.strip_prefix("system:node:").filter(|name| !name.is_empty() && self.in_group("system:nodes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_needs_both_the_name_and_the_group() {
        let node = User::authenticated("system:node:a", ["system:nodes".to_owned()]);
        assert_eq!(node.node(), Some("a"));
        assert_eq!(User::authenticated("system:node:a", []).node(), None);
        assert_eq!(User::authenticated("system:node:", ["system:nodes".to_owned()]).node(), None);
        assert_eq!(User::authenticated("system:serviceaccount:ns:sa", []).service_account(), Some(("ns", "sa")));
        assert!(User::anonymous().in_group(UNAUTHENTICATED));
    }
}
