//! CertificateFiles: a certificate and key that others put into files, read again once they have changed.
use crate::renewable::certified;
use crate::{Issued, PkiError};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Shows what the files hold when a connection is made. While they can't be read, or the key is not yet the new
/// certificate's, it shows what they held before.
pub struct CertificateFiles {
    certificate: PathBuf,
    key: PathBuf,
    shown: Mutex<(Stamp, Arc<CertifiedKey>)>,
}

/// What tells a file from what it was: inode, size and time of change, of both.
type Stamp = [(u64, u64, i64, i64); 2];

impl CertificateFiles {
    /// # Errors
    /// When they can't be read now, or don't fit each other.
    pub fn open(certificate: &Path, key: &Path) -> Result<Arc<Self>, PkiError> {
        let stamp = stamp(certificate, key).ok_or_else(|| missing(certificate))?;
        let shown = (stamp, read(certificate, key)?);
        Ok(Arc::new(Self { certificate: certificate.to_owned(), key: key.to_owned(), shown: Mutex::new(shown) }))
    }

    fn current(&self) -> Arc<CertifiedKey> {
        let mut shown = self.shown.lock().expect("no holder of this lock panics");
        if let Some(now) = stamp(&self.certificate, &self.key).filter(|now| *now != shown.0)
            && let Ok(key) = read(&self.certificate, &self.key)
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

impl fmt::Debug for CertificateFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateFiles").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

fn missing(path: &Path) -> PkiError {
    PkiError::File { path: path.to_owned(), what: "certificate", why: "it is not there".into() }
}

fn stamp(certificate: &Path, key: &Path) -> Option<Stamp> {
    let of = |path: &Path| std::fs::metadata(path).ok().map(|found| (found.ino(), found.size(), found.ctime(), found.ctime_nsec()));
    Some([of(certificate)?, of(key)?])
}

fn read(certificate: &Path, key: &Path) -> Result<Arc<CertifiedKey>, PkiError> {
    let text = |path: &Path| crate::files::read(path)?.ok_or_else(|| missing(path));
    certified(&Issued { certificate_pem: text(certificate)?, key_pem: text(key)? })
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
