//! api-builtins.
