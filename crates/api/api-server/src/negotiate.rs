//! Content negotiation: which form of an object the client wants, and which form its body has.
use api_meta::Status;
use http::{HeaderMap, header};

/// The form an answer takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Object,
    Table,
    Metadata,
}

/// How the answer is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Json,
    Yaml,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    pub form: Form,
    pub encoding: Encoding,
}

/// What protobuf is called.
pub const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// The media ranges of the Accept header and how much they are wanted: most first, among equals what was named first.
pub fn ranges(headers: &HeaderMap) -> Vec<(&str, f32)> {
    let asked = headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
    let mut asked: Vec<(&str, f32)> = asked.map(str::trim).filter(|range| !range.is_empty()).map(|range| (range, quality(range))).collect();
    asked.sort_by(|a, b| b.1.total_cmp(&a.1));
    asked
}

/// The first media type of the Accept header that can be served; 406 when none can.
pub fn accepted(headers: &HeaderMap) -> Result<Accepted, Status> {
    let default = Accepted { form: Form::Object, encoding: Encoding::Json };
    let asked = ranges(headers);
    if asked.is_empty() {
        return Ok(default);
    }
    for (range, _) in asked {
        let mut parts = range.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default();
        let encoding = match media_type {
            // Written in JSON first: see `protobuf.rs`.
            "application/json" | "*/*" | "application/*" | PROTOBUF => Encoding::Json,
            "application/yaml" => Encoding::Yaml,
            _ => continue,
        };
        let (mut kind, mut group, mut version) = ("", "", "");
        for parameter in parts {
            match parameter.split_once('=') {
                Some(("as", value)) => kind = value,
                Some(("g", value)) => group = value,
                Some(("v", value)) => version = value,
                _ => {}
            }
        }
        let form = match (kind, group, version) {
            ("", ..) => Form::Object,
            // Tables have no protobuf form.
            ("Table", "meta.k8s.io", "v1") if media_type != PROTOBUF => Form::Table,
            ("PartialObjectMetadata" | "PartialObjectMetadataList", "meta.k8s.io", "v1") => Form::Metadata,
            _ => continue,
        };
        return Ok(Accepted { form, encoding });
    }
    Err(not_acceptable("application/json, application/yaml, application/vnd.kubernetes.protobuf"))
}

/// How much a media type is wanted: its parameter `q`, 1 unless it says less.
fn quality(range: &str) -> f32 {
    range.split(';').skip(1).find_map(|parameter| parameter.trim().strip_prefix("q=")?.parse().ok()).filter(|q: &f32| q.is_finite()).unwrap_or(1.0)
}

/// As [`accepted`], for a watch: a stream of frames, which YAML has none of.
pub fn accepted_stream(headers: &HeaderMap) -> Result<Form, Status> {
    let accepted = accepted(headers)?;
    if accepted.encoding == Encoding::Json {
        Ok(accepted.form)
    } else {
        Err(not_acceptable("application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch"))
    }
}

fn not_acceptable(types: &str) -> Status {
    Status::not_acceptable(format!("only the following media types are accepted: {types}"))
}

/// A request body as a JSON text, whatever its media type.
pub fn body_as_json(headers: &HeaderMap, body: &bytes::Bytes) -> Result<bytes::Bytes, Status> {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("application/json");
    match media_type.split(';').next().unwrap_or_default().trim() {
        "application/json" | "" => Ok(body.clone()),
        "application/yaml" => {
            // Its decoder has limits of its own on depth, aliases and size.
            let value: serde_json::Value =
                serde_saphyr::from_slice(body).map_err(|error| Status::bad_request(format!("error converting YAML to JSON: yaml: {}", first_line(&error))))?;
            Ok(serde_json::to_vec(&value).expect("a value encodes").into())
        }
        "application/vnd.kubernetes.protobuf" if body.is_empty() => Ok(body.clone()),
        "application/vnd.kubernetes.protobuf" => {
            let value = api_schema::protobuf::read(body).map_err(|error| Status::bad_request(error.to_string()))?;
            Ok(serde_json::to_vec(&value).expect("a value encodes").into())
        }
        _ => Err(Status::unsupported_media_type(
            "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf",
        )),
    }
}

/// What is wrong with a YAML text, without the picture of it that follows.
pub fn first_line(error: &serde_saphyr::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_form_that_can_be_served_wins() {
        let check = |accept: &str, want: Option<Accepted>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            assert_eq!(accepted(&headers).ok(), want, "{accept}");
        };
        let of = |form, encoding| Some(Accepted { form, encoding });
        check("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", of(Form::Table, Encoding::Json));
        check("application/vnd.kubernetes.protobuf,application/json", of(Form::Object, Encoding::Json));
        check("application/json;as=Table;v=v1beta1;g=meta.k8s.io, application/json", of(Form::Object, Encoding::Json));
        check("application/yaml", of(Form::Object, Encoding::Yaml));
        check("application/vnd.kubernetes.protobuf", of(Form::Object, Encoding::Json));
        check("application/cbor", None);
        check("application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1,application/json;as=Table;g=meta.k8s.io;v=v1", of(Form::Table, Encoding::Json));
        check("application/yaml;q=0.5, application/json;q=0.9", of(Form::Object, Encoding::Json));
        check("application/json;q=0.1,application/yaml", of(Form::Object, Encoding::Yaml));
        check("*/*", of(Form::Object, Encoding::Json));
    }
}
