//! prismnet.
