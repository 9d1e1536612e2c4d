//! The Pod Security policy of a namespace, read from its labels.
use api_meta::{FieldError, FieldErrors, FieldPath};
use serde_json::Value;
use std::fmt;

const PREFIX: &str = "pod-security.kubernetes.io/";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Privileged,
    Baseline,
    Restricted,
}

/// The minor version of the standards a policy is pinned to; `latest` is above all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32);

impl Version {
    pub const LATEST: Self = Self(u32::MAX);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standard {
    pub level: Level,
    pub version: Version,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    pub enforce: Standard,
    pub audit: Standard,
    pub warn: Standard,
}

impl fmt::Display for Standard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        };
        match self.version {
            Version::LATEST => write!(f, "{level}:latest"),
            Version(minor) => write!(f, "{level}:v1.{minor}"),
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        let privileged = Standard { level: Level::Privileged, version: Version::LATEST };
        Self { enforce: privileged, audit: privileged, warn: privileged }
    }
}

impl Policy {
    /// The policy a namespace's labels ask for, over `default`, and what is wrong with them. A level that
    /// can't be read counts as restricted for enforcing, and as privileged for the others.
    pub fn of(namespace: &Value, default: &Self) -> (Self, FieldErrors) {
        let labels = &namespace["metadata"]["labels"];
        let (mut policy, mut errors) = (*default, FieldErrors::new());
        for (mode, standard) in [("enforce", &mut policy.enforce), ("audit", &mut policy.audit), ("warn", &mut policy.warn)] {
            let read = |key: String| labels.get(&key).and_then(Value::as_str).map(|text| (FieldPath::new("metadata.labels").key(&key), text));
            let level = read(format!("{PREFIX}{mode}"));
            let version = read(format!("{PREFIX}{mode}-version"));
            if let Some((path, text)) = level {
                standard.level = match text {
                    "privileged" => Level::Privileged,
                    "baseline" => Level::Baseline,
                    "restricted" => Level::Restricted,
                    _ => {
                        errors.push(FieldError::invalid(&path, text, "must be one of privileged, baseline, restricted"));
                        if mode == "enforce" { Level::Restricted } else { Level::Privileged }
                    }
                };
            }
            if let Some((path, text)) = version {
                standard.version = parse_version(text).unwrap_or_else(|| {
                    errors.push(FieldError::invalid(&path, text, "must be \"latest\" or \"v1.x\""));
                    Version::LATEST
                });
            }
        }
        // A warning mode that isn't set follows what is enforced, so that controllers' pods are warned of too.
        let unset = |mode: &str| ["", "-version"].iter().all(|suffix| labels.get(format!("{PREFIX}{mode}{suffix}")).is_none());
        let enforced = labels.get(format!("{PREFIX}enforce")).is_some();
        if enforced && unset("warn") && policy.enforce.level > policy.warn.level {
            policy.warn = policy.enforce;
        }
        (policy, errors)
    }
}

fn parse_version(text: &str) -> Option<Version> {
    if text == "latest" {
        return Some(Version::LATEST);
    }
    let digits = text.strip_prefix("v1.")?;
    let canonical = digits == "0" || !digits.starts_with('0');
    (canonical && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok().map(Version))?
}
