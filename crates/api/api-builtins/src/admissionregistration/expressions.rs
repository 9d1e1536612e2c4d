//! The CEL of webhooks and policies: it has to compile, and to give what its place asks for.
use crate::check::{At, Report};
use crate::fields::Read;
use api_meta::FieldErrors;
use api_schema::cel::{Environment, Structs, Type, admission};

/// What an expression may evaluate to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gives {
    Bool,
    String,
    StringOrNull,
    Anything,
}

impl Gives {
    fn fits(self, found: &Type) -> bool {
        match (self, found) {
            (Self::Anything, _) | (_, Type::Dyn) => true,
            (Self::Bool, found) => *found == Type::Bool,
            (Self::String, found) => *found == Type::String,
            (Self::StringOrNull, found) => matches!(found, Type::String | Type::Null),
        }
    }
    fn wanted(self) -> &'static str {
        match self {
            Self::Bool => "must evaluate to bool",
            Self::String => "must evaluate to string",
            Self::StringOrNull => "must evaluate to one of [string null_type]",
            Self::Anything => "",
        }
    }
}

/// Reports why an expression can't be used; gives its type.
fn compile(errors: &mut FieldErrors, at: &At, environment: &Environment, gives: Gives) -> Type {
    if at.text().trim().is_empty() {
        errors.required(at, "");
        return Type::Dyn;
    }
    match environment.compile(at.text()) {
        Err(issues) => errors.invalid(at, format!("compilation failed: {issues}")),
        Ok(program) if !gives.fits(program.result()) => errors.invalid(at, gives.wanted()),
        Ok(program) => return program.result().clone(),
    }
    Type::Dyn
}

/// One match condition.
pub fn condition(errors: &mut FieldErrors, at: &At, params: bool) {
    compile(errors, at, &admission::environment(params, true), Gives::Bool);
}

/// What the other expressions of a policy are compiled in.
pub struct PolicyEnvironment {
    full: Environment,
    /// Without the authorizer, which messages don't get.
    plain: Environment,
}

impl PolicyEnvironment {
    /// Checks the policy's variables, each of which knows those before it.
    pub fn of(errors: &mut FieldErrors, spec: &At) -> Self {
        let params = spec["paramKind"].is_set();
        let mut types = Vec::new();
        for variable in spec.field("variables").items() {
            let environment = admission::with_variables(admission::environment(params, true), &types);
            let found = compile(errors, &variable.field("expression"), &environment, Gives::Anything);
            types.push((variable["name"].text().to_owned(), found));
        }
        let environment = |authorizer| admission::with_variables(admission::environment(params, authorizer), &types);
        Self { full: environment(true), plain: environment(false) }
    }
    pub fn validation(&self, errors: &mut FieldErrors, at: &At) {
        compile(errors, at, &self.full, Gives::Bool);
    }
    pub fn message(&self, errors: &mut FieldErrors, at: &At) {
        if at.is_set() {
            compile(errors, at, &self.plain, Gives::String);
        }
    }
    pub fn annotation(&self, errors: &mut FieldErrors, at: &At) {
        compile(errors, at, &self.full, Gives::StringOrNull);
    }
    pub fn mutation(&self, errors: &mut FieldErrors, at: &At) {
        compile(errors, at, &self.full.clone().with_structs(Structs::Mutations), Gives::Anything);
    }
}
