//! Semver: semantic versions and their order (semver.org 2.0).
use std::cmp::Ordering;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Semver {
    pub numbers: [u64; 3],
    before: Vec<String>,
}

impl Semver {
    /// `normalize` forgives a leading `v`, missing parts and leading zeros.
    pub fn parse(text: &str, normalize: bool) -> Result<Self, String> {
        let text = if normalize { text.trim_start_matches('v') } else { text };
        let (rest, build) = text.split_once('+').map_or((text, None), |(rest, build)| (rest, Some(build)));
        let (core, before) = rest.split_once('-').map_or((rest, None), |(core, before)| (core, Some(before)));
        let mut parts: Vec<&str> = core.split('.').collect();
        while normalize && parts.len() < 3 {
            parts.push("0");
        }
        let [major, minor, patch] = parts[..] else { return Err("No Major.Minor.Patch elements found".into()) };
        let number = |part: &str, name: &str| {
            if part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) {
                return Err(format!("Invalid character(s) found in {name} number {part:?}"));
            }
            if !normalize && part.len() > 1 && part.starts_with('0') {
                return Err(format!("{name} number must not contain leading zeroes {part:?}"));
            }
            part.parse::<u64>().map_err(|error| error.to_string())
        };
        let numbers = [number(major, "major")?, number(minor, "minor")?, number(patch, "patch")?];
        let identifiers = |text: Option<&str>, numeric: bool| -> Result<Vec<String>, String> {
            let Some(text) = text else { return Ok(Vec::new()) };
            text.split('.')
                .map(|part| {
                    let good = !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
                    let zero = numeric && part.len() > 1 && part.starts_with('0') && part.bytes().all(|b| b.is_ascii_digit());
                    if good && !zero { Ok(part.to_owned()) } else { Err(format!("Invalid character(s) found in prerelease {part:?}")) }
                })
                .collect()
        };
        identifiers(build, false)?;
        Ok(Self { numbers, before: identifiers(before, true)? })
    }

    pub fn cmp(&self, other: &Self) -> Ordering {
        self.numbers.cmp(&other.numbers).then_with(|| match (self.before.is_empty(), other.before.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => {
                let pairs = self.before.iter().zip(&other.before).map(|(a, b)| match (a.parse::<u64>(), b.parse::<u64>()) {
                    (Ok(a), Ok(b)) => a.cmp(&b),
                    (Ok(_), Err(_)) => Ordering::Less,
                    (Err(_), Ok(_)) => Ordering::Greater,
                    (Err(_), Err(_)) => a.cmp(b),
                });
                pairs.fold(Ordering::Equal, Ordering::then).then(self.before.len().cmp(&other.before.len()))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered() {
        let ordered = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0", "1.0.1", "2.0.0"];
        for pair in ordered.windows(2) {
            assert_eq!(Semver::parse(pair[0], false).unwrap().cmp(&Semver::parse(pair[1], false).unwrap()), Ordering::Less, "{pair:?}");
        }
        assert!(Semver::parse("v1.2", false).is_err() && Semver::parse("v1.2", true).is_ok() && Semver::parse("01.2.3", false).is_err());
    }
}
