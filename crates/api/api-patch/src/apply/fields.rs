//! Sets of fields in their stored form, FieldsV1, and the algebra of them.
//!
//! A node is a JSON object: its keys are path elements (`f:name`, `k:{..}`, `v:..`, `i:..`), and it is
//! itself a member of the set if it is empty or has the key `.`. The root is never a member.
use serde_json::{Map, Value};

pub(crate) type Fields = Map<String, Value>;

pub(crate) const SELF: &str = ".";

pub(crate) fn is_member(node: &Fields) -> bool {
    node.is_empty() || node.contains_key(SELF)
}

/// Makes a node a member, whatever is below it.
pub(crate) fn make_member(node: &mut Fields) {
    if !node.is_empty() && !node.contains_key(SELF) {
        node.insert(SELF.into(), leaf());
    }
}

pub(crate) fn leaf() -> Value {
    Value::Object(Map::new())
}

fn children(node: &Fields) -> impl Iterator<Item = (&String, &Fields)> {
    node.iter().filter(|(key, _)| *key != SELF).filter_map(|(key, value)| Some((key, value.as_object()?)))
}

/// Adds the members of `other`.
pub(crate) fn union(set: &mut Fields, other: &Fields) {
    for (key, theirs) in children(other) {
        match set.get_mut(key) {
            Some(Value::Object(ours)) => {
                let member = is_member(ours) || is_member(theirs);
                union(ours, theirs);
                if member {
                    make_member(ours);
                }
            }
            _ => {
                set.insert(key.clone(), Value::Object(theirs.clone()));
            }
        }
    }
}

/// Takes away the members of `other`; with `below`, all that is below them too.
pub(crate) fn subtract(set: &mut Fields, other: &Fields, below: bool) {
    for (key, theirs) in children(other) {
        let Some(Value::Object(ours)) = set.get_mut(key) else { continue };
        let gone = if below && is_member(theirs) {
            true
        } else {
            let member = is_member(ours) && !is_member(theirs);
            ours.remove(SELF);
            subtract(ours, theirs, below);
            let empty = ours.is_empty();
            if member {
                make_member(ours);
            }
            empty && !member
        };
        if gone {
            set.remove(key);
        }
    }
}

/// The members of both.
pub(crate) fn intersection(set: &Fields, other: &Fields) -> Fields {
    let mut both = Map::new();
    for (key, theirs) in children(other) {
        let Some(Value::Object(ours)) = set.get(key) else { continue };
        let mut node = intersection(ours, theirs);
        let member = is_member(ours) && is_member(theirs);
        if member {
            make_member(&mut node);
        }
        if member || !node.is_empty() {
            both.insert(key.clone(), Value::Object(node));
        }
    }
    both
}

/// The node below `key`.
pub(crate) fn below<'a>(set: &'a Fields, key: &str) -> Option<&'a Fields> {
    set.get(key).and_then(Value::as_object)
}

/// Calls `visit` with the path elements of each member, parents first.
pub(crate) fn each_member<'a>(set: &'a Fields, path: &mut Vec<&'a str>, visit: &mut impl FnMut(&[&'a str])) {
    for (key, node) in children(set) {
        path.push(key);
        if is_member(node) {
            visit(path);
        }
        each_member(node, path, visit);
        path.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn set(value: Value) -> Fields {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn the_algebra_holds() {
        let a = json!({"f:spec":{"f:replicas":{},"f:labels":{".":{},"f:x":{}},"f:list":{"k:{\"name\":\"a\"}":{".":{},"f:image":{}}}}});
        let b = json!({"f:spec":{"f:labels":{"f:x":{},"f:y":{}},"f:list":{"k:{\"name\":\"a\"}":{}}}});
        let mut all = set(a.clone());
        union(&mut all, &set(b.clone()));
        assert_eq!(
            Value::Object(all),
            json!({"f:spec":{"f:replicas":{},"f:labels":{".":{},"f:x":{},"f:y":{}},"f:list":{"k:{\"name\":\"a\"}":{".":{},"f:image":{}}}}})
        );
        let mut rest = set(a.clone());
        subtract(&mut rest, &set(b.clone()), false);
        assert_eq!(Value::Object(rest), json!({"f:spec":{"f:replicas":{},"f:labels":{},"f:list":{"k:{\"name\":\"a\"}":{"f:image":{}}}}}));
        let mut rest = set(a.clone());
        subtract(&mut rest, &set(b.clone()), true);
        assert_eq!(Value::Object(rest), json!({"f:spec":{"f:replicas":{},"f:labels":{}}}));
        assert_eq!(Value::Object(intersection(&set(a.clone()), &set(b))), json!({"f:spec":{"f:labels":{"f:x":{}},"f:list":{"k:{\"name\":\"a\"}":{}}}}));
        let mut none = set(a.clone());
        subtract(&mut none, &set(a), false);
        assert!(none.is_empty());
    }
}
