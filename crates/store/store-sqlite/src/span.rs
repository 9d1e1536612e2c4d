//! Spans: a scope as runs of neighbouring keys, walked in key order in memory and in SQLite alike.
use store::Scope;

/// The keys from `from` up to, not including, `to`.
#[derive(Debug, PartialEq, Eq)]
pub struct Span {
    pub from: String,
    pub to: String,
}

/// Produces a scope's spans one after the other.
pub struct Spans {
    remaining: Remaining,
    /// The least key wanted: one past the `continue` position.
    least: String,
}

enum Remaining {
    One(Span),
    /// Of every cluster, the keys under `/{cluster}{middle}`; the next cluster is the first at `position` or after.
    Clusters {
        middle: String,
        position: String,
    },
    Done,
}

impl Spans {
    /// The keys of `scope` that are greater than `after`.
    pub fn new(scope: &Scope, after: Option<&str>) -> Self {
        let remaining = match scope {
            // The least string greater than a key is the key and a zero byte.
            Scope::Key(key) => Remaining::One(Span { from: key.as_str().to_owned(), to: format!("{key}\0") }),
            Scope::AllClusters(_) => {
                let position = after.and_then(cluster_prefix).or(after).unwrap_or("/").to_owned();
                Remaining::Clusters { middle: scope.address(), position }
            }
            _ => {
                let from = scope.prefix();
                Remaining::One(Span { to: end_of_prefix(&from), from })
            }
        };
        Self { remaining, least: after.map_or_else(String::new, |after| format!("{after}\0")) }
    }

    /// The next span; `first_from` finds the first stored key not less than a position. A span may turn out empty.
    pub fn next<E>(&mut self, first_from: impl FnOnce(&str) -> Result<Option<String>, E>) -> Result<Option<Span>, E> {
        let mut span = match std::mem::replace(&mut self.remaining, Remaining::Done) {
            Remaining::Done => return Ok(None),
            Remaining::One(span) => span,
            Remaining::Clusters { middle, position } => {
                let Some(found) = first_from(&position)? else { return Ok(None) };
                let Some(cluster) = cluster_prefix(&found) else { return Ok(None) };
                let from = format!("{}{}", &cluster[..cluster.len() - 1], middle);
                let span = Span { to: end_of_prefix(&from), from };
                self.remaining = Remaining::Clusters { position: end_of_prefix(cluster), middle };
                span
            }
        };
        if span.from < self.least {
            span.from.clone_from(&self.least);
        }
        Ok(Some(span))
    }
}

/// `/{cluster}/` of a key.
fn cluster_prefix(key: &str) -> Option<&str> {
    let end = key.strip_prefix('/')?.find('/')?;
    Some(&key[..=end + 1])
}

/// The least string greater than everything that starts with `prefix`, which ends with a slash.
fn end_of_prefix(prefix: &str) -> String {
    debug_assert!(prefix.ends_with('/'));
    // '0' follows '/'.
    format!("{}0", &prefix[..prefix.len() - 1])
}
