//! The names of a custom kind.
use crate::check::{At, Report};
use crate::fields::Read;
use api_meta::{FieldErrors, names};

/// Names as asked for or accepted; empty ones are left to those who need them.
pub fn validate(errors: &mut FieldErrors, at: &At) {
    let label = |errors: &mut FieldErrors, at: &At| {
        let why = names::dns1035_label(at.text());
        if !why.is_empty() {
            errors.invalid(at, why.join(","));
        }
    };
    for field in ["plural", "singular"] {
        let name = at.field(field);
        if !name.text().is_empty() {
            label(errors, &name);
        }
    }
    for field in ["kind", "listKind"] {
        let name = at.field(field);
        let why = names::dns1035_label(&name.text().to_lowercase());
        if !name.text().is_empty() && !why.is_empty() {
            errors.invalid(&name, format!("may have mixed case, but should otherwise match: {}", why.join(",")));
        }
    }
    for name in at.field("shortNames").items() {
        label(errors, &name);
    }
    let (kind, list_kind) = (at.field("kind"), at.field("listKind"));
    if !kind.text().is_empty() && kind.text() == list_kind.text() {
        errors.invalid(&list_kind, "kind and listKind may not be the same");
    }
    for name in at.field("categories").items() {
        label(errors, &name);
    }
}
