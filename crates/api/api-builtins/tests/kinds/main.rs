//! Every built-in kind: what it is called, what it becomes, what it refuses.
#![allow(clippy::unwrap_used)]

mod apiextensions;
mod apps;
mod columns;
mod core;
mod others;
mod pods;
mod protobuf;
mod registry;
mod suite;
mod tables;
