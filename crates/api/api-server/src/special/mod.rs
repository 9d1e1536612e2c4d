//! Subresources and resources with a meaning of their own: binding, eviction, token, reviews, node streams.
mod binding;
mod connect;
mod eviction;
mod node_driver;
mod node_stream;
mod proxy;
mod reviews;
mod token;

pub(crate) use node_stream::{DIAL_TIMEOUT, joined};
pub(crate) use proxy::{HOP_BY_HOP, exchange};

use crate::ApiServer;
use crate::body::Answer;
use crate::context::Context;
use crate::kinds::Kind;
use crate::route::ResourceRoute;
use api_meta::Status;
use api_resource::Subresource;
use bytes::Bytes;

/// The verb a request is authorized as: opening a stream is `create` (kubectl may GET it too), upstream's rule since 1.35.
pub fn verb(route: &ResourceRoute) -> &'static str {
    match route.subresource.as_str() {
        "exec" | "attach" | "portforward" => "create",
        _ => route.verb,
    }
}

/// Whether the request goes through to the node the pod runs on.
pub fn is_stream(route: &ResourceRoute) -> bool {
    route.resource == "pods" && matches!(route.subresource.as_str(), "log" | "exec" | "attach" | "portforward")
}

/// Whether the request may take as long as its client likes.
pub fn is_long_running(route: &ResourceRoute) -> bool {
    route.subresource == "proxy" || is_stream(route)
}

/// Whether the resource is a question that is answered and not stored.
pub fn is_review(route: &ResourceRoute) -> bool {
    matches!(route.group.as_str(), "authentication.k8s.io" | "authorization.k8s.io") && route.verb == "create" && route.subresource.is_empty()
}

/// POST to a collection: a create, but for `bindings`, the old way to bind a pod.
pub async fn create(server: &ApiServer, context: &Context<'_>, kind: &Kind, body: &Bytes) -> Result<Answer, Status> {
    if context.route.group.is_empty() && context.route.resource == "bindings" {
        let kind = server.kinds.find(context.cluster, "", "v1", "pods").ok_or_else(Status::no_such_resource)?;
        return server.bind(context, &kind, body).await;
    }
    server.create(context, kind, body).await
}

impl ApiServer {
    pub(crate) async fn special(&self, context: &Context<'_>, kind: &Kind, subresource: &Subresource, body: &Bytes) -> Result<Answer, Status> {
        match (context.route.resource.as_str(), subresource.name) {
            ("pods", "binding") => self.bind(context, kind, body).await,
            ("pods", "eviction") => self.evict(context, kind, subresource, body).await,
            ("serviceaccounts", "token") => self.token(context, kind, subresource, body).await,
            _ => Err(Status::no_such_resource()),
        }
    }
}
