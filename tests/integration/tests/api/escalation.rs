//! escalation.
