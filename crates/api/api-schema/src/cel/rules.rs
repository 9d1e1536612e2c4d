//! CompiledRules: all `x-kubernetes-validations` of a structural schema, compiled once and asked about every object.
use super::evaluate::{EvaluationError, Variables};
use super::program::Program;
use super::rule_compiler::Compiler;
use super::value::{Root, Value};
use super::{BUDGET, CALL_LIMIT, MESSAGE_LIMIT};
use crate::{ListType, MapType, Schema, SchemaRef};
use api_meta::{FieldError, FieldErrors, FieldPath};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Rules and the places in the schema they stand at. Cheap to ask when there are none.
#[derive(Debug, Default)]
pub struct CompiledRules {
    pub(super) root: Option<Node>,
    pub(super) problems: FieldErrors,
}

/// What the rules say of an object.
#[derive(Debug, Default)]
pub struct Broken {
    pub errors: FieldErrors,
    /// Rules that the object broke already before, in parts that have not changed.
    pub warnings: Vec<String>,
}

/// One of a schema's rules could not be compiled, told where it stands.
pub type RuleError = FieldError;

#[derive(Debug)]
pub(super) struct Node {
    pub schema: SchemaRef,
    pub root: bool,
    pub rules: Vec<Rule>,
    pub items: Option<Box<Node>>,
    pub properties: BTreeMap<String, Node>,
    pub additional: Option<Box<Node>>,
    pub all_of: Vec<Node>,
}

#[derive(Debug)]
pub(super) struct Rule {
    pub program: Result<Program, String>,
    /// What is shown when the rule itself has to be.
    pub shown: String,
    pub message: Option<String>,
    pub message_program: Option<Program>,
    pub message_source: String,
    pub reason: String,
    /// Below the place of the rule.
    pub field_path: String,
    pub uses_old: bool,
    pub optional_old: bool,
}

const OUT_OF_BUDGET: &str = "validation failed due to running out of cost budget, no further validation rules will be run";

impl CompiledRules {
    /// Compiles what an `openAPIV3Schema` holds; `schema` is that same schema, read. `path` is where it stands in
    /// the definition. What does not compile is in [`problems`](Self::problems).
    pub fn compile(open_api: &Json, schema: &SchemaRef, path: &FieldPath) -> Self {
        Compiler::default().compile(open_api, schema, path)
    }

    /// All that is wrong with the rules of an `openAPIV3Schema` that is about to be stored: what does not compile, and
    /// what could cost too much.
    pub fn check(open_api: &Json, schema: &SchemaRef, path: &FieldPath) -> FieldErrors {
        Compiler::with_budget().compile(open_api, schema, path).problems
    }

    /// All that is wrong with the rules, worded and placed as upstream's validation of a definition does.
    pub fn problems(&self) -> &FieldErrors {
        &self.problems
    }
    pub fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// Asks all rules about a decoded, defaulted object; `old` is the stored one on update.
    pub fn validate(&self, new: &Json, old: Option<&Json>) -> Broken {
        let mut run = Run { broken: Broken::default(), budget: BUDGET, over: false };
        if let Some(root) = &self.root {
            let both = old.map(|old| (new, old));
            run.node(root, new, old, &FieldPath::root(), Ratchet { current: both, nearest: None });
        }
        run.broken
    }
}

pub(super) fn type_name(schema: &Schema) -> &'static str {
    match schema.kind {
        crate::Type::Object => "object",
        crate::Type::Array => "array",
        crate::Type::String => "string",
        crate::Type::Integer => "integer",
        crate::Type::Number => "number",
        crate::Type::Boolean => "boolean",
        crate::Type::Any | crate::Type::IntOrString => "",
    }
}

/// What a place was before, to tell whether a broken rule is news.
#[derive(Clone, Copy, Default)]
struct Ratchet<'j> {
    current: Option<(&'j Json, &'j Json)>,
    nearest: Option<(&'j Json, &'j Json)>,
}

impl<'j> Ratchet<'j> {
    fn below(self, new: &'j Json, old: Option<&'j Json>) -> Self {
        match self.current {
            None => self,
            Some(_) => Self { current: old.map(|old| (new, old)), nearest: self.current },
        }
    }
    fn unchanged(self) -> bool {
        self.current.or(self.nearest).is_some_and(|(new, old)| new == old)
    }
}

struct Run {
    broken: Broken,
    budget: u64,
    /// Whether the budget is spent: nothing more is asked.
    over: bool,
}

struct Selves<'a> {
    own: Value<'a>,
    old: Option<Value<'a>>,
    optional: bool,
}

impl<'a> Variables<'a> for Selves<'a> {
    fn value(&self, name: &str) -> Option<Result<Value<'a>, EvaluationError>> {
        match name {
            "self" => Some(Ok(self.own.clone())),
            "oldSelf" if self.optional => Some(Ok(Value::Optional(self.old.clone().map(Rc::new)))),
            "oldSelf" => self.old.clone().map(Ok),
            _ => None,
        }
    }
}

impl Run {
    fn node<'j>(&mut self, node: &'j Node, new: &'j Json, old: Option<&'j Json>, path: &FieldPath, ratchet: Ratchet<'j>) {
        if new.is_null() || self.over {
            return;
        }
        self.rules(node, new, old.filter(|old| !old.is_null()), path, ratchet);
        for nested in &node.all_of {
            // Errors of allOf are never forgiven for their own place.
            self.node(nested, new, old, path, Ratchet { current: None, nearest: ratchet.nearest });
        }
        match new {
            Json::Array(elements) => {
                let Some(items) = &node.items else { return };
                for (index, element) in elements.iter().enumerate() {
                    let before = old.and_then(Json::as_array).and_then(|old| counterpart(&node.schema, element, old));
                    self.node(items, element, before, &path.index(index), ratchet.below(element, before));
                }
            }
            Json::Object(fields) => {
                let correlatable = node.schema.map_type != MapType::Atomic;
                for (name, value) in fields {
                    let before = old.and_then(|old| old.get(name)).filter(|_| correlatable);
                    let ratchet = match name.as_str() {
                        "apiVersion" | "kind" if ratchet.nearest.is_none() => Ratchet::default(),
                        _ => ratchet.below(value, before),
                    };
                    if let Some(property) = node.properties.get(name) {
                        self.node(property, value, before, &path.child(name), ratchet);
                    } else if let Some(additional) = &node.additional {
                        self.node(additional, value, before, &path.key(name), ratchet);
                    }
                }
            }
            _ => {}
        }
    }

    fn rules(&mut self, node: &Node, new: &Json, old: Option<&Json>, path: &FieldPath, ratchet: Ratchet<'_>) {
        let kind = type_name(&node.schema);
        let invalid = |why: String| FieldError::invalid(path, kind, why);
        let root = if node.root { Root::Yes } else { Root::No };
        for rule in &node.rules {
            if self.over {
                return;
            }
            let program = match &rule.program {
                Ok(program) => program,
                Err(why) => {
                    self.broken.errors.push(invalid(format!("rule compile error: {why}")));
                    continue;
                }
            };
            if rule.uses_old && old.is_none() && !rule.optional_old {
                continue;
            }
            let typed = |json| Value::typed(json, &node.schema, root);
            let selves = Selves { own: typed(new), old: old.map(typed), optional: rule.optional_old };
            let outcome = program.run(&selves, CALL_LIMIT);
            if !self.pay(outcome.cost) {
                self.broken.errors.push(invalid(OUT_OF_BUDGET.into()));
                return;
            }
            match outcome.value {
                Ok(Value::Bool(true)) => {}
                Ok(_) => self.broke(rule, &selves, kind, path, ratchet),
                Err(error @ EvaluationError::CostLimit) => {
                    let why = format!("'{error}': no further validation rules will be run due to call cost exceeds limit for rule: {}", rule.shown);
                    self.broken.errors.push(invalid(why));
                    self.over = true;
                }
                Err(EvaluationError::Failed(why)) if why.starts_with("no such overload") => self
                    .broken
                    .errors
                    .push(invalid(format!("'{why}': call arguments did not match a supported operator, function or macro signature for rule: {}", rule.shown))),
                Err(error) => self.broken.errors.push(invalid(format!("{error} evaluating rule: {}", rule.shown))),
            }
        }
    }

    fn pay(&mut self, cost: u64) -> bool {
        match self.budget.checked_sub(cost) {
            Some(left) => self.budget = left,
            None => self.over = true,
        }
        !self.over
    }

    fn broke(&mut self, rule: &Rule, selves: &Selves<'_>, kind: &str, path: &FieldPath, ratchet: Ratchet<'_>) {
        let path = match rule.field_path.as_str() {
            "" => path.clone(),
            below => path.child(below),
        };
        let message = match &rule.message_program {
            Some(program) => self.message(program, rule, selves),
            None => Ok(None),
        };
        let default = || rule.message.clone().unwrap_or_else(|| format!("failed rule: {}", rule.shown));
        let error = match message {
            Err(why) => {
                self.over = true;
                FieldError::invalid(&path, kind, why)
            }
            Ok(made) => {
                let detail = made.unwrap_or_else(default);
                match rule.reason.as_str() {
                    "FieldValueForbidden" => FieldError::forbidden(&path, detail),
                    "FieldValueRequired" => FieldError::required(&path, detail),
                    "FieldValueDuplicate" => FieldError::duplicate(&path, kind),
                    _ => FieldError::invalid(&path, kind, detail),
                }
            }
        };
        if !rule.uses_old && ratchet.unchanged() {
            self.broken.warnings.push(error.to_string());
        } else {
            self.broken.errors.push(error);
        }
    }

    /// What a messageExpression makes; `None` when it makes nothing fit to be shown, an error when it costs too much.
    fn message(&mut self, program: &Program, rule: &Rule, selves: &Selves<'_>) -> Result<Option<String>, String> {
        // The message is about the same two objects; they live as long as the program here.
        let (own, old) = (selves.own.clone(), selves.old.clone());
        let again = Selves { own, old, optional: selves.optional };
        let outcome = run_message(program, &again);
        if !self.pay(outcome.1) {
            return Err("messageExpression evaluation failed due to running out of cost budget, no further validation rules will be run".into());
        }
        match outcome.0 {
            Err(EvaluationError::CostLimit) => {
                Err(format!("no further validation rules will be run due to call cost exceeds limit for messageExpression: {:?}", rule.message_source))
            }
            Ok(Some(text)) => {
                let text = text.trim();
                Ok(Some(text.to_owned()).filter(|text| !text.is_empty() && text.len() <= MESSAGE_LIMIT && !text.contains('\n')))
            }
            Ok(None) | Err(_) => Ok(None),
        }
    }
}

fn run_message<'a>(program: &'a Program, selves: &Selves<'a>) -> (Result<Option<String>, EvaluationError>, u64) {
    let outcome = program.run(selves, CALL_LIMIT);
    (outcome.value.map(|value| value.as_text().map(str::to_owned)), outcome.cost)
}

/// The element of a map-like list that this one was before.
fn counterpart<'j>(schema: &Schema, element: &Json, old: &'j [Json]) -> Option<&'j Json> {
    let ListType::Map(keys) = &schema.list_type else { return None };
    old.iter().find(|other| keys.iter().all(|key| other.get(&**key) == element.get(&**key)))
}
