//! Hidden: the mark a cluster leaves where it deleted an object of the base.
use bytes::Bytes;
use store::{Key, Record};

/// Nothing that is served is of this kind, so nobody can write such a mark through the API.
const START: &[u8] = b"{\"kind\":\"Hidden\",\"apiVersion\":\"k8shost.io/v1\",\"metadata\":{";

/// The mark at `key`. It parses as an object, for readers of all clusters' records.
pub(crate) fn mark(key: &Key) -> Bytes {
    // Names in keys need no escaping.
    let own = format!("\"name\":\"{}\",\"namespace\":\"{}\"}}}}", key.name(), key.namespace());
    [START, own.as_bytes()].concat().into()
}

/// Whether a record is such a mark: for its cluster, there is no object.
pub fn is_hidden(record: &Record) -> bool {
    record.value.starts_with(START)
}
