//! TLS configurations, always with the aws-lc-rs provider and never with a process-wide default.
use crate::PkiError;
use crate::trusted_leaf::TrustedLeaf;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ResolvesServerCert, WantsServerCert, WebPkiClientVerifier};
use rustls::{ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use std::sync::Arc;

/// The one cryptography provider.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: std::sync::LazyLock<Arc<CryptoProvider>> = std::sync::LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    PROVIDER.clone()
}

/// A server's TLS. Clients may come without a certificate (they are anonymous, or bring a token);
/// one that does not chain to `client_ca_pems` ends the handshake.
pub fn server_config(certificate_pem: &str, key_pem: &str, client_ca_pems: &[&str], alpn: &[&[u8]]) -> Result<ServerConfig, PkiError> {
    finished(for_clients_of(client_ca_pems)?, certificate_pem, key_pem, alpn)
}

/// A server's TLS for clients of several authorities. Clients may come without a certificate, or with any whose key
/// they hold: **who issued it is not looked at**, and has to be by whoever believes it ([`client_certificate_verifier`]).
pub fn server_config_for_any_client(certificate: Arc<dyn ResolvesServerCert>, alpn: &[&[u8]]) -> Result<ServerConfig, PkiError> {
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let mut config = builder.with_client_cert_verifier(Arc::new(AnyClient)).with_cert_resolver(certificate);
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(config)
}

/// A server's TLS with a certificate that may be replaced while it serves; clients as for [`server_config`].
pub fn server_config_renewable(serving: Arc<dyn ResolvesServerCert>, client_ca_pems: &[&str], alpn: &[&[u8]]) -> Result<ServerConfig, PkiError> {
    let mut config = for_clients_of(client_ca_pems)?.with_cert_resolver(serving);
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(config)
}

fn for_clients_of(client_ca_pems: &[&str]) -> Result<ConfigBuilder<ServerConfig, WantsServerCert>, PkiError> {
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    if client_ca_pems.is_empty() {
        return Ok(builder.with_no_client_auth());
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(client_ca_pems)?), provider()).allow_unauthenticated().build();
    Ok(builder.with_client_cert_verifier(verifier.map_err(|error| PkiError::Verifier(error.to_string()))?))
}

fn finished(builder: ConfigBuilder<ServerConfig, WantsServerCert>, certificate_pem: &str, key_pem: &str, alpn: &[&[u8]]) -> Result<ServerConfig, PkiError> {
    let mut config = builder.with_single_cert(certificates(certificate_pem)?, private_key(key_pem)?)?;
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(config)
}

/// Asks for a certificate, and that the client holds its key.
#[derive(Debug)]
struct AnyClient;

impl ClientCertVerifier for AnyClient {
    fn root_hint_subjects(&self) -> &[rustls::DistinguishedName] {
        &[]
    }
    fn client_auth_mandatory(&self) -> bool {
        false
    }
    fn verify_client_cert(&self, _: &CertificateDer<'_>, _: &[CertificateDer<'_>], _: UnixTime) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &provider().signature_verification_algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &provider().signature_verification_algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// A client's TLS that trusts `ca_pem` alone, with its own (certificate, key) if it has one.
pub fn client_config(ca_pem: &str, identity: Option<(&str, &str)>) -> Result<ClientConfig, PkiError> {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let builder = builder.dangerous().with_custom_certificate_verifier(server_verifier(ca_pem)?);
    Ok(match identity {
        Some((certificate_pem, key_pem)) => builder.with_client_auth_cert(certificates(certificate_pem)?, private_key(key_pem)?)?,
        None => builder.with_no_client_auth(),
    })
}

/// Takes what chains to one of `ca_pem`, and these themselves.
pub(crate) fn server_verifier(ca_pem: &str) -> Result<Arc<dyn ServerCertVerifier>, PkiError> {
    let chains = WebPkiServerVerifier::builder_with_provider(Arc::new(roots(&[ca_pem])?), provider()).build();
    let chains = chains.map_err(|error| PkiError::Verifier(error.to_string()))?;
    Ok(Arc::new(TrustedLeaf { chains, trusted: certificates(ca_pem)? }))
}

/// A client's TLS that **trusts whoever answers**: for what is public, and checked in another way.
pub fn client_config_unverified() -> Result<ClientConfig, PkiError> {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyServer)).with_no_client_auth())
}

/// Takes every certificate whose key the server holds.
#[derive(Debug)]
pub(crate) struct AnyServer;

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &rustls_pki_types::ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &provider().signature_verification_algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &provider().signature_verification_algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Checks that client certificates chain to `ca_pem`, are in their time, and may be a client's.
pub fn client_certificate_verifier(ca_pem: &str) -> Result<Arc<dyn ClientCertVerifier>, PkiError> {
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots(&[ca_pem])?), provider()).build().map_err(|error| PkiError::Verifier(error.to_string()))
}

fn roots(pems: &[&str]) -> Result<RootCertStore, PkiError> {
    let mut store = RootCertStore::empty();
    for pem in pems {
        for certificate in certificates(pem)? {
            store.add(certificate)?;
        }
    }
    Ok(store)
}

pub(crate) fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().map_err(|error| PkiError::Certificate(error.to_string()))?;
    if all.is_empty() { Err(PkiError::Certificate("the PEM text holds none".into())) } else { Ok(all) }
}

pub(crate) fn private_key(pem: &str) -> Result<PrivateKeyDer<'static>, PkiError> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|error| PkiError::Key(error.to_string()))
}
