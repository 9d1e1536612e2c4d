//! References: objects named on a command line, by id or by what people call them.
use anyhow::{Result, bail};
use api_client::{is_not_found, kube};
use command_line::Session;
use serde_json::Value;

pub fn collection(plural: &str) -> String {
    format!("/apis/iam.plasmacloud.io/v1/{plural}")
}

pub fn path(plural: &str, id: &str) -> String {
    format!("{}/{id}", collection(plural))
}

/// The session, with what is administered looked for where it is the organisation's own, if that is whose administrator it is.
pub async fn placed(session: Session) -> Session {
    let review = serde_json::json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    // What is wrong with the server or with who asks, the command itself finds out and says.
    let Ok(answer) = session.create("/apis/authentication.k8s.io/v1/selfsubjectreviews", &review).await else { return session };
    if answer["status"]["userInfo"]["extra"]["org_id"].is_null() { session } else { session.placed(own) }
}

fn own(path: &str) -> String {
    let plural = path.strip_prefix(crate::PREFIX).and_then(|rest| rest.split(['/', '?']).next()).unwrap_or_default();
    if crate::Sort::of_plural(plural).is_some() { path.replacen(crate::PREFIX, &format!("{}{}", crate::PREFIX, crate::OWN), 1) } else { path.to_owned() }
}

/// The object with this id, or the only one whose `field` of the spec is this.
///
/// # Errors
/// When there is none, or more than one.
pub async fn find(session: &Session, plural: &str, field: &str, name: &str) -> Result<Value> {
    let is_id = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.');
    if is_id {
        match session.get(&path(plural, name)).await {
            Err(error) if is_not_found(&error) => {}
            found => return Ok(found?),
        }
    }
    let all = session.get(&collection(plural)).await?;
    let same = |item: &&Value| item["spec"][field].as_str().is_some_and(|text| text == name || field == "email" && text.eq_ignore_ascii_case(name));
    let found: Vec<&Value> = all["items"].as_array().into_iter().flatten().filter(same).collect();
    match found[..] {
        [one] => Ok(one.clone()),
        [] => bail!("no {} {name:?}", plural.trim_end_matches('s')),
        _ => bail!("{} {plural} are called {name:?}; name one by its id: {}", found.len(), found.iter().map(|item| id(item)).collect::<Vec<_>>().join(", ")),
    }
}

pub async fn organization(session: &Session, name: &str) -> Result<String> {
    find(session, "organizations", "displayName", name).await.map(|found| id(&found))
}

pub async fn project(session: &Session, name: &str) -> Result<Value> {
    find(session, "projects", "displayName", name).await
}

pub async fn user(session: &Session, name: &str) -> Result<Value> {
    find(session, "users", "email", name).await
}

pub fn id(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}

pub fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["spec"][field].as_str().unwrap_or_default()
}

/// That an object goes with another.
pub fn owned_by(owner: &Value) -> Value {
    serde_json::json!([{"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"]}])
}

/// The `sub` of a service account's id (`sa-x.proj-y` or `sa-x@proj-y`), or of a user by id or email.
pub async fn subject(session: &Session, name: &str) -> Result<String> {
    if name.starts_with("sa-") {
        let (account, project) = match name.split_once(['.', '@']) {
            Some(parts) => parts,
            None => bail!("a service account is named sa-NAME@PROJECT, not {name:?}"),
        };
        return Ok(format!("{account}@{}", id(&self::project(session, project).await?)));
    }
    user(session, name).await.map(|user| id(&user))
}

/// Who this session is to the server.
pub async fn own_name(session: &Session) -> Result<String, kube::Error> {
    let review = serde_json::json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let answer = session.create("/apis/authentication.k8s.io/v1/selfsubjectreviews", &review).await?;
    Ok(answer["status"]["userInfo"]["username"].as_str().unwrap_or_default().to_owned())
}
