//! CEL: the expressions of custom resources' validation rules, webhooks' match conditions and admission policies.
//!
//! Own, since what there is has no type checker, no costs at run time and no bound on the depth it recurses to:
//! an expression comes from whoever may write it, and must harm nobody.
//! Source: the CEL language definition (github.com/google/cel-spec) and Kubernetes' use of it
//! (kubernetes.io/docs/reference/using-api/cel).

pub mod admission;
pub mod authorizer;
mod checker;
mod cost;
mod declarations;
pub mod device;
mod estimate;
mod evaluate;
mod expression;
mod functions;
mod issue;
mod lexer;
mod parser;
mod program;
mod rule_compiler;
mod rules;
mod semver;
#[cfg(test)]
mod tests;
mod types;
mod url;
mod value;

pub use authorizer::{Authorizer, Decision, Question};
pub use checker::Structs;
pub use evaluate::{EvaluationError, Variables};
pub use program::{Environment, Outcome, Program};
pub use rules::{CompiledRules, RuleError};
pub use types::{ObjectType, Type, escape, of_schema, unescape};
pub use value::{Key, Root, Value};

/// What evaluating one expression may cost.
pub const CALL_LIMIT: u64 = 1_000_000;
/// What all expressions of one object, or of one policy, may cost together.
pub const BUDGET: u64 = 10_000_000;
/// What all match conditions of one webhook or policy may cost together.
pub const CONDITIONS_BUDGET: u64 = 2_500_000;
/// Bytes a message may have that an expression made.
pub const MESSAGE_LIMIT: usize = 5 << 10;
