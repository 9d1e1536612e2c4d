//! store-encryption: values of chosen resources sealed with AES-256-GCM, by keys in a file of their own.

mod encryption;
mod key_file;

pub use encryption::{Encryption, EncryptionError};
