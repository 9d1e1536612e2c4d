//! Leaves out of an object who set which of its fields: hardly anybody asks, and it is the largest part of many objects.
use memchr::memmem;
use serde::de::IgnoredAny;
use std::borrow::Cow;

/// Only a list is called so: labels and annotations of that name hold text, and quotes within text are escaped.
const FIELD: &[u8] = b"\"managedFields\":[";

/// An encoded object without its managed fields.
pub fn without_managed_fields(object: &[u8]) -> Cow<'_, [u8]> {
    let Some(start) = memmem::find(object, FIELD) else { return Cow::Borrowed(object) };
    let list = &object[start + FIELD.len() - 1..];
    let mut values = serde_json::Deserializer::from_slice(list).into_iter::<IgnoredAny>();
    let Some(Ok(_)) = values.next() else { return Cow::Borrowed(object) };
    let end = object.len() - list.len() + values.byte_offset();
    // One comma goes with it: the one after, or, of the last field, the one before.
    let (start, end) = match (object[..start].last(), object.get(end)) {
        (_, Some(b',')) => (start, end + 1),
        (Some(b','), _) => (start - 1, end),
        _ => (start, end),
    };
    Cow::Owned([&object[..start], &object[end..]].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_list_goes() {
        for (object, left) in [
            (r#"{"metadata":{"labels":{},"managedFields":[{"fieldsV1":{"f:a":[]}}],"name":"x"}}"#, r#"{"metadata":{"labels":{},"name":"x"}}"#),
            (r#"{"metadata":{"labels":{},"managedFields":[]}}"#, r#"{"metadata":{"labels":{}}}"#),
            (r#"{"metadata":{"managedFields":["]"]}}"#, r#"{"metadata":{}}"#),
            (
                r#"{"metadata":{"annotations":{"managedFields":"[","a":"\"managedFields\":["}}}"#,
                r#"{"metadata":{"annotations":{"managedFields":"[","a":"\"managedFields\":["}}}"#,
            ),
            (r#"{"managedFields":[1"#, r#"{"managedFields":[1"#),
        ] {
            assert_eq!(String::from_utf8_lossy(&without_managed_fields(object.as_bytes())), left);
        }
    }
}
