//! View: an object as admission is shown it by the way it is written.
use crate::context::Context;
use crate::kinds::Kind;
use crate::scale::{self, Paths};
use crate::update::Change;
use api_admission::AdmissionRequest;
use api_meta::Status;
use serde_json::Value;
use std::borrow::Cow;

pub(crate) enum View {
    Whole,
    /// As the Scale that is written.
    Scale(Paths),
    /// Not at all: admission has judged what it was made from (a Binding).
    Admitted,
}

impl View {
    pub fn of(context: &Context<'_>, kind: &Kind, change: &Change<'_>) -> Self {
        if change.part.is_some_and(|part| part.name == "binding") {
            return Self::Admitted;
        }
        let subresource = kind.subresource(&context.route.subresource);
        subresource.and_then(|subresource| scale::paths(subresource).ok()).map_or(Self::Whole, Self::Scale)
    }

    pub fn shown<'v>(&self, object: &'v Value) -> Result<Cow<'v, Value>, Status> {
        Ok(match self {
            Self::Scale(paths) => Cow::Owned(scale::scale_of(object, paths)?),
            Self::Whole | Self::Admitted => Cow::Borrowed(object),
        })
    }

    /// The object as it is shown, and what is kept back meanwhile.
    pub fn given(&self, object: Value) -> Result<(Value, Value), Status> {
        Ok(match self {
            Self::Whole => (object, Value::Null),
            Self::Admitted => (Value::Null, object),
            Self::Scale(paths) => (scale::scale_of(&object, paths)?, object),
        })
    }

    pub fn names(&self, request: &mut AdmissionRequest<'_>) {
        if matches!(self, Self::Scale(_)) {
            (request.kind_group_version, request.kind) = ((scale::SCALE.0, scale::SCALE.1), scale::SCALE.2);
        }
    }

    /// The object, after admission was shown it and gave this; `object` is what was kept back.
    pub fn taken(&self, shown: Value, mut object: Value) -> Value {
        match self {
            Self::Whole => shown,
            Self::Admitted => object,
            Self::Scale(paths) => {
                scale::set_replicas(&mut object, shown["spec"]["replicas"].as_i64().unwrap_or(0), paths);
                object
            }
        }
    }
}
