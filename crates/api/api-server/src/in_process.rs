//! InProcess: the server as a tower service, for components of this process. No network, same pipeline.
use crate::body::{self, Body};
use crate::server::{ApiServer, Requester, Sender};
use api_auth::User;
use api_meta::{ClusterName, Status};
use bytes::Bytes;
use http::{Request, Response, Uri};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Sends requests to one cluster of the server as one user.
#[derive(Clone)]
pub struct InProcess {
    server: Arc<ApiServer>,
    cluster: ClusterName,
    sender: Arc<Sender>,
}

impl InProcess {
    pub fn new(server: Arc<ApiServer>, cluster: ClusterName, user: Arc<User>) -> Self {
        Self { server, cluster, sender: Arc::new(Sender { requester: Requester::Component(user), connection: None }) }
    }
}

impl<B> tower::Service<Request<B>> for InProcess
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let Self { server, cluster, sender } = self.clone();
        if !cluster.is_root() {
            let path = request.uri().path_and_query().map_or("/", |p| p.as_str());
            match format!("/clusters/{cluster}{path}").parse::<Uri>() {
                Ok(uri) => *request.uri_mut() = uri,
                // Never the host cluster instead of the one that is meant.
                Err(error) => return Box::pin(async move { Ok(body::failure(&Status::bad_request(format!("the path can't be asked for: {error}")))) }),
            }
        }
        request.extensions_mut().insert(sender);
        Box::pin(async move { Ok(server.handle(request).await) })
    }
}
