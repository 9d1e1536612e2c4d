//! Image archives: OCI layouts and `docker save` files, plain or gzipped, read in place.
use super::import::ImportError;
use flate2::read::GzDecoder;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Where a blob's bytes are.
#[derive(Clone, Debug)]
pub enum Blob {
    Bytes(Arc<[u8]>),
    Range { file: Arc<File>, offset: u64, length: u64 },
}

impl Blob {
    pub fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Range { length, .. } => *length,
        }
    }
    /// Up to `limit` bytes from `offset`; none past the end.
    pub fn read_at(&self, offset: u64, limit: usize) -> std::io::Result<Vec<u8>> {
        let left = usize::try_from(self.len().saturating_sub(offset)).unwrap_or(usize::MAX).min(limit);
        match self {
            Self::Bytes(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                Ok(bytes[start..start + left].to_vec())
            }
            Self::Range { file, offset: start, .. } => {
                let mut out = vec![0; left];
                file.read_exact_at(&mut out, start + offset)?;
                Ok(out)
            }
        }
    }
    fn all(&self) -> std::io::Result<Vec<u8>> {
        self.read_at(0, usize::MAX)
    }
    fn digest(&self) -> std::io::Result<String> {
        let (mut hash, mut at) = (Sha256::new(), 0);
        loop {
            let part = self.read_at(at, 1 << 20)?;
            if part.is_empty() {
                return Ok(format!("sha256:{:x}", hash.finalize()));
            }
            at += part.len() as u64;
            hash.update(&part);
        }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: String,
    #[serde(default)]
    pub size: i64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Platform {
    pub architecture: String,
    pub os: String,
}

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    #[serde(default)]
    schema_version: u32,
    #[serde(default)]
    media_type: String,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// A blob as containerd is to keep it.
#[derive(Debug)]
pub struct StoredBlob {
    pub digest: String,
    pub blob: Blob,
    /// What it refers to, so that garbage collection keeps that: label to digest.
    pub references: BTreeMap<String, String>,
}

/// One image of an archive.
#[derive(Debug)]
pub struct ArchivedImage {
    /// As written in the archive.
    pub names: Vec<String>,
    pub target: Descriptor,
    /// The digest of this platform's configuration, which is the image's id.
    pub id: String,
}

/// What an archive holds, children before what refers to them.
#[derive(Debug, Default)]
pub struct Contents {
    pub blobs: Vec<StoredBlob>,
    pub images: Vec<ArchivedImage>,
}

pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const INDEXES: [&str; 2] = ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];
/// Indexes within indexes are legal; a loop is not possible, since a digest can't hold itself, but depth is a cost.
const MAX_DEPTH: usize = 4;
/// An image's JSON parts are small; more is not an image.
const MAX_JSON: u64 = 16 << 20;

/// The files of an archive by name.
struct Files(BTreeMap<String, Blob>);

/// Opens an archive from a file and finds its images.
pub fn open(mut file: File) -> Result<Contents, ImportError> {
    let mut magic = [0; 2];
    let read = file.read(&mut magic)?;
    file.seek(SeekFrom::Start(0))?;
    if read == 2 && magic == [0x1f, 0x8b] {
        // Blobs are read twice and out of order, so a compressed archive is unpacked beside, not held in memory.
        let mut plain = tempfile::tempfile()?;
        std::io::copy(&mut GzDecoder::new(file), &mut plain)?;
        plain.seek(SeekFrom::Start(0))?;
        file = plain;
    }
    let file = Arc::new(file);
    let reader = file.try_clone()?;
    contents(index(reader, |offset, length| Blob::Range { file: file.clone(), offset, length })?)
}

/// Opens a plain archive in memory.
pub fn open_bytes(bytes: &[u8]) -> Result<Contents, ImportError> {
    contents(index(Cursor::new(bytes), |offset, length| {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        Blob::Bytes(bytes[start..(start + length as usize).min(bytes.len())].into())
    })?)
}

fn index(reader: impl Read, blob: impl Fn(u64, u64) -> Blob) -> Result<Files, ImportError> {
    let (mut files, mut links) = (BTreeMap::new(), Vec::new());
    let mut archive = tar::Archive::new(reader);
    for entry in archive.entries()? {
        let entry = entry.map_err(|_| ImportError::NotAnArchive)?;
        let name = normal(&entry.path()?.to_string_lossy());
        match entry.header().entry_type() {
            tar::EntryType::Regular => {
                files.insert(name, blob(entry.raw_file_position(), entry.size()));
            }
            // Older `docker save` stores a layer once and links to it.
            tar::EntryType::Symlink | tar::EntryType::Link => {
                if let Some(target) = entry.link_name()? {
                    let base = if entry.header().entry_type() == tar::EntryType::Symlink { name.rsplit_once('/').map_or("", |(dir, _)| dir) } else { "" };
                    links.push((name.clone(), normal(&format!("{base}/{}", target.to_string_lossy()))));
                }
            }
            _ => {}
        }
    }
    for (name, target) in links {
        if let Some(blob) = files.get(&target).cloned() {
            files.insert(name, blob);
        }
    }
    Ok(Files(files))
}

/// A path without `.`, `..` and leading slashes.
fn normal(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

impl Files {
    fn blob(&self, digest: &str) -> Option<&Blob> {
        self.0.get(&format!("blobs/{}", digest.replacen(':', "/", 1)))
    }
    fn json<T: serde::de::DeserializeOwned>(&self, name: &str, blob: &Blob) -> Result<T, ImportError> {
        if blob.len() > MAX_JSON {
            return Err(ImportError::Damaged(format!("{name} is too large")));
        }
        serde_json::from_slice(&blob.all()?).map_err(|error| ImportError::Damaged(format!("{name}: {error}")))
    }
}

fn contents(files: Files) -> Result<Contents, ImportError> {
    let mut contents = Contents::default();
    let mut seen = BTreeSet::new();
    if let Some(index) = files.0.get("index.json") {
        let index: Index = files.json("index.json", index)?;
        for descriptor in index.manifests {
            let names = names_of(&descriptor);
            let Some(id) = collect(&files, &descriptor, &mut contents, &mut seen, 0)? else { continue };
            if !names.is_empty() {
                let target = Descriptor { annotations: BTreeMap::new(), platform: None, ..descriptor };
                contents.images.push(ArchivedImage { names, target, id });
            }
        }
    }
    if contents.images.is_empty()
        && let Some(manifest) = files.0.get("manifest.json")
    {
        for image in files.json::<Vec<DockerImage>>("manifest.json", manifest)? {
            docker_image(&files, image, &mut contents, &mut seen)?;
        }
    }
    if contents.images.is_empty() {
        return Err(if files.0.contains_key("index.json") || files.0.contains_key("manifest.json") { ImportError::NoNames } else { ImportError::NotAnArchive });
    }
    Ok(contents)
}

/// The names an index entry gives its image.
fn names_of(descriptor: &Descriptor) -> Vec<String> {
    let annotation = |key: &str| descriptor.annotations.get(key).filter(|name| !name.is_empty());
    let full = annotation("io.containerd.image.name");
    // On its own this may be a bare tag ("latest"), which names nothing.
    let reference = annotation("org.opencontainers.image.ref.name").filter(|name| name.contains(['/', ':']));
    full.or(reference).cloned().into_iter().collect()
}

/// Collects a manifest or index with all it refers to; gives the image's id, or `None` if the archive lacks it.
fn collect(files: &Files, descriptor: &Descriptor, contents: &mut Contents, seen: &mut BTreeSet<String>, depth: usize) -> Result<Option<String>, ImportError> {
    let Some(blob) = files.blob(&descriptor.digest) else { return Ok(None) };
    let (id, references) = if INDEXES.contains(&descriptor.media_type.as_str()) {
        if depth >= MAX_DEPTH {
            return Err(ImportError::Damaged("its indexes are nested too deep".into()));
        }
        let index: Index = files.json(&descriptor.digest, blob)?;
        let (mut ours, mut first, mut references) = (None, None, BTreeMap::new());
        for (at, child) in index.manifests.iter().enumerate() {
            // Archives often hold one platform of many.
            let Some(id) = collect(files, child, contents, seen, depth + 1)? else { continue };
            references.insert(format!("containerd.io/gc.ref.content.m.{at}"), child.digest.clone());
            if ours.is_none() && child.platform.as_ref().is_some_and(|p| p.os == "linux" && p.architecture == crate::machine::go_architecture()) {
                ours = Some(id.clone());
            }
            first = first.or(Some(id));
        }
        let Some(id) = ours.or(first) else { return Ok(None) };
        (id, references)
    } else {
        let manifest: Manifest = files.json(&descriptor.digest, blob)?;
        for part in std::iter::once(&manifest.config).chain(&manifest.layers) {
            let blob = files.blob(&part.digest).ok_or_else(|| ImportError::Damaged(format!("{} is missing", part.digest)))?;
            store(contents, seen, &part.digest, blob.clone(), BTreeMap::new());
        }
        let references = manifest_references(&manifest);
        (manifest.config.digest, references)
    };
    store(contents, seen, &descriptor.digest, blob.clone(), references);
    Ok(Some(id))
}

/// An image of a `docker save` archive without an OCI layout: its manifest is made here.
fn docker_image(files: &Files, image: DockerImage, contents: &mut Contents, seen: &mut BTreeSet<String>) -> Result<(), ImportError> {
    let mut part = |name: &str, media_type: &str| {
        let blob = files.0.get(&normal(name)).ok_or_else(|| ImportError::Damaged(format!("{name} is missing")))?;
        let media_type = match blob.read_at(0, 2)?.as_slice() {
            [0x1f, 0x8b] => format!("{media_type}.gzip"),
            _ => media_type.to_owned(),
        };
        let digest = blob.digest()?;
        store(contents, seen, &digest, blob.clone(), BTreeMap::new());
        Ok::<_, ImportError>(Descriptor { media_type, digest, size: blob.len().cast_signed(), ..Descriptor::default() })
    };
    let config = part(&image.config, "application/vnd.docker.container.image.v1+json")?;
    let layers = image.layers.iter().map(|layer| part(layer, "application/vnd.docker.image.rootfs.diff.tar")).collect::<Result<_, _>>()?;
    let manifest = Manifest { schema_version: 2, media_type: DOCKER_MANIFEST.into(), config, layers };
    let (target, blob) = manifest_blob(&manifest, DOCKER_MANIFEST);
    store(contents, seen, &target.digest, blob, manifest_references(&manifest));
    let names = image.repo_tags.unwrap_or_default();
    if !names.is_empty() {
        contents.images.push(ArchivedImage { names, target, id: manifest.config.digest });
    }
    Ok(())
}

fn manifest_blob(manifest: &Manifest, media_type: &str) -> (Descriptor, Blob) {
    let bytes = serde_json::to_vec(manifest).expect("a manifest is plain data");
    let digest = format!("sha256:{:x}", Sha256::digest(&bytes));
    let descriptor = Descriptor { media_type: media_type.into(), digest, size: bytes.len() as i64, ..Descriptor::default() };
    (descriptor, Blob::Bytes(bytes.into()))
}

fn manifest_references(manifest: &Manifest) -> BTreeMap<String, String> {
    let layers = manifest.layers.iter().enumerate().map(|(at, layer)| (format!("containerd.io/gc.ref.content.l.{at}"), layer.digest.clone()));
    layers.chain([("containerd.io/gc.ref.content.config".to_owned(), manifest.config.digest.clone())]).collect()
}

fn store(contents: &mut Contents, seen: &mut BTreeSet<String>, digest: &str, blob: Blob, references: BTreeMap<String, String>) {
    if seen.insert(digest.to_owned()) {
        contents.blobs.push(StoredBlob { digest: digest.to_owned(), blob, references });
    }
}

/// An image of one layer, made in memory: a tar of its files, its program and its name.
pub fn single_layer_image(layer: Vec<u8>, entrypoint: &str, name: &str) -> Contents {
    let layer_digest = format!("sha256:{:x}", Sha256::digest(&layer));
    let config = serde_json::json!({
        "architecture": crate::machine::go_architecture(),
        "os": "linux",
        "config": { "Entrypoint": [entrypoint] },
        "rootfs": { "type": "layers", "diff_ids": [layer_digest] },
    });
    let config = serde_json::to_vec(&config).expect("a JSON value encodes");
    let config_digest = format!("sha256:{:x}", Sha256::digest(&config));
    let part = |media_type: &str, digest: &str, size: usize| Descriptor {
        media_type: media_type.into(),
        digest: digest.into(),
        size: size as i64,
        ..Descriptor::default()
    };
    let manifest = Manifest {
        schema_version: 2,
        media_type: OCI_MANIFEST.into(),
        config: part("application/vnd.oci.image.config.v1+json", &config_digest, config.len()),
        layers: vec![part("application/vnd.oci.image.layer.v1.tar", &layer_digest, layer.len())],
    };
    let (target, blob) = manifest_blob(&manifest, OCI_MANIFEST);
    let (mut contents, mut seen) = (Contents::default(), BTreeSet::new());
    store(&mut contents, &mut seen, &layer_digest, Blob::Bytes(layer.into()), BTreeMap::new());
    store(&mut contents, &mut seen, &config_digest, Blob::Bytes(config.into()), BTreeMap::new());
    store(&mut contents, &mut seen, &target.digest.clone(), blob, manifest_references(&manifest));
    contents.images.push(ArchivedImage { names: vec![name.into()], target, id: config_digest });
    contents
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, *bytes).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn open_plain_and_gzipped(archive: &[u8]) -> [Result<Contents, ImportError>; 2] {
        use std::io::Write;
        let file = |bytes: &[u8]| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(bytes).unwrap();
            file.seek(SeekFrom::Start(0)).unwrap();
            file
        };
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(archive).unwrap();
        [open(file(archive)), open(file(&gzip.finish().unwrap()))]
    }

    #[test]
    fn docker_archives_get_a_manifest() {
        let archive = tar_of(&[
            ("abc.json", b"{}"),
            ("1/layer.tar", b"layer one"),
            ("manifest.json", br#"[{"Config":"abc.json","RepoTags":["busybox:1","b:2"],"Layers":["1/layer.tar"]}]"#),
        ]);
        for contents in open_plain_and_gzipped(&archive) {
            let contents = contents.unwrap();
            assert_eq!(contents.images[0].names, ["busybox:1", "b:2"]);
            assert_eq!(contents.images[0].id, format!("sha256:{:x}", Sha256::digest(b"{}")));
            let layer = contents.blobs.iter().find(|b| b.digest == format!("sha256:{:x}", Sha256::digest(b"layer one"))).unwrap();
            assert_eq!(layer.blob.all().unwrap(), b"layer one");
            let manifest = contents.blobs.last().unwrap();
            assert_eq!((manifest.digest.as_str(), manifest.references.len()), (contents.images[0].target.digest.as_str(), 2));
        }
    }

    #[test]
    fn oci_layouts_keep_their_blobs() {
        let manifest = br#"{"schemaVersion":2,"config":{"digest":"sha256:c"},"layers":[{"digest":"sha256:l"}]}"#;
        let index = br#"{"manifests":[{"digest":"sha256:m","annotations":{"io.containerd.image.name":"docker.io/library/x:1"}},{"digest":"sha256:absent"}]}"#;
        let archive = tar_of(&[("index.json", index), ("blobs/sha256/m", manifest), ("blobs/sha256/c", b"{}"), ("blobs/sha256/l", b"")]);
        let contents = open_bytes(&archive).unwrap();
        assert_eq!(contents.blobs.iter().map(|b| b.digest.as_str()).collect::<Vec<_>>(), ["sha256:c", "sha256:l", "sha256:m"]);
        assert_eq!((contents.images[0].names[0].as_str(), contents.images[0].id.as_str()), ("docker.io/library/x:1", "sha256:c"));
    }

    #[test]
    fn what_is_no_image_is_refused() {
        assert!(matches!(open_bytes(b"not a tar file at all, but long enough"), Err(ImportError::NotAnArchive)));
        assert!(matches!(open_bytes(&tar_of(&[("readme", b"x")])), Err(ImportError::NotAnArchive)));
        assert!(matches!(open_bytes(&tar_of(&[("index.json", br#"{"manifests":[]}"#)])), Err(ImportError::NoNames)));
        assert!(matches!(open_bytes(&tar_of(&[("manifest.json", b"{")])), Err(ImportError::Damaged(_))));
        let missing = br#"[{"Config":"c.json","RepoTags":["a:1"],"Layers":["gone.tar"]}]"#;
        assert!(matches!(open_bytes(&tar_of(&[("manifest.json", missing), ("c.json", b"{}")])), Err(ImportError::Damaged(_))));
    }
}
