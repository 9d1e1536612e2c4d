//! controller-kit.
