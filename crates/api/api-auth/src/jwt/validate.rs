//! What may be written into an AuthenticationConfiguration, and its expressions compiled.
//!
//! Source of the rules and their words: apiserver's `pkg/apis/apiserver/validation`.
use super::claims::{Expression, Meaning, Rule, Source, claims_environment, user_environment};
use super::configuration::{
    AuthenticationConfiguration, ClaimMappings, ClaimValidationRule, Issuer, JwtAuthenticator, PrefixedClaimOrExpression, UserValidationRule,
};
use api_meta::{FieldError, FieldErrors, FieldPath, names};
use api_schema::cel::{Environment, Type};
use std::collections::HashSet;

const MOST_ISSUERS: usize = 64;

/// What each issuer's tokens mean, in the order they stand in; and all that is wrong with the configuration.
pub(super) fn compiled(configuration: &AuthenticationConfiguration, own_issuers: &[String]) -> (Vec<Meaning>, FieldErrors) {
    let root = FieldPath::new("jwt");
    let (mut meanings, mut errors) = (Vec::new(), FieldErrors::new());
    if configuration.jwt.len() > MOST_ISSUERS {
        errors.push(FieldError::too_many(&root, configuration.jwt.len(), MOST_ISSUERS));
        return (meanings, errors);
    }
    let (mut urls, mut discovery_urls) = (HashSet::new(), HashSet::new());
    for (index, authenticator) in configuration.jwt.iter().enumerate() {
        let path = root.index(index);
        meanings.extend(compiled_one(authenticator, &path, own_issuers, &mut errors));
        let issuer = &authenticator.issuer;
        if !urls.insert(&issuer.url) {
            errors.push(FieldError::duplicate(&path.child("issuer").child("url"), issuer.url.as_str()));
        }
        if !issuer.discovery_url.is_empty() && !discovery_urls.insert(&issuer.discovery_url) {
            errors.push(FieldError::duplicate(&path.child("issuer").child("discoveryURL"), issuer.discovery_url.as_str()));
        }
    }
    if let Some(anonymous) = configuration.anonymous.as_ref().filter(|anonymous| !anonymous.enabled && !anonymous.conditions.is_empty()) {
        let shown: Vec<_> = anonymous.conditions.iter().map(|condition| serde_json::json!({ "path": condition.path })).collect();
        errors.push(FieldError::invalid(&FieldPath::new("anonymous.conditions"), shown, "enabled should be set to true when conditions are defined"));
    }
    (meanings, errors)
}

fn compiled_one(authenticator: &JwtAuthenticator, path: &FieldPath, own_issuers: &[String], errors: &mut FieldErrors) -> Option<Meaning> {
    check_issuer(&authenticator.issuer, own_issuers, &path.child("issuer"), errors);
    let claim_rules = claim_rules(&authenticator.claim_validation_rules, &path.child("claimValidationRules"), errors);
    let mappings = mappings(&authenticator.claim_mappings, &claim_rules, &path.child("claimMappings"), errors);
    let user_rules = user_rules(&authenticator.user_validation_rules, &path.child("userValidationRules"), errors);
    let required = authenticator.claim_validation_rules.iter().filter(|rule| !rule.claim.is_empty());
    let required = required.map(|rule| (rule.claim.clone(), rule.required_value.clone())).collect();
    let (username, groups, uid, extra) = mappings?;
    Some(Meaning { username, groups, uid, extra, required, claim_rules, user_rules })
}

fn check_issuer(issuer: &Issuer, own_issuers: &[String], path: &FieldPath, errors: &mut FieldErrors) {
    let url_path = path.child("url");
    if issuer.url.is_empty() {
        errors.push(FieldError::required(&url_path, ""));
    } else {
        check_url(&issuer.url, own_issuers, &url_path, errors);
    }
    if !issuer.discovery_url.is_empty() {
        let path = path.child("discoveryURL");
        if !issuer.url.is_empty() && issuer.url.trim_end_matches('/') == issuer.discovery_url.trim_end_matches('/') {
            errors.push(FieldError::invalid(&path, issuer.discovery_url.as_str(), "discoveryURL must be different from URL"));
        }
        check_url(&issuer.discovery_url, &[], &path, errors);
    }
    check_audiences(issuer, path, errors);
    if !issuer.certificate_authority.is_empty()
        && let Err(error) = pki::client_config(&issuer.certificate_authority, None)
    {
        errors.push(FieldError::invalid(&path.child("certificateAuthority"), "<omitted>", error.to_string()));
    }
    let egress = issuer.egress_selector_type.as_str();
    if !matches!(egress, "" | "controlplane" | "cluster") {
        errors.push(FieldError::invalid(&path.child("egressSelectorType"), egress, "egress selector must be either controlplane or cluster"));
    }
}

fn check_url(url: &str, own_issuers: &[String], path: &FieldPath, errors: &mut FieldErrors) {
    let mut wrong = |why: &str| errors.push(FieldError::invalid(path, url, why));
    if own_issuers.iter().any(|own| own == url) {
        wrong(&format!("URL must not overlap with disallowed issuers: [{}]", own_issuers.join(" ")));
    }
    if url.bytes().any(|byte| byte.is_ascii_control()) {
        return wrong(&format!("parse {url:?}: net/url: invalid control character in URL"));
    }
    let (rest, fragment) = url.split_once('#').unwrap_or((url, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (scheme, rest) = rest.split_once("://").unwrap_or(("", rest));
    let authority = rest.split('/').next().unwrap_or_default();
    if !scheme.eq_ignore_ascii_case("https") {
        wrong("URL scheme must be https");
    }
    if authority.contains('@') {
        wrong("URL must not contain a username or password");
    }
    if !query.is_empty() {
        wrong("URL must not contain a query");
    }
    if !fragment.is_empty() {
        wrong("URL must not contain a fragment");
    }
}

fn check_audiences(issuer: &Issuer, path: &FieldPath, errors: &mut FieldErrors) {
    let (audiences, policy) = (path.child("audiences"), path.child("audienceMatchPolicy"));
    if issuer.audiences.is_empty() {
        errors.push(FieldError::required(&audiences, format!("at least one {audiences} is required")));
        return;
    }
    let mut seen = HashSet::new();
    for (index, audience) in issuer.audiences.iter().enumerate() {
        if audience.is_empty() {
            errors.push(FieldError::required(&audiences.index(index), ""));
        }
        if !seen.insert(audience) {
            errors.push(FieldError::duplicate(&audiences.index(index), audience.as_str()));
        }
    }
    let told = issuer.audience_match_policy.as_str();
    if issuer.audiences.len() > 1 && told != "MatchAny" {
        errors.push(FieldError::invalid(&policy, told, "audienceMatchPolicy must be MatchAny for multiple audiences"));
    }
    if issuer.audiences.len() == 1 && !matches!(told, "" | "MatchAny") {
        errors.push(FieldError::invalid(&policy, told, "audienceMatchPolicy must be empty or MatchAny for single audience"));
    }
}

/// The rules that are expressions.
fn claim_rules(rules: &[ClaimValidationRule], path: &FieldPath, errors: &mut FieldErrors) -> Vec<Rule> {
    let (mut claims, mut expressions, mut compiled) = (HashSet::new(), HashSet::new(), Vec::new());
    for (index, rule) in rules.iter().enumerate() {
        let path = path.index(index);
        match (rule.claim.as_str(), rule.expression.as_str()) {
            ("", "") => errors.push(FieldError::required(&path, "claim or expression is required")),
            (claim, "") => {
                if !rule.message.is_empty() {
                    errors.push(FieldError::invalid(&path.child("message"), rule.message.as_str(), "may not be specified when claim is set"));
                }
                if !claims.insert(claim) {
                    errors.push(FieldError::duplicate(&path.child("claim"), claim));
                }
            }
            ("", expression) => {
                if !rule.required_value.is_empty() {
                    let why = "may not be specified when expression is set";
                    errors.push(FieldError::invalid(&path.child("requiredValue"), rule.required_value.as_str(), why));
                }
                if !expressions.insert(expression) {
                    errors.push(FieldError::duplicate(&path.child("expression"), expression));
                    continue;
                }
                let found = expression_of(&claims_environment(), expression, true, &path.child("expression"), errors);
                compiled.extend(found.map(|expression| Rule { expression, message: rule.message.clone() }));
            }
            (claim, _) => errors.push(FieldError::invalid(&path, claim, "claim and expression can't both be set")),
        }
    }
    compiled
}

fn user_rules(rules: &[UserValidationRule], path: &FieldPath, errors: &mut FieldErrors) -> Vec<Rule> {
    let (mut seen, mut compiled) = (HashSet::new(), Vec::new());
    for (index, rule) in rules.iter().enumerate() {
        let path = path.index(index).child("expression");
        if rule.expression.is_empty() {
            errors.push(FieldError::required(&path, ""));
        } else if !seen.insert(&rule.expression) {
            errors.push(FieldError::duplicate(&path, rule.expression.as_str()));
        } else {
            let found = expression_of(&user_environment(), &rule.expression, true, &path, errors);
            compiled.extend(found.map(|expression| Rule { expression, message: rule.message.clone() }));
        }
    }
    compiled
}

type Mapped = (Source, Option<Source>, Option<Source>, Vec<(String, Expression)>);

fn mappings(mappings: &ClaimMappings, rules: &[Rule], path: &FieldPath, errors: &mut FieldErrors) -> Option<Mapped> {
    let username = prefixed(&mappings.username, &path.child("username"), true, errors);
    let groups = prefixed(&mappings.groups, &path.child("groups"), false, errors);
    let uid = match (mappings.uid.claim.as_str(), mappings.uid.expression.as_str()) {
        ("", "") => None,
        (claim, "") => Some(Source::Claim { name: claim.to_owned(), prefix: String::new() }),
        ("", expression) => expression_of(&claims_environment(), expression, false, &path.child("uid").child("expression"), errors).map(Source::Expression),
        _ => {
            errors.push(FieldError::invalid(&path.child("uid"), "", "claim and expression can't both be set"));
            None
        }
    };
    let (mut seen, mut extra) = (HashSet::new(), Vec::new());
    for (index, mapping) in mappings.extra.iter().enumerate() {
        let path = path.child("extra").index(index);
        let key = path.child("key");
        if mapping.key.is_empty() {
            errors.push(FieldError::required(&key, ""));
        } else {
            errors.extend(names::domain_prefixed_path(&mapping.key).into_iter().map(|why| FieldError::invalid(&key, mapping.key.as_str(), why)));
        }
        if mapping.key != mapping.key.to_lowercase() {
            errors.push(FieldError::invalid(&key, mapping.key.as_str(), "must be lowercase"));
        }
        if is_kubernetes(&mapping.key) {
            let why = "k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use";
            errors.push(FieldError::invalid(&key, mapping.key.as_str(), why));
        }
        if !seen.insert(&mapping.key) {
            errors.push(FieldError::duplicate(&key, mapping.key.as_str()));
        } else if mapping.value_expression.is_empty() {
            errors.push(FieldError::required(&path.child("valueExpression"), ""));
        } else {
            let found = expression_of(&claims_environment(), &mapping.value_expression, false, &path.child("valueExpression"), errors);
            extra.extend(found.map(|expression| (mapping.key.clone(), expression)));
        }
    }
    if let Some(Source::Expression(expression)) = &username {
        let uses = |expression: &Expression, claim: &str| expression.program.uses(&format!("claims.{claim}"));
        let verified = [expression].into_iter().chain(extra.iter().map(|(_, expression)| expression)).chain(rules.iter().map(|rule| &rule.expression));
        if uses(expression, "email") && !verified.into_iter().any(|expression| uses(expression, "email_verified")) {
            let why = "claims.email_verified must be used in claimMappings.username.expression or claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is used in claimMappings.username.expression";
            errors.push(FieldError::invalid(&path.child("username").child("expression"), expression.source.as_str(), why));
        }
    }
    Some((username?, groups, uid, extra))
}

fn is_kubernetes(key: &str) -> bool {
    let domain = key.split_once('/').map_or("", |(domain, _)| domain);
    ["kubernetes.io", "k8s.io"].iter().any(|own| domain.strip_suffix(own).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
}

fn prefixed(mapping: &PrefixedClaimOrExpression, path: &FieldPath, needed: bool, errors: &mut FieldErrors) -> Option<Source> {
    match (mapping.claim.as_str(), mapping.expression.as_str()) {
        ("", "") => {
            if needed {
                errors.push(FieldError::required(path, "claim or expression is required"));
            }
            None
        }
        (claim, "") => {
            if mapping.prefix.is_none() {
                let why = "prefix is required when claim is set. It can be set to an empty string to disable prefixing";
                errors.push(FieldError::required(&path.child("prefix"), why));
            }
            Some(Source::Claim { name: claim.to_owned(), prefix: mapping.prefix.clone().unwrap_or_default() })
        }
        ("", expression) => {
            if let Some(prefix) = &mapping.prefix {
                errors.push(FieldError::invalid(&path.child("prefix"), prefix.as_str(), "may not be specified when expression is set"));
            }
            expression_of(&claims_environment(), expression, false, &path.child("expression"), errors).map(Source::Expression)
        }
        _ => {
            errors.push(FieldError::invalid(path, "", "claim and expression can't both be set"));
            None
        }
    }
}

fn expression_of(environment: &Environment, source: &str, condition: bool, path: &FieldPath, errors: &mut FieldErrors) -> Option<Expression> {
    let program = match environment.compile(source) {
        Ok(program) => program,
        Err(issues) => {
            errors.push(FieldError::invalid(path, source, format!("compilation failed: {issues}")));
            return None;
        }
    };
    if condition && *program.result() != Type::Bool {
        errors.push(FieldError::invalid(path, source, "must evaluate to bool"));
        return None;
    }
    Some(Expression { source: source.to_owned(), program })
}
