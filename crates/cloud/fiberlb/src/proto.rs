//! The gRPC API's messages and services, made of `proto/fiberlb.proto` at build time.
#![allow(clippy::all, clippy::unwrap_used, missing_docs, reason = "generated")]
tonic::include_proto!("fiberlb.v1");
