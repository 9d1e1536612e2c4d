//! Encodes the definitions without their prose, for `src/structure.rs` to read in place.
//!
//! Little endian: four u32 counts (strings, nodes, definitions, kinds); string ends (u32 each); node
//! ends (u32 each); definition names (u16 string each, sorted; definition i is node i); kinds (u16
//! group, version, kind, node; sorted); string bytes; node bytes. Equal nodes are stored once.
//!
//! A node: type byte; flags (varint); then, where its flag says so, format, definition, additional,
//! items, list-map keys, merge key, default; then properties and required. Type 255 is another
//! node with a patch strategy and map type of its own.
use serde_json::Value;
use std::collections::BTreeMap;

const TYPES: &[&str] = &["any", "object", "array", "string", "integer", "number", "boolean", "int-or-string"];
const OVERRIDE: u8 = 255;

/// Definitions whose document says `object` but which hold anything.
const ANYTHING: &[&str] =
    &["io.k8s.apimachinery.pkg.runtime.RawExtension", "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1", "io.k8s.apimachinery.pkg.apis.meta.v1.Patch"];

pub fn encode(definitions: &BTreeMap<String, Value>) -> Vec<u8> {
    let ids = definitions.keys().enumerate().map(|(id, name)| (name.clone(), id)).collect();
    let mut encoder = Encoder { ids, nodes: vec![Vec::new(); definitions.len()], ..Encoder::default() };
    let mut kinds = Vec::new();
    for (id, (name, schema)) in definitions.iter().enumerate() {
        encoder.nodes[id] = encoder.node(schema, Some(name));
        for kind in schema.get("x-kubernetes-group-version-kind").and_then(Value::as_array).into_iter().flatten() {
            let text = |key: &str| kind[key].as_str().expect("a kind has three texts").to_owned();
            kinds.push((text("group"), text("version"), text("kind"), id));
        }
    }
    kinds.sort();
    let names: Vec<usize> = definitions.keys().map(|name| encoder.string(name)).collect();
    let kinds: Vec<[usize; 4]> = kinds.iter().map(|(g, v, k, id)| [encoder.string(g), encoder.string(v), encoder.string(k), *id]).collect();

    let mut out = Vec::new();
    for count in [encoder.strings.len(), encoder.nodes.len(), names.len(), kinds.len()] {
        out.extend(u32::try_from(count).expect("counts are small").to_le_bytes());
    }
    let mut texts: Vec<&String> = vec![&EMPTY; encoder.strings.len()];
    encoder.strings.iter().for_each(|(text, id)| texts[*id] = text);
    ends(&mut out, texts.iter().map(|t| t.len()));
    ends(&mut out, encoder.nodes.iter().map(Vec::len));
    names.iter().chain(kinds.iter().flatten()).for_each(|id| out.extend(u16::try_from(*id).expect("ids fit 16 bits").to_le_bytes()));
    texts.iter().for_each(|t| out.extend(t.as_bytes()));
    encoder.nodes.iter().for_each(|n| out.extend(n));
    out
}

static EMPTY: String = String::new();

fn ends(out: &mut Vec<u8>, lengths: impl Iterator<Item = usize>) {
    let mut end = 0u32;
    for length in lengths {
        end += u32::try_from(length).expect("lengths are small");
        out.extend(end.to_le_bytes());
    }
}

#[derive(Default)]
struct Encoder {
    ids: BTreeMap<String, usize>,
    strings: BTreeMap<String, usize>,
    nodes: Vec<Vec<u8>>,
    known: BTreeMap<Vec<u8>, usize>,
}

impl Encoder {
    fn string(&mut self, text: &str) -> usize {
        let next = self.strings.len();
        *self.strings.entry(text.to_owned()).or_insert(next)
    }

    /// The id of a field's node.
    fn id(&mut self, schema: &Value) -> usize {
        let encoded = match schema.get("$ref").and_then(Value::as_str) {
            Some(name) => {
                let id = *self.ids.get(name).unwrap_or_else(|| panic!("{name} is a definition"));
                if patch_flags(schema) == 0 && !is_replaced(schema) && schema.get("x-kubernetes-map-type").is_none() {
                    return id;
                }
                let mut out = vec![OVERRIDE];
                varint(&mut out, id);
                let atomic = match schema.get("x-kubernetes-map-type").and_then(Value::as_str) {
                    None => 0,
                    Some("granular") => 1,
                    Some(_) => 2,
                };
                varint(&mut out, patch_flags(schema) | atomic << 2 | usize::from(is_replaced(schema)) << 4);
                out
            }
            None => self.node(schema, None),
        };
        let next = self.nodes.len();
        if let Some(id) = self.known.get(&encoded) {
            return *id;
        }
        self.nodes.push(encoded.clone());
        self.known.insert(encoded, next);
        next
    }

    fn node(&mut self, schema: &Value, definition: Option<&str>) -> Vec<u8> {
        let text = |key: &str| schema.get(key).and_then(Value::as_str);
        let strings = |key: &str| schema.get(key).and_then(Value::as_array).map(|a| a.iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>());
        let format = text("format").filter(|f| *f != "int-or-string");
        let kind = match (text("type"), text("format")) {
            _ if definition.is_some_and(|d| ANYTHING.contains(&d)) => "any",
            (_, Some("int-or-string")) => "int-or-string",
            (None, _) => "any",
            (Some(kind), _) => kind,
        };
        let kind = TYPES.iter().position(|t| *t == kind).unwrap_or_else(|| panic!("{kind} is a type"));
        // A Quantity is a string that also reads numbers: its own format, kept out of the documents.
        let format = if definition.is_some_and(|d| d.ends_with(".Quantity")) { Some("quantity") } else { format };
        let format = if definition.is_some_and(|d| d.ends_with(".MicroTime")) { Some("micro-time") } else { format };
        let list_keys = strings("x-kubernetes-list-map-keys").filter(|_| text("x-kubernetes-list-type") == Some("map"));
        let merge_key = text("x-kubernetes-patch-merge-key");
        let default = schema.get("default").map(Value::to_string);

        let mut flags = patch_flags(schema);
        flags |= usize::from(format.is_some()) << 2;
        flags |= usize::from(definition.is_some()) << 3;
        flags |= usize::from(schema.get("additionalProperties").is_some()) << 4;
        flags |= usize::from(schema.get("items").is_some()) << 5;
        flags |= usize::from(list_keys.is_some()) << 6;
        flags |= usize::from(merge_key.is_some()) << 7;
        flags |= usize::from(default.is_some()) << 8;
        flags |= usize::from(text("x-kubernetes-list-type") == Some("set")) << 9;
        flags |= usize::from(text("x-kubernetes-map-type") == Some("atomic")) << 10;
        flags |= usize::from(is_replaced(schema)) << 11;

        let mut out = vec![u8::try_from(kind).expect("types are few")];
        varint(&mut out, flags);
        for text in [format, definition].into_iter().flatten() {
            let id = self.string(text);
            varint(&mut out, id);
        }
        for key in ["additionalProperties", "items"] {
            if let Some(child) = schema.get(key) {
                let id = self.id(child);
                varint(&mut out, id);
            }
        }
        if let Some(keys) = list_keys {
            varint(&mut out, keys.len());
            for key in keys {
                let id = self.string(&key);
                varint(&mut out, id);
            }
        }
        for text in [merge_key, default.as_deref()].into_iter().flatten() {
            let id = self.string(text);
            varint(&mut out, id);
        }
        let properties = schema.get("properties").and_then(Value::as_object);
        varint(&mut out, properties.map_or(0, |p| p.len()));
        for (name, child) in properties.into_iter().flatten() {
            let (name, child) = (self.string(name), self.id(child));
            varint(&mut out, name);
            varint(&mut out, child);
        }
        let required = strings("required").unwrap_or_default();
        varint(&mut out, required.len());
        for name in required {
            let id = self.string(&name);
            varint(&mut out, id);
        }
        out
    }
}

/// Bit 0: merge; bit 1: retain keys.
fn patch_flags(schema: &Value) -> usize {
    let strategy = schema.get("x-kubernetes-patch-strategy").and_then(Value::as_str).unwrap_or_default();
    usize::from(strategy.split(',').any(|s| s == "merge")) | usize::from(strategy.split(',').any(|s| s == "retainKeys")) << 1
}

fn is_replaced(schema: &Value) -> bool {
    schema.get("x-kubernetes-patch-strategy").and_then(Value::as_str) == Some("replace")
}

fn varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
