//! api-admission.
