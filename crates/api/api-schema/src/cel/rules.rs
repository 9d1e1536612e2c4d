//! CompiledRules: all `x-kubernetes-validations` of a structural schema, compiled once and asked about every object.
use super::evaluate::{EvaluationError, Variables};
use super::program::{Environment, Program};
use super::types::{Type, of_schema};
use super::value::{Root, Value};
use super::{BUDGET, CALL_LIMIT, MESSAGE_LIMIT};
use crate::{ListType, MapType, Schema, SchemaRef};
use api_meta::{FieldError, FieldErrors, FieldPath};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

/// Rules and the places in the schema they stand at. Cheap to ask when there are none.
#[derive(Debug, Default)]
pub struct CompiledRules {
    root: Option<Node>,
    problems: FieldErrors,
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
struct Node {
    schema: SchemaRef,
    root: bool,
    rules: Vec<Rule>,
    items: Option<Box<Node>>,
    properties: BTreeMap<String, Node>,
    additional: Option<Box<Node>>,
    all_of: Vec<Node>,
}

#[derive(Debug)]
struct Rule {
    program: Result<Program, String>,
    /// What is shown when the rule itself has to be.
    shown: String,
    message: Option<String>,
    message_program: Option<Program>,
    message_source: String,
    reason: String,
    /// Below the place of the rule.
    field_path: String,
    uses_old: bool,
    optional_old: bool,
}

const REASONS: [&str; 4] = ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];
const OUT_OF_BUDGET: &str = "validation failed due to running out of cost budget, no further validation rules will be run";

impl CompiledRules {
    /// Compiles what an `openAPIV3Schema` holds; `schema` is that same schema, read. `path` is where it stands in
    /// the definition. What does not compile is in [`problems`](Self::problems).
    pub fn compile(open_api: &Json, schema: &SchemaRef, path: &FieldPath) -> Self {
        let mut problems = FieldErrors::new();
        let root = Compiler { problems: &mut problems }.node(open_api, schema, "selfType", true, path, None);
        Self { root, problems }
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

struct Compiler<'p> {
    problems: &'p mut FieldErrors,
}

impl Compiler<'_> {
    /// `uncorrelatable`: the place whose elements can't be told apart from one version of the object to the next.
    fn node(&mut self, json: &Json, schema: &SchemaRef, name: &str, root: bool, path: &FieldPath, uncorrelatable: Option<&FieldPath>) -> Option<Node> {
        let root = root || schema.embedded_resource;
        let mut node = Node { schema: schema.clone(), root, rules: Vec::new(), items: None, properties: BTreeMap::new(), additional: None, all_of: Vec::new() };
        let rules = json["x-kubernetes-validations"].as_array().map(Vec::as_slice).unwrap_or_default();
        if !rules.is_empty() {
            let at = path.child("x-kubernetes-validations");
            let own = of_schema(schema, name, root);
            for (index, rule) in rules.iter().enumerate() {
                let rule = self.rule(rule, schema, own.as_ref(), &at.index(index), uncorrelatable);
                node.rules.extend(rule);
            }
        }
        if let Some(items) = &schema.items {
            let loose = if matches!(schema.list_type, ListType::Map(_)) { uncorrelatable } else { uncorrelatable.or(Some(path)) };
            node.items = self.node(&json["items"], items, &format!("{name}.@idx"), false, &path.child("items"), loose).map(Box::new);
        }
        let loose = if schema.map_type == MapType::Atomic { uncorrelatable.or(Some(path)) } else { uncorrelatable };
        for (property, below) in &schema.properties {
            let at = path.child("properties").key(property);
            if let Some(found) = self.node(&json["properties"][&**property], below, &format!("{name}.{property}"), false, &at, loose) {
                node.properties.insert(property.to_string(), found);
            }
        }
        if let Some(values) = &schema.additional {
            let at = path.child("additionalProperties");
            node.additional = self.node(&json["additionalProperties"], values, &format!("{name}.@elem"), false, &at, loose).map(Box::new);
        }
        for (index, nested) in json["allOf"].as_array().into_iter().flatten().enumerate() {
            // What stands in allOf only adds rules to the structure around it.
            node.all_of.extend(self.nested(nested, schema, name, root, &path.child("allOf").index(index), uncorrelatable));
        }
        let has_any = !node.rules.is_empty() || node.items.is_some() || node.additional.is_some() || !node.properties.is_empty() || !node.all_of.is_empty();
        has_any.then_some(node)
    }

    fn nested(&mut self, json: &Json, schema: &SchemaRef, name: &str, root: bool, path: &FieldPath, uncorrelatable: Option<&FieldPath>) -> Option<Node> {
        let mut plain: Schema = (**schema).clone();
        let narrowed = json["properties"].as_object();
        plain.properties.retain(|property, _| narrowed.is_some_and(|wanted| wanted.contains_key(&**property)));
        let narrowed = SchemaRef::new(plain);
        let mut node = self.node(json, &narrowed, name, root, path, uncorrelatable)?;
        // The rules themselves see all of the object.
        node.schema = schema.clone();
        Some(node)
    }

    fn problem(&mut self, error: FieldError) {
        self.problems.push(error);
    }

    fn rule(&mut self, rule: &Json, schema: &SchemaRef, own: Option<&Type>, at: &FieldPath, uncorrelatable: Option<&FieldPath>) -> Option<Rule> {
        let text = |field: &str| rule[field].as_str().unwrap_or_default();
        let (source, message, message_source, reason, field_path) =
            (text("rule"), text("message"), text("messageExpression"), text("reason"), text("fieldPath"));
        let optional_old = rule["optionalOldSelf"] == true;
        if source.trim().is_empty() {
            self.problem(FieldError::required(&at.child("rule"), "rule is not specified"));
            return None;
        }
        if !message.is_empty() && message.trim().is_empty() {
            self.problem(FieldError::invalid(&at.child("message"), message, "message must be non-empty if specified"));
        } else if message.trim().contains('\n') {
            self.problem(FieldError::invalid(&at.child("message"), message, "message must not contain line breaks"));
        } else if message.is_empty() && source.trim().contains('\n') {
            self.problem(FieldError::required(&at.child("message"), "message must be specified if rule contains line breaks"));
        }
        if !message_source.is_empty() && message_source.trim().is_empty() {
            self.problem(FieldError::required(&at.child("messageExpression"), "messageExpression must be non-empty if specified"));
        }
        if !reason.is_empty() && !REASONS.contains(&reason) {
            self.problem(FieldError::not_supported(&at.child("reason"), reason, &REASONS));
        }
        let below = match place(field_path.trim(), schema) {
            _ if !field_path.is_empty() && field_path.trim().is_empty() => {
                self.problem(FieldError::invalid(&at.child("fieldPath"), field_path, "fieldPath must be non-empty if specified"));
                String::new()
            }
            _ if field_path.contains(['\n', '\r']) => {
                self.problem(FieldError::invalid(&at.child("fieldPath"), field_path, "fieldPath must not contain line breaks"));
                String::new()
            }
            Some(below) => below,
            None => {
                self.problem(FieldError::invalid(&at.child("fieldPath"), field_path, "fieldPath must be a valid path"));
                String::new()
            }
        };
        let Some(own) = own else {
            let why = format!(
                "rule declared on schema that does not support validation rules type: '{}' x-kubernetes-preserve-unknown-fields: '{}'",
                type_name(schema),
                schema.preserve_unknown
            );
            self.problem(FieldError::invalid(&at.child("rule"), rule.clone(), format!("compilation failed: {why}")));
            return None;
        };
        let old = if optional_old { Type::Optional(Arc::new(own.clone())) } else { own.clone() };
        let environment = Environment::new([("self", own.clone()), ("oldSelf", old)]);
        let compiled = environment.compile(source).map_err(|issues| format!("compilation failed: {issues}")).and_then(|program| match program.result() {
            Type::Bool | Type::Dyn => Ok(program),
            _ => Err("cel expression must evaluate to a bool".to_owned()),
        });
        let uses_old = compiled.as_ref().is_ok_and(|program| program.uses("oldSelf"));
        match &compiled {
            Err(why) => self.problem(FieldError::invalid(&at.child("rule"), rule.clone(), why.as_str())),
            Ok(_) if uses_old => {
                if let Some(place) = uncorrelatable {
                    let why = format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {place}");
                    self.problem(FieldError::invalid(&at.child("rule"), source, why));
                }
            }
            Ok(_) if !rule["optionalOldSelf"].is_null() => {
                let why = "may not be set if oldSelf is not used in rule";
                self.problem(FieldError::invalid(&at.child("optionalOldSelf"), rule["optionalOldSelf"].clone(), why));
            }
            Ok(_) => {}
        }
        let message_program = if message_source.trim().is_empty() {
            None
        } else {
            let compiled = environment.compile(message_source).map_err(|issues| format!("messageExpression compilation failed: {issues}"));
            match compiled.and_then(|program| match program.result() {
                Type::String => Ok(program),
                _ => Err("messageExpression must evaluate to a string".to_owned()),
            }) {
                Ok(program) => Some(program),
                Err(why) => {
                    self.problem(FieldError::invalid(&at.child("messageExpression"), rule.clone(), why));
                    None
                }
            }
        };
        let shown = if message.is_empty() { source.trim() } else { message.trim() };
        Some(Rule {
            program: compiled,
            shown: shown.to_owned(),
            message: Some(message.trim().to_owned()).filter(|message| !message.is_empty()),
            message_program,
            message_source: message_source.to_owned(),
            reason: reason.to_owned(),
            field_path: below,
            uses_old,
            optional_old,
        })
    }
}

/// A rule's `fieldPath` as a path is printed; `None` when there is no such field.
fn place(path: &str, schema: &Schema) -> Option<String> {
    let (mut shown, mut rest, mut schema) = (String::new(), path, schema);
    while !rest.is_empty() {
        let name;
        if let Some(after) = rest.strip_prefix("['") {
            let end = after.find("']")?;
            name = after[..end].replace("\\'", "'");
            rest = &after[end + 2..];
        } else {
            let after = rest.strip_prefix('.')?;
            let end = after.find(['.', '[']).unwrap_or(after.len());
            name = after[..end].to_owned();
            rest = &after[end..];
        }
        if schema.properties.is_empty() {
            shown.push_str(&format!("[{name}]"));
            schema = schema.additional.as_deref()?;
        } else {
            shown.push_str(&format!("{}{name}", if shown.is_empty() { "" } else { "." }));
            schema = schema.properties.get(name.as_str())?;
        }
    }
    Some(shown)
}

fn type_name(schema: &Schema) -> &'static str {
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
