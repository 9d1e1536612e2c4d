//! Remembered: answers kept for a while by the SHA-256 of what was asked, so that asking again costs nothing.
use aws_lc_rs::digest;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::Instant;

/// Answers kept; when there are more, those that are over go, and if none are, all.
const MOST: usize = 8192;

pub(crate) type Fingerprint = [u8; 32];

pub(crate) struct Remembered<V>(Mutex<HashMap<Fingerprint, (V, Instant)>>);

impl<V> Default for Remembered<V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<V: Clone> Remembered<V> {
    pub fn get(&self, asked: &Fingerprint, now: Instant) -> Option<V> {
        self.0.lock().get(asked).filter(|(_, end)| now < *end).map(|(answer, _)| answer.clone())
    }

    /// Keeps an answer until `end`.
    pub fn keep(&self, asked: Fingerprint, answer: V, now: Instant, end: Instant) {
        if end <= now {
            return;
        }
        let mut all = self.0.lock();
        if all.len() >= MOST {
            all.retain(|_, (_, end)| now < *end);
            if all.len() >= MOST {
                all.clear();
            }
        }
        all.insert(asked, (answer, end));
    }
}

pub(crate) fn fingerprint(bytes: &[u8]) -> Fingerprint {
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    fingerprint
}

/// A text by its hash, as upstream labels metrics with what may be long or private.
pub(crate) fn hash_label(text: &str) -> String {
    let hex: String = fingerprint(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}
