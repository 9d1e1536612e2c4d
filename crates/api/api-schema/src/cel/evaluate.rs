//! Evaluator: walks an expression, counts what that costs, and stops where the cost limit is.
use super::expression::{Expression, Fold, FoldKind, Literal, Node};
use super::value::{Key, Value};
use super::{cost, functions};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvaluationError {
    #[error("operation cancelled: actual cost limit exceeded")]
    CostLimit,
    #[error("{0}")]
    Failed(String),
}

pub(super) fn failed<T>(message: impl Into<String>) -> Result<T, EvaluationError> {
    Err(EvaluationError::Failed(message.into()))
}

/// Where the values of variables come from. `name` may have a dot (`variables.x`), for values that are made when used.
pub trait Variables<'a> {
    fn value(&self, name: &str) -> Option<Result<Value<'a>, EvaluationError>>;
}

impl<'a> Variables<'a> for BTreeMap<&str, Value<'a>> {
    fn value(&self, name: &str) -> Option<Result<Value<'a>, EvaluationError>> {
        self.get(name).cloned().map(Ok)
    }
}

pub(super) struct Evaluator<'a, 'v> {
    pub variables: &'v dyn Variables<'a>,
    pub scope: Vec<(&'a str, Value<'a>)>,
    pub cost: u64,
    pub limit: u64,
    /// Values that may still be walked through or copied.
    pub left: u64,
}

/// Values one evaluation may walk through or copy, whatever that costs in cel-go's units.
pub(super) const WORK: u64 = 5_000_000;

type Evaluated<'a> = Result<Value<'a>, EvaluationError>;

impl<'a> Evaluator<'a, '_> {
    fn spend(&mut self, cost: u64) -> Result<(), EvaluationError> {
        self.cost = self.cost.saturating_add(cost);
        if self.cost > self.limit { Err(EvaluationError::CostLimit) } else { Ok(()) }
    }

    /// Bounds what costs don't count: walks through nested values and copies of lists.
    fn work(&mut self, function: &str, values: &[Value<'a>]) -> Result<(), EvaluationError> {
        let top_alone = matches!(function, "_[_]" | "_[?_]" | "size" | "dyn" | "type" | "hasValue" | "value" | "optional.of" | "optional.ofNonZeroValue");
        if top_alone {
            return Ok(());
        }
        for value in values {
            let weight = match (function, value) {
                ("_+_", value) => value.size().map(|size| size as u64).filter(|size| *size <= self.left),
                _ => value.weight(self.left),
            };
            self.left = match (weight, value.size()) {
                (Some(weight), _) => self.left - weight,
                (None, None) if function == "_+_" => continue,
                (None, _) => return Err(EvaluationError::CostLimit),
            };
        }
        Ok(())
    }

    pub fn evaluate(&mut self, expression: &'a Expression) -> Evaluated<'a> {
        match &expression.node {
            Node::Literal(literal) => Ok(literal_value(literal)),
            Node::Identifier(name) => {
                self.spend(1)?;
                self.variable(name)
            }
            Node::Select { operand, field, test, optional } => self.select(operand, field, *test, *optional),
            Node::Call { function, target, arguments } => self.call(function, target.as_deref(), arguments),
            Node::And(terms) => self.junction(terms, false),
            Node::Or(terms) => self.junction(terms, true),
            Node::List(elements) => {
                let mut values = Vec::with_capacity(elements.len());
                for (element, optional) in elements {
                    if let Some(value) = self.maybe(element, *optional)? {
                        values.push(value);
                    }
                }
                self.spend(cost::LIST)?;
                Ok(Value::List(Rc::new(values)))
            }
            Node::Map(entries) => {
                let mut map = BTreeMap::new();
                for (key, value, optional) in entries {
                    let key = self.evaluate(key)?;
                    let key = key.to_key().ok_or_else(|| EvaluationError::Failed("unsupported key type".into()))?;
                    if let Some(value) = self.maybe(value, *optional)?
                        && map.insert(key, value).is_some()
                    {
                        return failed("Failed with repeated key");
                    }
                }
                self.spend(cost::MAP)?;
                Ok(Value::Map(Rc::new(map)))
            }
            Node::Struct { name, fields } => {
                let mut made = BTreeMap::new();
                for (field, value, optional) in fields {
                    if let Some(value) = self.maybe(value, *optional)? {
                        made.insert(super::types::unescape(field).unwrap_or_else(|| field.clone()), value);
                    }
                }
                self.spend(cost::STRUCT)?;
                Ok(Value::Struct(Rc::new((name.clone(), made))))
            }
            Node::Fold(fold) => self.fold(fold),
            Node::OptionalMap { target, variable, body, flat } => {
                let Value::Optional(inner) = self.evaluate(target)? else { return failed("no such overload") };
                let Some(inner) = inner else { return Ok(Value::Optional(None)) };
                self.scope.push((variable, (*inner).clone()));
                let mapped = self.evaluate(body);
                self.scope.pop();
                Ok(if *flat { mapped? } else { Value::Optional(Some(Rc::new(mapped?))) })
            }
        }
    }

    /// An element, key or field that is left out when it is an empty optional.
    fn maybe(&mut self, expression: &'a Expression, optional: bool) -> Result<Option<Value<'a>>, EvaluationError> {
        match self.evaluate(expression)? {
            Value::Optional(inner) if optional => Ok(inner.map(|inner| (*inner).clone())),
            _ if optional => failed("cannot initialize optional entry from non-optional value"),
            value => Ok(Some(value)),
        }
    }

    fn variable(&self, name: &str) -> Evaluated<'a> {
        if let Some((_, value)) = self.scope.iter().rev().find(|(local, _)| *local == name) {
            return Ok(value.clone());
        }
        match self.variables.value(name) {
            Some(value) => value,
            None => match name {
                "bool" | "int" | "uint" | "double" | "string" | "bytes" | "list" | "map" | "null_type" | "type" | "optional_type" => {
                    Ok(Value::Type(name.to_owned()))
                }
                _ => failed(format!("no such attribute(s): {name}")),
            },
        }
    }

    fn select(&mut self, operand: &'a Expression, field: &'a str, test: bool, optional: bool) -> Evaluated<'a> {
        // A dotted variable is made when it is looked at.
        if let Node::Identifier(name) = &operand.node
            && !self.scope.iter().any(|(local, _)| local == name)
            && let Some(value) = self.variables.value(&format!("{name}.{field}"))
        {
            self.spend(2)?;
            return if test { Ok(Value::Bool(true)) } else { value };
        }
        let of = self.evaluate(operand)?;
        self.spend(1)?;
        let (of, in_optional) = match of {
            Value::Optional(None) if test => return Ok(Value::Bool(false)),
            Value::Optional(None) => return Ok(Value::Optional(None)),
            Value::Optional(Some(inner)) => ((*inner).clone(), true),
            other => (other, false),
        };
        if !matches!(of, Value::Map(_) | Value::MapOr(_) | Value::JsonObject(..) | Value::Struct(_)) {
            return failed("no such overload");
        }
        let found = of.looked_up(&Key::String(field.into()));
        if test {
            return Ok(Value::Bool(found.is_some()));
        }
        match found {
            found if optional || in_optional => Ok(Value::Optional(found.map(Rc::new))),
            Some(value) => Ok(value),
            None => failed(format!("no such key: {field}")),
        }
    }

    /// `&&` and `||`: an error counts only when no other term decides.
    fn junction(&mut self, terms: &'a [Expression], decides: bool) -> Evaluated<'a> {
        let mut error = None;
        for term in terms {
            match self.evaluate(term) {
                Ok(Value::Bool(flag)) if flag == decides => return Ok(Value::Bool(decides)),
                Ok(Value::Bool(_)) => {}
                Err(EvaluationError::CostLimit) => return Err(EvaluationError::CostLimit),
                Err(other) => error = error.or(Some(other)),
                Ok(_) => error = error.or_else(|| Some(EvaluationError::Failed("no such overload".into()))),
            }
        }
        error.map_or(Ok(Value::Bool(!decides)), Err)
    }

    fn call(&mut self, function: &'a str, target: Option<&'a Expression>, arguments: &'a [Expression]) -> Evaluated<'a> {
        if function == "_?_:_" {
            return match self.evaluate(&arguments[0])? {
                Value::Bool(true) => self.evaluate(&arguments[1]),
                Value::Bool(false) => self.evaluate(&arguments[2]),
                _ => failed("no such overload"),
            };
        }
        // The alternative of an optional is not evaluated when it isn't needed.
        if let (Some(target), "or" | "orValue") = (target, function) {
            let first = self.evaluate(target)?;
            return match first {
                Value::Optional(Some(inner)) if function == "orValue" => Ok((*inner).clone()),
                Value::Optional(Some(_)) => Ok(first),
                Value::Optional(None) => self.evaluate(&arguments[0]),
                _ => failed("no such overload"),
            };
        }
        let mut values = Vec::with_capacity(arguments.len() + 1);
        for argument in target.into_iter().chain(arguments) {
            values.push(self.evaluate(argument)?);
        }
        // What takes long is paid for before it is done.
        let ahead = if matches!(function, "join" | "format") { 0 } else { cost::of_call(function, &values, None) };
        self.spend(ahead)?;
        self.work(function, &values)?;
        let result = functions::call(function, &values)?;
        if ahead == 0 {
            self.spend(cost::of_call(function, &values, Some(&result)))?;
        }
        Ok(result)
    }

    fn fold(&mut self, fold: &'a Fold) -> Evaluated<'a> {
        let range = self.evaluate(&fold.range)?;
        let entries: Vec<(Value<'a>, Value<'a>)> = match (range.elements(), range.entries()) {
            (Some(elements), _) => elements.into_iter().enumerate().map(|(index, value)| (Value::Int(index as i64), value)).collect(),
            (None, Some(entries)) => entries.into_iter().map(|(key, value)| (key.into(), value)).collect(),
            _ => return failed("no such overload"),
        };
        let is_list = range.elements().is_some();
        let mut made = Made::new(fold.kind);
        if matches!(fold.kind, FoldKind::Map | FoldKind::Filter | FoldKind::TransformList) {
            self.spend(cost::LIST)?;
        }
        for (key, value) in entries {
            let depth = self.scope.len();
            let shown = if fold.second.is_none() && is_list { value.clone() } else { key.clone() };
            self.scope.push((&fold.first, shown.clone()));
            if let Some(second) = &fold.second {
                self.scope.push((second, value));
            }
            let step = self.step(fold, &mut made, key, shown);
            self.scope.truncate(depth);
            if step? {
                break;
            }
        }
        // The result is looked up; exists_one compares it.
        self.spend(if fold.kind == FoldKind::ExistsOne { 2 } else { 1 })?;
        made.result()
    }

    /// One element. Gives whether the outcome is decided.
    fn step(&mut self, fold: &'a Fold, made: &mut Made<'a>, key: Value<'a>, shown: Value<'a>) -> Result<bool, EvaluationError> {
        let boolean = |evaluated: Evaluated<'a>| match evaluated {
            Ok(Value::Bool(flag)) => Ok(flag),
            Ok(_) => failed("no such overload"),
            Err(error) => Err(error),
        };
        if let Some(filter) = &fold.filter {
            let kept = self.evaluate(filter);
            if !boolean(kept)? {
                self.spend(1)?;
                return Ok(false);
            }
        }
        match fold.kind {
            FoldKind::All | FoldKind::Exists => {
                let decides = fold.kind == FoldKind::Exists;
                self.spend(if decides { 4 } else { 3 })?;
                let body = self.evaluate(&fold.body);
                match boolean(body) {
                    Ok(flag) if flag == decides => {
                        made.decided = Some(decides);
                        return Ok(true);
                    }
                    Ok(_) => {}
                    Err(EvaluationError::CostLimit) => return Err(EvaluationError::CostLimit),
                    // An error counts only when no element decides.
                    Err(error) => made.error = made.error.take().or(Some(error)),
                }
            }
            FoldKind::ExistsOne => {
                let body = self.evaluate(&fold.body);
                let one = boolean(body)?;
                self.spend(if one { 2 } else { 1 })?;
                made.count += usize::from(one);
            }
            FoldKind::Filter => {
                let body = self.evaluate(&fold.body);
                let kept = boolean(body)?;
                self.spend(if kept { 2 + 1 + cost::LIST } else { 1 })?;
                if kept {
                    made.list.push(shown);
                }
            }
            FoldKind::Map | FoldKind::TransformList => {
                let value = self.evaluate(&fold.body)?;
                self.spend(2 + cost::LIST)?;
                made.list.push(value);
            }
            FoldKind::TransformMap => {
                let value = self.evaluate(&fold.body)?;
                self.spend(2)?;
                let key = key.to_key().ok_or_else(|| EvaluationError::Failed("unsupported key type".into()))?;
                made.map.insert(key, value);
            }
            FoldKind::TransformMapEntry => {
                let value = self.evaluate(&fold.body)?;
                self.spend(2)?;
                for (key, value) in value.entries().ok_or_else(|| EvaluationError::Failed("no such overload".into()))? {
                    if made.map.insert(key, value).is_some() {
                        return failed("insert failed: key already exists");
                    }
                }
            }
        }
        Ok(false)
    }
}

/// What a macro has come to.
struct Made<'a> {
    kind: FoldKind,
    decided: Option<bool>,
    error: Option<EvaluationError>,
    count: usize,
    list: Vec<Value<'a>>,
    map: BTreeMap<Key<'a>, Value<'a>>,
}

impl<'a> Made<'a> {
    fn new(kind: FoldKind) -> Self {
        Self { kind, decided: None, error: None, count: 0, list: Vec::new(), map: BTreeMap::new() }
    }
    fn result(self) -> Evaluated<'a> {
        match (self.kind, self.decided, self.error) {
            (_, Some(decided), _) => Ok(Value::Bool(decided)),
            (_, None, Some(error)) => Err(error),
            (FoldKind::All, ..) => Ok(Value::Bool(true)),
            (FoldKind::Exists, ..) => Ok(Value::Bool(false)),
            (FoldKind::ExistsOne, ..) => Ok(Value::Bool(self.count == 1)),
            (FoldKind::Map | FoldKind::Filter | FoldKind::TransformList, ..) => Ok(Value::List(Rc::new(self.list))),
            (FoldKind::TransformMap | FoldKind::TransformMapEntry, ..) => Ok(Value::Map(Rc::new(self.map))),
        }
    }
}

fn literal_value(literal: &Literal) -> Value<'_> {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(flag) => Value::Bool(*flag),
        Literal::Int(int) => Value::Int(*int),
        Literal::Uint(uint) => Value::Uint(*uint),
        Literal::Double(double) => Value::Double(*double),
        Literal::String(text) => Value::String(text.as_str().into()),
        Literal::Bytes(bytes) => Value::Bytes(bytes.as_slice().into()),
    }
}
