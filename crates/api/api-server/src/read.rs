//! Get and list: stored bytes passed through, or rendered as Tables and metadata.
use crate::body::{self, Answer};
use crate::context::Context;
use crate::continue_token::ContinueToken;
use crate::kinds::Kind;
use crate::list_options::{self, Snapshot};
use crate::negotiate::{self, Accepted, Encoding, Form};
use crate::stored::stored;
use crate::table::{IncludeObject, Renderer};
use crate::{ApiServer, errors, list_body};
use api_meta::Status;
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::sync::Arc;
use store::{RangeRequest, RangeResponse, Record, StoreError};

impl ApiServer {
    /// A record as it is stored.
    pub(crate) async fn stored_record(&self, context: &Context<'_>, kind: &Kind, name: &str) -> Result<Arc<Record>, Status> {
        let names = kind.names();
        let found = self.store.get(&context.key(kind, name)).await.map_err(errors::from_store)?;
        found.ok_or_else(|| Status::not_found(&names.group, &names.plural, name))
    }

    /// A record as this kind serves it.
    pub(crate) async fn record(&self, context: &Context<'_>, kind: &Kind, name: &str) -> Result<Arc<Record>, Status> {
        let stored = self.stored_record(context, kind, name).await?;
        self.converter.record(context.cluster, kind, stored).await
    }

    pub(crate) async fn get(&self, context: &Context<'_>, kind: &Kind) -> Result<Answer, Status> {
        // What is read is always the newest, which is not older than anything known.
        self.check_not_future(list_options::revision(context.query)?)?;
        let record = self.record(context, kind, &context.route.name).await?;
        self.answer_object(context, kind, StatusCode::OK, &record.value)
    }

    /// An object in the form the client accepts.
    pub(crate) fn answer_object(&self, context: &Context<'_>, kind: &Kind, code: StatusCode, bytes: &Bytes) -> Result<Answer, Status> {
        let accepted = negotiate::accepted(context.headers)?;
        if accepted.form == Form::Object && accepted.encoding == Encoding::Json {
            return Ok(body::json_bytes(code, bytes.clone()));
        }
        let object = serde_json::from_slice(bytes).map_err(Status::internal)?;
        let include = IncludeObject::parse(context.query.value("includeObject"))?;
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
        let token = context.query.value("continue").map(ContinueToken::decode).transpose()?;
        let continued = token.is_some();
        let revision = match list_options::snapshot(context.query, continued)? {
            Snapshot::Exact(revision) => Some(revision),
            Snapshot::Newest { at_least } => {
                self.check_not_future(at_least)?;
                token.as_ref().map(|token| token.revision).filter(|revision| *revision > 0)
            }
        };
        let after = token.as_ref().map(|token| format!("{prefix}{}", token.after));
        let rest = token.map(|token| ContinueToken::new(0, &token.after));
        let selective = !(labels.is_everything() && fields.is_everything());
        let request = RangeRequest { scope, after, limit: if selective { 0 } else { limit }, revision };
        let found = self.store.range(request).await;
        let RangeResponse { mut records, revision, mut remaining } = found.map_err(|error| errors::from_store_in_list(error, rest))?;
        records = self.converter.records(context.cluster, kind, records).await?;
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

    pub(crate) async fn list(&self, context: &Context<'_>, kind: &Kind) -> Result<Answer, Status> {
        let accepted = negotiate::accepted(context.headers)?;
        let include = IncludeObject::parse(context.query.value("includeObject"))?;
        let selected = self.select(context, kind).await?;
        if accepted == (Accepted { form: Form::Object, encoding: Encoding::Json }) {
            return Ok(selected.answer(kind));
        }
        let renderer = Renderer::new(&**kind, accepted.form, include);
        let (head, now) = (renderer.head(&**kind, &selected.metadata()), context.now);
        let list = list_body::list(head, selected.records, move |record, out| {
            let item = renderer.item(stored(record).object.to_value(), now);
            serde_json::to_writer(out, &item).expect("a value encodes");
        });
        if accepted.encoding == Encoding::Json {
            return Ok(body::json_body(list));
        }
        let whole = list.collect().await.map_err(Status::internal)?.to_bytes();
        encoded(StatusCode::OK, accepted.encoding, &serde_json::from_slice(&whole).map_err(Status::internal)?)
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
    pub(crate) fn answer(self, kind: &Kind) -> Answer {
        let names = kind.names();
        let head =
            format!("{{\"kind\":{},\"apiVersion\":{},\"metadata\":{},\"items\":[", json!(names.list_kind()), json!(names.api_version()), self.metadata());
        let commas = self.records.len().saturating_sub(1);
        let size = head.len() + list_body::TAIL.len() + commas + self.records.iter().map(|record| record.value.len()).sum::<usize>();
        let mut answer = body::json_body(list_body::list(head, self.records, |record, out| out.extend_from_slice(&record.value)));
        answer.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(size));
        answer
    }
}
