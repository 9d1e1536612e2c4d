//! Budget: what all rules of a schema may cost together, and what is said when they cost more.
//!
//! Source: apiextensions-apiserver's `pkg/apis/apiextensions/validation/validation.go` and `cel_validation.go`.
use api_meta::{FieldError, FieldErrors, FieldPath};

/// What one expression may cost, for all the elements it can be asked about.
const OF_ONE: u64 = 10_000_000;
/// What all expressions of a schema may cost together.
const OF_ALL: u64 = 100_000_000;
/// How many of the most expensive are named when all together are too expensive.
const NAMED: usize = 4;

/// Adds up what expressions cost.
#[derive(Debug, Default)]
pub(in crate::cel) struct Budget {
    total: u64,
    expensive: Vec<(FieldPath, u64)>,
}

impl Budget {
    /// Counts an expression. Gives what is wrong when it alone costs too much; `what` is upstream's name for its cost.
    pub fn spend(&mut self, at: FieldPath, what: &str, cost: u64) -> Option<FieldError> {
        self.total = self.total.saturating_add(cost);
        let error = (cost > OF_ONE).then(|| FieldError::forbidden(&at, exceeded(what, cost, OF_ONE)));
        if cost >= OF_ALL / 100 {
            self.expensive.push((at, cost));
            self.expensive.sort_by_key(|(_, cost)| std::cmp::Reverse(*cost));
            self.expensive.truncate(NAMED);
        }
        error
    }

    /// What is wrong when all together cost too much; `root` is where the schema stands.
    pub fn settle(self, root: &FieldPath) -> FieldErrors {
        if self.total <= OF_ALL {
            return FieldErrors::new();
        }
        let named = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
        let total = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        let mut errors: FieldErrors = self.expensive.iter().map(|(at, _)| FieldError::forbidden(at, named)).collect();
        errors.push(FieldError::forbidden(root, exceeded(total, self.total, OF_ALL)));
        errors
    }
}

fn exceeded(what: &str, cost: u64, limit: u64) -> String {
    let factor = match cost as f64 / limit as f64 {
        factor if factor > 100.0 => "more than 100x".to_owned(),
        factor if factor < 1.5 => format!("{factor:.6}x"),
        factor => format!("{factor:.1}x"),
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
    )
}
