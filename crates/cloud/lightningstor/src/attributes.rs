//! Attributes: what of a volume can be changed while it is in use (CSI's mutable parameters).
use crate::Error;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How a volume takes its room on the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Allocation {
    /// As it is written to; what its file system gives back is the disk's again.
    #[default]
    Thin,
    /// All of it at once, and it keeps it: no neighbour can fill the disk under it.
    Full,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    pub allocation: Allocation,
    /// KiB that are read ahead; the kernel's own choice where that is not said.
    pub read_ahead: Option<u32>,
}

/// More than any disk is made faster by.
const MOST_READ_AHEAD: u32 = 64 << 10;

impl Attributes {
    /// These, with what the parameters say put in place.
    ///
    /// # Errors
    /// An unknown parameter, or a value that is none.
    pub fn with(mut self, parameters: &BTreeMap<String, String>) -> Result<Self, Error> {
        for (key, value) in parameters {
            match (key.as_str(), value.as_str()) {
                ("allocation", "thin") => self.allocation = Allocation::Thin,
                ("allocation", "full") => self.allocation = Allocation::Full,
                ("allocation", other) => return Err(Error::Invalid(format!("allocation {other:?} is none of thin, full"))),
                ("readAheadKiB", value) => {
                    let kib = value.parse().ok().filter(|kib| *kib <= MOST_READ_AHEAD);
                    let wrong = || Error::Invalid(format!("readAheadKiB {value:?} is no number from 0 to {MOST_READ_AHEAD}"));
                    self.read_ahead = Some(kib.ok_or_else(wrong)?);
                }
                (other, _) => return Err(Error::Invalid(format!("mutable parameter {other:?} is none of allocation, readAheadKiB"))),
            }
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_change_what_they_name_and_nothing_else() {
        let with = |of: Attributes, parameters: &[(&str, &str)]| {
            of.with(&parameters.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()).map_err(|error| error.to_string())
        };
        let full = with(Attributes::default(), &[("allocation", "full")]).unwrap();
        assert_eq!(full, Attributes { allocation: Allocation::Full, read_ahead: None });
        assert_eq!(with(full, &[("readAheadKiB", "256")]).unwrap(), Attributes { allocation: Allocation::Full, read_ahead: Some(256) });
        assert_eq!(with(full, &[("allocation", "thin")]).unwrap(), Attributes::default());
        for (key, value, why) in [
            ("iops", "100", "mutable parameter \"iops\" is none of allocation, readAheadKiB"),
            ("allocation", "half", "allocation \"half\" is none of thin, full"),
            ("readAheadKiB", "65537", "readAheadKiB \"65537\" is no number from 0 to 65536"),
            ("readAheadKiB", "-1", "readAheadKiB \"-1\" is no number from 0 to 65536"),
        ] {
            assert_eq!(with(full, &[(key, value)]).unwrap_err(), why);
        }
    }
}
