//! Policies: CEL rules, stored as objects, that refuse or change requests.
mod binding;
mod mutating;
mod mutating_policy;
mod parameters;
mod validating;
mod validating_policy;

pub(crate) use binding::Binding;
pub use mutating::MutatingAdmissionPolicyPlugin;
pub(crate) use mutating_policy::MutatingPolicy;
pub use validating::ValidatingAdmissionPolicyPlugin;
pub(crate) use validating_policy::ValidatingPolicy;

use crate::cel::{Conditions, Expression, Variable};
use crate::matching::Criteria;
use crate::request::items;
use api_schema::cel::{Environment, Type, admission};
use serde_json::Value;

/// What both kinds of policy have.
#[derive(Debug)]
pub(crate) struct Policy {
    pub name: String,
    /// Or why the constraints can't be read.
    pub criteria: Result<Criteria, String>,
    /// (apiVersion, kind)
    pub param_kind: Option<(String, String)>,
    pub ignores_failure: bool,
    pub conditions: Conditions,
    pub variables: Vec<Variable>,
}

impl Policy {
    /// Reads the policy and the environment its other expressions are compiled in, with and without an authorizer.
    fn read(policy: &Value) -> (Self, Environment, Environment) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let spec = &policy["spec"];
        let kind = &spec["paramKind"];
        let param_kind = kind.is_object().then(|| (text(&kind["apiVersion"]), text(&kind["kind"])));
        let params = param_kind.is_some();
        let (mut variables, mut types) = (Vec::new(), Vec::new());
        for variable in items(&spec["variables"]) {
            let environment = admission::with_variables(admission::environment(params, true), &types);
            let expression = Expression::compile(&environment, variable["expression"].as_str().unwrap_or_default());
            types.push((text(&variable["name"]), expression.program.as_ref().map_or(Type::Dyn, |program| program.result().clone())));
            variables.push(Variable { name: text(&variable["name"]), expression });
        }
        let environment = |authorizer| admission::with_variables(admission::environment(params, authorizer), &types);
        let read = Self {
            name: text(&policy["metadata"]["name"]),
            criteria: Criteria::read(&spec["matchConstraints"], "resourceRules"),
            param_kind,
            ignores_failure: spec["failurePolicy"] == "Ignore",
            conditions: Conditions::compile(&spec["matchConditions"], params),
            variables,
        };
        (read, environment(true), environment(false))
    }
}
