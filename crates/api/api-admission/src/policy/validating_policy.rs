//! ValidatingPolicy: what a ValidatingAdmissionPolicy says of one request.
use super::Policy;
use crate::cel::{Expression, Inputs, Scope};
use crate::request::items;
use api_schema::cel::{BUDGET, MESSAGE_LIMIT, Value as Found};
use serde_json::Value;

const ANNOTATION_LIMIT: usize = 10 << 10;

#[derive(Debug)]
struct Validation {
    expression: Expression,
    message: String,
    message_expression: Option<Expression>,
    reason: String,
}

#[derive(Debug)]
pub(crate) struct ValidatingPolicy {
    pub policy: Policy,
    validations: Vec<Validation>,
    annotations: Vec<(String, Expression)>,
}

/// Why a request is to be refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Denial {
    /// Of the expression, in the policy.
    pub index: usize,
    pub message: String,
    pub reason: String,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Judgement {
    /// What the binding's actions are about.
    pub denials: Vec<Denial>,
    /// What refuses whatever the binding says: annotations that could not be made.
    pub failures: Vec<String>,
    pub annotations: Vec<(String, String)>,
}

impl ValidatingPolicy {
    pub fn read(policy: &Value) -> Self {
        let (common, full, plain) = Policy::read(policy);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let compile = |source: &Value| Expression::compile(&full, source.as_str().unwrap_or_default());
        let validations = items(&policy["spec"]["validations"]).iter().map(|validation| Validation {
            expression: compile(&validation["expression"]),
            message: text(&validation["message"]).trim().to_owned(),
            message_expression: validation["messageExpression"].as_str().filter(|source| !source.is_empty()).map(|source| Expression::compile(&plain, source)),
            reason: text(&validation["reason"]),
        });
        let annotations = items(&policy["spec"]["auditAnnotations"]).iter().map(|entry| (text(&entry["key"]), compile(&entry["valueExpression"])));
        Self { validations: validations.collect(), annotations: annotations.collect(), policy: common }
    }

    /// Evaluates everything once. Match conditions that don't hold make nothing of it.
    pub fn judge(&self, inputs: &Inputs<'_>) -> Judgement {
        let ignores = self.policy.ignores_failure;
        let failed = |index: usize, message: String| if ignores { None } else { Some(Denial { index, message, reason: String::new() }) };
        let whole = |message: String| Judgement { denials: failed(0, message).into_iter().collect(), ..Judgement::default() };
        match self.policy.conditions.hold(inputs, ignores) {
            Ok(true) => {}
            Ok(false) => return Judgement::default(),
            Err(why) => return whole(why),
        }
        let scope = Scope::new(inputs, &self.policy.variables);
        let mut budget = BUDGET;
        let mut found = Vec::new();
        for validation in &self.validations {
            match validation.expression.evaluate(&scope, &mut budget) {
                Ok(evaluated) => found.push(evaluated),
                Err(why) => return whole(why),
            }
        }
        let mut judgement = Judgement::default();
        for (index, (validation, evaluated)) in self.validations.iter().zip(found).enumerate() {
            match evaluated {
                Ok(Found::Bool(true)) => {}
                Err(why) => judgement.denials.extend(failed(index, why)),
                Ok(_) => match message(validation, &scope, &mut budget) {
                    Ok(message) => judgement.denials.push(Denial { index, message, reason: validation.reason.clone() }),
                    Err(why) => judgement.denials.extend(failed(index, format!("failed messageExpression: {why}"))),
                },
            }
        }
        let mut budget = BUDGET;
        for (key, expression) in &self.annotations {
            let value = match expression.evaluate(&scope, &mut budget) {
                Err(why) => return whole(why),
                Ok(Ok(Found::Null)) => continue,
                Ok(Ok(Found::String(text))) => Ok(text.trim().to_owned()),
                Ok(Ok(other)) => Err(format!(
                    "valueExpression '{}' resulted in unsupported return type: {}. Return type must be either string or null.",
                    expression.source,
                    other.type_name()
                )),
                Ok(Err(why)) => Err(why),
            };
            match value {
                Ok(text) if text.is_empty() => {}
                Ok(text) => judgement.annotations.push((key.clone(), text.chars().take(ANNOTATION_LIMIT).collect())),
                Err(_) if ignores => {}
                Err(why) => judgement.failures.push(why),
            }
        }
        judgement
    }
}

/// The messageExpression's text, else the message, else the expression itself.
fn message<'a>(validation: &'a Validation, scope: &Scope<'a>, budget: &mut u64) -> Result<String, String> {
    let mut message = String::new();
    if let Some(expression) = &validation.message_expression
        && let Ok(Found::String(text)) = expression.evaluate(scope, budget)?
    {
        let text = text.trim();
        if text.len() <= MESSAGE_LIMIT && !text.contains('\n') {
            message = text.to_owned();
        }
    }
    if message.is_empty() {
        message.clone_from(&validation.message);
    }
    Ok(if message.is_empty() { format!("failed expression: {}", validation.expression.source.trim()) } else { message })
}
