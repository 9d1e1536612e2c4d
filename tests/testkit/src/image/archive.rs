//! The OCI archive of images: layout, index, manifests, configurations and layers in one tar.
use super::Image;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::Write;

/// How layers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Blobs by digest, hex part only.
type Blobs = BTreeMap<String, Vec<u8>>;

pub fn write(images: &[&Image], compression: Compression) -> Vec<u8> {
    let mut blobs = Blobs::new();
    let manifests: Vec<Value> = images.iter().map(|image| manifest(image, compression, &mut blobs)).collect();
    let index = json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": manifests });
    let mut tar = tar::Builder::new(Vec::new());
    append(&mut tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
    append(&mut tar, "index.json", index.to_string().as_bytes());
    for (hex, blob) in &blobs {
        append(&mut tar, &format!("blobs/sha256/{hex}"), blob);
    }
    tar.into_inner().expect("a tar in memory takes everything")
}

/// Adds an image's blobs; gives its entry of the index.
fn manifest(image: &Image, compression: Compression, blobs: &mut Blobs) -> Value {
    let (mut layers, mut differences) = (Vec::new(), Vec::new());
    for layer in &image.layers {
        let plain = layer.tar();
        differences.push(format!("sha256:{}", hex(&plain)));
        layers.push(match compression {
            Compression::None => blob(blobs, "application/vnd.oci.image.layer.v1.tar", plain),
            Compression::Gzip => blob(blobs, "application/vnd.oci.image.layer.v1.tar+gzip", gzip(&plain)),
        });
    }
    let config = blob(blobs, "application/vnd.oci.image.config.v1+json", configuration(image, &differences).to_string().into_bytes());
    let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers });
    let mut entry = blob(blobs, MANIFEST, manifest.to_string().into_bytes());
    let tag = image.name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
    entry["platform"] = json!({ "os": "linux", "architecture": architecture() });
    entry["annotations"] = json!({ "io.containerd.image.name": image.name, "org.opencontainers.image.ref.name": tag });
    entry
}

fn configuration(image: &Image, differences: &[String]) -> Value {
    let environment: Vec<String> = image.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut config = json!({ "Env": environment });
    let mut set = |name: &str, value: Value, empty: bool| {
        if !empty {
            config[name] = value;
        }
    };
    set("Entrypoint", json!(image.entrypoint), image.entrypoint.is_empty());
    set("Cmd", json!(image.command), image.command.is_empty());
    set("User", json!(image.user), image.user.is_empty());
    set("WorkingDir", json!(image.working_directory), image.working_directory.is_empty());
    set("StopSignal", json!(image.stop_signal), image.stop_signal.is_empty());
    let ports: BTreeMap<&String, Value> = image.ports.iter().map(|port| (port, json!({}))).collect();
    set("ExposedPorts", json!(ports), ports.is_empty());
    json!({ "architecture": architecture(), "os": "linux", "config": config, "rootfs": { "type": "layers", "diff_ids": differences } })
}

/// Stores a blob; gives its descriptor.
fn blob(blobs: &mut Blobs, media_type: &str, content: Vec<u8>) -> Value {
    let hex = hex(&content);
    let descriptor = json!({ "mediaType": media_type, "digest": format!("sha256:{hex}"), "size": content.len() });
    blobs.insert(hex, content);
    descriptor
}

fn hex(content: &[u8]) -> String {
    format!("{:x}", Sha256::digest(content))
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    // The header of this encoder holds neither time nor name.
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(plain).and_then(|()| encoder.finish()).expect("memory takes everything")
}

fn append(tar: &mut tar::Builder<Vec<u8>>, path: &str, content: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(content.len() as u64);
    header.set_mtime(0);
    tar.append_data(&mut header, path, content).expect("a tar in memory takes everything");
}

/// This machine's architecture by Go's name, as images say it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Layer;

    fn files(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut archive = tar::Archive::new(archive);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
            (entry.path().unwrap().to_string_lossy().into_owned(), content)
        });
        entries.collect()
    }

    #[test]
    fn every_digest_leads_to_its_blob() {
        let base = Layer::new().file("a", 0o644, "a");
        let one = Image::new("docker.io/library/one:1").layer(base.clone());
        let two = Image::new("docker.io/library/two:1").layer(base).layer(Layer::new().file("b", 0o644, "b"));
        for compression in [Compression::None, Compression::Gzip] {
            let files = files(&write(&[&one, &two], compression));
            let index: Value = serde_json::from_slice(&files["index.json"]).unwrap();
            let at = |descriptor: &Value| {
                let blob = &files[&format!("blobs/{}", descriptor["digest"].as_str().unwrap().replace(':', "/"))];
                assert_eq!(descriptor["size"], blob.len());
                blob.clone()
            };
            let manifests = index["manifests"].as_array().unwrap();
            let layers: Vec<usize> = manifests
                .iter()
                .map(|manifest| {
                    let manifest: Value = serde_json::from_slice(&at(manifest)).unwrap();
                    let config: Value = serde_json::from_slice(&at(&manifest["config"])).unwrap();
                    let layers = manifest["layers"].as_array().unwrap();
                    layers.iter().for_each(|layer| assert!(!at(layer).is_empty()));
                    assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), layers.len());
                    layers.len()
                })
                .collect();
            assert_eq!(layers, [1, 2]);
            // Two layers, two configurations, two manifests: the base is there once.
            assert_eq!(files.keys().filter(|name| name.starts_with("blobs/")).count(), 6);
        }
    }

    #[test]
    fn an_image_is_the_same_bytes_each_time() {
        let image = Image::new("docker.io/library/one:1").layer(Layer::new().file("a", 0o644, "a")).environment("B", "2").environment("A", "1");
        assert_eq!(image.archive(Compression::Gzip), image.archive(Compression::Gzip));
    }
}
