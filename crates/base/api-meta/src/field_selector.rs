//! Field selectors: `metadata.name=x,status.phase!=Running`.

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldRequirement {
    pub field: String,
    pub equal: bool,
    pub value: String,
}

/// A conjunction of field requirements; the empty one matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector(Vec<FieldRequirement>);

impl FieldSelector {
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut requirements = Vec::new();
        for term in split_terms(text) {
            if term.is_empty() {
                continue;
            }
            let requirement = |field: &str, equal, value: &str| Ok::<_, String>(FieldRequirement { field: field.to_owned(), equal, value: unescape(value)? });
            requirements.push(if let Some((field, value)) = term.split_once("!=") {
                requirement(field, false, value)?
            } else if let Some((field, value)) = term.split_once("==") {
                requirement(field, true, value)?
            } else if let Some((field, value)) = term.split_once('=') {
                requirement(field, true, value)?
            } else {
                return Err(format!("invalid selector: '{text}'; can't understand '{term}'"));
            });
        }
        Ok(Self(requirements))
    }
    pub fn is_everything(&self) -> bool {
        self.0.is_empty()
    }
    pub fn requirements(&self) -> &[FieldRequirement] {
        &self.0
    }
    /// `value_of` gives a field's value, "" when unset.
    pub fn matches<'a>(&self, value_of: impl Fn(&str) -> std::borrow::Cow<'a, str>) -> bool {
        self.0.iter().all(|r| (value_of(&r.field) == r.value) == r.equal)
    }
    /// The value an `=` requirement pins this field to.
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.0.iter().find(|r| r.equal && r.field == field).map(|r| r.value.as_str())
    }
}

fn split_terms(text: &str) -> Vec<&str> {
    let (mut terms, mut start, mut escaped) = (Vec::new(), 0, false);
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn unescape(value: &str) -> Result<String, String> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => out.push(c),
                Some(c) => return Err(format!("invalid field selector: invalid escape sequence: \\{c}")),
                None => return Err("invalid field selector: invalid escape sequence: \\".into()),
            },
            ',' | '=' => return Err(format!("invalid field selector: unescaped character in value: {c}")),
            c => out.push(c),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_equalities_joined_by_commas() {
        let selector = FieldSelector::parse("metadata.name=a,status.phase!=Running").unwrap();
        assert_eq!(selector.exact("metadata.name"), Some("a"));
        let value = |phase: &'static str| move |f: &str| if f == "metadata.name" { "a".into() } else { phase.into() };
        assert!(selector.matches(value("Pending")));
        assert!(!selector.matches(value("Running")));
        assert_eq!(FieldSelector::parse("a=b\\,c").unwrap().exact("a"), Some("b,c"));
        assert!(FieldSelector::parse("nonsense").is_err());
    }
}
