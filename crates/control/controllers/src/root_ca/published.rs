//! Published: what is kept of a namespace's bundle. Every namespace has one, so the text itself is not.
use super::DESCRIPTION;
use crate::parts::{part_of, who};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// The one entry of a bundle's ConfigMap.
pub const ENTRY: &str = "ca.crt";

/// A ConfigMap of the bundle's name. Written by patches only.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Published {
    pub metadata: ObjectMeta,
    #[serde(skip)]
    digest: Option<[u8; 32]>,
    /// Entries that are not the bundle.
    #[serde(skip)]
    pub others: Box<[Box<str>]>,
    #[serde(skip)]
    described: bool,
}
part_of!(Published, "ConfigMap", "configmaps");

fn digest(pem: &str) -> [u8; 32] {
    Sha256::digest(pem.as_bytes()).into()
}

impl Published {
    /// Whether it holds this bundle, nothing else, and says what it is for.
    pub fn is_right(&self, pem: &str) -> bool {
        self.digest == Some(digest(pem)) && self.others.is_empty() && self.described
    }
}

impl<'de> Deserialize<'de> for Published {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Described {
            #[serde(default)]
            annotations: Option<BTreeMap<String, String>>,
        }
        #[derive(Deserialize)]
        struct Whole {
            metadata: serde_json::Value,
            #[serde(default)]
            data: Option<BTreeMap<String, String>>,
        }
        let Whole { metadata, data } = Whole::deserialize(deserializer)?;
        let Described { annotations } = Described::deserialize(&metadata).map_err(D::Error::custom)?;
        let data = data.unwrap_or_default();
        Ok(Self {
            metadata: who(metadata).map_err(D::Error::custom)?,
            digest: data.get(ENTRY).map(|pem| digest(pem)),
            others: data.into_keys().filter(|entry| entry != ENTRY).map(String::into_boxed_str).collect(),
            described: annotations.is_some_and(|all| all.get(DESCRIPTION.0).map(String::as_str) == Some(DESCRIPTION.1)),
        })
    }
}
