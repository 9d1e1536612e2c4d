//! api-auth.
