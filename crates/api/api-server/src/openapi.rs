//! OpenAPI v2 and v3: the documents of the schema engine, made of the kinds that are served.
use crate::aggregation::Backend;
use crate::aggregation::discovery::{extend_index, hash};
use crate::documents::Document;
use crate::kinds::Kind;
use api_meta::Status;
use api_resource::{AnyResource, Versions};
use api_schema::openapi::{self, Served, ServedSubresource, v2_protobuf};
use api_schema::{Schema, SchemaRef};
use http::{HeaderMap, header};
use std::sync::Arc;

/// The release the documents say they describe.
const RELEASE: &str = "v1.37.0";

/// Whether there may be a document at this path.
pub fn is_document(path: &str) -> bool {
    let path = path.trim_end_matches('/');
    path == "/openapi/v2" || path == "/openapi/v3" || path.starts_with("/openapi/v3/")
}

/// kubectl reads v2 only as protobuf.
pub fn wants_protobuf(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    accept.split(',').next().is_some_and(|first| first.trim().starts_with("application/com.github.proto-openapi.spec.v2"))
}

/// The document at `path`, or `None` when there is none.
pub fn document(path: &str, protobuf: bool, kinds: &[Kind], backends: &[Arc<Backend>]) -> Result<Option<Document>, Status> {
    let path = path.trim_end_matches('/');
    let json = |bytes: Vec<u8>, tag: String| Document { bytes: bytes.into(), media_type: "application/json", tag: Some(tag), varies: false };
    Ok(match path {
        "/openapi/v2" => {
            let served: Vec<Served> = kinds.iter().map(|kind| served(kind, true)).collect();
            let (mut document, mut tag) = (openapi::v2_document(&served, RELEASE), openapi::hash(&served));
            if let Some(merged) = merged(&document, backends).map_err(Status::internal)? {
                document = merged;
                tag = hash(&document);
            }
            if !protobuf {
                return Ok(Some(Document { varies: true, ..json(document, tag) }));
            }
            let document = serde_json::from_slice(&document).map_err(Status::internal)?;
            let bytes = v2_protobuf::encode(&document).into();
            Some(Document { bytes, media_type: v2_protobuf::MEDIA_TYPE, tag: Some(tag), varies: true })
        }
        "/openapi/v3" => {
            let served: Vec<Served> = kinds.iter().map(|kind| served(kind, false)).collect();
            let (index, tag) = (openapi::v3_index(&served), openapi::hash(&served));
            if backends.is_empty() {
                return Ok(Some(json(index, tag)));
            }
            let mut index = serde_json::from_slice(&index).map_err(Status::internal)?;
            extend_index(&mut index, backends);
            let index = serde_json::to_vec(&index).expect("a value encodes");
            let tag = hash(&index);
            Some(json(index, tag))
        }
        _ => {
            let (group, version) = match path.trim_start_matches("/openapi/v3/").split('/').collect::<Vec<_>>()[..] {
                ["api", version] => ("", version),
                ["apis", group, version] => (group, version),
                _ => return Ok(None),
            };
            let own = kinds.iter().filter(|kind| kind.names().group == group && kind.names().version == version);
            let served: Vec<Served> = own.map(|kind| served(kind, true)).collect();
            if served.is_empty() {
                let backend = backends.iter().find(|backend| backend.group == group && backend.version == version);
                let document = backend.and_then(|backend| backend.state().document).map(|document| document.to_string().into_bytes());
                return Ok(document.map(|document| {
                    let tag = hash(&document);
                    json(document, tag)
                }));
            }
            let tag = openapi::hash(&served);
            openapi::v3_document(&served, group, version, RELEASE).map(|bytes| json(bytes, tag))
        }
    })
}

/// Our v2 document with those of aggregated servers in it; `None` when there are none.
fn merged(own: &[u8], backends: &[Arc<Backend>]) -> serde_json::Result<Option<Vec<u8>>> {
    let others: Vec<_> = backends.iter().filter_map(|backend| Some((backend, backend.state().document_v2?))).collect();
    if others.is_empty() {
        return Ok(None);
    }
    let mut document = serde_json::from_slice(own)?;
    for (Backend { group, version, .. }, other) in others.iter().map(|(backend, other)| (&***backend, other)) {
        openapi::merge_v2(&mut document, other, &format!("/apis/{group}/{version}"));
    }
    serde_json::to_vec(&document).map(Some)
}

/// `whole`: with the schemas, which an index has no need of.
fn served(kind: &Kind, whole: bool) -> Served {
    let names = kind.names();
    let (schema, document, fingerprint) = match kind {
        Kind::Builtin(kind) => (kind.schema(), kind.document(), None),
        Kind::Custom(custom) => {
            let document = if whole { custom.resource.document() } else { Some(Arc::default()) };
            (SchemaRef::new(Schema::default()), document, Some(Versions::settled_by(&*custom.resource)))
        }
    };
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
        schema,
        document,
        fingerprint,
    }
}
