//! How every cloud service serves its gRPC API: TLS, a bearer token in each call, and who that token speaks for.

mod caller;
mod jwks;
mod listener;
mod refusal;
mod token;

pub use caller::{Caller, Ownership};
pub use jwks::{JwksError, JwksVerifier};
pub use listener::serve;
pub use refusal::Refusal;
pub use token::{TokenError, TokenVerifier};
