//! Claims: from what a verified token says to the user it speaks for, by claims or by expressions (CEL).
use crate::User;
use api_schema::cel::{self, Environment, ObjectType, Program, Type};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What an issuer's tokens mean, checked and compiled.
#[derive(Debug)]
pub(super) struct Meaning {
    pub username: Source,
    pub groups: Option<Source>,
    pub uid: Option<Source>,
    /// By key.
    pub extra: Vec<(String, Expression)>,
    /// Claims that have to be these strings.
    pub required: Vec<(String, String)>,
    pub claim_rules: Vec<Rule>,
    pub user_rules: Vec<Rule>,
}

#[derive(Debug)]
pub(super) enum Source {
    Claim { name: String, prefix: String },
    Expression(Expression),
}

#[derive(Debug)]
pub(super) struct Expression {
    pub source: String,
    pub program: Program,
}

/// What has to hold, and what is said when it does not.
#[derive(Debug)]
pub(super) struct Rule {
    pub expression: Expression,
    pub message: String,
}

/// What expressions about claims can see.
pub(super) fn claims_environment() -> Environment {
    Environment::new([("claims", Type::Map(Arc::new(Type::String), Arc::new(Type::Dyn)))])
}

/// What expressions about the user can see.
pub(super) fn user_environment() -> Environment {
    let texts = Type::List(Arc::new(Type::String));
    let extra = Type::Map(Arc::new(Type::String), Arc::new(texts.clone()));
    let fields = [("username", Type::String), ("uid", Type::String), ("groups", texts), ("extra", extra)];
    let user = ObjectType::of_fields("kubernetes.UserInfo", fields.map(|(name, of)| (name.to_owned(), of)));
    Environment::new([("user", Type::Object(user))])
}

impl Meaning {
    /// The user that these claims describe.
    ///
    /// # Errors
    /// What is missing, of another type than it should be, or does not hold, as upstream words it.
    pub fn user(&self, claims: &Value) -> Result<User, String> {
        let username = self.username(claims)?;
        if username.is_empty() {
            return Err("oidc: the username is empty".into());
        }
        let groups = self.groups(claims)?;
        let uid = match &self.uid {
            None => String::new(),
            Some(Source::Claim { name, .. }) => text(claims, name).map_err(|why| format!("oidc: parse uid claim {name:?}: {why}"))?,
            Some(Source::Expression(expression)) => string(expression, claims, "uid")?,
        };
        let mut extra = BTreeMap::new();
        for (key, expression) in &self.extra {
            let values = texts(expression, claims).map_err(|why| format!("oidc: error evaluating extra claim expression: {}: {why}", expression.source))?;
            if !values.is_empty() {
                extra.insert(key.clone(), values);
            }
        }
        for (claim, wanted) in &self.required {
            if claims.get(claim).is_none() {
                return Err(format!("oidc: required claim {claim} not present in ID token"));
            }
            let found = text(claims, claim).map_err(|why| format!("oidc: parse claim {claim}: {why}"))?;
            if found != *wanted {
                return Err(format!("oidc: required claim {claim} value does not match. Got = {found}, want = {wanted}"));
            }
        }
        hold(&self.claim_rules, "claims", claims).map_err(|why| format!("oidc: error evaluating claim validation expression: {why}"))?;
        if !self.user_rules.is_empty() {
            let shown = shown(&username, &groups, &uid, &extra);
            hold(&self.user_rules, "user", &shown).map_err(|why| format!("oidc: error evaluating user info validation rule: {why}"))?;
        }
        Ok(User { uid, extra, ..User::authenticated(username, groups) })
    }

    fn username(&self, claims: &Value) -> Result<String, String> {
        let (name, prefix) = match &self.username {
            Source::Expression(expression) => return string(expression, claims, "username"),
            Source::Claim { name, prefix } => (name, prefix),
        };
        let username = text(claims, name).map_err(|why| format!("oidc: parse username claims {name:?}: {why}"))?;
        // Else whoever may write what they like into their profile is anybody.
        if name == "email" {
            match claims.get("email_verified") {
                None | Some(Value::Bool(true)) => {}
                Some(Value::Bool(false)) => return Err("oidc: email not verified".into()),
                Some(_) => return Err("oidc: parse 'email_verified' claim: it is no boolean".into()),
            }
        }
        if username.is_empty() {
            return Ok(username);
        }
        Ok(format!("{prefix}{username}"))
    }

    fn groups(&self, claims: &Value) -> Result<Vec<String>, String> {
        match &self.groups {
            None => Ok(Vec::new()),
            Some(Source::Expression(expression)) => texts(expression, claims).map_err(|why| format!("oidc: error evaluating group claim expression: {why}")),
            Some(Source::Claim { name, prefix }) => {
                let malformed = || format!("oidc: parse groups claim {name:?}: it is neither a string nor a list of strings");
                let groups: Vec<String> = match claims.get(name) {
                    None => return Ok(Vec::new()),
                    Some(Value::String(one)) => vec![one.clone()],
                    Some(Value::Array(many)) => many.iter().map(|group| group.as_str().map(str::to_owned)).collect::<Option<_>>().ok_or_else(malformed)?,
                    Some(Value::Null) => Vec::new(),
                    Some(_) => return Err(malformed()),
                };
                Ok(groups.into_iter().map(|group| format!("{prefix}{group}")).collect())
            }
        }
    }
}

/// A claim that has to be a string.
fn text(claims: &Value, name: &str) -> Result<String, String> {
    match claims.get(name) {
        None => Err("claim not present".into()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err("it is no string".into()),
    }
}

fn value<'a>(expression: &'a Expression, variable: &'static str, of: &'a Value) -> Result<cel::Value<'a>, String> {
    let variables = BTreeMap::from([(variable, cel::Value::of_json(of))]);
    let outcome = expression.program.run(&variables, cel::CALL_LIMIT);
    outcome.value.map_err(|error| format!("expression '{}' resulted in error: {error}", expression.source))
}

fn string(expression: &Expression, claims: &Value, what: &str) -> Result<String, String> {
    let failed = |why: String| format!("oidc: error evaluating {what} claim expression: {why}");
    let found = value(expression, "claims", claims).map_err(failed)?;
    found.as_text().map(str::to_owned).ok_or_else(|| failed(format!("{what} claim expression must return a string")))
}

/// A string or a list of strings; null and empty strings are none.
fn texts(expression: &Expression, claims: &Value) -> Result<Vec<String>, String> {
    let found = value(expression, "claims", claims)?;
    if let Some(text) = found.as_text() {
        return Ok(Some(text.to_owned()).into_iter().filter(|text| !text.is_empty()).collect());
    }
    if matches!(found, cel::Value::Null) {
        return Ok(Vec::new());
    }
    let elements = found.elements().ok_or("expression must return a string or a list of strings")?;
    let element = |value: &cel::Value| value.as_text().map(str::to_owned).ok_or("expression must return a list of strings");
    let all: Vec<String> = elements.iter().map(element).collect::<Result<_, _>>()?;
    Ok(all.into_iter().filter(|text| !text.is_empty()).collect())
}

fn hold(rules: &[Rule], variable: &'static str, of: &Value) -> Result<(), String> {
    for Rule { expression, message } in rules {
        match value(expression, variable, of)? {
            cel::Value::Bool(true) => {}
            cel::Value::Bool(false) => return Err(format!("validation expression '{}' failed: {message}", expression.source)),
            _ => return Err("validation expression must return a boolean".into()),
        }
    }
    Ok(())
}

/// The user as rules see it: what is empty is not there.
fn shown(username: &str, groups: &[String], uid: &str, extra: &BTreeMap<String, Vec<String>>) -> Value {
    let mut user = Map::new();
    user.insert("username".into(), username.into());
    if !uid.is_empty() {
        user.insert("uid".into(), uid.into());
    }
    if !groups.is_empty() {
        user.insert("groups".into(), groups.into());
    }
    if !extra.is_empty() {
        user.insert("extra".into(), serde_json::json!(extra));
    }
    Value::Object(user)
}
