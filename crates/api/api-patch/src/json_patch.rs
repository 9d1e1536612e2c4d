//! JSON Patch (RFC 6902), bounded so that a small patch cannot make a huge or bottomless object.
use crate::does_not_apply;
use api_meta::Status;
use json_patch::{PatchOperation, jsonptr::Pointer, patch_unsafe};
use serde_json::Value;

/// Upstream's limit on operations in one patch.
const MOST_OPERATIONS: usize = 10_000;
/// Upstream's limit on what `copy` operations of one patch may add, in bytes.
const MOST_COPIED: usize = 3 * 1024 * 1024;
/// As deep as a decoded body can be.
const DEEPEST: usize = 128;

/// Applies a JSON patch: an array of operations.
///
/// Errors: 400 if it is no array of objects, 413 if it has too many, 422 if an operation is unknown or fails.
pub fn json_patch(mut document: Value, patch: Value) -> Result<Value, Status> {
    let Value::Array(operations) = patch else {
        return Err(Status::bad_request(format!("json: cannot unmarshal {} into Go value of type jsonpatch.Patch", type_name(&patch))));
    };
    if let Some(other) = operations.iter().find(|o| !o.is_object()) {
        return Err(Status::bad_request(format!("json: cannot unmarshal {} into Go value of type jsonpatch.Operation", type_name(other))));
    }
    if operations.len() > MOST_OPERATIONS {
        return Err(Status::too_large(format!("The allowed maximum operations in a JSON patch is {MOST_OPERATIONS}, got {}", operations.len())));
    }
    apply_all(&mut document, operations).map_err(|_| does_not_apply())?;
    Ok(document)
}

/// The same for a patch that no client sent but a webhook or a policy; errors say what doesn't apply, in upstream's library's words.
pub fn json_patch_of_admission(mut document: Value, patch: Value) -> Result<Value, String> {
    match patch {
        Value::Array(operations) if operations.len() <= MOST_OPERATIONS => apply_all(&mut document, operations)?,
        Value::Array(operations) => return Err(format!("the allowed maximum operations in a JSON patch is {MOST_OPERATIONS}, got {}", operations.len())),
        other => return Err(format!("json: cannot unmarshal {} into Go value of type jsonpatch.Patch", type_name(&other))),
    }
    Ok(document)
}

fn apply_all(document: &mut Value, operations: Vec<Value>) -> Result<(), String> {
    let mut copied = 0;
    for operation in operations {
        let operation: PatchOperation = serde_json::from_value(operation).map_err(|error| error.to_string())?;
        if !is_bounded(document, &operation, &mut copied) {
            return Err("the patched object would be too large".into());
        }
        if is_absence(document, &operation) {
            continue;
        }
        let failure = failure(document, &operation);
        patch_unsafe(document, &[operation]).map_err(|_| failure)?;
    }
    Ok(())
}

/// Whether an operation tests for null what is not there: to upstream's library a missing key is null, and clients
/// test so that nobody has set a field (kube's finalizers) though RFC 6902 would have that fail.
fn is_absence(document: &Value, operation: &PatchOperation) -> bool {
    let PatchOperation::Test(test) = operation else { return false };
    let parent = || test.path.parent().and_then(|parent| parent.resolve(document).ok());
    test.value.is_null() && test.path.resolve(document).is_err() && parent().is_some_and(Value::is_object)
}

/// What is said of an operation that fails.
fn failure(document: &Value, operation: &PatchOperation) -> String {
    let parent_is_there = |path: &Pointer| path.parent().is_some_and(|parent| parent.resolve(document).is_ok());
    let last = |path: &Pointer| path.last().map(|token| token.decoded().into_owned()).unwrap_or_default();
    match operation {
        PatchOperation::Add(add) => format!("add operation does not apply: doc is missing path: \"{}\": missing value", add.path),
        PatchOperation::Remove(remove) if parent_is_there(&remove.path) => {
            format!("error in remove for path: '{}': Unable to remove nonexistent key: {}: missing value", remove.path, last(&remove.path))
        }
        PatchOperation::Remove(remove) => format!("remove operation does not apply: doc is missing path: \"{}\": missing value", remove.path),
        PatchOperation::Replace(replace) if parent_is_there(&replace.path) => {
            format!("replace operation does not apply: doc is missing key: {}: missing value", replace.path)
        }
        PatchOperation::Replace(replace) => format!("replace operation does not apply: doc is missing path: {}: missing value", replace.path),
        PatchOperation::Move(operation) => format!("move operation does not apply: doc is missing from path: {}: missing value", operation.from),
        PatchOperation::Copy(operation) => format!("copy operation does not apply: doc is missing from path: {}: missing value", operation.from),
        PatchOperation::Test(test) => format!("testing value {} failed: test failed", test.path),
    }
}

/// INVARIANT: the document is never deeper than `DEEPEST`, so that recursion over it is safe.
fn is_bounded(document: &Value, operation: &PatchOperation, copied: &mut usize) -> bool {
    let fits = |path: &Pointer, value: &Value| path.tokens().count() + depth(value) <= DEEPEST;
    match operation {
        PatchOperation::Add(add) => fits(&add.path, &add.value),
        PatchOperation::Replace(replace) => fits(&replace.path, &replace.value),
        PatchOperation::Move(operation) => operation.from.resolve(document).map_or(true, |value| fits(&operation.path, value)),
        PatchOperation::Copy(operation) => operation.from.resolve(document).map_or(true, |value| {
            *copied += size(value);
            *copied <= MOST_COPIED && fits(&operation.path, value)
        }),
        PatchOperation::Remove(_) | PatchOperation::Test(_) => true,
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(object) => 1 + object.values().map(depth).max().unwrap_or(0),
        _ => 1,
    }
}

/// About as many bytes as it encodes to.
fn size(value: &Value) -> usize {
    match value {
        Value::Array(items) => 2 + items.iter().map(|i| 1 + size(i)).sum::<usize>(),
        Value::Object(object) => 2 + object.iter().map(|(k, v)| k.len() + 4 + size(v)).sum::<usize>(),
        Value::String(text) => 2 + text.len(),
        _ => 8,
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn operations_apply_in_order() {
        let document = json!({"spec":{"replicas":1,"list":["a","b"]},"metadata":{"labels":{"a/b":"c"}}});
        let patch = json!([
            {"op":"test","path":"/spec/replicas","value":1},
            {"op":"replace","path":"/spec/replicas","value":3},
            {"op":"add","path":"/spec/list/-","value":"c"},
            {"op":"remove","path":"/metadata/labels/a~1b"},
            {"op":"copy","from":"/spec/list/0","path":"/spec/first"},
            {"op":"move","from":"/spec/first","path":"/spec/moved"},
        ]);
        assert_eq!(json_patch(document, patch).unwrap(), json!({"spec":{"replicas":3,"list":["a","b","c"],"moved":"a"},"metadata":{"labels":{}}}));
    }

    #[test]
    fn what_does_not_fit_is_refused_as_upstream_does() {
        let check = |patch: Value, code: u16, message: &str| {
            let status = json_patch(json!({"a":{"b":1}}), patch).unwrap_err();
            assert_eq!((status.code, status.message.as_str()), (code, message));
        };
        let rejected = "the server rejected our request due to an error in our request";
        check(json!([{"op":"test","path":"/a/b","value":2}]), 422, rejected);
        check(json!([{"op":"remove","path":"/none"}]), 422, rejected);
        check(json!([{"op":"what","path":"/a"}]), 422, rejected);
        check(json!({"a":1}), 400, "json: cannot unmarshal object into Go value of type jsonpatch.Patch");
        check(Value::Array(vec![json!({}); 10_001]), 413, "The allowed maximum operations in a JSON patch is 10000, got 10001");
    }

    #[test]
    fn what_is_not_there_is_null_to_a_test() {
        let check = |path: &str| json_patch(json!({"a":{"b":null},"list":[1]}), json!([{"op":"test","path":path,"value":null}])).is_ok();
        assert!(check("/c") && check("/a/b") && check("/a/c"));
        assert!(!check("/a") && !check("/c/d") && !check("/list/0") && !check("/list/1"));
    }

    #[test]
    fn a_patch_cannot_grow_without_bounds() {
        let mut doubling = vec![json!({"op":"add","path":"/x","value":["0123456789"]})];
        doubling.extend((0..64).map(|_| json!({"op":"copy","from":"/x","path":"/x/-"})));
        assert_eq!(json_patch(json!({}), doubling.into()).unwrap_err().code, 422);
        let mut path = String::new();
        let mut deepening = Vec::new();
        for _ in 0..1000 {
            path.push_str("/a");
            deepening.push(json!({"op":"add","path":path,"value":{}}));
        }
        assert_eq!(json_patch(json!({}), deepening.into()).unwrap_err().code, 422);
    }
}
