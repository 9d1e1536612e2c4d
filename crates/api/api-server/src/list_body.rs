//! A list's body: its items one after the other, put together while it is sent, so that no list is ever whole in memory twice.
use crate::body::{self, Body};
use bytes::Bytes;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use std::sync::Arc;
use store::Record;

/// Pieces grow to this size, so that few frames carry many objects.
const PIECE: usize = 64 << 10;
/// What follows the last item.
pub const TAIL: &[u8] = b"]}\n";

/// `head`, the records as `write` writes them, with commas between, and the tail.
pub fn list(head: String, records: Vec<Arc<Record>>, write: impl FnMut(&Record, &mut Vec<u8>) + Send + 'static) -> Body {
    let mut pieces = Pieces { records: records.into_iter(), write, piece: head.into_bytes(), first: true, ended: false };
    let first = pieces.next().unwrap_or_default();
    if pieces.ended {
        return body::full(first);
    }
    let all = std::iter::once(first).chain(pieces);
    StreamBody::new(futures::stream::iter(all.map(|piece| Ok(Frame::data(piece))))).boxed_unsync()
}

struct Pieces<W> {
    records: std::vec::IntoIter<Arc<Record>>,
    write: W,
    piece: Vec<u8>,
    first: bool,
    ended: bool,
}

impl<W: FnMut(&Record, &mut Vec<u8>)> Iterator for Pieces<W> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        for record in self.records.by_ref() {
            if !std::mem::replace(&mut self.first, false) {
                self.piece.push(b',');
            }
            (self.write)(&record, &mut self.piece);
            if self.piece.len() >= PIECE {
                return Some(std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE + 4096)).into());
            }
        }
        self.ended = true;
        self.piece.extend_from_slice(TAIL);
        Some(std::mem::take(&mut self.piece).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::Key;

    #[tokio::test]
    async fn pieces_make_one_list() {
        for (count, size) in [(0, 0), (1, 10), (3, 40_000), (200, 1000)] {
            let value = format!("\"{}\"", "x".repeat(size));
            let key = Key::parse("/root/core/pods/default/a").unwrap();
            let records = vec![Record::new(key, 1, 1, value.clone().into()); count];
            let body = list("{\"items\":[".into(), records, |record, out| out.extend_from_slice(&record.value));
            let bytes = body.collect().await.unwrap().to_bytes();
            let parsed: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(parsed["items"].as_array().unwrap().len(), count);
            assert_eq!(bytes.len(), 13 + count * value.len() + count.saturating_sub(1));
        }
    }
}
