//! What an AuthenticationConfiguration may say, and whom it makes of claims.
use super::*;
use clock::SystemClock;
use serde_json::{Value, json};

const HEADER: &str = r#""apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration""#;

fn read(text: &str) -> Result<AuthenticationConfiguration, String> {
    decoded(text, "AuthenticationConfiguration")
}

/// The messages about a configuration of one authenticator, with these fields laid over a good one.
fn wrong(changes: &Value) -> Vec<String> {
    let mut authenticator = json!({
        "issuer": {"url": "https://issuer.example", "audiences": ["api"]},
        "claimMappings": {"username": {"claim": "sub", "prefix": "oidc:"}},
    });
    for (field, value) in changes.as_object().unwrap() {
        authenticator[field] = value.clone();
    }
    let text = format!("{{{HEADER}, \"jwt\": [{authenticator}]}}");
    let (_, errors) = validate::compiled(&read(&text).unwrap(), &["https://own".to_owned()]);
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn a_configuration_is_refused_in_upstreams_words() {
    let check = |changes: Value, want: &[&str]| assert_eq!(wrong(&changes), want, "{changes}");
    check(json!({}), &[]);
    let issuer = |issuer: Value| json!({ "issuer": issuer });
    check(
        issuer(json!({})),
        &["jwt[0].issuer.url: Required value", "jwt[0].issuer.audiences: Required value: at least one jwt[0].issuer.audiences is required"],
    );
    check(
        issuer(json!({"url": "http://u:p@a?q=1#f", "audiences": ["a", "a"], "audienceMatchPolicy": "All"})),
        &[
            "jwt[0].issuer.url: Invalid value: \"http://u:p@a?q=1#f\": URL scheme must be https",
            "jwt[0].issuer.url: Invalid value: \"http://u:p@a?q=1#f\": URL must not contain a username or password",
            "jwt[0].issuer.url: Invalid value: \"http://u:p@a?q=1#f\": URL must not contain a query",
            "jwt[0].issuer.url: Invalid value: \"http://u:p@a?q=1#f\": URL must not contain a fragment",
            "jwt[0].issuer.audiences[1]: Duplicate value: \"a\"",
            "jwt[0].issuer.audienceMatchPolicy: Invalid value: \"All\": audienceMatchPolicy must be MatchAny for multiple audiences",
        ],
    );
    check(
        issuer(json!({"url": "https://own", "discoveryURL": "https://own/", "audiences": ["a"]})),
        &[
            "jwt[0].issuer.url: Invalid value: \"https://own\": URL must not overlap with disallowed issuers: [https://own]",
            "jwt[0].issuer.discoveryURL: Invalid value: \"https://own/\": discoveryURL must be different from URL",
        ],
    );
    assert!(
        wrong(&issuer(json!({"url": "https://a", "audiences": ["a"], "certificateAuthority": "x"})))[0]
            .starts_with("jwt[0].issuer.certificateAuthority: Invalid value: \"<omitted>\": ")
    );
    let mappings = |mappings: Value| json!({ "claimMappings": mappings });
    check(mappings(json!({})), &["jwt[0].claimMappings.username: Required value: claim or expression is required"]);
    check(
        mappings(json!({"username": {"claim": "sub"}, "uid": {"claim": "a", "expression": "b"}})),
        &[
            "jwt[0].claimMappings.username.prefix: Required value: prefix is required when claim is set. It can be set to an empty string to disable prefixing",
            "jwt[0].claimMappings.uid: Invalid value: \"\": claim and expression can't both be set",
        ],
    );
    check(
        mappings(
            json!({"username": {"expression": "claims.sub", "prefix": "a"}, "extra": [{"key": "Foo", "valueExpression": "claims.a"}, {"key": "example.org/a", "valueExpression": ""}, {"key": "a.k8s.io/b", "valueExpression": "''"}]}),
        ),
        &[
            "jwt[0].claimMappings.username.prefix: Invalid value: \"a\": may not be specified when expression is set",
            "jwt[0].claimMappings.extra[0].key: Invalid value: \"Foo\": must be a domain-prefixed path (such as \"acme.io/foo\")",
            "jwt[0].claimMappings.extra[0].key: Invalid value: \"Foo\": must be lowercase",
            "jwt[0].claimMappings.extra[1].valueExpression: Required value",
            "jwt[0].claimMappings.extra[2].key: Invalid value: \"a.k8s.io/b\": k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use",
        ],
    );
    check(
        mappings(json!({"username": {"expression": "claims.email"}})),
        &[
            "jwt[0].claimMappings.username.expression: Invalid value: \"claims.email\": claims.email_verified must be used in claimMappings.username.expression or claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is used in claimMappings.username.expression",
        ],
    );
    check(
        json!({"claimMappings": {"username": {"expression": "claims.email"}}, "claimValidationRules": [{"expression": "claims.?email_verified.orValue(true) == true"}]}),
        &[],
    );
    check(
        json!({"claimValidationRules": [{}, {"claim": "a", "message": "m"}, {"claim": "a"}, {"expression": "claims.a"}, {"expression": "true", "requiredValue": "x"}, {"expression": "true"}]}),
        &[
            "jwt[0].claimValidationRules[0]: Required value: claim or expression is required",
            "jwt[0].claimValidationRules[1].message: Invalid value: \"m\": may not be specified when claim is set",
            "jwt[0].claimValidationRules[2].claim: Duplicate value: \"a\"",
            "jwt[0].claimValidationRules[3].expression: Invalid value: \"claims.a\": must evaluate to bool",
            "jwt[0].claimValidationRules[4].requiredValue: Invalid value: \"x\": may not be specified when expression is set",
            "jwt[0].claimValidationRules[5].expression: Duplicate value: \"true\"",
        ],
    );
    check(
        json!({"userValidationRules": [{"expression": ""}, {"expression": "user.username"}]}),
        &[
            "jwt[0].userValidationRules[0].expression: Required value",
            "jwt[0].userValidationRules[1].expression: Invalid value: \"user.username\": must evaluate to bool",
        ],
    );
    assert!(
        wrong(&json!({"userValidationRules": [{"expression": "user.name == 'a'"}]}))[0]
            .contains("compilation failed: ERROR: <input>:1:5: undefined field 'name'")
    );
}

#[test]
fn a_file_is_of_its_kind_and_holds_nothing_unknown() {
    for (text, want) in [
        ("", "empty config data"),
        ("apiVersion: v1\nkind: AuthenticationConfiguration", "expected AuthenticationConfiguration"),
        ("apiVersion: apiserver.config.k8s.io/v1\nkind: Other", "expected AuthenticationConfiguration"),
        ("apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwts: []", "strict decoding error"),
    ] {
        let error = read(text).unwrap_err();
        assert!(error.contains(want), "{text}: {error}");
    }
    let text = format!("{{{HEADER}, \"anonymous\": {{\"enabled\": true, \"conditions\": [{{\"path\": \"/livez\"}}]}}}}");
    let jwt = JwtAuthentication::new(&text, vec![], Arc::new(SystemClock)).unwrap();
    assert_eq!((jwt.anonymous("/livez"), jwt.anonymous("/livez/x"), jwt.anonymous("/readyz")), (Some(true), Some(false), Some(false)));
    let bad = format!("{{{HEADER}, \"anonymous\": {{\"enabled\": false, \"conditions\": [{{\"path\": \"/a\"}}]}}}}");
    let want = "anonymous.conditions: Invalid value: [{\"path\":\"/a\"}]: enabled should be set to true when conditions are defined";
    assert_eq!(jwt.replace(&bad).unwrap_err(), want);
    assert_eq!(jwt.anonymous("/livez"), Some(true), "what was said before holds on");
    jwt.replace(&format!("{{{HEADER}}}")).unwrap();
    assert_eq!(jwt.anonymous("/livez"), None);
}

/// The user, or the refusal, that an authenticator with these fields makes of claims.
fn user(authenticator: &Value, claims: &Value) -> Result<User, String> {
    let text = format!("{{{HEADER}, \"jwt\": [{authenticator}]}}");
    let (meanings, errors) = validate::compiled(&read(&text).unwrap(), &[]);
    assert!(errors.is_empty(), "{errors:?}");
    meanings[0].user(claims)
}

#[test]
fn claims_become_users_by_claim_and_by_expression() {
    let issuer = json!({"url": "https://a", "audiences": ["api"]});
    let by_claim = json!({
        "issuer": issuer,
        "claimMappings": {"username": {"claim": "email", "prefix": "oidc:"}, "groups": {"claim": "roles", "prefix": "oidc:"}, "uid": {"claim": "sub"}},
        "claimValidationRules": [{"claim": "tenant", "requiredValue": "red"}],
    });
    let claims = json!({"email": "eve@a", "email_verified": true, "roles": ["dev", "ops"], "sub": "7", "tenant": "red"});
    let found = user(&by_claim, &claims).unwrap();
    assert_eq!(
        (found.username.as_str(), found.uid.as_str(), found.groups),
        ("oidc:eve@a", "7", ["oidc:dev", "oidc:ops", "system:authenticated"].map(String::from).to_vec())
    );
    let refused = |changes: Value| {
        let mut claims = claims.clone();
        for (name, value) in changes.as_object().unwrap() {
            match value {
                Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
                value => claims[name] = value.clone(),
            }
        }
        user(&by_claim, &claims).unwrap_err()
    };
    assert_eq!(refused(json!({"email_verified": false})), "oidc: email not verified");
    assert_eq!(refused(json!({"email": null})), "oidc: parse username claims \"email\": claim not present");
    assert_eq!(refused(json!({"email": ""})), "oidc: the username is empty");
    assert_eq!(refused(json!({"tenant": null})), "oidc: required claim tenant not present in ID token");
    assert_eq!(refused(json!({"tenant": "blue"})), "oidc: required claim tenant value does not match. Got = blue, want = red");
    assert_eq!(refused(json!({"roles": 7})), "oidc: parse groups claim \"roles\": it is neither a string nor a list of strings");

    let by_expression = json!({
        "issuer": issuer,
        "claimMappings": {
            "username": {"expression": "claims.sub + '@' + claims.realm.name"},
            "groups": {"expression": "has(claims.roles) ? claims.roles.map(role, 'r:' + role) : []"},
            "uid": {"expression": "string(claims.number)"},
            "extra": [{"key": "example.org/tier", "valueExpression": "claims.?tier.orValue('')"}, {"key": "example.org/all", "valueExpression": "['a', '', 'b']"}],
        },
        "claimValidationRules": [{"expression": "claims.number < 10", "message": "too large"}],
        "userValidationRules": [{"expression": "!user.username.startsWith('system:')", "message": "reserved"}],
    });
    let claims = |sub: &str, number: i64| json!({"sub": sub, "realm": {"name": "x"}, "number": number, "roles": ["dev"]});
    let found = user(&by_expression, &claims("eve", 7)).unwrap();
    assert_eq!((found.username.as_str(), found.uid.as_str(), found.groups), ("eve@x", "7", ["r:dev", "system:authenticated"].map(String::from).to_vec()));
    assert_eq!(found.extra.into_iter().collect::<Vec<_>>(), [("example.org/all".to_owned(), vec!["a".to_owned(), "b".to_owned()])]);
    assert_eq!(
        user(&by_expression, &claims("eve", 17)).unwrap_err(),
        "oidc: error evaluating claim validation expression: validation expression 'claims.number < 10' failed: too large"
    );
    assert_eq!(
        user(&by_expression, &claims("system:x", 7)).unwrap_err(),
        "oidc: error evaluating user info validation rule: validation expression '!user.username.startsWith('system:')' failed: reserved"
    );
    assert!(
        user(&by_expression, &json!({"sub": "eve", "number": 1})).unwrap_err().starts_with("oidc: error evaluating username claim expression: expression ")
    );
    let number = json!({"issuer": issuer, "claimMappings": {"username": {"expression": "claims.number"}}});
    assert_eq!(
        user(&number, &claims("eve", 7)).unwrap_err(),
        "oidc: error evaluating username claim expression: username claim expression must return a string"
    );
}
