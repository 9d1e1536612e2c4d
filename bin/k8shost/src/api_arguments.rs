//! ApiArguments: `--kube-apiserver-arg`, by the names upstream's API server has for them.
use anyhow::{Context, Result, anyhow};
use jiff::SignedDuration;
use std::time::Duration;
use store::CompactionPolicy;

/// What can be set, and what it is unless set.
#[derive(Debug, PartialEq, Eq)]
pub struct ApiArguments {
    /// `etcd-compaction-interval`; history is kept for two intervals. `None` keeps it for ever.
    pub compaction: Option<CompactionPolicy>,
}

impl ApiArguments {
    pub fn of(arguments: &[(String, String)]) -> Result<Self> {
        let mut parsed = Self { compaction: Some(CompactionPolicy::default()) };
        for (name, value) in arguments {
            match name.as_str() {
                "etcd-compaction-interval" => {
                    let every = duration(value).with_context(|| format!("kube-apiserver-arg {name}={value}"))?;
                    parsed.compaction = (!every.is_zero()).then(|| CompactionPolicy { every, keep: every * 2 });
                }
                other => return Err(anyhow!("kube-apiserver-arg {other}: there is no such argument; there is etcd-compaction-interval")),
            }
        }
        Ok(parsed)
    }
}

/// A duration such as `90s` or `1h30m`, in whole seconds at least.
fn duration(text: &str) -> Result<Duration> {
    let parsed: SignedDuration = if text == "0" { SignedDuration::ZERO } else { text.parse()? };
    let parsed = Duration::try_from(parsed).map_err(|_| anyhow!("it must not be negative"))?;
    if !parsed.is_zero() && parsed < Duration::from_secs(1) { Err(anyhow!("it must be a second at least")) } else { Ok(parsed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_durations_and_names_are_known() {
        let of = |name: &str, value: &str| ApiArguments::of(&[(name.to_owned(), value.to_owned())]);
        let every = |seconds: u64| Some(CompactionPolicy { every: Duration::from_secs(seconds), keep: Duration::from_secs(2 * seconds) });
        assert_eq!(of("etcd-compaction-interval", "1m30s").unwrap().compaction, every(90));
        assert_eq!(of("etcd-compaction-interval", "0").unwrap().compaction, None);
        for (name, value) in [("etcd-compaction-interval", "-1s"), ("etcd-compaction-interval", "1ms"), ("etcd-compaction-interval", "soon"), ("v", "4")] {
            assert!(of(name, value).is_err(), "{name}={value}");
        }
    }
}
