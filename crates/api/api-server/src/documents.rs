//! Documents: what discovery and OpenAPI say of a cluster, worked out once for a set of kinds.
//!
//! Clusters without custom kinds share theirs. What nobody has asked for in a while is forgotten: some are large.
use crate::body::{self, Answer};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long a document is kept that nobody asks for.
const KEPT: Duration = Duration::from_secs(60);
/// More than this, in bytes, is not kept: the oldest go first.
const MOST: usize = 64 << 20;

pub struct Document {
    pub bytes: Bytes,
    pub media_type: &'static str,
    /// A hash of what it is made of.
    pub tag: Option<String>,
    /// Whether another Accept header may give another document.
    pub varies: bool,
}

impl Document {
    /// The answer to a request that may know this document already.
    pub fn answer(&self, headers: &HeaderMap) -> Answer {
        let known = headers.get(header::IF_NONE_MATCH).and_then(|v| v.to_str().ok()).map(|value| value.trim_matches('"'));
        let mut answer = if self.tag.is_some() && known == self.tag.as_deref() {
            let mut answer = Answer::new(body::full(""));
            *answer.status_mut() = StatusCode::NOT_MODIFIED;
            answer
        } else {
            let mut answer = body::json_bytes(StatusCode::OK, self.bytes.clone());
            answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(self.media_type));
            answer
        };
        if let Some(Ok(tag)) = self.tag.as_ref().map(|tag| HeaderValue::from_str(&format!("\"{tag}\""))) {
            answer.headers_mut().insert(header::ETAG, tag);
        }
        if self.varies {
            answer.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
        }
        answer
    }
}

struct Entry {
    document: Arc<Document>,
    asked: Instant,
}

#[derive(Default)]
struct Kept {
    /// By the version of the kinds and what was asked for.
    entries: HashMap<(u64, String), Entry>,
    size: usize,
    /// Whether somebody comes to look for what is to be forgotten.
    watched: bool,
}

#[derive(Clone, Default)]
pub struct Documents(Arc<Mutex<Kept>>);

impl Documents {
    /// The document for these kinds (by their version) and this question, from `make` if it is not known; `None` when there is none.
    pub fn get<E>(&self, version: u64, question: &str, make: impl FnOnce() -> Result<Option<Document>, E>) -> Result<Option<Arc<Document>>, E> {
        let key = (version, question.to_owned());
        if let Some(entry) = self.0.lock().entries.get_mut(&key) {
            entry.asked = Instant::now();
            return Ok(Some(entry.document.clone()));
        }
        let Some(document) = make()?.map(Arc::new) else { return Ok(None) };
        self.keep(key, document.clone());
        Ok(Some(document))
    }

    fn keep(&self, key: (u64, String), document: Arc<Document>) {
        let mut kept = self.0.lock();
        let size = document.bytes.len();
        if size > MOST {
            return;
        }
        while kept.size + size > MOST {
            let Some(oldest) = kept.entries.iter().min_by_key(|(_, entry)| entry.asked).map(|(key, _)| key.clone()) else { break };
            kept.forget(&oldest);
        }
        // Two may have made it at once.
        kept.forget(&key);
        kept.size += size;
        kept.entries.insert(key, Entry { document, asked: Instant::now() });
        if !std::mem::replace(&mut kept.watched, true) {
            tokio::spawn(forget_later(self.clone()));
        }
    }
}

impl Kept {
    fn forget(&mut self, key: &(u64, String)) {
        if let Some(entry) = self.entries.remove(key) {
            self.size -= entry.document.bytes.len();
        }
    }
}

/// Forgets what nobody asks for until there is nothing left to forget.
async fn forget_later(documents: Documents) {
    loop {
        tokio::time::sleep(KEPT).await;
        let mut kept = documents.0.lock();
        let stale: Vec<(u64, String)> = kept.entries.iter().filter(|(_, entry)| entry.asked.elapsed() >= KEPT).map(|(key, _)| key.clone()).collect();
        stale.iter().for_each(|key| kept.forget(key));
        if kept.entries.is_empty() {
            *kept = Kept::default();
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn documents_are_made_once_for_a_set_of_kinds() {
        let documents = Documents::default();
        let ask = |version, made: &mut usize| {
            let make = || {
                *made += 1;
                Ok::<_, ()>(Some(Document { bytes: "x".into(), media_type: "text/plain", tag: None, varies: false }))
            };
            documents.get(version, "/apis", make).unwrap().unwrap();
        };
        let mut made = 0;
        ask(1, &mut made);
        ask(1, &mut made);
        assert_eq!(made, 1);
        ask(2, &mut made);
        assert_eq!(made, 2);
        documents.0.lock().forget(&(1, "/apis".into()));
        assert_eq!(documents.0.lock().size, 1);
        ask(1, &mut made);
        assert_eq!(made, 3);
    }
}
