//! ConversionReview: what a conversion webhook is asked, and whether its answer can be believed.
use api_meta::{FieldError, FieldErrors, FieldPath, names, split_api_version};
use serde_json::{Map, Value, json};

/// `example.com/v1, Kind=Widget`, as errors name what was to be converted.
pub fn kind_of(object: &Value) -> String {
    format!("{}, Kind={}", object["apiVersion"].as_str().unwrap_or_default(), object["kind"].as_str().unwrap_or_default())
}

/// The request, in the first version both sides know; `None` when there is none.
pub fn request(versions: &[String], uid: &str, to: &str, objects: &[Value]) -> Option<Value> {
    let version = versions.iter().find(|version| matches!(version.as_str(), "v1" | "v1beta1"))?;
    Some(json!({
        "kind": "ConversionReview", "apiVersion": format!("apiextensions.k8s.io/{version}"),
        "request": { "uid": uid, "desiredAPIVersion": to, "objects": objects },
    }))
}

/// The objects of an answer. The error is upstream's, to follow "conversion webhook for ... failed: ".
pub fn answered(asked: &Value, mut answer: Value) -> Result<Vec<Value>, String> {
    if answer["apiVersion"] != asked["apiVersion"] || answer["kind"] != asked["kind"] {
        return Err(format!("expected webhook response of {}, got {}", kind_of(asked), kind_of(&answer)));
    }
    let response = &mut answer["response"];
    if !response.is_object() {
        return Err("no response provided".into());
    }
    let uid = asked["request"]["uid"].as_str().unwrap_or_default();
    let got = response["uid"].as_str().unwrap_or_default();
    if got != uid {
        return Err(format!("expected response.uid={uid:?}, got {got:?}"));
    }
    let status = response["result"]["status"].as_str().unwrap_or_default();
    if status != "Success" {
        let message = response["result"]["message"].as_str().unwrap_or_default();
        return Err(if message.is_empty() { format!("response.result.status was '{status}', not 'Success'") } else { message.to_owned() });
    }
    Ok(response["convertedObjects"].as_array_mut().map(std::mem::take).unwrap_or_default())
}

/// The converted objects, each with the metadata of the one it was made of, but for labels and annotations.
///
/// `what` names what was converted; `list`: whether it was a list.
pub fn settled(what: &str, list: bool, to: &str, originals: &[Value], converted: Vec<Value>) -> Result<Vec<Value>, String> {
    if converted.len() != originals.len() {
        return Err(format!("conversion webhook for {what} returned {} objects, expected {}", converted.len(), originals.len()));
    }
    let each = originals.iter().zip(converted).enumerate().map(|(index, (original, mut object))| {
        let place = if list { format!("converted object at index {index}") } else { "object at index 0".to_owned() };
        let invalid = |why: String| format!("conversion webhook for {what} returned invalid {place}: {why}");
        let text = |object: &Value, field: &str| object[field].as_str().unwrap_or_default().to_owned();
        let version = text(&object, "apiVersion");
        if version != to {
            return Err(invalid(format!("invalid groupVersion (expected {}, received {})", group_version(to), group_version(&version))));
        }
        let (expected, got) = (text(original, "kind"), text(&object, "kind"));
        if expected != got {
            return Err(invalid(format!("invalid kind (expected {expected}, received {got})")));
        }
        let place = if list { place.clone() } else { "object".to_owned() };
        same_identity(original, &object).map_err(|why| format!("conversion webhook for {what} returned invalid {place}: {why}"))?;
        let place = if list { format!("metadata in object at index {index}") } else { "metadata".to_owned() };
        restore_metadata(original, &mut object).map_err(|why| format!("conversion webhook for {what} returned invalid {place}: {why}"))?;
        Ok(object)
    });
    each.collect()
}

fn group_version(api_version: &str) -> String {
    let (group, version) = split_api_version(api_version);
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

fn same_identity(original: &Value, object: &Value) -> Result<(), String> {
    for (field, name) in [("name", "name"), ("namespace", "namespace"), ("uid", "UID")] {
        let text = |object: &Value| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        let (before, after) = (text(original), text(object));
        if before != after {
            return Err(format!("must have the same {name}: {before} != {after}"));
        }
    }
    Ok(())
}

fn restore_metadata(original: &Value, object: &mut Value) -> Result<(), String> {
    let sent = match object.get("metadata") {
        None => return Err("missing metadata in converted object".into()),
        Some(Value::Object(sent)) => sent.clone(),
        Some(_) => return Err("invalid metadata in converted object".into()),
    };
    let mut kept = original["metadata"].as_object().cloned().unwrap_or_default();
    for field in ["labels", "annotations"] {
        let Some(value) = sent.get(field).filter(|value| !value.is_null()) else {
            kept.remove(field);
            continue;
        };
        let Value::Object(entries) = value else { return Err(format!("invalid metadata.{field} in converted object")) };
        for (key, value) in entries {
            if !value.is_string() {
                return Err(format!("metadata.{field}[{key}] must be a string, but is {value} in converted object"));
            }
        }
        if kept.get(field) != Some(value) {
            let errors = check(field, entries);
            if !errors.is_empty() {
                return Err(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "));
            }
        }
        kept.insert(field.into(), value.clone());
    }
    object["metadata"] = Value::Object(kept);
    Ok(())
}

fn check(field: &str, entries: &Map<String, Value>) -> FieldErrors {
    let path = FieldPath::new("metadata").child(field);
    let mut errors = FieldErrors::new();
    for (key, value) in entries {
        let (name, value) = if field == "labels" { (key.clone(), value.as_str().unwrap_or_default()) } else { (key.to_lowercase(), "") };
        errors.extend(names::qualified_name(&name).into_iter().map(|why| FieldError::invalid(&path, key.as_str(), why)));
        errors.extend(names::label_value(value).into_iter().map(|why| FieldError::invalid(&path, value, why)));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(version: &str, name: &str) -> Value {
        json!({"apiVersion": format!("example.com/{version}"), "kind": "Widget", "metadata": {"name": name, "uid": "u", "generation": 3, "labels": {"a": "b"}}, "spec": {}})
    }

    #[test]
    fn answers_are_believed_only_if_they_are_of_the_question() {
        let asked = request(&["v9".into(), "v1".into()], "1", "example.com/v2", &[object("v1", "w")]).unwrap();
        assert_eq!(asked["apiVersion"], "apiextensions.k8s.io/v1");
        let answer = |response: Value| answered(&asked, json!({"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1", "response": response}));
        assert_eq!(answer(json!(null)), Err("no response provided".into()));
        assert_eq!(answer(json!({"uid": "2"})), Err("expected response.uid=\"1\", got \"2\"".into()));
        assert_eq!(answer(json!({"uid": "1", "result": {"status": "Failure", "message": "no way"}})), Err("no way".into()));
        assert_eq!(answer(json!({"uid": "1", "result": {}})), Err("response.result.status was '', not 'Success'".into()));
        assert_eq!(answer(json!({"uid": "1", "result": {"status": "Success"}, "convertedObjects": [1]})), Ok(vec![json!(1)]));
        assert!(request(&["v9".into()], "1", "example.com/v2", &[]).is_none());
    }

    #[test]
    fn metadata_is_not_the_webhooks_but_for_labels_and_annotations() {
        let originals = [object("v1", "w")];
        let what = "example.com/v1, Kind=Widget";
        let check = |change: fn(&mut Value)| {
            let mut converted = object("v2", "w");
            change(&mut converted);
            settled(what, false, "example.com/v2", &originals, vec![converted]).map(|mut all| all.remove(0))
        };
        let good = check(|object| {
            object["metadata"]["generation"] = 9.into();
            object["metadata"]["labels"] = json!({"c": "d"});
        });
        assert_eq!(good.unwrap()["metadata"], json!({"name": "w", "uid": "u", "generation": 3, "labels": {"c": "d"}}));
        let refused =
            |change: fn(&mut Value), want: &str| assert_eq!(check(change).unwrap_err(), format!("conversion webhook for {what} returned invalid {want}"));
        refused(|o| o["metadata"]["name"] = "x".into(), "object: must have the same name: w != x");
        refused(|o| o["apiVersion"] = "example.com/v3".into(), "object at index 0: invalid groupVersion (expected example.com/v2, received example.com/v3)");
        refused(|o| o["kind"] = "Gadget".into(), "object at index 0: invalid kind (expected Widget, received Gadget)");
        refused(|o| o["metadata"] = Value::Null, "object: must have the same name: w != ");
        refused(|o| o["metadata"]["labels"] = json!({"a": 1}), "metadata: metadata.labels[a] must be a string, but is 1 in converted object");
        let none = settled(what, false, "example.com/v2", &originals, Vec::new());
        assert_eq!(none.unwrap_err(), format!("conversion webhook for {what} returned 0 objects, expected 1"));
    }
}
