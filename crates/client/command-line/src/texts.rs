//! Values of flags: pairs, durations, versions.
use anyhow::{Result, bail};
use serde_json::{Map, Value};
use std::time::Duration;

/// `key=value`, or a key alone.
pub fn pairs(texts: &[String]) -> Value {
    let pair = |text: &String| match text.split_once('=') {
        Some((key, value)) => (key.to_owned(), value.into()),
        None => (text.clone(), "".into()),
    };
    texts.iter().map(pair).collect::<Map<String, Value>>().into()
}

/// Durations as Go writes them: 90s, 1m30s, 1h.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration such as 90s, 5m or 1h");
    let (mut rest, mut sum) = (text, 0.0);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        let unit = rest[digits..].find(|c: char| c.is_ascii_digit() || c == '.').map_or(&rest[digits..], |end| &rest[digits..digits + end]);
        sum += number
            * match unit {
                "ms" => 0.001,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return Err(wrong()),
            };
        rest = &rest[digits + unit.len()..];
    }
    if text.is_empty() { Err(wrong()) } else { Duration::try_from_secs_f64(sum).map_err(|_| wrong()) }
}

/// Whether the first version is an earlier release than the second.
///
/// # Errors
/// When one of them is no version.
pub fn is_downgrade(to: &str, from: &str) -> Result<bool> {
    Ok(release(to)? < release(from)?)
}

fn release(version: &str) -> Result<[u64; 3]> {
    let plain = version.trim_start_matches('v').split(['-', '+']).next().unwrap_or_default();
    let mut numbers = [0; 3];
    let parts: Vec<&str> = plain.split('.').collect();
    if parts.len() > numbers.len() {
        bail!("{version:?} is not a version");
    }
    for (number, part) in numbers.iter_mut().zip(parts) {
        *number = part.parse().map_err(|_| anyhow::anyhow!("{version:?} is not a version"))?;
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (text, seconds) in [("90s", 90.0), ("1m30s", 90.0), ("1h", 3600.0), ("1.5s", 1.5), ("200ms", 0.2)] {
            assert_eq!(duration(text).unwrap(), Duration::from_secs_f64(seconds), "{text}");
        }
        for text in ["", "5", "m", "5x", "1h5"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn earlier_releases_are_downgrades() {
        assert!(is_downgrade("v1.33.1-k3s1", "v1.37.0+k8shost.0.1.0").unwrap());
        assert!(!is_downgrade("1.37", "v1.37.0").unwrap());
        assert!(is_downgrade("latest", "v1.37.0").is_err());
    }
}
