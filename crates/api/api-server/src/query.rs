//! Query: a request's query parameters.
use api_meta::{FieldSelector, LabelSelector, Status};
use jiff::SignedDuration;
use percent_encoding::percent_decode_str;
use std::time::Duration;

#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    pub fn parse(text: &str) -> Self {
        let decode = |part: &str| percent_decode_str(&part.replace('+', " ")).decode_utf8_lossy().into_owned();
        let pairs = text.split('&').filter(|part| !part.is_empty()).map(|part| {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            (decode(key), decode(value))
        });
        Self(pairs.collect())
    }
    /// The first value of a parameter; "" counts as absent, as upstream's decoding has it.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str()).filter(|v| !v.is_empty())
    }
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(k, _)| k == key).map(|(_, v)| v.as_str())
    }
    /// A parameter that says something: an empty one is as good as none.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.get(key).filter(|text| !text.is_empty())
    }
    /// Upstream's conversion of a flag: present and neither "false" nor "0".
    pub fn flag(&self, key: &str) -> bool {
        self.0.iter().find(|(k, _)| k == key).is_some_and(|(_, v)| !matches!(v.to_ascii_lowercase().as_str(), "false" | "0"))
    }
    pub fn integer(&self, key: &str) -> Result<Option<i64>, Status> {
        self.get(key).map(|text| text.parse().map_err(|_| Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")))).transpose()
    }
    /// How long the client is going to wait (`timeout=30s`).
    pub fn timeout(&self) -> Result<Option<Duration>, Status> {
        let Some(text) = self.value("timeout") else { return Ok(None) };
        let invalid = || Status::bad_request(format!("invalid timeout specified in the request URL - time: invalid duration {text:?}"));
        let parsed: SignedDuration = if text == "0" { SignedDuration::ZERO } else { text.parse().map_err(|_| invalid())? };
        let parsed = Duration::try_from(parsed).map_err(|_| invalid())?;
        // Upstream takes none for no limit of one's own.
        Ok(Some(parsed).filter(|timeout| !timeout.is_zero()))
    }
    pub fn labels(&self) -> Result<LabelSelector, Status> {
        LabelSelector::parse(self.get("labelSelector").unwrap_or_default()).map_err(Status::bad_request)
    }
    pub fn fields(&self) -> Result<FieldSelector, Status> {
        FieldSelector::parse(self.get("fieldSelector").unwrap_or_default()).map_err(Status::bad_request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_once() {
        let query = Query::parse("labelSelector=a%3Db%2Cc&watch=true&dryRun=All&dryRun=&x=a+b");
        assert_eq!(query.get("labelSelector"), Some("a=b,c"));
        assert_eq!(query.get("x"), Some("a b"));
        assert!(query.flag("watch") && !query.flag("follow"));
        assert!(!Query::parse("watch=0").flag("watch"));
        assert!(Query::parse("watch=").flag("watch"));
        assert_eq!(Query::parse("timeout=1m30s").timeout().unwrap(), Some(Duration::from_secs(90)));
        assert_eq!(Query::parse("timeout=0").timeout().unwrap(), None);
        assert!(Query::parse("timeout=soon").timeout().is_err() && Query::parse("timeout=-1s").timeout().is_err());
    }
}
