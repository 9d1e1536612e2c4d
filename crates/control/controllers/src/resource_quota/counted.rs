//! Kinds of which a quota counts only how many there are: no more of them is kept than who they are.
use crate::parts::{part_of, who};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

macro_rules! counted {
    ($type:ident, $kind:literal, $plural:literal) => {
        #[derive(Clone, Debug, Default, Serialize, Deserialize)]
        pub struct $type {
            #[serde(deserialize_with = "who")]
            metadata: ObjectMeta,
        }
        part_of!($type, $kind, $plural);
    };
}

counted!(CountedConfigMap, "ConfigMap", "configmaps");
counted!(CountedSecret, "Secret", "secrets");
