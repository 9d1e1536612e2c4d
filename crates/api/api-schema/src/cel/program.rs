//! Program: a checked expression, ready to be evaluated any number of times.
use super::checker::{Structs, check, types};
use super::estimate::{self, Extent};
use super::evaluate::{EvaluationError, Evaluator, Variables, WORK};
use super::expression::Expression;
use super::types::Type;
use super::value::Value;
use super::{issue, parser};
use std::collections::{BTreeMap, BTreeSet};

/// What names mean in an expression.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    variables: BTreeMap<String, Type>,
    structs: Structs,
}

impl Environment {
    pub fn new(variables: impl IntoIterator<Item = (&'static str, Type)>) -> Self {
        Self { variables: variables.into_iter().map(|(name, of)| (name.to_owned(), of)).collect(), structs: Structs::None }
    }
    /// With one more variable, or another type for it.
    #[must_use]
    pub fn with(mut self, name: &str, of: Type) -> Self {
        self.variables.insert(name.to_owned(), of);
        self
    }
    #[must_use]
    pub fn with_structs(mut self, structs: Structs) -> Self {
        self.structs = structs;
        self
    }

    /// Errors are all that is wrong, as cel-go prints it: `ERROR: <input>:1:6: undefined field 'x'` with the line and a mark.
    pub fn compile(&self, source: &str) -> Result<Program, String> {
        let expression = parser::parse(source).map_err(|issue| issue::shown(vec![issue], source))?;
        let result = check(&expression, &self.variables, self.structs).map_err(|issues| issue::shown(issues, source))?;
        let mut names = BTreeSet::new();
        expression.names(&mut |name| {
            names.insert(name.to_owned());
        });
        Ok(Program { expression, result, names })
    }

    /// What running a program of this environment can cost at most, when `self` is as large as it can be.
    pub(super) fn most(&self, program: &Program, own: &Extent) -> u64 {
        estimate::most(&program.expression, &types(&program.expression, &self.variables), own)
    }
}

#[derive(Debug)]
pub struct Program {
    pub(super) expression: Expression,
    result: Type,
    names: BTreeSet<String>,
}

/// What came of an evaluation, and what it cost.
#[derive(Debug)]
pub struct Outcome<'a> {
    pub value: Result<Value<'a>, EvaluationError>,
    /// In cel-go's units. Past the limit when that is why there is no value.
    pub cost: u64,
}

impl Program {
    /// What it evaluates to, as far as that is known.
    pub fn result(&self) -> &Type {
        &self.result
    }
    /// Whether it looks at a variable (`oldSelf`, `variables.x`).
    pub fn uses(&self, name: &str) -> bool {
        self.names.contains(name)
    }
    /// Evaluates it, at a cost of `limit` at most.
    pub fn run<'a>(&'a self, variables: &dyn Variables<'a>, limit: u64) -> Outcome<'a> {
        let mut evaluator = Evaluator { variables, scope: Vec::new(), cost: 0, limit, left: WORK };
        let value = evaluator.evaluate(&self.expression);
        Outcome { value, cost: evaluator.cost }
    }
}
