//! Reads the structure of the built-in definitions in place, as `build/structure.rs` wrote it.
use crate::schema::{ListType, MapType, PatchStrategy, Schema, SchemaRef, Type};
use std::sync::{LazyLock, OnceLock};

static BYTES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/structure.bin"));

const TYPES: [Type; 8] = [Type::Any, Type::Object, Type::Array, Type::String, Type::Integer, Type::Number, Type::Boolean, Type::IntOrString];
const OVERRIDE: u8 = 255;

/// Every node, decoded when first asked for: a cluster that never sees a kind never pays for its schema.
static NODES: LazyLock<Box<[OnceLock<Box<Schema>>]>> = LazyLock::new(|| (0..LAYOUT.nodes).map(|_| OnceLock::new()).collect());

static LAYOUT: LazyLock<Layout> = LazyLock::new(Layout::read);

/// Where the parts begin.
struct Layout {
    strings: usize,
    nodes: usize,
    definitions: usize,
    kinds: usize,
    string_ends: usize,
    node_ends: usize,
    definition_names: usize,
    kind_table: usize,
    string_bytes: usize,
    node_bytes: usize,
}

impl Layout {
    fn read() -> Self {
        let [strings, nodes, definitions, kinds] = [0, 4, 8, 12].map(u32_at);
        let string_ends = 16;
        let node_ends = string_ends + strings * 4;
        let definition_names = node_ends + nodes * 4;
        let kind_table = definition_names + definitions * 2;
        let string_bytes = kind_table + kinds * 8;
        let node_bytes = string_bytes + u32_at(string_ends + (strings - 1) * 4);
        Self { strings, nodes, definitions, kinds, string_ends, node_ends, definition_names, kind_table, string_bytes, node_bytes }
    }
    fn string(&self, id: usize) -> &'static str {
        debug_assert!(id < self.strings);
        let start = if id == 0 { 0 } else { u32_at(self.string_ends + (id - 1) * 4) };
        let end = u32_at(self.string_ends + id * 4);
        std::str::from_utf8(&BYTES[self.string_bytes + start..self.string_bytes + end]).expect("the build wrote text")
    }
    fn node(&self, id: usize) -> Reader {
        let start = if id == 0 { 0 } else { u32_at(self.node_ends + (id - 1) * 4) };
        Reader { at: self.node_bytes + start }
    }
}

fn u32_at(at: usize) -> usize {
    u32::from_le_bytes(BYTES[at..at + 4].try_into().expect("four bytes")) as usize
}
fn u16_at(at: usize) -> usize {
    usize::from(u16::from_le_bytes(BYTES[at..at + 2].try_into().expect("two bytes")))
}

/// The node of a definition.
pub(crate) fn find_definition(name: &str) -> Option<u16> {
    let layout = &*LAYOUT;
    find(layout.definitions, |i| layout.string(u16_at(layout.definition_names + i * 2)).cmp(name)).map(|i| i as u16)
}

/// The node of a kind.
pub(crate) fn find_kind(group: &str, version: &str, kind: &str) -> Option<u16> {
    let layout = &*LAYOUT;
    let text = |i: usize, column: usize| layout.string(u16_at(layout.kind_table + i * 8 + column * 2));
    let at = find(layout.kinds, |i| (text(i, 0), text(i, 1), text(i, 2)).cmp(&(group, version, kind)))?;
    Some(u16_at(layout.kind_table + at * 8 + 6) as u16)
}

/// Every (group, version, kind) that has a definition, sorted.
pub(crate) fn kinds() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    let layout = &*LAYOUT;
    (0..layout.kinds).map(|i| {
        let text = |column: usize| layout.string(u16_at(layout.kind_table + i * 8 + column * 2));
        (text(0), text(1), text(2))
    })
}

fn find(count: usize, order: impl Fn(usize) -> std::cmp::Ordering) -> Option<usize> {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low.midpoint(high);
        match order(middle) {
            std::cmp::Ordering::Equal => return Some(middle),
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
        }
    }
    None
}

/// A node's schema, decoded at first use.
pub(crate) fn schema(id: u16) -> &'static Schema {
    NODES[usize::from(id)].get_or_init(|| Box::new(decode(usize::from(id))))
}

struct Reader {
    at: usize,
}

impl Reader {
    fn byte(&mut self) -> u8 {
        self.at += 1;
        BYTES[self.at - 1]
    }
    fn varint(&mut self) -> usize {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = self.byte();
            value |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return value;
            }
            shift += 7;
        }
    }
    fn text(&mut self) -> Box<str> {
        LAYOUT.string(self.varint()).into()
    }
    fn texts(&mut self) -> Vec<Box<str>> {
        (0..self.varint()).map(|_| self.text()).collect()
    }
    fn child(&mut self) -> SchemaRef {
        SchemaRef::node(self.varint() as u16)
    }
}

fn decode(id: usize) -> Schema {
    let mut reader = LAYOUT.node(id);
    let kind = reader.byte();
    if kind == OVERRIDE {
        let mut schema = decode(reader.varint());
        let flags = reader.varint();
        schema.patch.merge = flags & 1 != 0;
        schema.patch.retain_keys = flags & 2 != 0;
        schema.patch.replace = flags & 16 != 0;
        match (flags >> 2) & 3 {
            0 => {}
            1 => schema.map_type = MapType::Granular,
            _ => schema.map_type = MapType::Atomic,
        }
        return schema;
    }
    let flags = reader.varint();
    let has = |bit: u32| flags & (1 << bit) != 0;
    Schema {
        kind: TYPES[usize::from(kind)],
        format: has(2).then(|| reader.text()),
        definition: has(3).then(|| reader.text()),
        additional: has(4).then(|| reader.child()),
        items: has(5).then(|| reader.child()),
        list_type: if has(6) {
            ListType::Map(reader.texts())
        } else if has(9) {
            ListType::Set
        } else {
            ListType::Atomic
        },
        patch: PatchStrategy { merge: has(0), retain_keys: has(1), replace: has(11), merge_key: has(7).then(|| reader.text()) },
        default: has(8).then(|| serde_json::from_str(&reader.text()).expect("the build wrote JSON")),
        map_type: if has(10) { MapType::Atomic } else { MapType::Granular },
        properties: (0..reader.varint()).map(|_| (reader.text(), reader.child())).collect(),
        required: reader.texts(),
        preserve_unknown: TYPES[usize::from(kind)] == Type::Any,
        ..Schema::default()
    }
}
