//! The resourceVersion options of lists and watches, as upstream's ValidateListOptions has them.
use crate::query::Query;
use api_meta::{FieldError, FieldErrors, FieldPath, Status};

/// Where a watch begins.
#[derive(Debug, PartialEq, Eq)]
pub enum Start {
    /// After this revision; after the newest when it is 0.
    After(u64),
    /// With what there is, which must not be older than this revision. `announced`: the end of it is told by a bookmark.
    Everything { at_least: u64, announced: bool },
}

/// Which state a list shows.
#[derive(Debug, PartialEq, Eq)]
pub enum Snapshot {
    /// The newest, which must not be older than this revision.
    Newest {
        at_least: u64,
    },
    Exact(u64),
}

const MATCH: &str = "resourceVersionMatch";
const SEND: &str = "sendInitialEvents";

fn forbidden(field: &str, why: &str) -> FieldError {
    FieldError::forbidden(&FieldPath::new(field), why)
}

fn not_supported(value: &str, supported: &[&str]) -> FieldError {
    // In upstream's order, which is not that of the alphabet.
    let names: Vec<String> = supported.iter().map(|name| format!("{name:?}")).collect();
    FieldError { detail: format!("supported values: {}", names.join(", ")), ..FieldError::not_supported(&FieldPath::new(MATCH), value, &[]) }
}

/// The options, unless something is wrong with them: then all of that.
fn refuse(errors: FieldErrors) -> Result<(), Status> {
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid("meta.k8s.io", "ListOptions", "", &errors)) }
}

/// The revision asked for; 0 without one.
pub fn revision(query: &Query) -> Result<u64, Status> {
    let Some(text) = query.value("resourceVersion") else { return Ok(0) };
    text.parse().map_err(|_| {
        let why = format!("strconv.ParseUint: parsing {text:?}: invalid syntax");
        Status::bad_request(format!("invalid resource version: {}", FieldError::invalid(&FieldPath::new("resourceVersion"), text, why)))
    })
}

/// `continued`: the list goes on where a continue token stopped, which says itself at which revision.
pub fn snapshot(query: &Query, continued: bool) -> Result<Snapshot, Status> {
    let (matching, version) = (query.value(MATCH), query.value("resourceVersion"));
    let mut errors = FieldErrors::new();
    if let Some(matching) = matching {
        if version.is_none() {
            errors.push(forbidden(MATCH, "resourceVersionMatch is forbidden unless resourceVersion is provided"));
        }
        if continued {
            errors.push(forbidden(MATCH, "resourceVersionMatch is forbidden when continue is provided"));
        }
        if !matches!(matching, "Exact" | "NotOlderThan") {
            errors.push(not_supported(matching, &["Exact", "NotOlderThan", ""]));
        }
        if matching == "Exact" && version == Some("0") {
            errors.push(forbidden(MATCH, "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\""));
        }
    }
    if query.get(SEND).is_some() {
        errors.push(forbidden(SEND, "sendInitialEvents is forbidden for list"));
    }
    refuse(errors)?;
    let revision = revision(query)?;
    if continued && revision > 0 {
        return Err(Status::bad_request("specifying resource version is not allowed when using continue"));
    }
    // A page of a moment is of that very moment, also for who does not say so.
    let paged = query.integer("limit")?.unwrap_or(0) > 0;
    Ok(match matching {
        Some("Exact") => Snapshot::Exact(revision),
        None if paged && revision > 0 => Snapshot::Exact(revision),
        _ => Snapshot::Newest { at_least: revision },
    })
}

pub fn start(query: &Query) -> Result<Start, Status> {
    let (matching, continued) = (query.value(MATCH), query.value("continue").is_some());
    let send = query.get(SEND).map(|_| query.flag(SEND));
    let mut errors = FieldErrors::new();
    if send.is_some() && matching != Some("NotOlderThan") {
        errors.push(forbidden(MATCH, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"));
    }
    if let Some(matching) = matching {
        if send.is_none() {
            errors.push(forbidden(MATCH, "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"));
        }
        if matching != "NotOlderThan" {
            errors.push(not_supported(matching, &["NotOlderThan"]));
        }
        if continued {
            errors.push(forbidden(MATCH, "resourceVersionMatch is forbidden when continue is provided"));
        }
    }
    refuse(errors)?;
    let revision = revision(query)?;
    Ok(match send {
        Some(true) => Start::Everything { at_least: revision, announced: true },
        Some(false) => Start::After(revision),
        // Upstream's old way: from nothing or from "0", a watch begins with what there is.
        None if revision == 0 => Start::Everything { at_least: 0, announced: false },
        None => Start::After(revision),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_show_the_moment_that_is_asked_for() {
        let of = |query: &str, continued| {
            snapshot(&Query::parse(query), continued).map_err(|status| status.message.replace("ListOptions.meta.k8s.io \"\" is invalid: ", ""))
        };
        let newest = |at_least| Ok(Snapshot::Newest { at_least });
        let refused = |why: &str| Err(why.to_owned());
        for (query, continued, want) in [
            ("", false, newest(0)),
            ("resourceVersion=0", false, newest(0)),
            ("resourceVersion=7", false, newest(7)),
            ("resourceVersion=7&limit=2", false, Ok(Snapshot::Exact(7))),
            ("resourceVersion=7&limit=2&resourceVersionMatch=NotOlderThan", false, newest(7)),
            ("resourceVersion=0&limit=2", false, newest(0)),
            ("resourceVersion=7&resourceVersionMatch=Exact", false, Ok(Snapshot::Exact(7))),
            ("limit=2", true, newest(0)),
            ("resourceVersion=0", true, newest(0)),
            ("resourceVersion=7", true, refused("specifying resource version is not allowed when using continue")),
            (
                "resourceVersion=a",
                false,
                refused("invalid resource version: resourceVersion: Invalid value: \"a\": strconv.ParseUint: parsing \"a\": invalid syntax"),
            ),
            (
                "resourceVersionMatch=Exact&sendInitialEvents=false",
                false,
                refused(
                    "[resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided, sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list]",
                ),
            ),
        ] {
            assert_eq!(of(query, continued), want, "{query}");
        }
    }

    #[test]
    fn watches_begin_where_they_are_asked_to() {
        let of = |query: &str| start(&Query::parse(query)).map_err(|status| status.message.replace("ListOptions.meta.k8s.io \"\" is invalid: ", ""));
        for (query, want) in [
            ("", Ok(Start::Everything { at_least: 0, announced: false })),
            ("resourceVersion=0", Ok(Start::Everything { at_least: 0, announced: false })),
            ("resourceVersion=7", Ok(Start::After(7))),
            ("sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion=7", Ok(Start::Everything { at_least: 7, announced: true })),
            ("sendInitialEvents=false&resourceVersionMatch=NotOlderThan", Ok(Start::After(0))),
            ("sendInitialEvents=true", Err("resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan".to_owned())),
            (
                "resourceVersionMatch=Exact",
                Err("[resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided, resourceVersionMatch: Unsupported value: \"Exact\": supported values: \"NotOlderThan\"]".to_owned()),
            ),
        ] {
            assert_eq!(of(query), want, "{query}");
        }
    }
}
