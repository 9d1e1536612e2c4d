//! Match conditions: which requests an authorization webhook is asked about at all, by expressions (CEL) over the review.
use api_meta::{FieldError, FieldErrors, FieldPath};
use api_schema::cel::{self, Environment, ObjectType, Program, Type};
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

const MOST: usize = 64;

#[derive(Debug, Default)]
pub(crate) struct Conditions(Vec<(String, Program)>);

impl Conditions {
    pub fn compile<'e>(expressions: impl ExactSizeIterator<Item = &'e str>, path: &FieldPath, errors: &mut FieldErrors) -> Self {
        if expressions.len() > MOST {
            errors.push(FieldError::too_many(path, expressions.len(), MOST));
            return Self::default();
        }
        let (environment, mut seen, mut compiled) = (environment(), HashSet::new(), Vec::new());
        for (index, source) in expressions.enumerate() {
            let path = path.index(index).child("expression");
            if source.trim().is_empty() {
                errors.push(FieldError::required(&path, ""));
                continue;
            }
            if !seen.insert(source) {
                errors.push(FieldError::duplicate(&path, source));
                continue;
            }
            match environment.compile(source) {
                Err(issues) => errors.push(FieldError::invalid(&path, source, format!("compilation failed: {issues}"))),
                Ok(program) if *program.result() != Type::Bool => {
                    errors.push(FieldError::invalid(&path, source, format!("must evaluate to bool but got {}", program.result())));
                }
                Ok(program) => compiled.push((source.to_owned(), program)),
            }
        }
        Self(compiled)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all hold for a review's spec. One that does not decides, even if others can't be evaluated.
    pub fn hold(&self, request: &Value) -> Result<bool, String> {
        let variables = BTreeMap::from([("request", cel::Value::of_json(request))]);
        let mut errors = Vec::new();
        for (source, program) in &self.0 {
            match program.run(&variables, cel::CALL_LIMIT).value {
                Ok(cel::Value::Bool(true)) => {}
                Ok(cel::Value::Bool(false)) => return Ok(false),
                Ok(other) => errors.push(format!("cel evaluation error: expression '{source}' eval result type should be bool but got {}", other.type_name())),
                Err(error) => errors.push(format!("cel evaluation error: expression '{source}' resulted in error: {error}")),
            }
        }
        crate::configuration_file::aggregated(errors).map(|()| true)
    }
}

fn environment() -> Environment {
    use Type::String;
    let object =
        |name: &str, fields: &[(&str, Type)]| Type::Object(ObjectType::of_fields(name, fields.iter().map(|(field, of)| ((*field).to_owned(), of.clone()))));
    let list = |of: Type| Type::List(Arc::new(of));
    let requirement = object("kubernetes.SelectorRequirement", &[("key", String), ("operator", String), ("values", list(String))]);
    let selector = |name: &str| object(name, &[("rawSelector", String), ("requirements", list(requirement.clone()))]);
    let texts = ["namespace", "verb", "group", "version", "resource", "subresource", "name"].map(|field| (field, String));
    let selectors = [("fieldSelector", selector("kubernetes.FieldSelectorAttributes")), ("labelSelector", selector("kubernetes.LabelSelectorAttributes"))];
    let resource: Vec<(&str, Type)> = texts.into_iter().chain(selectors).collect();
    let request = object(
        "kubernetes.SubjectAccessReviewSpec",
        &[
            ("resourceAttributes", object("kubernetes.ResourceAttributes", &resource)),
            ("nonResourceAttributes", object("kubernetes.NonResourceAttributes", &[("path", String), ("verb", String)])),
            ("user", String),
            ("groups", list(String)),
            ("extra", Type::Map(Arc::new(String), Arc::new(list(String)))),
            ("uid", String),
        ],
    );
    Environment::new([("request", request)])
}
