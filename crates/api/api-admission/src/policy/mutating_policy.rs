//! MutatingPolicy: what a MutatingAdmissionPolicy makes of one object.
use super::Policy;
use crate::cel::{Expression, Inputs, Scope};
use crate::request::items;
use api_schema::Schema;
use api_schema::cel::{BUDGET, Structs};
use serde_json::Value;

#[derive(Debug)]
enum Mutation {
    Apply(Expression),
    Patch(Expression),
}

#[derive(Debug)]
pub(crate) struct MutatingPolicy {
    pub policy: Policy,
    pub reinvoke: bool,
    mutations: Vec<Mutation>,
}

impl MutatingPolicy {
    pub fn read(policy: &Value) -> Self {
        let (common, full, _) = Policy::read(policy);
        let environment = full.with_structs(Structs::Mutations);
        let mutations = items(&policy["spec"]["mutations"]).iter().map(|mutation| {
            let expression = |field: &str| Expression::compile(&environment, mutation[field]["expression"].as_str().unwrap_or_default());
            if mutation["patchType"] == "JSONPatch" { Mutation::Patch(expression("jsonPatch")) } else { Mutation::Apply(expression("applyConfiguration")) }
        });
        Self { mutations: mutations.collect(), reinvoke: policy["spec"]["reinvocationPolicy"] == "IfNeeded", policy: common }
    }

    pub fn mutations(&self) -> usize {
        self.mutations.len()
    }

    /// What one of its mutations makes of the object; `None` when the match conditions don't hold.
    pub fn mutated(&self, index: usize, inputs: &Inputs<'_>, object: &Value, schema: &Schema) -> Result<Option<Value>, String> {
        if !self.policy.conditions.hold(inputs, self.policy.ignores_failure)? {
            return Ok(None);
        }
        let scope = Scope::new(inputs, &self.policy.variables);
        let mut budget = BUDGET;
        let (expression, patch) = match &self.mutations[index] {
            Mutation::Apply(expression) => (expression, false),
            Mutation::Patch(expression) => (expression, true),
        };
        let found = expression.evaluate(&scope, &mut budget)??;
        let found = found.to_json().ok_or_else(|| format!("expression '{}' resulted in an unsupported type: {}", expression.source, found.type_name()))?;
        if patch {
            if !found.is_array() {
                return Err(format!("type mismatch: JSONPatchType.expression should evaluate to array, got {found}"));
            }
            return api_patch::json_patch_of_admission(object.clone(), found).map(Some).map_err(|why| format!("JSON Patch: {why}"));
        }
        let Some(fields) = found.as_object() else { return Err(format!("unsupported return type from ApplyConfiguration expression: {found}")) };
        for field in ["apiVersion", "kind", "metadata.name", "metadata.namespace", "metadata.generateName", "metadata.uid"] {
            let set = match field.split_once('.') {
                Some((outer, inner)) => fields.get(outer).and_then(|outer| outer.get(inner)),
                None => fields.get(field),
            };
            if set.is_some() {
                return Err(format!("error applying patch: {field} may not be set by an apply configuration"));
            }
        }
        if let Some(place) = atomic_list(&found, schema, "") {
            return Err(format!("error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {place}"));
        }
        Ok(Some(api_patch::apply::laid_over(object, &found, schema)))
    }
}

/// Where a configuration would replace a whole atomic list or map, which upstream refuses.
fn atomic_list(value: &Value, schema: &Schema, path: &str) -> Option<String> {
    match value {
        Value::Array(elements) => match (&schema.list_type, schema.item()) {
            (api_schema::ListType::Atomic, _) => Some(path.to_owned()),
            (_, Some(item)) => elements.iter().find_map(|element| atomic_list(element, item, path)),
            _ => None,
        },
        Value::Object(_) if schema.map_type == api_schema::MapType::Atomic => Some(path.to_owned()),
        Value::Object(fields) => fields.iter().find_map(|(name, value)| atomic_list(value, schema.field(name)?, &format!("{path}.{name}"))),
        _ => None,
    }
}
