//! Impersonation: a request made as somebody else, by someone who may (`impersonate` on users, groups, ...).
use crate::server::ApiServer;
use api_auth::{AUTHENTICATED, Attributes, Decision, UNAUTHENTICATED, User, forbidden};
use api_meta::{ClusterName, Status};
use http::{HeaderMap, HeaderName};
use std::sync::Arc;

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";

/// Removes every header that asks to act as another.
pub fn strip(headers: &mut HeaderMap) {
    let asking: Vec<HeaderName> = headers.keys().filter(|name| name.as_str().starts_with("impersonate-")).cloned().collect();
    for name in asking {
        headers.remove(name);
    }
}

impl ApiServer {
    /// The user a request is to be carried out as.
    pub(crate) fn impersonated(&self, cluster: &ClusterName, user: Arc<User>, headers: &HeaderMap) -> Result<Arc<User>, Status> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        let groups: Vec<String> = headers.get_all(GROUP).iter().filter_map(|value| value.to_str().ok().map(str::to_owned)).collect();
        let extras: Vec<(String, String)> = headers
            .iter()
            .filter_map(|(name, value)| {
                let key = name.as_str().strip_prefix(EXTRA)?;
                let key = percent_encoding::percent_decode_str(key).decode_utf8_lossy().to_lowercase();
                Some((key, value.to_str().ok()?.to_owned()))
            })
            .collect();
        let (name, uid) = (text(USER), text(UID));
        if name.is_empty() {
            if !groups.is_empty() || !extras.is_empty() || !uid.is_empty() {
                return Err(Status::bad_request("requested impersonation without impersonating a user"));
            }
            return Ok(user);
        }
        let may = |group: &str, resource: &str, subresource: &str, namespace: &str, name: &str| {
            let attributes = Attributes { cluster, user: &user, verb: "impersonate", group, version: "v1", resource, subresource, namespace, name, path: "" };
            match self.authorizer.authorize(&attributes) {
                Decision::Allow(_) => Ok(()),
                decision => Err(forbidden(&attributes, decision.reason())),
            }
        };
        const AUTHENTICATION: &str = "authentication.k8s.io";
        let mut as_user = User { username: name, ..User::default() };
        match as_user.service_account() {
            Some((namespace, account)) => may("", "serviceaccounts", "", namespace, account)?,
            None => may("", "users", "", "", &as_user.username)?,
        }
        for group in &groups {
            may("", "groups", "", "", group)?;
        }
        if !uid.is_empty() {
            may(AUTHENTICATION, "uids", "", "", &uid)?;
            as_user.uid = uid;
        }
        for (key, value) in extras {
            may(AUTHENTICATION, "userextras", &key, "", &value)?;
            as_user.extra.entry(key).or_default().push(value);
        }
        as_user.groups = groups;
        if as_user.groups.is_empty()
            && let Some((namespace, _)) = as_user.service_account()
        {
            as_user.groups = vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{namespace}")];
        }
        let implied = if as_user.is_anonymous() { UNAUTHENTICATED } else { AUTHENTICATED };
        // Who is to count as nobody in particular does not count as somebody besides.
        if !as_user.in_group(implied) && !as_user.in_group(UNAUTHENTICATED) {
            as_user.groups.push(implied.into());
        }
        Ok(Arc::new(as_user))
    }
}
