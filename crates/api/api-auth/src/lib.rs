//! Who a request comes from, and whether it may do what it asks: authenticators and authorizers.

mod attributes;
mod authentication;
mod authorization;
pub mod bootstrap;
mod bootstrap_token;
mod configuration_file;
mod decision;
mod error;
mod escalation;
mod jwt;
mod legacy_token;
mod metrics;
mod node_authorizer;
mod rbac_index;
mod remembered;
mod reviewer;
mod rule;
mod token_webhook;
mod tokens;
mod user;

pub use attributes::{Attributes, forbidden, forbidden_message};
pub use authentication::{Authenticated, Authentication, PeerCertificate, TokenIssuer};
pub use authorization::Authorizer;
pub use bootstrap as bootstrap_policy;
pub use decision::Decision;
pub use error::AuthError;
pub use escalation::{covers, escalation_message};
pub use jwt::JwtAuthentication;
pub use legacy_token::{LAST_USED, LegacyUse};
pub use node_authorizer::{BALANCES, NodeAuthorizer, NodeGraphKind};
pub use rbac_index::{RbacIndex, RbacKind, Resolved};
pub use reviewer::{ReviewError, Reviewer, Reviewers};
pub use rule::Rule;
pub use token_webhook::TokenWebhook;
pub use tokens::{Bound, Claims, IssuedToken, KubernetesClaims, Reference, ServiceAccountTokens, TokenSpec, service_account_username};
pub use user::{ANONYMOUS, AUTHENTICATED, MASTERS, UNAUTHENTICATED, User};
