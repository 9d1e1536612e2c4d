//! Issue: what is wrong with an expression, and where, shown as cel-go shows it.

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Issue {
    /// The character it is about.
    pub at: usize,
    pub message: String,
}

impl Issue {
    pub fn new(at: usize, message: impl Into<String>) -> Self {
        Self { at, message: message.into() }
    }

    fn shown(&self, source: &str) -> String {
        let at = self.at.min(source.chars().count());
        let before: String = source.chars().take(at).collect();
        let (line, column) = (before.matches('\n').count(), before.chars().rev().take_while(|c| *c != '\n').count());
        let text = source.split('\n').nth(line).unwrap_or_default().replace('\t', " ");
        format!("ERROR: <input>:{}:{}: {}\n | {text}\n | {}^", line + 1, column + 1, self.message, ".".repeat(column))
    }
}

/// All of them, in the order of their places.
pub(super) fn shown(mut issues: Vec<Issue>, source: &str) -> String {
    issues.sort_by_key(|issue| issue.at);
    issues.iter().map(|issue| issue.shown(source)).collect::<Vec<_>>().join("\n")
}
