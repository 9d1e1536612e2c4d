//! Label selectors: the query-string grammar and the LabelSelector of objects, one matcher for both.
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
    pub values: Vec<String>,
}

/// A conjunction of requirements; the empty one matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LabelSelector(Vec<Requirement>);

/// Anything labels can be looked up in.
pub trait Labels {
    fn label(&self, key: &str) -> Option<&str>;
}

impl Labels for BTreeMap<String, String> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}

impl Labels for Option<BTreeMap<String, String>> {
    fn label(&self, key: &str) -> Option<&str> {
        self.as_ref()?.get(key).map(String::as_str)
    }
}

impl Requirement {
    pub fn matches(&self, labels: &(impl Labels + ?Sized)) -> bool {
        let value = labels.label(&self.key);
        let compare = |holds: fn(i64, i64) -> bool| match (value.and_then(|v| v.parse().ok()), self.values.first().and_then(|v| v.parse().ok())) {
            (Some(have), Some(want)) => holds(have, want),
            _ => false,
        };
        match self.operator {
            Operator::In => value.is_some_and(|v| self.values.iter().any(|w| w == v)),
            Operator::NotIn => !value.is_some_and(|v| self.values.iter().any(|w| w == v)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => compare(|have, want| have > want),
            Operator::LessThan => compare(|have, want| have < want),
        }
    }
}

impl LabelSelector {
    pub fn everything() -> Self {
        Self::default()
    }
    pub fn from_requirements(requirements: Vec<Requirement>) -> Self {
        Self(requirements)
    }
    /// Every key must have exactly this value (a Service's or ReplicationController's selector).
    pub fn from_map<'a>(labels: impl IntoIterator<Item = (&'a String, &'a String)>) -> Self {
        Self(labels.into_iter().map(|(k, v)| Requirement { key: k.clone(), operator: Operator::In, values: vec![v.clone()] }).collect())
    }
    /// From an object's `LabelSelector` parts: matchLabels and (key, operator, values) expressions.
    /// An unknown operator is an error.
    pub fn from_parts<'a>(
        match_labels: impl IntoIterator<Item = (&'a String, &'a String)>,
        expressions: impl IntoIterator<Item = (&'a str, &'a str, &'a [String])>,
    ) -> Result<Self, String> {
        let mut selector = Self::from_map(match_labels);
        for (key, operator, values) in expressions {
            let operator = match operator {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                "Gt" => Operator::GreaterThan,
                "Lt" => Operator::LessThan,
                other => return Err(format!("{other:?} is not a valid label selector operator")),
            };
            selector.0.push(Requirement { key: key.to_owned(), operator, values: values.to_vec() });
        }
        Ok(selector)
    }
    pub fn is_everything(&self) -> bool {
        self.0.is_empty()
    }
    pub fn requirements(&self) -> &[Requirement] {
        &self.0
    }
    pub fn matches(&self, labels: &(impl Labels + ?Sized)) -> bool {
        self.0.iter().all(|r| r.matches(labels))
    }

    /// Parses the `labelSelector` query parameter. Errors are worded as upstream words them.
    pub fn parse(text: &str) -> Result<Self, String> {
        crate::label_selector_parser::parse(text).map(Self)
    }
}

impl std::fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, r) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            let values = r.values.join(",");
            match r.operator {
                Operator::In if r.values.len() == 1 => write!(f, "{}={values}", r.key)?,
                Operator::In => write!(f, "{} in ({values})", r.key)?,
                Operator::NotIn if r.values.len() == 1 => write!(f, "{}!={values}", r.key)?,
                Operator::NotIn => write!(f, "{} notin ({values})", r.key)?,
                Operator::Exists => write!(f, "{}", r.key)?,
                Operator::DoesNotExist => write!(f, "!{}", r.key)?,
                Operator::GreaterThan => write!(f, "{}>{values}", r.key)?,
                Operator::LessThan => write!(f, "{}<{values}", r.key)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_selectors_match_as_documented() {
        let labels: BTreeMap<String, String> = [("app".into(), "web".into()), ("tier".into(), "2".into())].into();
        for yes in ["", "app", "app=web", "app==web", "app in (db, web)", "app notin (db)", "!gone", "gone!=x", "tier>1", "tier<3", "app=web,tier=2"] {
            assert!(LabelSelector::parse(yes).unwrap().matches(&labels), "{yes}");
        }
        for no in ["gone", "app=db", "app!=web", "!app", "tier>2", "app=web,tier=3", "app in ()"] {
            assert!(!LabelSelector::parse(no).unwrap().matches(&labels), "{no}");
        }
        for bad in ["app in web", "app in (web", "a b", "=x", "app>x", "app=web,", "app=-"] {
            assert!(LabelSelector::parse(bad).is_err(), "{bad}");
        }
    }
}
