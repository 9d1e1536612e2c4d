//! Objects that are worked out when somebody asks, and never stored: what is measured, and how the control plane is.
use crate::ApiServer;
use crate::body::Answer;
use crate::context::Context;
use crate::kinds::Kind;
use crate::measure;
use crate::negotiate::{self, Form};
use crate::read::encoded;
use crate::table::{IncludeObject, Renderer};
use crate::{list_body, metadata};
use api_meta::Status;
use http::StatusCode;
use serde_json::{Value, json};
use std::sync::Arc;

impl ApiServer {
    pub(crate) async fn computed(self: &Arc<Self>, context: &Context<'_>, kind: &Kind) -> Result<Answer, Status> {
        if kind.names().group == measure::GROUP {
            return self.measured(context, kind).await;
        }
        let mut components = self.components().await;
        if context.route.verb == "get" {
            components.retain(|component| metadata::text(component, "name") == context.route.name);
        }
        self.answer_computed(context, kind, components)
    }

    /// The parts of the control plane that may fail on their own: controllers and scheduler are this process.
    async fn components(&self) -> Vec<Value> {
        let store = self.store_works().await;
        let (status, message, error) = if store { ("True", "ok", "") } else { ("False", "", "the store cannot be read") };
        let mut healthy = json!({ "type": "Healthy", "status": status });
        for (field, text) in [("message", message), ("error", error)] {
            if !text.is_empty() {
                healthy[field] = text.into();
            }
        }
        vec![json!({ "kind": "ComponentStatus", "apiVersion": "v1", "metadata": { "name": "etcd-0", "creationTimestamp": null }, "conditions": [healthy] })]
    }

    /// Get or list of objects that are not stored, in the form that was asked for.
    pub(crate) fn answer_computed(&self, context: &Context<'_>, kind: &Kind, objects: Vec<Value>) -> Result<Answer, Status> {
        let names = kind.names();
        let accepted = negotiate::accepted(context.headers)?;
        let include = IncludeObject::parse(context.query.value("includeObject"))?;
        let renderer = Renderer::new(&**kind, accepted.form, include);
        if context.route.verb == "get" {
            // metrics-server names what is missing by its kind.
            let what = if names.group == measure::GROUP { names.kind.to_lowercase() } else { names.plural.to_string() };
            let object = objects.into_iter().next().ok_or_else(|| Status::not_found(&names.group, &what, &context.route.name))?;
            let value = if accepted.form == Form::Object { object } else { renderer.object(object, context.now, true) };
            return encoded(StatusCode::OK, accepted.encoding, &value);
        }
        if accepted.form == Form::Object {
            let list = json!({"kind": names.list_kind(), "apiVersion": names.api_version(), "metadata": {}, "items": objects});
            return encoded(StatusCode::OK, accepted.encoding, &list);
        }
        let mut text = renderer.head(&**kind, &json!({}));
        let rows: Vec<String> = objects.into_iter().map(|object| renderer.item(object, context.now).to_string()).collect();
        text.push_str(&rows.join(","));
        text.push_str(std::str::from_utf8(list_body::TAIL).expect("the end of a list is text"));
        encoded(StatusCode::OK, accepted.encoding, &serde_json::from_str(&text).map_err(Status::internal)?)
    }
}
