//! api-patch.
