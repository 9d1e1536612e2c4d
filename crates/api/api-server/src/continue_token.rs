//! The `continue` token of a list that goes on: where it stopped and the revision it is true for.
use api_meta::Status;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use store::Revision;

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContinueToken {
    #[serde(rename = "v")]
    version: String,
    #[serde(rename = "rv")]
    pub revision: Revision,
    /// The last key that was sent, relative to the list's prefix.
    #[serde(rename = "start")]
    pub after: String,
}

impl ContinueToken {
    pub fn new(revision: Revision, after: &str) -> Self {
        Self { version: "meta.k8s.io/v1".into(), revision, after: after.into() }
    }
    pub fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).expect("a token encodes"))
    }
    pub fn decode(text: &str) -> Result<Self, Status> {
        let invalid = |why: String| Status::bad_request(format!("invalid continue token: continue key is not valid{why}"));
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|error| {
            let at = match error {
                base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => at,
                base64::DecodeError::InvalidLength(length) => length,
                base64::DecodeError::InvalidPadding => text.len(),
            };
            invalid(format!(": illegal base64 data at input byte {at}"))
        })?;
        let token: Self = serde_json::from_slice(&bytes).map_err(|error| invalid(format!(": {error}")))?;
        if token.version != "meta.k8s.io/v1" {
            return Err(invalid(": server does not recognize this encoded version ".to_owned() + &format!("{:?}", token.version)));
        }
        if token.after.is_empty() {
            return Err(invalid(": encoded start key empty (version meta.k8s.io/v1)".into()));
        }
        if token.after.split('/').any(|segment| matches!(segment, "." | "..")) {
            return Err(invalid(format!(": {}", token.after)));
        }
        Ok(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_a_round_trip_and_refuse_nonsense() {
        let token = ContinueToken::new(7, "ns/name");
        assert_eq!(ContinueToken::decode(&token.encode()).unwrap(), token);
        assert!(ContinueToken::decode("!!").is_err());
        assert!(ContinueToken::decode("e30").is_err());
    }
}
