//! The gRPC API's messages and services, made of `proto/prismnet.proto` at build time.
#![allow(clippy::all, clippy::unwrap_used, missing_docs, reason = "generated")]
tonic::include_proto!("prismnet.v1");
/// What the API declares, as a FileDescriptorSet encodes it.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
