//! The key file: upstream's EncryptionConfiguration with `aesgcm` keys, the first of which writes.
use crate::EncryptionError;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;

pub const KEY_LENGTH: usize = 32;
const API_VERSION: &str = "apiserver.config.k8s.io/v1";
const KIND: &str = "EncryptionConfiguration";

/// A key and the name that values sealed with it carry.
#[derive(Clone)]
pub struct NamedKey {
    pub name: String,
    pub secret: [u8; KEY_LENGTH],
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Configuration {
    kind: String,
    api_version: String,
    resources: Vec<Resources>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Resources {
    resources: Vec<String>,
    providers: Vec<Provider>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Provider {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    aesgcm: Option<Keys>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    identity: Option<Identity>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    keys: Vec<EncodedKey>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EncodedKey {
    name: String,
    secret: String,
}

/// Values that are not sealed are read too, which is how a store becomes a sealed one.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {}

/// The keys of a file, the writing one first; `None` without the file.
pub fn read(path: &Path) -> Result<Option<Vec<NamedKey>>, EncryptionError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(EncryptionError::Read { path: path.to_owned(), source }),
    };
    let bad = |why: String| EncryptionError::File { path: path.to_owned(), why };
    let configuration: Configuration = serde_json::from_str(&text).map_err(|error| bad(error.to_string()))?;
    if configuration.kind != KIND || configuration.api_version != API_VERSION {
        return Err(bad(format!("it is not a {KIND} of {API_VERSION}")));
    }
    let [Resources { resources, providers }] = &configuration.resources[..] else {
        return Err(bad("it must be about secrets alone".into()));
    };
    if resources[..] != ["secrets"] {
        return Err(bad("it must be about secrets alone".into()));
    }
    let mut keys = Vec::new();
    for key in providers.iter().filter_map(|provider| provider.aesgcm.as_ref()).flat_map(|provider| &provider.keys) {
        let secret = STANDARD.decode(&key.secret).ok().and_then(|bytes| <[u8; KEY_LENGTH]>::try_from(bytes).ok());
        let Some(secret) = secret else { return Err(bad(format!("the key {:?} must have {KEY_LENGTH} bytes in base64", key.name))) };
        if key.name.is_empty() || key.name.contains(':') || keys.iter().any(|known: &NamedKey| known.name == key.name) {
            return Err(bad(format!("{:?} can't name a key: names are unique, not empty and without colons", key.name)));
        }
        keys.push(NamedKey { name: key.name.clone(), secret });
    }
    if keys.is_empty() { Err(bad("it has no aesgcm key".into())) } else { Ok(Some(keys)) }
}

/// Replaces the file as a whole, readable by its owner only.
pub fn write(path: &Path, keys: &[NamedKey]) -> Result<(), EncryptionError> {
    let keys = keys.iter().map(|key| EncodedKey { name: key.name.clone(), secret: STANDARD.encode(key.secret) }).collect();
    let providers = vec![Provider { aesgcm: Some(Keys { keys }), identity: None }, Provider { aesgcm: None, identity: Some(Identity {}) }];
    let configuration =
        Configuration { kind: KIND.into(), api_version: API_VERSION.into(), resources: vec![Resources { resources: vec!["secrets".into()], providers }] };
    let mut text = serde_json::to_vec_pretty(&configuration).expect("a configuration encodes");
    text.push(b'\n');
    pki::write_atomically(path, &text, 0o600).map_err(EncryptionError::Write)
}
