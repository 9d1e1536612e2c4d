//! Certificates and keys: the authority, the leaves it issues, signing keys, and TLS made of them.

mod authority;
mod certificate_files;
mod distinguished_name;
mod error;
mod files;
mod leaf;
mod renewable;
mod renewal;
mod request;
mod revocation;
mod rsa_key;
mod signing_key;
mod subject;
mod tls;
mod trusted_leaf;
mod validity;

pub use authority::{CertificateAuthority, renewal_of};
pub use certificate_files::CertificateFiles;
pub use error::PkiError;
pub use files::write_atomically;
pub use leaf::{Issued, LeafRequest};
pub use renewable::{ByName, Renewable, client_config_renewable, client_config_unverified_renewable};
pub use renewal::keep_current;
pub use request::{CertificateRequest, Usage, new_key_pem, request_pem};
pub use revocation::{serial_of, serial_of_pem};
pub use rsa_key::RsaKey;
pub use signing_key::SigningKey;
pub use subject::{Subject, requested_subject, subject_of};
pub use tls::{
    client_certificate_verifier, client_config, client_config_unverified, provider, server_config, server_config_for_any_client, server_config_renewable,
};
pub use validity::{addresses_of, der_of, is_issued_by, validity_of};
