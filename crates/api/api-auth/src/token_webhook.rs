//! TokenWebhook: asks somebody else who a bearer token belongs to (`TokenReview`), and remembers the answer for a while.
use crate::remembered::{Remembered, fingerprint};
use crate::{AuthError, Reviewer, User};
use api_meta::ClusterName;
use clock::Clock;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// Answers for the host cluster only: its users are not those of other clusters.
pub struct TokenWebhook {
    reviewer: Box<dyn Reviewer>,
    ttl: Duration,
    /// What a token must be for.
    audiences: Vec<String>,
    clock: Arc<dyn Clock>,
    remembered: Remembered<Option<User>>,
}

impl TokenWebhook {
    /// Answers are remembered for `ttl`, those that refuse too; failures are not.
    pub fn new(reviewer: Box<dyn Reviewer>, ttl: Duration, audiences: Vec<String>, clock: Arc<dyn Clock>) -> Self {
        Self { reviewer, ttl, audiences, clock, remembered: Remembered::default() }
    }

    /// The user of a token; `None` for one the other side does not know.
    ///
    /// # Errors
    /// The other side gave no answer, or says what is wrong with the token.
    pub async fn authenticate(&self, cluster: &ClusterName, token: &str) -> Result<Option<User>, AuthError> {
        if !cluster.is_root() {
            return Ok(None);
        }
        let (asked, now) = (fingerprint(token.as_bytes()), self.clock.instant());
        if let Some(user) = self.remembered.get(&asked, now) {
            return Ok(user);
        }
        let review = json!({
            "kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "metadata": {},
            "spec": { "token": token, "audiences": self.audiences },
        });
        let answer = self.reviewer.review(review).await.map_err(|error| AuthError::Webhook(error.to_string()))?;
        let user = read(&answer, &self.audiences)?;
        self.remembered.keep(asked, user.clone(), now, now + self.ttl);
        Ok(user)
    }
}

/// What a reviewed TokenReview says.
fn read(review: &Value, wanted: &[String]) -> Result<Option<User>, AuthError> {
    let status = &review["status"];
    let texts = |value: &Value| -> Vec<String> { value.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect() };
    if status["authenticated"] != true {
        return match status["error"].as_str() {
            Some(error) if !error.is_empty() => Err(AuthError::Webhook(error.to_owned())),
            _ => Ok(None),
        };
    }
    // Who says nothing of audiences means the API server's.
    let audiences = texts(&status["audiences"]);
    if !audiences.is_empty() && !audiences.iter().any(|audience| wanted.contains(audience)) {
        return Ok(None);
    }
    let told = &status["user"];
    let username = told["username"].as_str().unwrap_or_default();
    let mut user = User::authenticated(username, texts(&told["groups"]));
    told["uid"].as_str().unwrap_or_default().clone_into(&mut user.uid);
    user.extra = told["extra"].as_object().into_iter().flatten().map(|(key, values)| (key.clone(), texts(values))).collect();
    Ok(Some(user))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ReviewError;
    use clock::ManualClock;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Knows one token, and fails on another.
    struct Known(Arc<AtomicUsize>);

    #[async_trait::async_trait]
    impl Reviewer for Known {
        async fn review(&self, mut review: Value) -> Result<Value, ReviewError> {
            self.0.fetch_add(1, Ordering::Relaxed);
            review["status"] = match review["spec"]["token"].as_str().unwrap() {
                "good" => json!({"authenticated": true, "user": {"username": "eve", "uid": "7", "groups": ["devs"], "extra": {"a": ["b"]}}}),
                "elsewhere" => json!({"authenticated": true, "audiences": ["vault"], "user": {"username": "eve"}}),
                "odd" => json!({"authenticated": false, "error": "it is odd"}),
                "down" => return Err(ReviewError::Other("nobody there".into())),
                _ => json!({}),
            };
            Ok(review)
        }
    }

    #[tokio::test]
    async fn answers_are_remembered_and_failures_are_not() {
        let (asked, clock) = (Arc::new(AtomicUsize::new(0)), ManualClock::at("2026-01-02T03:04:05Z".parse().unwrap()));
        let webhook = TokenWebhook::new(Box::new(Known(asked.clone())), Duration::from_secs(60), vec!["api".into()], Arc::new(clock.clone()));
        let root = ClusterName::root();
        let asked = || asked.load(Ordering::Relaxed);
        for _ in 0..2 {
            let user = webhook.authenticate(&root, "good").await.unwrap().unwrap();
            assert_eq!((user.username.as_str(), user.uid.as_str(), user.groups), ("eve", "7", vec!["devs".to_owned(), "system:authenticated".to_owned()]));
            assert_eq!(user.extra["a"], ["b"]);
            assert!(webhook.authenticate(&root, "bad").await.unwrap().is_none());
        }
        assert_eq!(asked(), 2);
        clock.advance(Duration::from_secs(61));
        assert!(webhook.authenticate(&root, "good").await.unwrap().is_some());
        assert_eq!(asked(), 3);
        assert!(webhook.authenticate(&root, "elsewhere").await.unwrap().is_none());
        for _ in 0..2 {
            assert_eq!(webhook.authenticate(&root, "down").await.unwrap_err().to_string(), "the token webhook: nobody there");
            assert!(webhook.authenticate(&root, "odd").await.is_err());
        }
        assert_eq!(asked(), 8);
        assert!(webhook.authenticate(&ClusterName::parse("tenant").unwrap(), "good").await.unwrap().is_none());
    }
}
