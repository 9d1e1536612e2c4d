//! What a policy's expressions get wrong about the kinds it is about: told in its status, refused nowhere.
use crate::fields::{Fill, Read};
use crate::registry::BUILTINS;
use api_resource::AnyResource;
use api_schema::cel::{Environment, Type, admission, of_schema};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Upstream looks at no more kinds than this.
const MOST_KINDS: usize = 10;

/// The status of a policy of this generation.
pub fn status(policy: &Value, generation: i64) -> Value {
    let warnings = warnings(&policy["spec"]);
    let checked = if warnings.is_empty() { json!({}) } else { json!({ "expressionWarnings": warnings }) };
    json!({ "observedGeneration": generation, "typeChecking": checked })
}

fn warnings(spec: &Value) -> Vec<Value> {
    let kinds = kinds(spec);
    let mut all = Vec::new();
    for (index, validation) in spec["validations"].list().iter().enumerate() {
        for field in ["expression", "messageExpression"] {
            let source = validation[field].text();
            if source.trim().is_empty() {
                continue;
            }
            let told: Vec<String> =
                kinds.iter().filter_map(|(name, kind)| environment(spec, kind).compile(source).err().map(|issues| format!("{name}: {issues}"))).collect();
            if !told.is_empty() {
                all.push(json!({ "fieldRef": format!("spec.validations[{index}].{field}"), "warning": told.join("\n") }));
            }
        }
    }
    all
}

/// The kinds that the constraints name outright, as they are printed (`apps/v1, Kind=Deployment`), with their types.
fn kinds(spec: &Value) -> BTreeMap<String, Type> {
    let mut found = BTreeMap::new();
    for rule in spec["matchConstraints"]["resourceRules"].list() {
        let names = |field: &str| rule[field].list().iter().map(Read::text).collect::<Vec<_>>();
        let (groups, versions, resources) = (names("apiGroups"), names("apiVersions"), names("resources"));
        if [&groups, &versions, &resources].iter().any(|names| names.iter().any(|name| name.contains('*'))) {
            continue;
        }
        for kind in BUILTINS {
            let names = kind.names();
            let named = groups.contains(&&*names.group) && versions.contains(&&*names.version) && resources.contains(&&*names.plural);
            if named && found.len() < MOST_KINDS {
                found.insert(format!("{}, Kind={}", names.api_version(), names.kind), typed(*kind));
            }
        }
    }
    found
}

fn typed(kind: &dyn AnyResource) -> Type {
    of_schema(&kind.schema(), &kind.names().kind, true).unwrap_or(Type::Dyn)
}

fn environment(spec: &Value, object: &Type) -> Environment {
    let param_kind = &spec["paramKind"];
    let has_params = param_kind.is_object();
    let params = BUILTINS.iter().find(|kind| kind.names().api_version() == param_kind["apiVersion"].text() && kind.names().kind == param_kind["kind"].text());
    let typed_all = |environment: Environment| {
        let environment = environment.with("object", object.clone()).with("oldObject", object.clone());
        match params {
            Some(kind) if has_params => environment.with("params", typed(*kind)),
            _ => environment,
        }
    };
    let base = || typed_all(admission::environment(has_params, true));
    let mut variables = Vec::new();
    for variable in spec["variables"].list() {
        let compiled = admission::with_variables(base(), &variables).compile(variable["expression"].text());
        variables.push((variable["name"].text().to_owned(), compiled.map_or(Type::Dyn, |program| program.result().clone())));
    }
    admission::with_variables(base(), &variables)
}

/// Writes it into the object.
pub fn note(policy: &mut Value, generation: i64) {
    let status = status(policy, generation);
    policy.put("status", status);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_the_kinds_have_not_is_told_for_each() {
        let policy = json!({"spec": {
            "matchConstraints": {"resourceRules": [{"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments", "replicasets"]}]},
            "validations": [{"expression": "object.replicas > 1"}, {"expression": "object.spec.replicas > 1 && object.metadata.labels['a'] == 'b'"}],
        }});
        let warning = |kind: &str| format!("apps/v1, Kind={kind}: ERROR: <input>:1:7: undefined field 'replicas'\n | object.replicas > 1\n | ......^");
        let both = format!("{}\n{}", warning("Deployment"), warning("ReplicaSet"));
        assert_eq!(
            status(&policy, 3),
            json!({"observedGeneration": 3, "typeChecking": {"expressionWarnings": [{"fieldRef": "spec.validations[0].expression", "warning": both}]}})
        );
        assert_eq!(status(&json!({"spec": {"validations": [{"expression": "object.x"}]}}), 1), json!({"observedGeneration": 1, "typeChecking": {}}));
    }
}
