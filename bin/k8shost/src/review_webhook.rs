//! Webhooks that answer reviews or take audit events, by their kubeconfigs: what they get is sent to the very address that one names.
use anyhow::{Context, Result};
use api_auth::{ReviewError, Reviewer, Reviewers};
use api_client::{client_of_kubeconfig, has_code, kube};
use api_server::audit::AuditReceiver;
use async_trait::async_trait;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::RwLock;
use std::time::Duration;

/// Upstream's: five tries, the first pause half a second, each half as long again, when the other side is troubled.
const TRIES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// What is given to a webhook whose configuration says nothing of it.
pub const TIMEOUT: Duration = Duration::from_secs(10);
/// What a list of audit events may take, as upstream's client of webhooks has it.
const EVENTS_TIMEOUT: Duration = Duration::from_secs(30);

pub struct RemoteReviewer {
    kubeconfig: PathBuf,
    client: RwLock<kube::Client>,
    /// The path of the address.
    path: String,
    timeout: Duration,
}

/// Makes them of kubeconfigs.
pub struct RemoteReviewers;

/// Takes audit events.
pub struct RemoteAudit {
    client: kube::Client,
    path: String,
}

impl RemoteAudit {
    /// Reads the file; whether somebody listens shows when events are sent.
    pub async fn of_kubeconfig(file: &Path) -> Result<Self> {
        let (client, path) = connect(file).await?;
        Ok(Self { client, path })
    }
}

#[async_trait]
impl AuditReceiver for RemoteAudit {
    async fn send(&self, list: Vec<u8>) -> Result<(), String> {
        let request = http::Request::post(&self.path).header(http::header::CONTENT_TYPE, "application/json").body(list);
        let request = request.map_err(|error| error.to_string())?;
        // What is answered says nothing; many answer nothing.
        match tokio::time::timeout(EVENTS_TIMEOUT, self.client.request_text(request)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(format!("{:#}", anyhow::Error::from(error))),
            Err(_) => Err(format!("no answer within {EVENTS_TIMEOUT:?}")),
        }
    }
}

impl RemoteReviewer {
    /// Reads the file; whether somebody answers shows at the first review.
    pub async fn of_kubeconfig(file: &Path, timeout: Duration) -> Result<Self> {
        let (client, path) = connect(file).await?;
        Ok(Self { kubeconfig: file.to_owned(), client: RwLock::new(client), path, timeout })
    }

    async fn ask(&self, review: &Value) -> Result<Value, Asked> {
        let request = http::Request::post(&self.path).header(http::header::CONTENT_TYPE, "application/json").body(review.to_string().into_bytes());
        let request = request.map_err(|error| Asked::Failed(error.to_string()))?;
        let client = self.client.read().expect("no holder of this lock panics").clone();
        match tokio::time::timeout(self.timeout, client.request(request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) if has_code(&error, 401) => {
                self.connect_anew().await;
                Err(Asked::Failed(format!("{:#}", anyhow::Error::from(error))))
            }
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 429 | 500 | 504) => Err(Asked::Troubled(status.to_string())),
            Ok(Err(error)) => Err(Asked::Failed(format!("{:#}", anyhow::Error::from(error)))),
            Err(_) => Err(Asked::Late),
        }
    }

    /// What the connection began with is no good any more: the next one shows what the files hold now.
    async fn connect_anew(&self) {
        match connect(&self.kubeconfig).await {
            Ok((client, _)) => *self.client.write().expect("no holder of this lock panics") = client,
            Err(error) => tracing::warn!("a webhook's connection could not be made anew: {error:#}"),
        }
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
    read.await.with_context(|| format!("webhook {file:?}"))
}

/// Why one try gave no answer.
enum Asked {
    /// Another may.
    Troubled(String),
    Failed(String),
    Late,
}

#[async_trait]
impl Reviewer for RemoteReviewer {
    async fn review(&self, review: Value) -> Result<Value, ReviewError> {
        let mut pause = FIRST_PAUSE;
        for last in (0..TRIES).map(|n| n + 1 == TRIES) {
            match self.ask(&review).await {
                Ok(answer) => return Ok(answer),
                Err(Asked::Troubled(_)) if !last => {
                    tokio::time::sleep(pause).await;
                    pause = pause.mul_f32(1.5);
                }
                Err(Asked::Troubled(why) | Asked::Failed(why)) => return Err(ReviewError::Other(why)),
                Err(Asked::Late) => return Err(ReviewError::Timeout(format!("no answer within {:?}", self.timeout))),
            }
        }
        Err(ReviewError::Other("no answer".into()))
    }
}

#[async_trait]
impl Reviewers for RemoteReviewers {
    async fn of_kubeconfig(&self, file: &Path, timeout: Duration) -> Result<Box<dyn Reviewer>, String> {
        let reviewer = RemoteReviewer::of_kubeconfig(file, timeout).await.map_err(|error| format!("{error:#}"))?;
        Ok(Box::new(reviewer))
    }
}
