//! CertificateFiles: a certificate and key that others put into files, read again once they have changed.
use crate::renewable::certified;
use crate::{Issued, PkiError};
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Shows what the files hold when a connection is made. While they can't be read, or the key is not yet the new
/// certificate's, it shows what they held before.
pub struct CertificateFiles {
    files: Vec<PathBuf>,
    read: Box<Read>,
    shown: Mutex<(Stamp, Arc<CertifiedKey>)>,
}

/// What is in the files now.
type Read = dyn Fn() -> Result<Issued, PkiError> + Send + Sync;
/// What tells each file from what it was: inode, size and time of change.
type Stamp = Vec<(u64, u64, i64, i64)>;

impl CertificateFiles {
    /// # Errors
    /// When they can't be read now, or don't fit each other.
    pub fn open(certificate: &Path, key: &Path) -> Result<Arc<Self>, PkiError> {
        let files = vec![certificate.to_owned(), key.to_owned()];
        let (certificate, key) = (certificate.to_owned(), key.to_owned());
        let text = |path: &Path| crate::files::read(path)?.ok_or_else(|| missing(path));
        Self::reading(files, move || Ok(Issued { certificate_pem: text(&certificate)?, key_pem: text(&key)? }))
    }

    /// What `read` finds in the files, in whatever form they have.
    ///
    /// # Errors
    /// As for `open`.
    pub fn reading(files: Vec<PathBuf>, read: impl Fn() -> Result<Issued, PkiError> + Send + Sync + 'static) -> Result<Arc<Self>, PkiError> {
        let stamp = stamp(&files)?;
        let shown = Mutex::new((stamp, certified(&read()?)?));
        Ok(Arc::new(Self { files, read: Box::new(read), shown }))
    }

    fn current(&self) -> Arc<CertifiedKey> {
        let mut shown = self.shown.lock().expect("no holder of this lock panics");
        if let Ok(now) = stamp(&self.files)
            && now != shown.0
            && let Ok(key) = (self.read)().and_then(|issued| certified(&issued))
        {
            *shown = (now, key);
        }
        shown.1.clone()
    }
}

impl ResolvesServerCert for CertificateFiles {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

impl ResolvesClientCert for CertificateFiles {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
    fn has_certs(&self) -> bool {
        true
    }
}

impl fmt::Debug for CertificateFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateFiles").field("files", &self.files).finish_non_exhaustive()
    }
}

fn missing(path: &Path) -> PkiError {
    PkiError::File { path: path.to_owned(), what: "certificate", why: "it is not there".into() }
}

fn stamp(files: &[PathBuf]) -> Result<Stamp, PkiError> {
    let of = |path: &PathBuf| {
        let found = std::fs::metadata(path).map_err(|_| missing(path))?;
        Ok((found.ino(), found.size(), found.ctime(), found.ctime_nsec()))
    };
    files.iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CertificateAuthority, LeafRequest, write_atomically};
    use clock::SystemClock;
    use std::time::Duration;

    #[test]
    fn files_that_change_are_shown_once_they_fit() {
        let directory = tempfile::tempdir().unwrap();
        let (certificate, key) = (directory.path().join("c.crt"), directory.path().join("c.key"));
        let authority = CertificateAuthority::generate("ca", &SystemClock).unwrap();
        let issue = || {
            let request = LeafRequest {
                common_name: "service".into(),
                organizations: vec![],
                dns_names: vec!["service".into()],
                ip_addresses: vec![],
                server: true,
                client: false,
                validity: Duration::from_secs(3600),
            };
            authority.issue(&request, &SystemClock).unwrap()
        };
        let write = |path: &Path, text: &str| write_atomically(path, text.as_bytes(), 0o600).unwrap();
        let (first, second) = (issue(), issue());
        assert!(CertificateFiles::open(&certificate, &key).is_err());
        write(&certificate, &first.certificate_pem);
        write(&key, &first.key_pem);
        let files = CertificateFiles::open(&certificate, &key).unwrap();
        let shows = |issued: &Issued| files.current().cert[0].as_ref() == crate::der_of(&issued.certificate_pem).unwrap();
        assert!(shows(&first));
        write(&key, &second.key_pem);
        assert!(shows(&first), "half of a new pair is none");
        write(&certificate, &second.certificate_pem);
        assert!(shows(&second));
        std::fs::remove_file(&key).unwrap();
        assert!(shows(&second));
    }
}
