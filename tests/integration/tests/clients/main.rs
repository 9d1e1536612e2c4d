//! Clients that others wrote, as their users use them, against a server without a node, over TLS.
//!
//! Each test has a server of its own. The programs in Python and JavaScript beside this file are what such users
//! would write; they end with a failure at the first thing that is not as they expect.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod bell;
mod kopf;
mod kube_apply;
mod kube_controller;
mod kube_watch;
mod node;
mod python;
mod support;
