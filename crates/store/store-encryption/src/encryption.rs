//! Encryption: seals values with the first key and opens them with any.
use crate::key_file::{self, KEY_LENGTH, NamedKey};
use api_meta::GroupResource;
use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use clock::Clock;
use parking_lot::RwLock;
use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};
use store::{Key, Seal, SealError};

/// What a sealed value starts with; upstream's, followed by the key's name and a colon. Objects start with a brace.
const PREFIX: &[u8] = b"k8s:enc:aesgcm:v1:";

#[derive(Debug, thiserror::Error)]
pub enum EncryptionError {
    #[error("reading the encryption keys in {path:?}")]
    Read { path: PathBuf, source: io::Error },
    #[error("the encryption keys in {path:?} can't be used: {why}")]
    File { path: PathBuf, why: String },
    #[error("writing the encryption keys")]
    Write(#[source] pki::PkiError),
}

/// INVARIANT: whatever was sealed with a key of this process or an earlier one opens, because keys only come.
pub struct Encryption {
    path: PathBuf,
    resources: [GroupResource; 2],
    keys: RwLock<Vec<Opener>>,
}

struct Opener {
    named: NamedKey,
    /// With the key's name.
    prefix: Vec<u8>,
    cipher: RandomizedNonceKey,
}

impl Opener {
    fn new(named: NamedKey) -> Self {
        let prefix = [PREFIX, named.name.as_bytes(), b":"].concat();
        let cipher = RandomizedNonceKey::new(&AES_256_GCM, &named.secret).expect("the key has the cipher's length");
        Self { named, prefix, cipher }
    }
}

impl Encryption {
    /// Reads the key file, or makes one with a first key.
    ///
    /// # Errors
    /// The file can't be read or written, or is no good.
    pub fn load_or_create(path: &Path, clock: &dyn Clock) -> Result<Self, EncryptionError> {
        let keys = match key_file::read(path)? {
            Some(keys) => keys,
            None => {
                let keys = vec![new_key(clock)];
                key_file::write(path, &keys)?;
                keys
            }
        };
        let keys = RwLock::new(keys.into_iter().map(Opener::new).collect());
        // Secrets, and the keys that virtual clusters trust: no kind that anybody can read through the API.
        let resources = [GroupResource::new("", "secrets"), GroupResource::new("k8shost.io", "virtualclusters")];
        Ok(Self { path: path.to_owned(), resources, keys })
    }

    /// Seals with a new key from now on; gives its name. It is on disk before anything is sealed with it.
    pub fn add_key(&self, clock: &dyn Clock) -> Result<String, EncryptionError> {
        let mut keys = self.keys.write();
        let key = new_key(clock);
        let all: Vec<NamedKey> = std::iter::once(key.clone()).chain(keys.iter().map(|key| key.named.clone())).collect();
        key_file::write(&self.path, &all)?;
        let name = key.name.clone();
        keys.insert(0, Opener::new(key));
        Ok(name)
    }

    /// The names of all keys, the one that seals first.
    pub fn key_names(&self) -> Vec<String> {
        self.keys.read().iter().map(|key| key.named.name.clone()).collect()
    }
}

/// As k3s names them, with something random: two may be made within a second.
fn new_key(clock: &dyn Clock) -> NamedKey {
    let name = format!("aesgcmkey-{}-{}", clock.now().strftime("%Y-%m-%dT%H%M%SZ"), clock::random_suffix(5));
    NamedKey { name, secret: clock::random_bytes::<KEY_LENGTH>() }
}

impl Seal for Encryption {
    fn covers(&self, key: &Key) -> bool {
        self.resources.iter().any(|sealed| key.resource() == sealed.resource && key.group() == sealed.group)
    }

    fn seal(&self, key: &Key, value: &[u8]) -> Result<Vec<u8>, SealError> {
        let keys = self.keys.read();
        let opener = keys.first().ok_or(SealError::Failed)?;
        let mut sealed = value.to_vec();
        let nonce = opener.cipher.seal_in_place_append_tag(Aad::from(key.as_str()), &mut sealed).map_err(|_| SealError::Failed)?;
        Ok([&opener.prefix[..], nonce.as_ref(), &sealed].concat())
    }

    fn open<'a>(&self, key: &Key, written: &'a [u8]) -> Result<Cow<'a, [u8]>, SealError> {
        let Some(rest) = written.strip_prefix(PREFIX) else { return Ok(Cow::Borrowed(written)) };
        let keys = self.keys.read();
        let Some((opener, sealed)) = keys.iter().find_map(|opener| Some((opener, written.strip_prefix(&opener.prefix[..])?))) else {
            let end = rest.iter().position(|byte| *byte == b':').ok_or(SealError::Malformed)?;
            return Err(SealError::UnknownKey(String::from_utf8_lossy(&rest[..end]).into_owned()));
        };
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN).ok_or(SealError::Malformed)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Malformed)?;
        let mut value = sealed.to_vec();
        let length = opener.cipher.open_in_place(nonce, Aad::from(key.as_str()), &mut value).map_err(|_| SealError::NotAuthentic)?.len();
        value.truncate(length);
        Ok(Cow::Owned(value))
    }

    fn is_sealed(&self, written: &[u8]) -> bool {
        written.starts_with(PREFIX)
    }

    fn is_current(&self, written: &[u8]) -> bool {
        self.keys.read().first().is_some_and(|opener| written.starts_with(&opener.prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clock::SystemClock;
    use std::os::unix::fs::PermissionsExt;

    fn key(name: &str) -> Key {
        Key::parse(&format!("/root/core/secrets/default/{name}")).unwrap()
    }

    #[test]
    fn values_open_for_their_own_key_only_and_with_every_key_there_was() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.json");
        let first = Encryption::load_or_create(&path, &SystemClock).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let sealed = first.seal(&key("a"), b"{\"password\":1}").unwrap();
        assert!(sealed.starts_with(PREFIX) && !sealed.windows(8).any(|w| w == b"password") && first.is_current(&sealed));
        assert_ne!(sealed, first.seal(&key("a"), b"{\"password\":1}").unwrap(), "nonces are not used twice");
        assert_eq!(first.open(&key("b"), &sealed), Err(SealError::NotAuthentic));
        let mut damaged = sealed.clone();
        *damaged.last_mut().unwrap() ^= 1;
        assert_eq!(first.open(&key("a"), &damaged), Err(SealError::NotAuthentic));
        assert_eq!(first.open(&key("a"), b"{}").unwrap(), &b"{}"[..]);
        assert!(!first.is_current(b"{}"));
        let name = first.add_key(&SystemClock).unwrap();
        let again = Encryption::load_or_create(&path, &SystemClock).unwrap();
        assert_eq!((again.key_names(), again.key_names().len()), (first.key_names(), 2));
        assert_eq!(again.key_names()[0], name);
        assert_eq!(&*again.open(&key("a"), &sealed).unwrap(), b"{\"password\":1}");
        assert!(!again.is_current(&sealed));
        let other = Encryption::load_or_create(&directory.path().join("other.json"), &SystemClock).unwrap();
        assert_eq!(other.open(&key("a"), &sealed), Err(SealError::UnknownKey(first.key_names()[1].clone())));
        assert!(!again.covers(&Key::parse("/root/core/configmaps/default/a").unwrap()));
        assert!(!again.covers(&Key::parse("/root/example.com/secrets/default/a").unwrap()));
    }

    #[test]
    fn a_key_file_that_is_no_good_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.json");
        for text in [
            "{}",
            "not json",
            r#"{"kind":"EncryptionConfiguration","apiVersion":"apiserver.config.k8s.io/v1","resources":[{"resources":["secrets"],"providers":[{"aesgcm":{"keys":[{"name":"a","secret":"c2hvcnQ="}]}}]}]}"#,
        ] {
            std::fs::write(&path, text).unwrap();
            assert!(matches!(Encryption::load_or_create(&path, &SystemClock), Err(EncryptionError::File { .. })), "{text}");
        }
    }
}
