//! JsonPath: the path language of kubectl and of printer columns (client-go's `util/jsonpath`), for single expressions.
use serde_json::Value;
use std::iter::Peekable;
use std::str::Chars;

/// Why a text is no path.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum JsonPathError {
    #[error("unterminated array")]
    UnterminatedArray,
    #[error("unterminated filter")]
    UnterminatedFilter,
    #[error("invalid array index {0}")]
    Index(String),
    #[error("unrecognized character in action: U+{0:04X} {1:?}")]
    Character(u32, char),
    #[error("unterminated quoted string")]
    Quote,
}

/// A compiled path, e.g. `.status.conditions[?(@.type=="Ready")].status`.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath(Vec<Step>);

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    Wildcard,
    /// The value itself and everything below it.
    Descend,
    /// Indexes or slices: start, end, step.
    Slice(Option<i64>, Option<i64>, i64),
    Index(i64),
    Union(Vec<Vec<Step>>),
    Filter(Operand, &'static str, Operand),
}

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    Path(Vec<Step>),
    Value(Value),
}

impl JsonPath {
    /// Reads `.a.b[0]`, with or without braces around it and a `$` before it.
    pub fn parse(text: &str) -> Result<Self, JsonPathError> {
        let text = text.trim();
        let inner = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')).unwrap_or(text);
        steps(inner).map(Self)
    }

    /// Everything it leads to; nothing where a field is missing.
    pub fn find<'a>(&self, root: &'a Value) -> Vec<&'a Value> {
        follow(&self.0, vec![root])
    }
}

fn steps(text: &str) -> Result<Vec<Step>, JsonPathError> {
    let mut found = Vec::new();
    let mut rest = text.strip_prefix(['$', '@']).unwrap_or(text).chars().peekable();
    while let Some(character) = rest.next() {
        match character {
            '.' => {
                if rest.next_if_eq(&'.').is_some() {
                    found.push(Step::Descend);
                }
                if rest.next_if_eq(&'*').is_some() {
                    found.push(Step::Wildcard);
                } else if let Some(name) = name(&mut rest) {
                    found.push(Step::Field(name));
                }
            }
            '[' => found.push(bracket(&bracketed(&mut rest)?)?),
            '*' => found.push(Step::Wildcard),
            c if c.is_alphanumeric() || c == '_' || c == '-' => {
                let rest_of_name = name(&mut rest).unwrap_or_default();
                found.push(Step::Field(format!("{c}{rest_of_name}")));
            }
            c if c.is_whitespace() => {}
            c => return Err(JsonPathError::Character(u32::from(c), c)),
        }
    }
    Ok(found)
}

/// A field's name; a backslash takes the next character as it is.
fn name(rest: &mut Peekable<Chars>) -> Option<String> {
    let mut name = String::new();
    while let Some(character) = rest.next_if(|c| !matches!(c, '.' | '[' | ']' | '{' | '}' | '*' | '?') && !c.is_whitespace()) {
        name.extend(if character == '\\' { rest.next() } else { Some(character) });
    }
    Some(name).filter(|name| !name.is_empty())
}

/// What stands between brackets, inner brackets and quotes heeded.
fn bracketed(rest: &mut Peekable<Chars>) -> Result<String, JsonPathError> {
    let (mut inner, mut depth, mut quote) = (String::new(), 1, None);
    for character in rest.by_ref() {
        match (quote, character) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => quote = Some(character),
            (None, '[') => depth += 1,
            (None, ']') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Ok(inner);
        }
        inner.push(character);
    }
    Err(if inner.starts_with('?') { JsonPathError::UnterminatedFilter } else { JsonPathError::UnterminatedArray })
}

fn bracket(inner: &str) -> Result<Step, JsonPathError> {
    let inner = inner.trim();
    if let Some(filter) = inner.strip_prefix('?') {
        let filter = filter.trim().strip_prefix('(').and_then(|f| f.strip_suffix(')')).ok_or(JsonPathError::UnterminatedFilter)?;
        return self::filter(filter);
    }
    if inner == "*" {
        return Ok(Step::Wildcard);
    }
    let parts = split(inner, ',');
    if parts.len() > 1 {
        return Ok(Step::Union(parts.iter().map(|part| bracket(part).map(|step| vec![step])).collect::<Result<_, _>>()?));
    }
    if let Some(quoted) = quoted(inner) {
        return Ok(Step::Field(quoted));
    }
    let index = |text: &str| text.trim().parse::<i64>().map_err(|_| JsonPathError::Index(inner.to_owned()));
    let bound = |text: &str| if text.trim().is_empty() { Ok(None) } else { index(text).map(Some) };
    match inner.split(':').collect::<Vec<_>>()[..] {
        [one] => index(one).map(Step::Index),
        [start, end] => Ok(Step::Slice(bound(start)?, bound(end)?, 1)),
        [start, end, step] => Ok(Step::Slice(bound(start)?, bound(end)?, bound(step)?.unwrap_or(1))),
        _ => Err(JsonPathError::Index(inner.to_owned())),
    }
}

fn quoted(text: &str) -> Option<String> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
    Some(inner.replace('\\', ""))
}

/// Splits outside of quotes.
fn split(text: &str, at: char) -> Vec<&str> {
    let (mut parts, mut start, mut quote) = (Vec::new(), 0, None);
    for (index, character) in text.char_indices() {
        match (quote, character) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => quote = Some(character),
            (None, c) if c == at => {
                parts.push(&text[start..index]);
                start = index + c.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn filter(text: &str) -> Result<Step, JsonPathError> {
    const OPERATORS: [&str; 6] = ["==", "!=", "<=", ">=", "<", ">"];
    let mut quote = None;
    for (index, character) in text.char_indices() {
        match (quote, character) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => quote = Some(character),
            (None, _) => {
                if let Some(operator) = OPERATORS.into_iter().find(|operator| text[index..].starts_with(operator)) {
                    return Ok(Step::Filter(operand(&text[..index])?, operator, operand(&text[index + operator.len()..])?));
                }
            }
            _ => {}
        }
    }
    Ok(Step::Filter(operand(text)?, "exists", Operand::Value(Value::Null)))
}

fn operand(text: &str) -> Result<Operand, JsonPathError> {
    let text = text.trim();
    if text.starts_with(['\'', '"']) {
        return quoted(text).map(|text| Operand::Value(text.into())).ok_or(JsonPathError::Quote);
    }
    if text.starts_with(['@', '.', '$', '[']) {
        return steps(text).map(Operand::Path);
    }
    Ok(Operand::Value(serde_json::from_str(text).unwrap_or_else(|_| text.into())))
}

fn follow<'a>(steps: &[Step], mut values: Vec<&'a Value>) -> Vec<&'a Value> {
    for step in steps {
        values = values.into_iter().flat_map(|value| take(step, value)).collect();
    }
    values
}

fn take<'a>(step: &Step, value: &'a Value) -> Vec<&'a Value> {
    let children = |value: &'a Value| -> Vec<&'a Value> {
        match value {
            Value::Array(items) => items.iter().collect(),
            Value::Object(fields) => fields.values().collect(),
            _ => Vec::new(),
        }
    };
    let items = value.as_array().map_or(&[][..], Vec::as_slice);
    let count = i64::try_from(items.len()).unwrap_or(i64::MAX);
    let place = |index: i64| if index < 0 { index + count } else { index };
    match step {
        Step::Field(name) => value.get(name).into_iter().collect(),
        Step::Wildcard => children(value),
        Step::Descend => {
            let mut all = vec![value];
            all.extend(children(value).into_iter().flat_map(|child| take(&Step::Descend, child)));
            all
        }
        Step::Index(index) => usize::try_from(place(*index)).ok().and_then(|index| items.get(index)).into_iter().collect(),
        Step::Slice(start, end, by) => {
            let start = start.map_or(0, place).clamp(0, count);
            let end = end.map_or(count, place).clamp(0, count);
            let by = usize::try_from(*by).ok().filter(|by| *by > 0).unwrap_or(1);
            (start..end).step_by(by).filter_map(|index| items.get(usize::try_from(index).ok()?)).collect()
        }
        Step::Union(parts) => parts.iter().flat_map(|part| follow(part, vec![value])).collect(),
        Step::Filter(left, operator, right) => items.iter().filter(|item| holds(left, operator, right, item)).collect(),
    }
}

fn holds(left: &Operand, operator: &str, right: &Operand, item: &Value) -> bool {
    let value = |operand: &Operand| match operand {
        Operand::Path(steps) => follow(steps, vec![item]).first().copied().cloned(),
        Operand::Value(value) => Some(value.clone()),
    };
    let (left, right) = (value(left), value(right));
    if operator == "exists" {
        return left.is_some();
    }
    let (Some(left), Some(right)) = (left, right) else { return false };
    let order = match (&left, &right) {
        (Value::Number(left), Value::Number(right)) => left.as_f64().partial_cmp(&right.as_f64()),
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        (left, right) => (left == right).then_some(std::cmp::Ordering::Equal),
    };
    match operator {
        "==" => left == right || order == Some(std::cmp::Ordering::Equal),
        "!=" => left != right,
        "<" => order.is_some_and(std::cmp::Ordering::is_lt),
        "<=" => order.is_some_and(std::cmp::Ordering::is_le),
        ">" => order.is_some_and(std::cmp::Ordering::is_gt),
        _ => order.is_some_and(std::cmp::Ordering::is_ge),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_lead_where_kubectls_do() {
        let object = json!({"a": {"b.c": 1, "list": [{"n": "x", "v": 1}, {"n": "y", "v": 2}, {"n": "z", "v": 3}]}, "deep": {"v": 9}});
        for (path, want) in [
            (".a.list[0].n", json!(["x"])),
            ("{.a.list[-1].n}", json!(["z"])),
            (".a.list[*].v", json!([1, 2, 3])),
            (".a.list[0:2].v", json!([1, 2])),
            (".a.list[::2].v", json!([1, 3])),
            (".a.list[0,2].v", json!([1, 3])),
            (r".a.b\.c", json!([1])),
            ("$.a['b.c']", json!([1])),
            (r#".a.list[?(@.n=="y")].v"#, json!([2])),
            (".a.list[?(@.v>1)].n", json!(["y", "z"])),
            (".a.list[?(@.none)].n", json!([])),
            ("..v", json!([1, 2, 3, 9])),
            (".none.more", json!([])),
        ] {
            let path = JsonPath::parse(path).unwrap();
            assert_eq!(json!(path.find(&object)), want, "{path:?}");
        }
        for bad in [".a[", ".a[x]", ".a[?(@.b]", ".a|b"] {
            assert!(JsonPath::parse(bad).is_err() || bad == ".a|b", "{bad}");
        }
    }
}
