//! The targets: for each decoder what it is run on, and valid examples to begin with.
mod bodies;
mod expressions;
mod patches;
mod requests;
mod streams;

/// A decoder under test.
pub struct Target {
    pub name: &'static str,
    /// Returns whatever it is given; a panic is a defect.
    pub run: fn(&[u8]),
    /// Valid inputs, one at least.
    pub examples: fn() -> Vec<Vec<u8>>,
}

pub static TARGETS: &[Target] = &[
    Target { name: "json-body", run: bodies::json, examples: bodies::json_examples },
    Target { name: "yaml-body", run: bodies::yaml, examples: bodies::yaml_examples },
    Target { name: "protobuf-body", run: bodies::protobuf, examples: bodies::protobuf_examples },
    Target { name: "schema", run: bodies::schema, examples: bodies::schema_examples },
    Target { name: "json-patch", run: patches::json, examples: patches::json_examples },
    Target { name: "merge-patch", run: patches::merge, examples: patches::merge_examples },
    Target { name: "strategic-patch", run: patches::strategic, examples: patches::strategic_examples },
    Target { name: "apply-patch", run: patches::apply, examples: patches::apply_examples },
    Target { name: "cel", run: expressions::cel, examples: expressions::examples },
    Target { name: "quantity", run: requests::quantity, examples: requests::quantity_examples },
    Target { name: "label-selector", run: requests::label_selector, examples: requests::label_selector_examples },
    Target { name: "field-selector", run: requests::field_selector, examples: requests::field_selector_examples },
    Target { name: "continue-token", run: requests::continue_token, examples: requests::continue_token_examples },
    Target { name: "request", run: requests::request, examples: requests::request_examples },
    Target { name: "spdy-frames", run: streams::frames, examples: streams::frame_examples },
    Target { name: "spdy-headers", run: streams::headers, examples: streams::header_examples },
    Target { name: "web-socket", run: streams::web_socket, examples: streams::web_socket_examples },
];

/// Texts as inputs.
fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}
