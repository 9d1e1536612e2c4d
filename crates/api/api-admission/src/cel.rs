//! CEL in admission: the values expressions see of a request, and conditions that have to hold.
use crate::AdmissionRequest;
use crate::matching::Matched;
use crate::request::items;
use api_auth::{Attributes, User};
use api_meta::{GroupResource, Status};
use api_resource::Lookup;
use api_schema::cel::{self, Decision, EvaluationError, Program, Question, Variables, admission};
use serde_json::{Map, Value};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;

/// How many values there may be in what a variable holds.
const LARGEST_VARIABLE: u64 = 1_000_000;
/// How many variables may wait for each other.
const MOST_NESTED: usize = 32;

/// A compiled expression, or why there is none; with its source for errors.
#[derive(Debug)]
pub(crate) struct Expression {
    pub source: String,
    pub program: Result<Program, String>,
}

impl Expression {
    pub fn compile(environment: &cel::Environment, source: &str) -> Self {
        Self { source: source.to_owned(), program: environment.compile(source) }
    }

    /// Its value, paid for from `budget`. The outer error ends everything: the budget is spent.
    pub fn evaluate<'a>(&'a self, scope: &Scope<'a>, budget: &mut u64) -> Result<Result<cel::Value<'a>, String>, String> {
        let program = match &self.program {
            Ok(program) => program,
            Err(issues) => return Ok(Err(format!("compilation error: compilation failed: {issues}"))),
        };
        let outcome = program.run(scope, cel::CALL_LIMIT);
        let cost = outcome.cost.saturating_add(scope.spent.take());
        match budget.checked_sub(cost) {
            Some(left) => *budget = left,
            None => return Err("validation failed due to running out of cost budget, no further validation rules will be run".into()),
        }
        Ok(outcome.value.map_err(|error| format!("expression '{}' resulted in error: {error}", self.source)))
    }
}

/// Match conditions: all have to hold.
#[derive(Debug, Default)]
pub(crate) struct Conditions(Vec<Expression>);

impl Conditions {
    pub fn compile(list: &Value, params: bool) -> Self {
        if items(list).is_empty() {
            return Self::default();
        }
        let environment = admission::environment(params, true);
        Self(items(list).iter().map(|condition| Expression::compile(&environment, condition["expression"].as_str().unwrap_or_default())).collect())
    }
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all hold. One that doesn't decides even if others fail; else a failure is what the failure policy says.
    pub fn hold(&self, inputs: &Inputs<'_>, ignores_failure: bool) -> Result<bool, String> {
        let scope = Scope::new(inputs, &[]);
        let (mut budget, mut errors) = (cel::CONDITIONS_BUDGET, Vec::new());
        for condition in &self.0 {
            match condition.evaluate(&scope, &mut budget) {
                Ok(Ok(cel::Value::Bool(false))) => return Ok(false),
                Ok(Ok(_)) => {}
                Ok(Err(why)) => errors.push(why),
                Err(why) if ignores_failure => {
                    tracing::debug!(why, "match conditions could not be evaluated");
                    return Ok(false);
                }
                Err(why) => return Err(why),
            }
        }
        match errors.is_empty() {
            true => Ok(true),
            false if ignores_failure => Ok(false),
            false => Err(crate::plugins::aggregate(&errors)),
        }
    }
}

/// The values of one request, as one webhook or policy matches it.
pub(crate) struct Inputs<'r> {
    request: Value,
    object: Value,
    old: Value,
    pub params: Value,
    namespace: &'r Value,
    asks: Permissions<'r>,
    own: Question,
}

impl<'r> Inputs<'r> {
    /// The error says why an object could not be had in the matched version.
    pub fn new(request: &AdmissionRequest<'r>, matched: &Matched, namespace: &'r Value) -> Result<Self, String> {
        let versioned = |object: &Value| match object {
            Value::Null => Ok(Value::Null),
            object if matched.version == request.version => Ok(object.clone()),
            object => request.host.convert(request.cluster, object, &matched.version),
        };
        Ok(Self {
            request: Value::Object(crate::review::request(request, matched)),
            object: versioned(request.object())?,
            old: versioned(request.old())?,
            params: Value::Null,
            namespace,
            asks: Permissions { host: request.host, cluster: request.cluster, user: request.user },
            own: Question {
                group: request.group.into(),
                resource: request.resource.into(),
                subresource: request.subresource.into(),
                namespace: request.review_namespace().into(),
                name: request.review_name().into(),
                ..Question::default()
            },
        })
    }
}

struct Permissions<'r> {
    host: &'r dyn crate::Host,
    cluster: &'r api_meta::ClusterName,
    user: &'r User,
}

impl cel::Authorizer for Permissions<'_> {
    fn check(&self, question: &Question) -> Decision {
        let account = question.service_account.as_ref().map(|(namespace, name)| {
            let groups = ["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
            User::authenticated(format!("system:serviceaccount:{namespace}:{name}"), groups)
        });
        let attributes = Attributes {
            cluster: self.cluster,
            user: account.as_ref().unwrap_or(self.user),
            verb: &question.verb,
            group: &question.group,
            version: if question.path.is_some() { "" } else { "*" },
            resource: &question.resource,
            subresource: &question.subresource,
            namespace: &question.namespace,
            name: &question.name,
            path: question.path.as_deref().unwrap_or_default(),
        };
        let decision = self.host.authorize(&attributes);
        Decision { allowed: decision.is_allowed(), reason: decision.reason().to_owned(), error: None }
    }
}

/// A variable of a policy: made once for each request, when it is first looked at.
#[derive(Debug)]
pub(crate) struct Variable {
    pub name: String,
    pub expression: Expression,
}

/// What expressions see: inputs and a policy's variables.
pub(crate) struct Scope<'a> {
    inputs: &'a Inputs<'a>,
    variables: &'a [Variable],
    made: RefCell<HashMap<&'a str, Result<cel::Value<'a>, EvaluationError>>>,
    /// What making variables has cost since it was last taken.
    pub spent: Cell<u64>,
    nested: Cell<usize>,
}

impl<'a> Scope<'a> {
    pub fn new(inputs: &'a Inputs<'a>, variables: &'a [Variable]) -> Self {
        Self { inputs, variables, made: RefCell::default(), spent: Cell::new(0), nested: Cell::new(0) }
    }

    fn variable(&self, name: &str) -> Option<Result<cel::Value<'a>, EvaluationError>> {
        let variable = self.variables.iter().find(|variable| variable.name == name)?;
        if let Some(made) = self.made.borrow().get(name) {
            return Some(made.clone());
        }
        // Variables that need each other nest evaluations in the stack.
        if self.nested.get() >= MOST_NESTED {
            return Some(Err(EvaluationError::Failed(format!("composited variable {name:?} fails to evaluate: variables nest too deeply"))));
        }
        let value = match &variable.expression.program {
            Ok(program) => {
                self.nested.set(self.nested.get() + 1);
                let outcome = program.run(self, cel::CALL_LIMIT);
                self.nested.set(self.nested.get() - 1);
                self.spent.set(self.spent.get().saturating_add(outcome.cost));
                let bounded = outcome.value.and_then(|value| match value.weight(LARGEST_VARIABLE) {
                    Some(_) => Ok(value),
                    None => Err(EvaluationError::Failed("its value is too large".into())),
                });
                bounded.map_err(|error| match error {
                    EvaluationError::CostLimit => EvaluationError::CostLimit,
                    EvaluationError::Failed(why) => EvaluationError::Failed(format!("composited variable {name:?} fails to evaluate: {why}")),
                })
            }
            Err(issues) => Err(EvaluationError::Failed(format!("composited variable {name:?} fails to compile: compilation failed: {issues}"))),
        };
        self.made.borrow_mut().insert(&variable.name, value.clone());
        Some(value)
    }
}

impl<'a> Variables<'a> for Scope<'a> {
    fn value(&self, name: &str) -> Option<Result<cel::Value<'a>, EvaluationError>> {
        let inputs = self.inputs;
        if let Some(variable) = name.strip_prefix("variables.") {
            return self.variable(variable);
        }
        Some(Ok(match name {
            "object" => cel::Value::of_json(&inputs.object),
            "oldObject" => cel::Value::of_json(&inputs.old),
            "params" => cel::Value::of_json(&inputs.params),
            "request" => cel::Value::of_json(&inputs.request),
            "namespaceObject" => cel::Value::of_json(inputs.namespace),
            "authorizer" => cel::authorizer::value(&inputs.asks),
            "authorizer.requestResource" => cel::authorizer::about(&inputs.asks, inputs.own.clone()),
            _ => return None,
        }))
    }
}

/// The namespace a request is in, as expressions see it; null for what is in none.
pub(crate) async fn namespace_object(request: &AdmissionRequest<'_>, lookup: &dyn Lookup) -> Result<Value, Status> {
    if request.namespace.is_empty() {
        return Ok(Value::Null);
    }
    let found = lookup.get(request.cluster, &GroupResource::new("", "namespaces"), "", request.namespace).await?;
    let namespace = found.ok_or_else(|| Status::not_found("", "namespaces", request.namespace))?.to_value();
    let mut shown = Map::new();
    for (field, value) in namespace.as_object().into_iter().flatten() {
        if matches!(field.as_str(), "metadata" | "spec" | "status") {
            shown.insert(field.clone(), value.clone());
        }
    }
    if let Some(Value::Object(metadata)) = shown.get_mut("metadata") {
        metadata.remove("managedFields");
        metadata.remove("ownerReferences");
    }
    Ok(Value::Object(shown))
}
