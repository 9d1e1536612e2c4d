//! CertificateAuthority: signs the certificates of servers, users and nodes.
use crate::{Issued, LeafRequest, PkiError, Subject, distinguished_name, files, subject_of};
use clock::Clock;
use jiff::{SignedDuration, Timestamp};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use x509_parser::extensions::GeneralName;

const AUTHORITY_VALIDITY: Duration = Duration::from_hours(24 * 3650);
/// Leaves are issued again this long before they expire.
const RENEW_BEFORE: Duration = Duration::from_hours(24 * 90);
/// Certificates are valid from a little before now, for clients whose clocks lag.
const BACKDATE: Duration = Duration::from_hours(1);

pub struct CertificateAuthority {
    certificate_pem: String,
    certificate: CertificateDer<'static>,
    key: KeyPair,
}

impl CertificateAuthority {
    /// The authority in `{file_stem}.crt` and `{file_stem}.key` of `directory`, made (ECDSA P-256,
    /// ten years) when there is none. An expired authority or one without its key is an error:
    /// replacing it would lock out everyone who trusts it.
    pub fn load_or_create(directory: &Path, file_stem: &str, common_name: &str, clock: &dyn Clock) -> Result<Self, PkiError> {
        files::create_directory(directory)?;
        let (certificate_path, key_path) = paths(directory, file_stem);
        let key = match (files::read(&key_path)?, files::read(&certificate_path)?) {
            (Some(key), Some(certificate)) => return Self::load(&certificate_path, certificate, &key_path, &key, clock.now()),
            (None, Some(_)) => return Err(PkiError::MissingKey { path: certificate_path }),
            // A crash between the two writes below: go on with the key that was written.
            (Some(key), None) => parse_key(&key_path, &key)?,
            (None, None) => {
                let key = new_key()?;
                files::write_atomically(&key_path, key.serialize_pem().as_bytes(), files::SECRET)?;
                key
            }
        };
        let authority = Self::self_signed(key, common_name, clock.now())?;
        files::write_atomically(&certificate_path, authority.certificate_pem.as_bytes(), files::PUBLIC)?;
        Ok(authority)
    }

    /// A new authority that is kept nowhere.
    pub fn generate(common_name: &str, clock: &dyn Clock) -> Result<Self, PkiError> {
        Self::self_signed(new_key()?, common_name, clock.now())
    }

    /// An authority from its PEM parts.
    pub fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Self, PkiError> {
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes()).map_err(|error| PkiError::Certificate(error.to_string()))?;
        let key = KeyPair::from_pem(key_pem).map_err(|error| PkiError::Key(error.to_string()))?;
        let authority = Self { certificate_pem: certificate_pem.to_owned(), certificate, key };
        let (_, parsed) = parse(&authority.certificate)?;
        if parsed.public_key().subject_public_key.data.as_ref() != authority.key.public_key_raw() {
            return Err(PkiError::Key("it is not the key of the authority's certificate".into()));
        }
        Ok(authority)
    }

    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }
    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }
    pub(crate) fn key(&self) -> &KeyPair {
        &self.key
    }

    /// A new certificate with a new key.
    pub fn issue(&self, request: &LeafRequest, clock: &dyn Clock) -> Result<Issued, PkiError> {
        let now = clock.now();
        let mut parameters = CertificateParams::default();
        parameters.not_before = rcgen::date_time_ymd(1970, 1, 1) + at(now, -signed(BACKDATE));
        parameters.not_after = rcgen::date_time_ymd(1970, 1, 1) + at(now, signed(request.validity));
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.use_authority_key_identifier_extension = true;
        for (wanted, usage) in [(request.server, ExtendedKeyUsagePurpose::ServerAuth), (request.client, ExtendedKeyUsagePurpose::ClientAuth)] {
            if wanted {
                parameters.extended_key_usages.push(usage);
            }
        }
        for name in &request.dns_names {
            parameters.subject_alt_names.push(SanType::DnsName(name.as_str().try_into()?));
        }
        parameters.subject_alt_names.extend(request.ip_addresses.iter().copied().map(SanType::IpAddress));
        let key = new_key()?;
        let certificate = parameters.signed_by(&key, &Issuer::from_ca_cert_der(&self.certificate, &self.key)?)?;
        let certificate = distinguished_name::with_subject(certificate.der(), &request.subject(), &self.key)?;
        Ok(Issued { certificate_pem: certificate_pem(&certificate), key_pem: key.serialize_pem() })
    }

    /// The certificate of a request whose signature was verified.
    pub(crate) fn sign(
        &self,
        mut request: rcgen::CertificateSigningRequestParams,
        subject: &Subject,
        usage: crate::Usage,
        validity: Duration,
        now: Timestamp,
    ) -> Result<String, PkiError> {
        let parameters = &mut request.params;
        parameters.not_before = rcgen::date_time_ymd(1970, 1, 1) + at(now, -signed(BACKDATE));
        parameters.not_after = rcgen::date_time_ymd(1970, 1, 1) + at(now, signed(validity));
        parameters.is_ca = IsCa::NoCa;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.use_authority_key_identifier_extension = true;
        parameters.extended_key_usages = vec![match usage {
            crate::Usage::Client => ExtendedKeyUsagePurpose::ClientAuth,
            crate::Usage::Server => ExtendedKeyUsagePurpose::ServerAuth,
        }];
        let certificate = request.signed_by(&Issuer::from_ca_cert_der(&self.certificate, &self.key)?)?;
        Ok(certificate_pem(&distinguished_name::with_subject(certificate.der(), subject, &self.key)?))
    }

    /// The certificate in `{file_stem}.crt` and `{file_stem}.key`, issued again when it is missing,
    /// unreadable, signed by another authority, within 90 days of its end (or a third of a validity
    /// shorter than 270 days), or no longer says what `request` asks.
    pub fn load_or_issue(&self, directory: &Path, file_stem: &str, request: &LeafRequest, clock: &dyn Clock) -> Result<Issued, PkiError> {
        files::create_directory(directory)?;
        let (certificate_path, key_path) = paths(directory, file_stem);
        if let (Some(certificate_pem), Some(key_pem)) = (files::read(&certificate_path)?, files::read(&key_path)?)
            && self.still_serves(&certificate_pem, &key_pem, request, clock.now())
        {
            return Ok(Issued { certificate_pem, key_pem });
        }
        let issued = self.issue(request, clock)?;
        // A crash between these leaves a key that doesn't fit, which the check above finds.
        files::write_atomically(&key_path, issued.key_pem.as_bytes(), files::SECRET)?;
        files::write_atomically(&certificate_path, issued.certificate_pem.as_bytes(), files::PUBLIC)?;
        Ok(issued)
    }

    fn still_serves(&self, certificate_pem: &str, key_pem: &str, request: &LeafRequest, now: Timestamp) -> bool {
        let Ok(der) = CertificateDer::from_pem_slice(certificate_pem.as_bytes()) else { return false };
        let (Ok((_, leaf)), Ok((_, authority)), Ok(key)) = (parse(&der), parse(&self.certificate), KeyPair::from_pem(key_pem)) else { return false };
        let end = leaf.validity().not_after.timestamp();
        let renew_before = RENEW_BEFORE.min(request.validity / 3).as_secs() as i64;
        // An authority made again under the same name has another key: the signature tells.
        let signed = aws_lc_rs::signature::UnparsedPublicKey::new(
            &aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1,
            authority.public_key().subject_public_key.data.as_ref(),
        )
        .verify(leaf.tbs_certificate.as_ref(), &leaf.signature_value.data)
        .is_ok();
        let usages = leaf.extended_key_usage().ok().flatten().map_or((false, false), |usage| (usage.value.server_auth, usage.value.client_auth));
        signed
            && now.as_second() + renew_before < end
            && leaf.validity().not_before.timestamp() <= now.as_second()
            && leaf.public_key().subject_public_key.data.as_ref() == key.public_key_raw()
            && usages == (request.server, request.client)
            && subject_of(&der).is_ok_and(|subject: Subject| subject == request.subject())
            && alternative_names(&leaf) == (request.dns_names.iter().cloned().collect(), request.ip_addresses.iter().copied().collect())
    }

    fn load(certificate_path: &Path, certificate_pem: String, key_path: &Path, key_pem: &str, now: Timestamp) -> Result<Self, PkiError> {
        let unusable = |why: String| PkiError::File { path: certificate_path.to_owned(), what: "certificate", why };
        let key = parse_key(key_path, key_pem)?;
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes()).map_err(|error| unusable(error.to_string()))?;
        let authority = Self { certificate_pem, certificate, key };
        let (_, parsed) = parse(&authority.certificate).map_err(|error| unusable(error.to_string()))?;
        if parsed.public_key().subject_public_key.data.as_ref() != authority.key.public_key_raw() {
            return Err(unusable("it belongs to another key".into()));
        }
        let end = parsed.validity().not_after.timestamp();
        if end <= now.as_second() {
            return Err(PkiError::Expired { path: certificate_path.to_owned(), expired: Timestamp::from_second(end).unwrap_or(Timestamp::MAX) });
        }
        Ok(authority)
    }

    fn self_signed(key: KeyPair, common_name: &str, now: Timestamp) -> Result<Self, PkiError> {
        let mut parameters = CertificateParams::default();
        let mut name = DistinguishedName::new();
        name.push(DnType::CommonName, common_name);
        parameters.distinguished_name = name;
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        parameters.not_before = rcgen::date_time_ymd(1970, 1, 1) + at(now, -signed(BACKDATE));
        parameters.not_after = rcgen::date_time_ymd(1970, 1, 1) + at(now, signed(AUTHORITY_VALIDITY));
        let certificate = parameters.self_signed(&key)?;
        Ok(Self { certificate_pem: certificate.pem(), certificate: certificate.der().clone(), key })
    }
}

/// From when on [`CertificateAuthority::load_or_issue`] makes another certificate in place of this one.
pub fn renewal_of(certificate_pem: &str) -> Result<Timestamp, PkiError> {
    let (from, until) = crate::validity_of(certificate_pem)?;
    let validity = Duration::from_secs(until.as_second().saturating_sub(from.as_second()).max(0).unsigned_abs()).saturating_sub(BACKDATE);
    let before = i64::try_from(RENEW_BEFORE.min(validity / 3).as_secs()).unwrap_or(i64::MAX);
    Ok(Timestamp::from_second(until.as_second().saturating_sub(before)).unwrap_or(Timestamp::MIN))
}

impl std::fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CertificateAuthority").field("certificate_pem", &self.certificate_pem).finish_non_exhaustive()
    }
}

fn paths(directory: &Path, file_stem: &str) -> (PathBuf, PathBuf) {
    (directory.join(format!("{file_stem}.crt")), directory.join(format!("{file_stem}.key")))
}

fn new_key() -> Result<KeyPair, PkiError> {
    Ok(KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?)
}

fn parse_key(path: &Path, pem: &str) -> Result<KeyPair, PkiError> {
    KeyPair::from_pkcs8_pem_and_sign_algo(pem, &rcgen::PKCS_ECDSA_P256_SHA256).map_err(|error| PkiError::File {
        path: path.to_owned(),
        what: "P-256 key",
        why: error.to_string(),
    })
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<(&'a [u8], x509_parser::certificate::X509Certificate<'a>), PkiError> {
    x509_parser::parse_x509_certificate(certificate).map_err(|error| PkiError::Certificate(error.to_string()))
}

pub(crate) fn alternative_names(leaf: &x509_parser::certificate::X509Certificate) -> (BTreeSet<String>, BTreeSet<IpAddr>) {
    let Ok(Some(extension)) = leaf.subject_alternative_name() else { return Default::default() };
    let (names, addresses, _) = sorted(&extension.value.general_names);
    (names, addresses)
}

/// DNS names, addresses, and whether there are names of other kinds.
pub(crate) fn alternative_names_of_request(
    request: &x509_parser::certification_request::X509CertificationRequest,
) -> (BTreeSet<String>, BTreeSet<IpAddr>, bool) {
    let mut all = request.requested_extensions().into_iter().flatten().filter_map(|extension| match extension {
        x509_parser::extensions::ParsedExtension::SubjectAlternativeName(names) => Some(sorted(&names.general_names)),
        _ => None,
    });
    all.next().unwrap_or_default()
}

fn sorted(all: &[GeneralName]) -> (BTreeSet<String>, BTreeSet<IpAddr>, bool) {
    let (mut names, mut addresses, mut others) = (BTreeSet::new(), BTreeSet::new(), false);
    for name in all {
        match name {
            GeneralName::DNSName(name) => {
                names.insert((*name).to_owned());
            }
            GeneralName::IPAddress(bytes) => {
                let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
                addresses.extend(v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from)).ok());
            }
            _ => others = true,
        }
    }
    (names, addresses, others)
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

/// Seconds after 1970 of `now` and `offset` together.
fn at(now: Timestamp, offset: SignedDuration) -> Duration {
    Duration::from_secs(now.as_second().saturating_add(offset.as_secs()).max(0).unsigned_abs())
}

fn certificate_pem(der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("base64 is ASCII")).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clock::ManualClock;
    use std::os::unix::fs::PermissionsExt;

    fn clock() -> ManualClock {
        ManualClock::at("2026-01-02T03:04:05Z".parse().unwrap())
    }

    fn request() -> LeafRequest {
        LeafRequest {
            common_name: "system:admin".into(),
            organizations: vec!["system:masters".into(), "ops".into(), "third".into()],
            dns_names: vec!["kubernetes.default.svc".into()],
            ip_addresses: vec!["10.96.0.1".parse().unwrap(), "::1".parse().unwrap()],
            server: true,
            client: true,
            validity: Duration::from_hours(24 * 365),
        }
    }

    fn der(pem: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
    }

    #[test]
    fn a_leaf_says_what_was_asked_and_chains_to_its_authority() {
        let authority = CertificateAuthority::generate("ca", &clock()).unwrap();
        let issued = authority.issue(&request(), &clock()).unwrap();
        assert_eq!(subject_of(&der(&issued.certificate_pem)).unwrap(), request().subject());
        let now = rustls_pki_types::UnixTime::since_unix_epoch(Duration::from_secs(clock().now().as_second() as u64));
        let verify = |ca: &CertificateAuthority| {
            crate::client_certificate_verifier(ca.certificate_pem()).unwrap().verify_client_cert(&der(&issued.certificate_pem), &[], now)
        };
        verify(&authority).unwrap();
        verify(&CertificateAuthority::generate("ca", &clock()).unwrap()).unwrap_err();
        crate::server_config(&issued.certificate_pem, &issued.key_pem, &[authority.certificate_pem()], &[b"h2"]).unwrap();
        crate::client_config(authority.certificate_pem(), Some((&issued.certificate_pem, &issued.key_pem))).unwrap();
    }

    #[test]
    fn an_authority_is_made_once_and_its_key_is_secret() {
        let directory = tempfile::tempdir().unwrap();
        let load = |clock: &ManualClock| CertificateAuthority::load_or_create(directory.path(), "client-ca", "ca", clock);
        let first = load(&clock()).unwrap();
        assert_eq!(load(&clock()).unwrap().certificate_pem(), first.certificate_pem());
        let mode = std::fs::metadata(directory.path().join("client-ca.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let later = clock();
        later.advance(Duration::from_hours(24 * 3651));
        assert!(matches!(load(&later), Err(PkiError::Expired { .. })));
        std::fs::remove_file(directory.path().join("client-ca.key")).unwrap();
        assert!(matches!(load(&clock()), Err(PkiError::MissingKey { .. })));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "no temporary file stays behind");
    }

    #[test]
    fn a_leaf_is_issued_again_only_when_it_no_longer_serves() {
        let directory = tempfile::tempdir().unwrap();
        let authority = CertificateAuthority::generate("ca", &clock()).unwrap();
        let load = |authority: &CertificateAuthority, request: &LeafRequest, clock: &ManualClock| {
            authority.load_or_issue(directory.path(), "server", request, clock).unwrap().certificate_pem
        };
        let first = load(&authority, &request(), &clock());
        assert_eq!(load(&authority, &request(), &clock()), first);
        let later = clock();
        later.advance(Duration::from_hours(24 * 274));
        assert_eq!(load(&authority, &request(), &later), first, "91 days are left");
        later.advance(Duration::from_hours(48));
        let renewed = load(&authority, &request(), &later);
        assert_ne!(renewed, first, "89 days are left");
        let more = LeafRequest { dns_names: vec!["other".into()], ..request() };
        let changed = load(&authority, &more, &later);
        assert_ne!(changed, renewed);
        let other = CertificateAuthority::generate("ca", &clock()).unwrap();
        assert_ne!(load(&other, &more, &later), changed, "another authority of the same name");
    }
}
