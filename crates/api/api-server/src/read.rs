//! Get and list: stored bytes passed through, or rendered as Tables and metadata.
use crate::body::{self, Answer};
use crate::context::Context;
use crate::continue_token::ContinueToken;
use crate::kinds::Kind;
use crate::negotiate::{self, Encoding, Form};
use crate::stored::stored;
use crate::table::{IncludeObject, Renderer};
use crate::{ApiServer, errors};
use api_meta::Status;
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use std::sync::Arc;
use store::{RangeRequest, RangeResponse, Record, Scope, StoreError};

/// Pieces of a list body are joined up to this size, so that few frames carry many objects.
const PIECE: usize = 64 << 10;

impl ApiServer {
    pub(crate) async fn record(&self, context: &Context<'_>, kind: &Kind, name: &str) -> Result<Arc<Record>, Status> {
        let names = kind.names();
        let found = self.store.get(&context.key(kind, name)).await.map_err(errors::from_store)?;
        found.ok_or_else(|| Status::not_found(&names.group, &names.plural, name))
    }

    pub(crate) async fn get(&self, context: &Context<'_>, kind: &Kind) -> Result<Answer, Status> {
        let record = self.record(context, kind, &context.route.name).await?;
        if let Some(revision) = context.query.get("resourceVersion") {
            let revision: u64 = revision
                .parse()
                .map_err(|_| Status::bad_request(format!("invalid resource version {revision:?}: strconv.ParseUint: parsing {revision:?}: invalid syntax")))?;
            self.check_not_future(revision)?;
        }
        self.answer_object(context, kind, StatusCode::OK, &record.value)
    }

    /// An object in the form the client accepts.
    pub(crate) fn answer_object(&self, context: &Context<'_>, kind: &Kind, code: StatusCode, bytes: &Bytes) -> Result<Answer, Status> {
        let accepted = negotiate::accepted(context.headers)?;
        if accepted.form == Form::Object && accepted.encoding == Encoding::Json {
            return Ok(body::json_bytes(code, bytes.clone()));
        }
        let object = serde_json::from_slice(bytes).map_err(Status::internal)?;
        let include = IncludeObject::parse(context.query.get("includeObject"))?;
        let value = Renderer::new(&**kind, accepted.form, include).object(object, context.now, true);
        encoded(code, accepted.encoding, &value)
    }

    pub(crate) fn check_not_future(&self, revision: u64) -> Result<(), Status> {
        let newest = self.store.revision();
        if revision > newest {
            return Err(errors::from_store(StoreError::Future { requested: revision, newest }));
        }
        Ok(())
    }

    /// The records a list covers, filtered by its selectors, with the continue token for what follows.
    pub(crate) async fn select(&self, context: &Context<'_>, kind: &Kind) -> Result<Selected, Status> {
        let (labels, fields) = (context.query.labels()?, context.fields(kind)?);
        let limit = usize::try_from(context.query.integer("limit")?.unwrap_or(0)).unwrap_or(0);
        let scope = context.scope(kind);
        let prefix = scope.prefix();
        let token = context.query.get("continue").map(ContinueToken::decode).transpose()?;
        let revision = self.list_revision(context, token.as_ref())?;
        let after = token.map(|token| format!("{prefix}{}", token.after));
        let selective = !(labels.is_everything() && fields.is_everything());
        let mut request = RangeRequest { scope, after, limit: if selective { 0 } else { limit }, revision };
        if let Some(name) = fields.exact("metadata.name").filter(|_| !kind.namespaced() || !context.route.namespace.is_empty()) {
            request.scope = Scope::Key(context.key(kind, name));
        }
        let RangeResponse { mut records, revision, mut remaining } = self.store.range(request).await.map_err(errors::from_store_in_list)?;
        if selective {
            records.retain(|record| stored(record).matches(&**kind, &labels, &fields));
            if limit > 0 && records.len() > limit {
                remaining = records.len() - limit;
                records.truncate(limit);
            }
        }
        let token = records.last().filter(|_| remaining > 0 && limit > 0).map(|last| ContinueToken::new(revision, &last.key.as_str()[prefix.len()..]).encode());
        // Upstream doesn't count what selectors would leave out.
        let remaining = (token.is_some() && !selective).then_some(remaining);
        Ok(Selected { records, revision, token, remaining })
    }

    fn list_revision(&self, context: &Context<'_>, token: Option<&ContinueToken>) -> Result<Option<u64>, Status> {
        let asked = context.query.get("resourceVersion");
        let matching = context.query.get("resourceVersionMatch");
        if let Some(token) = token {
            return match asked {
                Some(version) if version != "0" => Err(Status::bad_request("specifying resource version is not allowed when using continue")),
                _ if token.revision > 0 => Ok(Some(token.revision)),
                _ => Ok(None),
            };
        }
        let number = |text: &str| {
            text.parse::<u64>()
                .map_err(|_| Status::bad_request(format!("invalid resource version {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax")))
        };
        match (asked, matching) {
            (None, None) => Ok(None),
            (None, Some(_)) => {
                Err(errors::list_options("resourceVersionMatch", "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided"))
            }
            (Some("0"), Some("Exact")) => {
                Err(errors::list_options("resourceVersionMatch", "Forbidden: resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\""))
            }
            (Some(version), Some("Exact")) => number(version).map(Some),
            (Some(version), None | Some("NotOlderThan")) => {
                // What is read is always the newest, which is not older than anything known.
                self.check_not_future(number(version)?)?;
                Ok(None)
            }
            (Some(_), Some(other)) => {
                Err(errors::list_options("resourceVersionMatch", &format!("Unsupported value: {other:?}: supported values: \"Exact\", \"NotOlderThan\", \"\"")))
            }
        }
    }

    pub(crate) async fn list(&self, context: &Context<'_>, kind: &Kind) -> Result<Answer, Status> {
        let accepted = negotiate::accepted(context.headers)?;
        let selected = self.select(context, kind).await?;
        if accepted.form == Form::Object && accepted.encoding == Encoding::Json {
            return Ok(selected.answer(kind));
        }
        let include = IncludeObject::parse(context.query.get("includeObject"))?;
        let metadata = selected.metadata();
        let items = selected.records.iter().map(|record| stored(record).object.to_value()).collect();
        let value = Renderer::new(&**kind, accepted.form, include).list(&**kind, items, metadata, context.now);
        encoded(StatusCode::OK, accepted.encoding, &value)
    }
}

pub(crate) fn encoded(code: StatusCode, encoding: Encoding, value: &Value) -> Result<Answer, Status> {
    match encoding {
        Encoding::Json => Ok(body::json(code, value)),
        Encoding::Yaml => {
            let text = serde_saphyr::to_string(value).map_err(Status::internal)?;
            let mut answer = body::text(code, text);
            answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/yaml"));
            Ok(answer)
        }
    }
}

pub(crate) struct Selected {
    pub records: Vec<Arc<Record>>,
    pub revision: u64,
    pub token: Option<String>,
    pub remaining: Option<usize>,
}

impl Selected {
    fn metadata(&self) -> Value {
        let mut metadata = json!({ "resourceVersion": self.revision.to_string() });
        if let Some(token) = &self.token {
            metadata["continue"] = token.clone().into();
        }
        if let Some(remaining) = self.remaining {
            metadata["remainingItemCount"] = remaining.into();
        }
        metadata
    }

    /// The list as a concatenation of stored bytes.
    pub(crate) fn answer(&self, kind: &Kind) -> Answer {
        let names = kind.names();
        let head =
            format!("{{\"kind\":{},\"apiVersion\":{},\"metadata\":{},\"items\":[", json!(names.list_kind()), json!(names.api_version()), self.metadata());
        let commas = self.records.len().saturating_sub(1);
        let size = head.len() + 3 + commas + self.records.iter().map(|record| record.value.len()).sum::<usize>();
        let mut pieces = Vec::with_capacity(size / PIECE + 1);
        let mut piece = Vec::with_capacity(size.min(PIECE + 4096));
        piece.extend_from_slice(head.as_bytes());
        for (index, record) in self.records.iter().enumerate() {
            if index > 0 {
                piece.push(b',');
            }
            piece.extend_from_slice(&record.value);
            if piece.len() >= PIECE {
                pieces.push(Bytes::from(std::mem::replace(&mut piece, Vec::with_capacity(PIECE + 4096))));
            }
        }
        piece.extend_from_slice(b"]}\n");
        pieces.push(piece.into());
        let mut answer = Answer::new(if pieces.len() == 1 { body::full(pieces.remove(0)) } else { body::pieces(pieces) });
        answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        answer.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(size));
        answer
    }
}
