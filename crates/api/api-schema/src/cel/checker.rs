//! Checker: finds undeclared names, unknown fields and calls that fit no function, before anything is evaluated.
use super::declarations::{Overload, overloads};
use super::expression::{Expression, Fold, FoldKind, Literal, Node};
use super::issue::Issue;
use super::types::{ObjectType, Type};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Which structs expressions may make: none, or those of mutations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Structs {
    #[default]
    None,
    /// `Object{...}`, `Object.spec{...}` and `JSONPatch{...}`.
    Mutations,
}

pub(super) struct Checker<'e> {
    variables: &'e BTreeMap<String, Type>,
    structs: Structs,
    scope: Vec<(String, Type)>,
    issues: Vec<Issue>,
    types: Option<Types>,
}

/// The type of each part of one expression.
pub(super) struct Types(HashMap<*const Expression, Type>);

impl Types {
    /// What no type was found for may be anything.
    pub fn of(&self, expression: &Expression) -> &Type {
        self.0.get(&std::ptr::from_ref(expression)).unwrap_or(&Type::Dyn)
    }
}

/// The type of an expression, or all that is wrong with it.
pub(super) fn check(expression: &Expression, variables: &BTreeMap<String, Type>, structs: Structs) -> Result<Type, Vec<Issue>> {
    let mut checker = Checker { variables, structs, scope: Vec::new(), issues: Vec::new(), types: None };
    let found = checker.type_of(expression);
    if checker.issues.is_empty() { Ok(found) } else { Err(checker.issues) }
}

/// The types of all parts of an expression that was checked before.
pub(super) fn types(expression: &Expression, variables: &BTreeMap<String, Type>) -> Types {
    let types = Some(Types(HashMap::new()));
    let mut checker = Checker { variables, structs: Structs::None, scope: Vec::new(), issues: Vec::new(), types };
    checker.type_of(expression);
    checker.types.unwrap_or_else(|| Types(HashMap::new()))
}

type Bound = HashMap<char, Type>;

impl Checker<'_> {
    /// An issue makes a `Dyn`, so that one mistake is told once.
    fn issue(&mut self, at: usize, message: String) -> Type {
        self.issues.push(Issue::new(at, message));
        Type::Dyn
    }

    fn type_of(&mut self, expression: &Expression) -> Type {
        let found = self.find_type(expression);
        if let Some(types) = &mut self.types {
            types.0.insert(expression, found.clone());
        }
        found
    }

    fn find_type(&mut self, expression: &Expression) -> Type {
        let at = expression.at;
        match &expression.node {
            Node::Literal(literal) => literal_type(literal),
            Node::Identifier(name) => self.identifier(name).unwrap_or_else(|| self.undeclared(at, name)),
            Node::Select { operand, field, test, optional } => self.select(at, operand, field, *test, *optional),
            Node::Call { function, target, arguments } => self.call(at, function, target.as_deref(), arguments),
            Node::And(terms) | Node::Or(terms) => {
                let name = if matches!(expression.node, Node::And(_)) { "_&&_" } else { "_||_" };
                for term in terms {
                    let found = self.type_of(term);
                    if !matches!(found, Type::Bool | Type::Dyn) {
                        self.issue(at, format!("found no matching overload for '{name}' applied to '({found}, bool)'"));
                    }
                }
                Type::Bool
            }
            Node::List(elements) => {
                let mut element = None;
                for (expression, optional) in elements {
                    let found = self.element(expression, *optional);
                    element = Some(self.joined(expression.at, element, found));
                }
                Type::List(Arc::new(element.unwrap_or(Type::Dyn)))
            }
            Node::Map(entries) => {
                let (mut key, mut value) = (None, None);
                for (key_expression, value_expression, optional) in entries {
                    let found = self.type_of(key_expression);
                    key = Some(self.joined(key_expression.at, key, found));
                    let found = self.element(value_expression, *optional);
                    value = Some(self.joined(value_expression.at, value, found));
                }
                Type::Map(Arc::new(key.unwrap_or(Type::Dyn)), Arc::new(value.unwrap_or(Type::Dyn)))
            }
            Node::Struct { name, fields } => self.structure(at, name, fields),
            Node::Fold(fold) => self.fold(at, fold),
            Node::OptionalMap { target, variable, body, flat } => {
                let inner = match self.type_of(target) {
                    Type::Optional(inner) => (*inner).clone(),
                    Type::Dyn => Type::Dyn,
                    other => self.issue(at, format!("found no matching overload for 'hasValue' applied to '{other}.()'")),
                };
                self.scope.push((variable.clone(), inner));
                let found = self.type_of(body);
                self.scope.pop();
                if *flat { found } else { Type::Optional(Arc::new(found)) }
            }
        }
    }

    fn element(&mut self, expression: &Expression, optional: bool) -> Type {
        match self.type_of(expression) {
            Type::Optional(inner) if optional => (*inner).clone(),
            other if optional && other != Type::Dyn => self.issue(expression.at, format!("expected type 'optional_type({other})' but found '{other}'")),
            other => other,
        }
    }

    fn joined(&mut self, at: usize, before: Option<Type>, found: Type) -> Type {
        match before {
            None => found,
            Some(before) if fits(&before, &found, &mut Bound::new()) => {
                if found == Type::Dyn {
                    found
                } else {
                    before
                }
            }
            Some(before) => {
                self.issue(at, format!("expected type '{before}' but found '{found}'"));
                before
            }
        }
    }

    fn identifier(&self, name: &str) -> Option<Type> {
        let local = self.scope.iter().rev().find(|(local, _)| local == name).map(|(_, found)| found.clone());
        local.or_else(|| self.variables.get(name).cloned()).or_else(|| {
            const TYPES: [&str; 13] =
                ["bool", "int", "uint", "double", "string", "bytes", "list", "map", "null_type", "type", "optional_type", "google.protobuf.Timestamp", "dyn"];
            TYPES.contains(&name).then_some(Type::Type)
        })
    }

    fn undeclared(&mut self, at: usize, name: &str) -> Type {
        self.issue(at, format!("undeclared reference to '{name}' (in container '')"))
    }

    fn select(&mut self, at: usize, operand: &Expression, field: &str, test: bool, optional: bool) -> Type {
        // Some variables have a dot in their name.
        if let Node::Identifier(name) = &operand.node
            && !self.scope.iter().any(|(local, _)| local == name)
            && let Some(found) = self.variables.get(&format!("{name}.{field}"))
        {
            return if test { Type::Bool } else { found.clone() };
        }
        let of = self.type_of(operand);
        let (of, in_optional) = match of {
            Type::Optional(inner) => ((*inner).clone(), true),
            other => (other, false),
        };
        let found = match &of {
            Type::Dyn => Type::Dyn,
            Type::Map(_, value) => (**value).clone(),
            Type::Object(object) => object.field(field).unwrap_or_else(|| self.issue(at, format!("undefined field '{field}'"))),
            other => self.issue(at, format!("type '{other}' does not support field selection")),
        };
        match found {
            _ if test => Type::Bool,
            found if (optional || in_optional) && !matches!(found, Type::Optional(_)) => Type::Optional(Arc::new(found)),
            found => found,
        }
    }

    fn call(&mut self, at: usize, function: &str, target: Option<&Expression>, arguments: &[Expression]) -> Type {
        let mut types: Vec<Type> = target.into_iter().chain(arguments).map(|argument| self.argument(function, argument)).collect();
        let Some(all) = overloads(function) else { return self.undeclared(at, function) };
        let member = target.is_some();
        let mut results = Vec::new();
        for overload in all.iter().filter(|o| o.member == member && o.parameters.len() == types.len()) {
            if let Some(result) = applied(overload, &types)
                && !results.contains(&result)
            {
                results.push(result);
            }
        }
        match results.len() {
            0 => {
                let shown = |types: &[Type]| types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                let applied = if member {
                    let of = types.remove(0);
                    format!("{of}.({})", shown(&types))
                } else {
                    format!("({})", shown(&types))
                };
                self.issue(at, format!("found no matching overload for '{function}' applied to '{applied}'"))
            }
            1 => results.remove(0),
            _ => Type::Dyn,
        }
    }

    /// What is formatted may be a list of anything.
    fn argument(&mut self, function: &str, argument: &Expression) -> Type {
        match &argument.node {
            Node::List(elements) if function == "format" => {
                for (element, optional) in elements {
                    self.element(element, *optional);
                }
                Type::List(Arc::new(Type::Dyn))
            }
            _ => self.type_of(argument),
        }
    }

    fn structure(&mut self, at: usize, name: &str, fields: &[(String, Expression, bool)]) -> Type {
        let known = match (self.structs, name) {
            (Structs::Mutations, "JSONPatch") => true,
            (Structs::Mutations, name) => name == "Object" || name.starts_with("Object."),
            (Structs::None, _) => false,
        };
        if !known {
            return self.undeclared(at, name);
        }
        for (field, value, optional) in fields {
            let found = self.element(value, *optional);
            if name == "JSONPatch" {
                match field.as_str() {
                    "op" | "path" | "from" if !matches!(found, Type::String | Type::Dyn) => {
                        self.issue(value.at, format!("expected type of field '{field}' is 'string' but provided type is '{found}'"));
                    }
                    "op" | "path" | "from" | "value" => {}
                    _ => {
                        self.issue(value.at, format!("undefined field '{field}'"));
                    }
                }
            }
        }
        Type::Object(ObjectType::of_fields(name, []))
    }

    fn fold(&mut self, at: usize, fold: &Fold) -> Type {
        let (key, value) = match self.type_of(&fold.range) {
            Type::List(element) => (if fold.second.is_some() { Type::Int } else { (*element).clone() }, (*element).clone()),
            Type::Map(key, value) => ((*key).clone(), (*value).clone()),
            Type::Dyn => (Type::Dyn, Type::Dyn),
            other => {
                let message = format!("expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)");
                self.issue(fold.range.at, message);
                (Type::Dyn, Type::Dyn)
            }
        };
        let depth = self.scope.len();
        self.scope.push((fold.first.clone(), key.clone()));
        if let Some(second) = &fold.second {
            self.scope.push((second.clone(), value.clone()));
        }
        let boolean = |checker: &mut Self, expression: &Expression, function: &str| {
            let found = checker.type_of(expression);
            if !matches!(found, Type::Bool | Type::Dyn) {
                checker.issue(at, format!("found no matching overload for '{function}' applied to '(bool, {found})'"));
            }
        };
        if let Some(filter) = &fold.filter {
            boolean(self, filter, "_?_:_");
        }
        let found = match fold.kind {
            FoldKind::All => {
                boolean(self, &fold.body, "_&&_");
                Type::Bool
            }
            FoldKind::Exists => {
                boolean(self, &fold.body, "_||_");
                Type::Bool
            }
            FoldKind::ExistsOne => {
                boolean(self, &fold.body, "_?_:_");
                Type::Bool
            }
            FoldKind::Filter => {
                boolean(self, &fold.body, "_?_:_");
                Type::List(Arc::new(key))
            }
            FoldKind::Map | FoldKind::TransformList => Type::List(Arc::new(self.type_of(&fold.body))),
            FoldKind::TransformMap => Type::Map(Arc::new(key), Arc::new(self.type_of(&fold.body))),
            FoldKind::TransformMapEntry => self.type_of(&fold.body),
        };
        self.scope.truncate(depth);
        found
    }
}

fn literal_type(literal: &Literal) -> Type {
    match literal {
        Literal::Null => Type::Null,
        Literal::Bool(_) => Type::Bool,
        Literal::Int(_) => Type::Int,
        Literal::Uint(_) => Type::Uint,
        Literal::Double(_) => Type::Double,
        Literal::String(_) => Type::String,
        Literal::Bytes(_) => Type::Bytes,
    }
}

pub(super) fn applied(overload: &Overload, types: &[Type]) -> Option<Type> {
    let mut bound = Bound::new();
    let all_fit = overload.parameters.iter().zip(types).all(|(parameter, found)| fits(parameter, found, &mut bound));
    all_fit.then(|| resolved(&overload.result, &bound))
}

/// Whether a value of this type may stand where that type is wanted.
pub(super) fn fits(wanted: &Type, found: &Type, bound: &mut Bound) -> bool {
    match (wanted, found) {
        (Type::Parameter(name), found) => match bound.get(name).cloned() {
            Some(before) => {
                let fits = fits(&before, found, bound);
                if fits && before == Type::Dyn {
                    bound.insert(*name, found.clone());
                }
                fits
            }
            None => {
                bound.insert(*name, found.clone());
                true
            }
        },
        (Type::Dyn, _) | (_, Type::Dyn) => true,
        (Type::List(wanted), Type::List(found)) | (Type::Optional(wanted), Type::Optional(found)) => fits(wanted, found, bound),
        (Type::Map(key, value), Type::Map(found_key, found_value)) => fits(key, found_key, bound) && fits(value, found_value, bound),
        (Type::Object(_) | Type::Timestamp | Type::Duration | Type::Opaque(_) | Type::Optional(_), Type::Null)
        | (Type::Null, Type::Object(_) | Type::Timestamp | Type::Duration | Type::Opaque(_) | Type::Optional(_)) => true,
        (wanted, found) => wanted == found,
    }
}

fn resolved(found: &Type, bound: &Bound) -> Type {
    match found {
        Type::Parameter(name) => bound.get(name).cloned().unwrap_or(Type::Dyn),
        Type::List(element) => Type::List(Arc::new(resolved(element, bound))),
        Type::Optional(inner) => Type::Optional(Arc::new(resolved(inner, bound))),
        Type::Map(key, value) => Type::Map(Arc::new(resolved(key, bound)), Arc::new(resolved(value, bound))),
        other => other.clone(),
    }
}
