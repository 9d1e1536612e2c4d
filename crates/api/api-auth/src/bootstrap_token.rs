//! Bootstrap tokens: short-lived credentials of machines about to join, kept as Secrets in kube-system.
//!
//! Source: the "Authenticating with Bootstrap Tokens" page; upstream's plugin/pkg/auth/authenticator/token/bootstrap.
use crate::User;
use api_meta::{ClusterName, GroupResource, Object, Status};
use api_resource::Lookup;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;
use std::collections::BTreeSet;

const NAMESPACE: &str = "kube-system";
const TYPE: &str = "bootstrap.kubernetes.io/token";
const GROUP: &str = "system:bootstrappers";
/// Each of these many lower-case letters and digits.
const ID_LENGTH: usize = 6;
const SECRET_LENGTH: usize = 16;

/// The two parts of a bootstrap token; `None` for a token that is none.
pub fn parts(token: &str) -> Option<(&str, &str)> {
    let good = |part: &str, length: usize| part.len() == length && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    token.split_once('.').filter(|(id, secret)| good(id, ID_LENGTH) && good(secret, SECRET_LENGTH))
}

/// The user of a bootstrap token; `None` for a token that is none, or is not known, has expired, or is for something else.
pub async fn authenticate(cluster: &ClusterName, token: &str, now: Timestamp, lookup: &dyn Lookup) -> Result<Option<User>, Status> {
    let Some((id, secret)) = parts(token) else { return Ok(None) };
    let found = lookup.get(cluster, &GroupResource::new("", "secrets"), NAMESPACE, &format!("bootstrap-token-{id}")).await?;
    Ok(found.and_then(|object| match user_of(&object, id, secret, now) {
        Ok(user) => Some(user),
        Err(why) => {
            tracing::debug!(id, why, "a bootstrap token was not accepted");
            None
        }
    }))
}

fn user_of(object: &Object, id: &str, secret: &str, now: Timestamp) -> Result<User, &'static str> {
    let value = object.to_value();
    let text = |key: &str| data(&value, key);
    if object.meta().deletion_timestamp.is_some() {
        return Err("it is being deleted");
    }
    if value["type"] != TYPE {
        return Err("its Secret is of another type");
    }
    let known = text("token-secret").filter(|known| !known.is_empty()).ok_or("its Secret has no token-secret")?;
    if aws_lc_rs::constant_time::verify_slices_are_equal(known.as_bytes(), secret.as_bytes()).is_err() {
        return Err("its secret part is wrong");
    }
    if text("token-id").as_deref() != Some(id) {
        return Err("its Secret is that of another token");
    }
    if let Some(end) = text("expiration").filter(|end| !end.is_empty()) {
        match end.parse::<Timestamp>() {
            Ok(end) if now < end => {}
            Ok(_) => return Err("it has expired"),
            Err(_) => return Err("its expiration is not a time"),
        }
    }
    if text("usage-bootstrap-authentication").as_deref() != Some("true") {
        return Err("it is not for authentication");
    }
    let mut groups = BTreeSet::from([GROUP.to_owned()]);
    for group in text("auth-extra-groups").unwrap_or_default().split(',').filter(|group| !group.is_empty()) {
        if !is_group(group) {
            return Err("one of its extra groups is not a group of bootstrappers");
        }
        groups.insert(group.to_owned());
    }
    Ok(User::authenticated(format!("system:bootstrap:{id}"), groups))
}

fn data(secret: &Value, key: &str) -> Option<String> {
    String::from_utf8(STANDARD.decode(secret["data"][key].as_str()?).ok()?).ok()
}

/// `system:bootstrappers:` and up to 256 of lower-case letters, digits, `:` and `-`, the last a letter or digit.
fn is_group(group: &str) -> bool {
    let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    group
        .strip_prefix("system:bootstrappers:")
        .map(str::as_bytes)
        .is_some_and(|rest| rest.len() <= 256 && rest.last().is_some_and(plain) && rest.iter().all(|byte| plain(byte) || matches!(byte, b':' | b'-')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn now() -> Timestamp {
        "2026-01-02T03:04:05Z".parse().unwrap()
    }

    fn accepted(change: impl Fn(&mut Value)) -> Result<User, &'static str> {
        let data = [
            ("token-id", "abcdef"),
            ("token-secret", "0123456789abcdef"),
            ("expiration", "2026-01-02T04:00:00Z"),
            ("usage-bootstrap-authentication", "true"),
            ("auth-extra-groups", "system:bootstrappers:worker,system:bootstrappers:a:b"),
        ];
        let mut secret = json!({"metadata": {"name": "bootstrap-token-abcdef", "namespace": "kube-system"}, "type": TYPE});
        for (key, value) in data {
            secret["data"][key] = value.into();
        }
        change(&mut secret);
        for value in secret["data"].as_object_mut().unwrap().values_mut() {
            *value = STANDARD.encode(value.as_str().unwrap()).into();
        }
        let object = Object::parse(serde_json::to_vec(&secret).unwrap().into()).unwrap();
        user_of(&object, "abcdef", "0123456789abcdef", now())
    }

    #[test]
    fn a_token_is_as_good_as_its_secret() {
        let user = accepted(|_| {}).unwrap();
        assert_eq!(user.username, "system:bootstrap:abcdef");
        assert_eq!(user.groups, ["system:bootstrappers", "system:bootstrappers:a:b", "system:bootstrappers:worker", "system:authenticated"]);
        assert!(accepted(|secret| secret["data"]["expiration"] = "".into()).is_ok());
        let refused: [(&str, &str); 8] = [
            ("token-secret", "0123456789abcdee"),
            ("token-secret", ""),
            ("token-id", "abcdeg"),
            ("expiration", "2026-01-02T03:04:05Z"),
            ("expiration", "tomorrow"),
            ("usage-bootstrap-authentication", "yes"),
            ("auth-extra-groups", "system:masters"),
            ("auth-extra-groups", "system:bootstrappers:worker-"),
        ];
        for (key, value) in refused {
            assert!(accepted(|secret| secret["data"][key] = value.into()).is_err(), "{key}={value}");
        }
        assert!(accepted(|secret| secret["type"] = "Opaque".into()).is_err());
        assert!(accepted(|secret| secret["metadata"]["deletionTimestamp"] = "2026-01-02T03:00:00Z".into()).is_err());
        assert_eq!(parts("abcdef.0123456789abcdef"), Some(("abcdef", "0123456789abcdef")));
        for token in ["abcdef.0123456789abcde", "ABCDEF.0123456789abcdef", "abcdef0123456789abcdef", "abcdef.0123456789abcdef.x", ""] {
            assert_eq!(parts(token), None, "{token}");
        }
    }
}
