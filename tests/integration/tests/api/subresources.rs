//! subresources.
