//! OpenAPI v2 and v3: the documents of the schema engine, made of the kinds that are served.
use crate::body::{self, Answer};
use crate::kinds::Kind;
use crate::query::Query;
use api_meta::Status;
use api_schema::openapi::{self, Served, ServedSubresource, v2_protobuf};
use http::{HeaderMap, HeaderValue, StatusCode, header};

/// The release the documents say they describe.
const RELEASE: &str = "v1.37.0";

/// The document at `path`, or `None` when there is none.
pub fn answer(path: &str, query: &Query, headers: &HeaderMap, kinds: &[Kind]) -> Option<Result<Answer, Status>> {
    let path = path.trim_end_matches('/');
    if path != "/openapi/v2" && path != "/openapi/v3" && !path.starts_with("/openapi/v3/") {
        return None;
    }
    let served: Vec<Served> = kinds.iter().map(served).collect();
    let (bytes, tag) = match path {
        "/openapi/v2" => {
            let tag = openapi::hash(&served);
            if matches(headers, &tag) {
                return Some(Ok(not_modified(&tag)));
            }
            let document = openapi::v2_document(&served, RELEASE);
            if wants_protobuf(headers) {
                return Some(protobuf(&document, &tag));
            }
            (document, tag)
        }
        "/openapi/v3" => (openapi::v3_index(&served), openapi::hash(&served)),
        _ => {
            let (group, version) = match path.trim_start_matches("/openapi/v3/").split('/').collect::<Vec<_>>()[..] {
                ["api", version] => ("", version),
                ["apis", group, version] => (group, version),
                _ => return Some(Err(Status::no_such_resource())),
            };
            let own: Vec<&Served> = served.iter().filter(|s| s.group == group && s.version == version).collect();
            let tag = openapi::hash(own);
            if matches(headers, &tag) {
                return Some(Ok(not_modified(&tag)));
            }
            match openapi::v3_document(&served, group, version, RELEASE) {
                Some(bytes) => (bytes, tag),
                None => return Some(Err(Status::no_such_resource())),
            }
        }
    };
    let mut answer = body::json_bytes(StatusCode::OK, bytes);
    tagged(&mut answer, &tag);
    // Under a URL that names its content's hash the document never changes.
    if query.get("hash").is_some() {
        answer.headers_mut().insert(header::EXPIRES, HeaderValue::from_static("Thu, 31 Dec 2037 23:55:55 GMT"));
    }
    Some(Ok(answer))
}

/// kubectl reads v2 only as protobuf.
fn wants_protobuf(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    accept.split(',').next().is_some_and(|first| first.trim().starts_with("application/com.github.proto-openapi.spec.v2"))
}

fn protobuf(document: &[u8], tag: &str) -> Result<Answer, Status> {
    let document = serde_json::from_slice(document).map_err(Status::internal)?;
    let mut answer = body::json_bytes(StatusCode::OK, v2_protobuf::encode(&document));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(v2_protobuf::MEDIA_TYPE));
    answer.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
    tagged(&mut answer, tag);
    Ok(answer)
}

fn matches(headers: &HeaderMap, tag: &str) -> bool {
    headers.get(header::IF_NONE_MATCH).and_then(|v| v.to_str().ok()).is_some_and(|value| value.trim_matches('"') == tag)
}

fn not_modified(tag: &str) -> Answer {
    let mut answer = Answer::new(body::full(""));
    *answer.status_mut() = StatusCode::NOT_MODIFIED;
    tagged(&mut answer, tag);
    answer
}

fn tagged(answer: &mut Answer, tag: &str) {
    if let Ok(value) = HeaderValue::from_str(&format!("\"{tag}\"")) {
        answer.headers_mut().insert(header::ETAG, value);
    }
}

fn served(kind: &Kind) -> Served {
    let names = kind.names();
    let subresources = kind.subresources().iter().map(|subresource| {
        let (group, version, speaks) = subresource.speaks;
        ServedSubresource {
            name: subresource.name.into(),
            verbs: subresource.verbs.iter().map(|verb| (*verb).to_owned()).collect(),
            speaks: (group.into(), version.into(), speaks.into()),
        }
    });
    Served {
        group: names.group.to_string(),
        version: names.version.to_string(),
        kind: names.kind.to_string(),
        plural: names.plural.to_string(),
        namespaced: kind.namespaced(),
        verbs: kind.verbs().iter().map(|verb| (*verb).to_owned()).collect(),
        subresources: subresources.collect(),
        schema: kind.schema(),
        document: kind.document(),
    }
}
