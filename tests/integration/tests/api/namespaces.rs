//! namespaces.
