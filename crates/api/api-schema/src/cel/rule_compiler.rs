//! Compiler: finds a schema's `x-kubernetes-validations`, compiles them, and tells what is wrong with them.
use super::estimate::{Budget, Extent, multiplicity};
use super::program::Environment;
use super::rules::{CompiledRules, Node, Rule, type_name};
use super::types::{Type, of_schema};
use crate::{ListType, MapType, Schema, SchemaRef};
use api_meta::{FieldError, FieldErrors, FieldPath};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::sync::Arc;

const REASONS: [&str; 4] = ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

/// Compiles a schema's rules and collects what is wrong with them.
#[derive(Default)]
pub(super) struct Compiler {
    problems: FieldErrors,
    /// Counts what they could cost, if that matters.
    budget: Option<Budget>,
}

/// A place in a schema.
#[derive(Clone, Copy)]
struct Place<'p> {
    path: &'p FieldPath,
    /// The place whose elements can't be told apart from one version of the object to the next.
    uncorrelatable: Option<&'p FieldPath>,
    /// How often what is described here can be in one object; `None` where nothing limits that.
    times: Option<u64>,
}

/// What a rule is about.
struct Subject<'s> {
    schema: &'s SchemaRef,
    kind: Option<Type>,
    /// Its sizes, where costs are counted.
    extent: Option<Extent>,
    place: Place<'s>,
}

impl Subject<'_> {
    /// How often a rule can be asked about one object.
    fn times(&self, extent: &Extent) -> u64 {
        self.place.times.unwrap_or_else(|| extent.most_in_a_request())
    }
}

impl Compiler {
    pub fn with_budget() -> Self {
        Self { budget: Some(Budget::default()), ..Self::default() }
    }

    pub fn compile(mut self, open_api: &Json, schema: &SchemaRef, path: &FieldPath) -> CompiledRules {
        let root = self.node(open_api, schema, "selfType", true, Place { path, uncorrelatable: None, times: Some(1) });
        let mut problems = self.problems;
        problems.extend(self.budget.into_iter().flat_map(|budget| budget.settle(path)));
        CompiledRules { root, problems }
    }

    fn node(&mut self, json: &Json, schema: &SchemaRef, name: &str, root: bool, place: Place<'_>) -> Option<Node> {
        let Place { path, uncorrelatable, .. } = place;
        let root = root || schema.embedded_resource;
        let mut node = Node { schema: schema.clone(), root, rules: Vec::new(), items: None, properties: BTreeMap::new(), additional: None, all_of: Vec::new() };
        let rules = json["x-kubernetes-validations"].as_array().map(Vec::as_slice).unwrap_or_default();
        if !rules.is_empty() {
            let at = path.child("x-kubernetes-validations");
            let extent = self.budget.as_ref().map(|_| Extent::of(schema, root).unwrap_or_default());
            let subject = Subject { schema, kind: of_schema(schema, name, root), extent, place };
            for (index, rule) in rules.iter().enumerate() {
                let rule = self.rule(rule, &subject, &at.index(index));
                node.rules.extend(rule);
            }
        }
        let times = place.times.and_then(|times| Some(times.saturating_mul(multiplicity(schema)?)));
        if let Some(items) = &schema.items {
            let loose = if matches!(schema.list_type, ListType::Map(_)) { uncorrelatable } else { uncorrelatable.or(Some(path)) };
            let at = path.child("items");
            let place = Place { path: &at, uncorrelatable: loose, times };
            node.items = self.node(&json["items"], items, &format!("{name}.@idx"), false, place).map(Box::new);
        }
        let loose = if schema.map_type == MapType::Atomic { uncorrelatable.or(Some(path)) } else { uncorrelatable };
        for (property, below) in &schema.properties {
            let at = path.child("properties").key(property);
            let place = Place { path: &at, uncorrelatable: loose, times };
            if let Some(found) = self.node(&json["properties"][&**property], below, &format!("{name}.{property}"), false, place) {
                node.properties.insert(property.to_string(), found);
            }
        }
        if let Some(values) = &schema.additional {
            let at = path.child("additionalProperties");
            let place = Place { path: &at, uncorrelatable: loose, times };
            node.additional = self.node(&json["additionalProperties"], values, &format!("{name}.@elem"), false, place).map(Box::new);
        }
        for (index, nested) in json["allOf"].as_array().into_iter().flatten().enumerate() {
            // What stands in allOf only adds rules to the structure around it.
            let at = path.child("allOf").index(index);
            // Upstream doesn't count what these cost.
            let budget = self.budget.take();
            node.all_of.extend(self.nested(nested, schema, name, root, Place { path: &at, ..place }));
            self.budget = budget;
        }
        let has_any = !node.rules.is_empty() || node.items.is_some() || node.additional.is_some() || !node.properties.is_empty() || !node.all_of.is_empty();
        has_any.then_some(node)
    }

    fn nested(&mut self, json: &Json, schema: &SchemaRef, name: &str, root: bool, place: Place<'_>) -> Option<Node> {
        let mut plain: Schema = (**schema).clone();
        let narrowed = json["properties"].as_object();
        plain.properties.retain(|property, _| narrowed.is_some_and(|wanted| wanted.contains_key(&**property)));
        let narrowed = SchemaRef::new(plain);
        let mut node = self.node(json, &narrowed, name, root, place)?;
        // The rules themselves see all of the object.
        node.schema = schema.clone();
        Some(node)
    }

    fn problem(&mut self, error: FieldError) {
        self.problems.push(error);
    }

    /// Counts what an expression could cost, and tells when that is too much.
    fn spend(&mut self, at: FieldPath, what: &str, cost: u64) {
        let error = self.budget.as_mut().and_then(|budget| budget.spend(at, what, cost));
        self.problems.extend(error);
    }

    fn rule(&mut self, rule: &Json, subject: &Subject<'_>, at: &FieldPath) -> Option<Rule> {
        let schema = subject.schema;
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
        let Some(own) = &subject.kind else {
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
        if let (Ok(program), Some(extent)) = (&compiled, &subject.extent) {
            let cost = environment.most(program, extent).saturating_mul(subject.times(extent));
            self.spend(at.child("rule"), "estimated rule cost", cost);
        }
        let uses_old = compiled.as_ref().is_ok_and(|program| program.uses("oldSelf"));
        match &compiled {
            Err(why) => self.problem(FieldError::invalid(&at.child("rule"), rule.clone(), why.as_str())),
            Ok(_) if uses_old => {
                if let Some(place) = subject.place.uncorrelatable {
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
            let message = environment.compile(message_source).map_err(|issues| format!("messageExpression compilation failed: {issues}"));
            match message.and_then(|program| match program.result() {
                Type::String => Ok(program),
                _ => Err("messageExpression must evaluate to a string".to_owned()),
            }) {
                Ok(program) => {
                    // Upstream counts messages as if there were one place to make them for.
                    if let (true, Some(extent)) = (compiled.is_ok(), &subject.extent) {
                        let cost = environment.most(&program, extent);
                        self.spend(at.child("messageExpression"), "estimated messageExpression cost", cost);
                    }
                    Some(program)
                }
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
