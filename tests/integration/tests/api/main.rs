//! The API as its clients meet it: a whole server without a node, through HTTPS and kubectl.
//!
//! Each test has a server of its own. Most run it without controllers, so that nothing but the test writes.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod access;
mod aggregation;
mod apply;
mod at_rest;
mod audit;
mod audit_webhook;
mod authentication_config;
mod authorization_config;
mod autoscaling;
mod cluster_life;
mod clusters;
mod credentials;
mod cron_jobs;
mod custom_resources;
mod deletion;
mod discovery;
mod dry_run;
mod escalation;
mod families;
mod garbage;
mod hook;
mod iam;
mod iam_guard;
mod iam_members;
mod iam_oidc;
mod iam_renewal;
mod iam_roles;
mod iam_tokens;
mod kept_tokens;
mod limits;
mod lists;
mod machines;
mod manifests;
mod metrics;
mod namespaces;
mod patches;
mod policies;
mod printing;
mod process;
mod protobuf;
mod refusals;
mod rules;
mod service_ranges;
mod services;
mod subresources;
mod support;
mod tenants;
mod tokens;
mod versions;
mod watches;
mod webhooks;
mod writes;
