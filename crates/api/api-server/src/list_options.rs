//! The resourceVersion options of lists and watches, as upstream's ValidateListOptions has them.
use crate::context::Context;
use crate::errors;
use crate::query::Query;
use api_meta::{FieldError, FieldPath, Status};

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

const KIND: &str = "ListOptions";
const MATCH: &str = "resourceVersionMatch";

fn forbidden(field: &str, why: &str) -> Status {
    errors::options(KIND, FieldError::forbidden(&FieldPath::new(field), why))
}

/// The revision asked for; 0 without one.
pub fn revision(query: &Query) -> Result<u64, Status> {
    let Some(text) = query.value("resourceVersion") else { return Ok(0) };
    let invalid = |_| {
        let why = format!("strconv.ParseUint: parsing {text:?}: invalid syntax");
        errors::options(KIND, FieldError::invalid(&FieldPath::new("resourceVersion"), text, why))
    };
    text.parse().map_err(invalid)
}

/// `continued`: the list goes on where a continue token stopped, which says itself at which revision.
pub fn snapshot(context: &Context, continued: bool) -> Result<Snapshot, Status> {
    let query = context.query;
    if query.get("sendInitialEvents").is_some() {
        return Err(forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"));
    }
    let revision = revision(query)?;
    if continued && revision > 0 {
        return Err(Status::bad_request("specifying resource version is not allowed when using continue"));
    }
    match (query.value(MATCH), query.value("resourceVersion")) {
        (None, _) => Ok(Snapshot::Newest { at_least: revision }),
        (Some(_), _) if continued => Err(forbidden(MATCH, "resourceVersionMatch is forbidden when continue is provided")),
        (Some(_), None) => Err(forbidden(MATCH, "resourceVersionMatch is forbidden unless resourceVersion is provided")),
        (Some("Exact"), _) if revision == 0 => Err(forbidden(MATCH, "resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\"")),
        (Some("Exact"), _) => Ok(Snapshot::Exact(revision)),
        (Some("NotOlderThan"), _) => Ok(Snapshot::Newest { at_least: revision }),
        (Some(other), _) => Err(errors::options(KIND, FieldError::not_supported(&FieldPath::new(MATCH), other, &["Exact", "NotOlderThan", ""]))),
    }
}

pub fn start(context: &Context) -> Result<Start, Status> {
    let query = context.query;
    let send = query.get("sendInitialEvents").map(|_| query.flag("sendInitialEvents"));
    match (send, query.value(MATCH)) {
        (Some(_), None) => return Err(forbidden(MATCH, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan")),
        (None, Some(_)) => return Err(forbidden(MATCH, "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided")),
        (Some(_), Some(other)) if other != "NotOlderThan" => {
            return Err(errors::options(KIND, FieldError::not_supported(&FieldPath::new(MATCH), other, &["NotOlderThan"])));
        }
        _ => {}
    }
    let revision = revision(query)?;
    Ok(match send {
        Some(true) => Start::Everything { at_least: revision, announced: true },
        Some(false) => Start::After(revision),
        // Upstream's old way: from nothing or from "0", a watch begins with what there is.
        None if revision == 0 => Start::Everything { at_least: 0, announced: false },
        None => Start::After(revision),
    })
}
