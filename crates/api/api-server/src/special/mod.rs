//! Subresources and resources with a meaning of their own: binding, eviction, token, reviews, node streams.
mod binding;
mod eviction;
mod node_stream;
mod proxy;
mod reviews;
mod token;

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

/// Whether the resource is a question that is answered and not stored.
pub fn is_review(route: &ResourceRoute) -> bool {
    matches!(route.group.as_str(), "authentication.k8s.io" | "authorization.k8s.io") && route.verb == "create" && route.subresource.is_empty()
}

/// POST to a collection: a create, but for `bindings`, the old way to bind a pod.
pub async fn create(server: &ApiServer, context: &Context<'_>, kind: &Kind, body: &Bytes) -> Result<Answer, Status> {
    if context.route.group.is_empty() && context.route.resource == "bindings" {
        return server.bind(context, body).await;
    }
    server.create(context, kind, body).await
}

impl ApiServer {
    pub(crate) async fn special(&self, context: &Context<'_>, kind: &Kind, subresource: &Subresource, body: &Bytes) -> Result<Answer, Status> {
        if !subresource.verbs.contains(&context.route.verb) {
            return Err(Status::method_not_allowed(&context.route.group, &context.route.resource, context.route.verb));
        }
        match (context.route.resource.as_str(), subresource.name) {
            ("pods", "binding") => self.bind(context, body).await,
            ("pods", "eviction") => self.evict(context, kind, body).await,
            ("serviceaccounts", "token") => self.token(context, kind, body).await,
            _ => Err(Status::no_such_resource()),
        }
    }
}
