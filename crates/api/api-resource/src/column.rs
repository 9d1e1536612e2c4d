//! Columns of the Tables that `kubectl get` prints.
use crate::names::Text;
use jiff::Timestamp;
use serde_json::Value;
use std::borrow::Cow;
use std::sync::Arc;

/// What a cell is computed from.
pub struct Row<'a> {
    pub object: &'a Value,
    pub now: Timestamp,
}

#[derive(Clone, Debug)]
pub enum Cell {
    /// The value at a simple path such as `.spec.controller`; absent prints as upstream prints it.
    Path(Text),
    With(fn(&Row) -> Value),
    /// What something made at run time works out (custom resources).
    Made(Arc<dyn CellMaker>),
}

/// Works out a cell.
pub trait CellMaker: std::fmt::Debug + Send + Sync {
    fn cell(&self, row: &Row) -> Value;
}

/// A column as the server uses it, of a built-in or a custom resource.
#[derive(Clone, Debug)]
pub struct TableColumn {
    pub name: Text,
    /// OpenAPI type: string, integer, number, boolean, date.
    pub kind: Text,
    pub format: Text,
    pub description: Text,
    /// 0 always; above 0 only with `-o wide`.
    pub priority: i32,
    pub cell: Cell,
}

impl TableColumn {
    pub fn value(&self, row: &Row) -> Value {
        match &self.cell {
            Cell::With(cell) => cell(row),
            Cell::Made(maker) => maker.cell(row),
            Cell::Path(path) => at_path(row.object, path).cloned().unwrap_or(Value::Null),
        }
    }
}

/// A built-in's column, as its file declares it.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    pub name: &'static str,
    pub kind: &'static str,
    pub format: &'static str,
    pub priority: i32,
    pub cell: BuiltinCell,
}

#[derive(Clone, Copy, Debug)]
pub enum BuiltinCell {
    Path(&'static str),
    With(fn(&Row) -> Value),
}

impl Column {
    pub const NAME: Self = Self { format: "name", ..Self::with("Name", |row| row.object["metadata"]["name"].clone()) };
    pub const AGE: Self = Self::with("Age", |row| age(row.object["metadata"]["creationTimestamp"].as_str(), row.now).into());

    pub const fn path(name: &'static str, path: &'static str) -> Self {
        Self { name, kind: "string", format: "", priority: 0, cell: BuiltinCell::Path(path) }
    }
    pub const fn with(name: &'static str, cell: fn(&Row) -> Value) -> Self {
        Self { name, kind: "string", format: "", priority: 0, cell: BuiltinCell::With(cell) }
    }
    #[must_use]
    pub const fn integer(mut self) -> Self {
        self.kind = "integer";
        self
    }
    #[must_use]
    pub const fn boolean(mut self) -> Self {
        self.kind = "boolean";
        self
    }
    /// Shown only with `-o wide`.
    #[must_use]
    pub const fn wide(mut self) -> Self {
        self.priority = 1;
        self
    }
}

impl From<Column> for TableColumn {
    fn from(column: Column) -> Self {
        Self {
            name: Cow::Borrowed(column.name),
            kind: Cow::Borrowed(column.kind),
            format: Cow::Borrowed(column.format),
            description: Cow::Borrowed(""),
            priority: column.priority,
            cell: match column.cell {
                BuiltinCell::Path(path) => Cell::Path(Cow::Borrowed(path)),
                BuiltinCell::With(cell) => Cell::With(cell),
            },
        }
    }
}

/// The value at `.a.b.c`.
pub fn at_path<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    path.trim_start_matches('.').split('.').try_fold(object, |value, key| value.get(key))
}

/// The age since an RFC 3339 time, as `kubectl` prints it; `<unknown>` without one.
pub fn age(since: Option<&str>, now: Timestamp) -> String {
    match since.and_then(|text| text.parse::<Timestamp>().ok()) {
        None => "<unknown>".into(),
        Some(since) => human_duration(now.as_second() - since.as_second()),
    }
}

/// Upstream's `duration.HumanDuration`: two units while they say something, one after that.
pub fn human_duration(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let pair = |big: i64, unit: &str, rest: i64, small: &str| if rest == 0 { format!("{big}{unit}") } else { format!("{big}{unit}{rest}{small}") };
    match seconds {
        ..-1 => "<invalid>".into(),
        -1 | 0 => "0s".into(),
        1..120 => format!("{seconds}s"),
        _ if minutes < 10 => pair(minutes, "m", seconds % 60, "s"),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => pair(hours, "h", minutes % 60, "m"),
        _ if hours < 48 => format!("{hours}h"),
        _ if hours < 192 => pair(hours / 24, "d", hours % 24, "h"),
        _ if hours < 24 * 365 * 2 => format!("{}d", hours / 24),
        _ if hours < 24 * 365 * 8 => pair(hours / 24 / 365, "y", (hours / 24) % 365, "d"),
        _ => format!("{}y", hours / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_kubectl_prints_them() {
        for (seconds, want) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (600, "10m"),
            (10_800, "3h"),
            (11_100, "3h5m"),
            (90_000, "25h"),
            (172_800, "2d"),
            (200_000, "2d7h"),
            (864_000, "10d"),
        ] {
            assert_eq!(human_duration(seconds), want);
        }
    }
}
