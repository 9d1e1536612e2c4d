//! The token webhook of a kubeconfig: TokenReviews sent to the very address that it names.
use anyhow::{Context, Result, anyhow};
use api_auth::TokenReviewer;
use api_client::{client_of_kubeconfig, has_code, kube};
use async_trait::async_trait;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::RwLock;
use std::time::Duration;

/// Upstream's: five tries, the first pause half a second, each half as long again, when the other side is troubled.
const TRIES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const TIMEOUT: Duration = Duration::from_secs(10);

pub struct RemoteReviewer {
    kubeconfig: PathBuf,
    client: RwLock<kube::Client>,
    /// The path of the address.
    path: String,
}

impl RemoteReviewer {
    /// Reads the file; whether somebody answers shows at the first token.
    pub async fn of_kubeconfig(file: &Path) -> Result<Self> {
        let (client, path) = connect(file).await?;
        Ok(Self { kubeconfig: file.to_owned(), client: RwLock::new(client), path })
    }

    async fn ask(&self, review: &Value) -> Result<Value, kube::Error> {
        let request = http::Request::post(&self.path).header(http::header::CONTENT_TYPE, "application/json").body(review.to_string().into_bytes());
        let client = self.client.read().expect("no holder of this lock panics").clone();
        let asking = client.request(request.map_err(kube::Error::HttpError)?);
        let late = || Err(kube::Error::Service(format!("no answer within {TIMEOUT:?}").into()));
        let answer = tokio::time::timeout(TIMEOUT, asking).await.unwrap_or_else(|_| late());
        if answer.as_ref().is_err_and(|error| has_code(error, 401)) {
            // What the connection began with is no good any more: the next one shows what the files hold then.
            match connect(&self.kubeconfig).await {
                Ok((client, _)) => *self.client.write().expect("no holder of this lock panics") = client,
                Err(error) => tracing::warn!("the token webhook's connection could not be made anew: {error:#}"),
            }
        }
        answer
    }
}

/// A client of the address in the file, and the path there.
async fn connect(file: &Path) -> Result<(kube::Client, String)> {
    let read = async {
        let config = kube::config::Kubeconfig::read_from(file)?;
        let mut config = kube::Config::from_custom_kubeconfig(config, &Default::default()).await?;
        let path = config.cluster_url.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let mut parts = config.cluster_url.into_parts();
        parts.path_and_query = Some(http::uri::PathAndQuery::from_static("/"));
        config.cluster_url = http::Uri::from_parts(parts)?;
        anyhow::Ok((client_of_kubeconfig(config, file)?, path))
    };
    read.await.with_context(|| format!("token webhook {file:?}"))
}

#[async_trait]
impl TokenReviewer for RemoteReviewer {
    async fn review(&self, review: Value) -> Result<Value, String> {
        let mut pause = FIRST_PAUSE;
        for last in (0..TRIES).map(|n| n + 1 == TRIES) {
            match self.ask(&review).await {
                Ok(answer) => return Ok(answer),
                Err(kube::Error::Api(status)) if !last && matches!(status.code, 429 | 500 | 504) => {
                    tokio::time::sleep(pause).await;
                    pause = pause.mul_f32(1.5);
                }
                Err(error) => return Err(anyhow!(error).to_string()),
            }
        }
        Err("no answer".into())
    }
}
