//! Snapshots: all that a cluster holds at one revision, in one sealed file each.
use super::TenantRecord;
use super::hosting::{ClusterError, refused};
use crate::server::ApiServer;
use api_meta::{ClusterName, GroupResource, SnapshotFacts};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;
use store::{Key, RangeRequest, Record, Scope, Seal, SealError};

/// The most that the objects of a snapshot may come to, in bytes: it is put together, and restored, in memory.
const LIMIT: usize = 256 << 20;
/// How files are written. Another number is one that this server can't read.
const FORMAT: u32 = 1;

#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("the snapshot {0:?} is not there")]
    Missing(String),
    #[error("the snapshot's file {path:?}")]
    File { path: PathBuf, source: io::Error },
    #[error("writing the snapshot")]
    Write(#[source] pki::PkiError),
    #[error("the snapshot can't be opened")]
    Sealed(#[source] SealError),
    #[error("the snapshot is damaged: {0}")]
    Damaged(String),
}

/// The snapshots of a server, in a directory that is its alone.
pub struct Snapshots {
    directory: PathBuf,
    seal: Arc<dyn Seal>,
}

/// What a file says before its objects.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Header {
    format: u32,
    /// Whose it was.
    pub cluster: String,
    pub revision: u64,
    pub service_cidr: IpNet,
    pub cluster_dns: IpAddr,
}

/// A stored object and where it lies in its cluster.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Held {
    pub resource: GroupResource,
    pub namespace: String,
    pub name: String,
    pub object: Value,
}

pub(super) struct Snapshot {
    pub header: Header,
    pub objects: Vec<Held>,
}

/// Events tell of what has been and expire; the rest is this server's own.
fn is_left_out(record: &Record) -> bool {
    match (record.key.group(), record.key.resource()) {
        ("", "events") | ("events.k8s.io", "events") => true,
        (group, resource) => [TenantRecord::resource(), super::settle::resource()].contains(&GroupResource::new(group, resource)),
    }
}

impl Snapshots {
    /// `directory` is made when it is needed.
    pub fn new(directory: PathBuf, seal: Arc<dyn Seal>) -> Self {
        Self { directory, seal }
    }

    /// Where the snapshot is. An id is a uid, which names no other directory.
    fn path(&self, id: &str) -> Result<PathBuf, SnapshotError> {
        match uuid::Uuid::parse_str(id) {
            Ok(id) => Ok(self.directory.join(format!("{}.snapshot", id.hyphenated()))),
            Err(_) => Err(SnapshotError::Missing(id.to_owned())),
        }
    }

    fn write(&self, id: &str, header: &Header, records: &[Arc<Record>]) -> Result<SnapshotFacts, SnapshotError> {
        let path = self.path(id)?;
        let failed = |source| SnapshotError::File { path: path.clone(), source };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory).map_err(failed)?;
        let sealed = self.seal.seal(&key_of(id), &encode(header, records).map_err(failed)?).map_err(SnapshotError::Sealed)?;
        pki::write_atomically(&path, &sealed, 0o600).map_err(SnapshotError::Write)?;
        Ok(SnapshotFacts { revision: header.revision, objects: records.len() as u64, size: sealed.len() as u64 })
    }

    pub(super) fn read(&self, id: &str) -> Result<Snapshot, SnapshotError> {
        let path = self.path(id)?;
        let sealed = match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(SnapshotError::Missing(id.to_owned())),
            read => read.map_err(|source| SnapshotError::File { path: path.clone(), source })?,
        };
        // What was never sealed was never written by a server.
        if !self.seal.is_sealed(&sealed) {
            return Err(SnapshotError::Sealed(SealError::NotAuthentic));
        }
        decode(&self.seal.open(&key_of(id), &sealed).map_err(SnapshotError::Sealed)?)
    }

    fn remove(&self, id: &str) -> Result<(), SnapshotError> {
        let Ok(path) = self.path(id) else { return Ok(()) };
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(SnapshotError::File { path, source: error }),
            _ => Ok(()),
        }
    }
}

/// What a file is sealed as, so that none can be put in the place of another.
fn key_of(id: &str) -> Key {
    Key::new(&ClusterName::root(), &GroupResource::new("k8shost.io", "clustersnapshots"), "", id)
}

/// A line for the header, then one for each object: `group/resource/namespace/name`, a space, the object.
fn encode(header: &Header, records: &[Arc<Record>]) -> io::Result<Vec<u8>> {
    let mut out = GzEncoder::new(Vec::new(), Compression::fast());
    serde_json::to_writer(&mut out, header)?;
    for record in records {
        let key = &record.key;
        write!(out, "\n{}/{}/{}/{} ", key.group(), key.resource(), key.namespace(), key.name())?;
        out.write_all(&record.value)?;
    }
    out.write_all(b"\n")?;
    out.finish()
}

fn decode(packed: &[u8]) -> Result<Snapshot, SnapshotError> {
    let damaged = |why: &dyn std::fmt::Display| SnapshotError::Damaged(why.to_string());
    // A little more than may ever have been written, whatever it unpacks to.
    let mut lines = BufReader::new(GzDecoder::new(packed).take(2 * LIMIT as u64)).lines();
    let first = lines.next().ok_or_else(|| damaged(&"it is empty"))?.map_err(|error| damaged(&error))?;
    let header: Header = serde_json::from_str(&first).map_err(|error| damaged(&error))?;
    if header.format != FORMAT {
        return Err(damaged(&format_args!("it is of format {}, and this server reads {FORMAT}", header.format)));
    }
    let mut objects = Vec::new();
    for line in lines {
        let line = line.map_err(|error| damaged(&error))?;
        let (place, object) = line.split_once(' ').ok_or_else(|| damaged(&"an object has no place"))?;
        let [group, resource, namespace, name] = place.split('/').collect::<Vec<_>>()[..] else { return Err(damaged(&"an object has no place")) };
        let object = serde_json::from_str(object).map_err(|error| damaged(&error))?;
        objects.push(Held { resource: GroupResource::new(group, resource), namespace: namespace.to_owned(), name: name.to_owned(), object });
    }
    Ok(Snapshot { header, objects })
}

impl ApiServer {
    /// Takes a snapshot of all that the cluster holds at one revision. What there was under the id is replaced.
    pub async fn snapshot_cluster(self: &Arc<Self>, cluster: &ClusterName, id: &str) -> Result<SnapshotFacts, ClusterError> {
        let Some(found) = self.store.get(&TenantRecord::key(cluster)).await? else { return Err(refused(format!("there is no cluster {cluster}"))) };
        let record = TenantRecord::decode(&found)?;
        if record.removed || record.unsettled {
            return Err(refused(if record.removed { "the cluster is being removed" } else { "the cluster is being restored" }));
        }
        let scope = Scope::Cluster(cluster.clone());
        let all = self.tenancy.records.range(RangeRequest { scope, after: None, limit: 0, revision: None }).await?;
        let records: Vec<_> = all.records.into_iter().filter(|record| !is_left_out(record)).collect();
        let size: usize = records.iter().map(|record| record.value.len()).sum();
        if size > LIMIT {
            return Err(refused(format!("the cluster's objects come to {} MiB, and a snapshot holds at most {} MiB", size >> 20, LIMIT >> 20)));
        }
        let TenantRecord { service_cidr, cluster_dns, .. } = record;
        let header = Header { format: FORMAT, cluster: cluster.to_string(), revision: all.revision, service_cidr, cluster_dns };
        let (server, id) = (self.clone(), id.to_owned());
        Ok(off_the_loop(move || server.tenancy.snapshots.write(&id, &header, &records)).await?)
    }

    /// Deletes a snapshot. What is gone already is no error.
    pub async fn forget_snapshot(self: &Arc<Self>, id: &str) -> Result<(), ClusterError> {
        let (server, id) = (self.clone(), id.to_owned());
        Ok(off_the_loop(move || server.tenancy.snapshots.remove(&id)).await?)
    }

    pub(super) async fn read_snapshot(self: &Arc<Self>, id: &str) -> Result<Snapshot, ClusterError> {
        let (server, id) = (self.clone(), id.to_owned());
        Ok(off_the_loop(move || server.tenancy.snapshots.read(&id)).await?)
    }
}

/// Runs what waits for a disk and packs much, where it holds up nobody.
async fn off_the_loop<T: Send + 'static>(work: impl FnOnce() -> Result<T, SnapshotError> + Send + 'static) -> Result<T, SnapshotError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(SnapshotError::Damaged(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use std::borrow::Cow;

    /// Sealed means turned around, with the key before it.
    struct Turned;

    impl Seal for Turned {
        fn covers(&self, _: &Key) -> bool {
            true
        }
        fn seal(&self, key: &Key, value: &[u8]) -> Result<Vec<u8>, SealError> {
            Ok([b"sealed:", key.as_str().as_bytes(), b"\n", &value.iter().rev().copied().collect::<Vec<_>>()[..]].concat())
        }
        fn open<'a>(&self, key: &Key, written: &'a [u8]) -> Result<Cow<'a, [u8]>, SealError> {
            let start = [b"sealed:", key.as_str().as_bytes(), b"\n"].concat();
            let sealed = written.strip_prefix(&start[..]).ok_or(SealError::NotAuthentic)?;
            Ok(Cow::Owned(sealed.iter().rev().copied().collect()))
        }
        fn is_sealed(&self, written: &[u8]) -> bool {
            written.starts_with(b"sealed:")
        }
        fn is_current(&self, _: &[u8]) -> bool {
            true
        }
    }

    const ID: &str = "6f1d3c1e-0a53-4b6d-9f0e-2f6a5b1c7d01";
    const OTHER: &str = "6f1d3c1e-0a53-4b6d-9f0e-2f6a5b1c7d02";

    fn header() -> Header {
        Header {
            format: FORMAT,
            cluster: "mine.team".into(),
            revision: 7,
            service_cidr: "10.96.0.0/12".parse().unwrap(),
            cluster_dns: "10.96.0.10".parse().unwrap(),
        }
    }

    fn record(key: &str, value: &'static str) -> Arc<Record> {
        Record::new(Key::parse(key).unwrap(), 1, 1, Bytes::from_static(value.as_bytes()))
    }

    #[test]
    fn what_is_written_is_read_again_and_only_under_its_own_id() {
        let directory = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::new(directory.path().join("snapshots"), Arc::new(Turned));
        let records = [record("/mine.team/core/secrets/default/s", r#"{"data":"hidden text"}"#), record("/mine.team/apps/things//t", r#"{"a":"b c/d\ne"}"#)];
        let facts = snapshots.write(ID, &header(), &records).unwrap();
        assert_eq!((facts.revision, facts.objects), (7, 2));
        let read = snapshots.read(ID).unwrap();
        assert_eq!(read.header, header());
        let places: Vec<_> = read.objects.iter().map(|held| (&*held.resource.group, &*held.resource.resource, &*held.namespace, &*held.name)).collect();
        assert_eq!(places, [("", "secrets", "default", "s"), ("apps", "things", "", "t")]);
        assert_eq!(read.objects[1].object["a"], "b c/d\ne");
        let file = |id: &str| directory.path().join(format!("snapshots/{id}.snapshot"));
        std::fs::copy(file(ID), file(OTHER)).unwrap();
        assert!(matches!(snapshots.read(OTHER), Err(SnapshotError::Sealed(_))), "one can't be put in the place of another");
        std::fs::write(file(OTHER), encode(&header(), &records).unwrap()).unwrap();
        assert!(matches!(snapshots.read(OTHER), Err(SnapshotError::Sealed(_))), "nor something that no server wrote");
        snapshots.remove(ID).unwrap();
        snapshots.remove(ID).unwrap();
        assert!(matches!(snapshots.read(ID), Err(SnapshotError::Missing(_))));
    }

    #[test]
    fn an_id_leads_nowhere_else_and_damage_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::new(directory.path().to_owned(), Arc::new(Turned));
        assert!(matches!(snapshots.read("../../etc/passwd"), Err(SnapshotError::Missing(_))));
        let whole = encode(&header(), &[record("/mine.team/core/secrets/default/s", "{}")]).unwrap();
        assert!(matches!(decode(&whole[..whole.len() / 2]), Err(SnapshotError::Damaged(_))));
        let newer = encode(&Header { format: 2, ..header() }, &[]).unwrap();
        assert!(matches!(decode(&newer), Err(SnapshotError::Damaged(why)) if why.contains("format 2")));
    }
}
