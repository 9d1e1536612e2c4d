//! garbage.
