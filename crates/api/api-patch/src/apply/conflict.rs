//! What an applier is told when others own what it would change.
use super::element::print_path;
use super::fields::{Fields, each_member};
use super::managed::{Entry, Operation};
use api_meta::{Status, StatusCause, StatusDetails};

/// One owner and the fields of it in question.
pub(crate) struct Conflict<'a> {
    pub owner: &'a Entry,
    pub fields: Fields,
}

/// Upstream's 409, with a cause for each field.
pub(crate) fn status(mut conflicts: Vec<Conflict>) -> Status {
    conflicts.sort_by(|a, b| (&a.owner.manager, a.owner.operation, &a.owner.api_version).cmp(&(&b.owner.manager, b.owner.operation, &b.owner.api_version)));
    let mut causes = Vec::new();
    let mut lines = Vec::new();
    for conflict in &conflicts {
        let owner = print_owner(conflict.owner);
        lines.push(format!("conflicts with {owner}:"));
        each_member(&conflict.fields, &mut Vec::new(), &mut |path| {
            let field = print_path(path);
            lines.push(format!("- {field}"));
            causes.push(StatusCause { reason: "FieldManagerConflict".into(), message: format!("conflict with {owner}"), field });
        });
    }
    let message = match &causes[..] {
        [one] => format!("Apply failed with 1 conflict: {}: {}", one.message, one.field),
        many => format!("Apply failed with {} conflicts: {}", many.len(), lines.join("\n")),
    };
    let mut status = Status::new(409, "Conflict", message);
    status.details = Some(Box::new(StatusDetails { causes, ..StatusDetails::default() }));
    status
}

fn print_owner(entry: &Entry) -> String {
    let mut text = format!("{:?}", entry.manager);
    if !entry.subresource.is_empty() {
        text.push_str(&format!(" with subresource {:?}", entry.subresource));
    }
    if entry.operation == Operation::Update {
        text.push_str(&format!(" using {}", entry.api_version));
    }
    text
}
