//! Merging: what another server's OpenAPI v2 document says of its own paths, laid into ours.
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

const DEFINITIONS: &str = "#/definitions/";
const PARAMETERS: &str = "#/parameters/";

/// Takes the paths at and below `prefix` from `other`, with all they refer to. What is called as something else here gets a name of its own.
pub fn merge_v2(own: &mut Value, other: &Value, prefix: &str) {
    let inside = |path: &str| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let known = own["paths"].as_object().cloned().unwrap_or_default();
    let paths: Vec<(&String, &Value)> =
        other["paths"].as_object().into_iter().flatten().filter(|(path, _)| inside(path) && !known.contains_key(*path)).collect();
    if paths.is_empty() {
        return;
    }
    let mut needed = BTreeSet::new();
    paths.iter().for_each(|(_, item)| references(item, &mut needed));
    let mut open: Vec<String> = needed.iter().cloned().collect();
    while let Some(reference) = open.pop() {
        let mut further = BTreeSet::new();
        if let Some(said) = resolve(other, &reference) {
            references(said, &mut further);
        }
        open.extend(further.into_iter().filter(|reference| needed.insert(reference.clone())));
    }
    let mut renamed = BTreeMap::new();
    for reference in &needed {
        let Some(said) = resolve(other, reference) else { continue };
        let free = |candidate: &str| resolve(own, candidate).is_none_or(|known| known == said);
        let mut candidate = reference.clone();
        for number in 2.. {
            if free(&candidate) {
                break;
            }
            candidate = format!("{reference}_v{number}");
        }
        if candidate != *reference {
            renamed.insert(reference.clone(), candidate);
        }
    }
    for reference in &needed {
        let Some(said) = resolve(other, reference) else { continue };
        let target = renamed.get(reference).unwrap_or(reference);
        let Some((section, name)) = place(target) else { continue };
        let mut said = said.clone();
        rename(&mut said, &renamed);
        members(own, section).entry(name.to_owned()).or_insert(said);
    }
    for (path, item) in paths {
        let mut item = item.clone();
        rename(&mut item, &renamed);
        members(own, "paths").insert(path.clone(), item);
    }
}

/// The section of a document that a reference leads to, and the name in it.
fn place(reference: &str) -> Option<(&'static str, &str)> {
    let definition = reference.strip_prefix(DEFINITIONS).map(|name| ("definitions", name));
    definition.or_else(|| reference.strip_prefix(PARAMETERS).map(|name| ("parameters", name)))
}

fn resolve<'d>(document: &'d Value, reference: &str) -> Option<&'d Value> {
    let (section, name) = place(reference)?;
    document.get(section)?.get(name)
}

fn members<'d>(document: &'d mut Value, section: &str) -> &'d mut Map<String, Value> {
    let section = &mut document[section];
    if !section.is_object() {
        *section = Value::Object(Map::new());
    }
    section.as_object_mut().expect("it was just made one")
}

fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                match field {
                    Value::String(reference) if name == "$ref" => drop(found.insert(reference.clone())),
                    field => references(field, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

fn rename(value: &mut Value, renamed: &BTreeMap<String, String>) {
    if renamed.is_empty() {
        return;
    }
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                match field {
                    Value::String(reference) if name == "$ref" => {
                        if let Some(other) = renamed.get(reference) {
                            reference.clone_from(other);
                        }
                    }
                    field => rename(field, renamed),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, renamed)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_servers_own_paths_come_with_what_they_refer_to_under_names_of_their_own() {
        let reference = |name: &str| json!({ "$ref": format!("#/definitions/{name}") });
        let mut own = json!({
            "paths": { "/apis/a/v1/x": { "get": reference("Same") } },
            "definitions": { "Same": { "type": "object" }, "Meta": { "type": "object", "description": "ours" } },
            "parameters": { "pretty": { "in": "query" } },
        });
        let other = json!({
            "paths": {
                "/apis/b/v1": { "get": {} },
                "/apis/b/v1/y": { "get": reference("Flower"), "parameters": [{ "$ref": "#/parameters/pretty" }] },
                "/apis/b/v10/z": { "get": reference("Unwanted") },
                "/apis/a/v1/x": { "get": {} },
            },
            "definitions": {
                "Flower": { "properties": { "metadata": reference("Meta"), "same": reference("Same"), "leaf": reference("Leaf") } },
                "Leaf": { "properties": { "flower": reference("Flower") } },
                "Meta": { "type": "object", "description": "theirs" }, "Same": { "type": "object" }, "Unwanted": {},
            },
            "parameters": { "pretty": { "in": "header" } },
        });
        merge_v2(&mut own, &other, "/apis/b/v1");
        let names = |section: &str| own[section].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(names("paths"), ["/apis/a/v1/x", "/apis/b/v1", "/apis/b/v1/y"]);
        assert_eq!(names("definitions"), ["Flower", "Leaf", "Meta", "Meta_v2", "Same"]);
        assert_eq!(own["definitions"]["Flower"]["properties"]["metadata"], reference("Meta_v2"));
        assert_eq!(own["definitions"]["Meta"]["description"], "ours");
        assert_eq!(own["paths"]["/apis/b/v1/y"]["parameters"][0]["$ref"], "#/parameters/pretty_v2");
        let once = own.clone();
        merge_v2(&mut own, &other, "/apis/b/v1");
        assert_eq!(own, once);
    }
}
