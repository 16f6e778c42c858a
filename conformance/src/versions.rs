//! A set of protocol versions, as `--versions` and capability files name it.

use std::fmt;
use std::str::FromStr;

use crate::codec::{ALL, Version};

/// A set of protocol versions.
///
/// ```
/// use hrotti_conformance::{Versions, codec::Version};
///
/// let versions: Versions = "3.1.1,5".parse()?;
/// assert!(versions.contains(Version::V5) && !versions.contains(Version::V31));
/// assert_eq!(versions.to_string(), "3.1.1,5");
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions(u8);

impl Versions {
    /// No version.
    pub const NONE: Versions = Versions(0);
    /// 3.1, 3.1.1 and 5.0.
    pub const ALL: Versions = Versions(0b111);

    fn bit(version: Version) -> u8 {
        match version {
            Version::V31 => 1,
            Version::V311 => 2,
            Version::V5 => 4,
        }
    }

    /// Whether `version` is in the set.
    #[must_use]
    pub fn contains(self, version: Version) -> bool {
        self.0 & Versions::bit(version) != 0
    }

    /// The set and `version`.
    #[must_use]
    pub fn with(self, version: Version) -> Versions {
        Versions(self.0 | Versions::bit(version))
    }

    /// What is in both.
    #[must_use]
    pub fn and(self, other: Versions) -> Versions {
        Versions(self.0 & other.0)
    }

    /// The versions, oldest first.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = Version> {
        ALL.into_iter().filter(move |&version| self.contains(version))
    }

    /// Their names: `3.1`, `3.1.1`, `5`.
    #[must_use]
    pub fn names(self) -> Vec<String> {
        self.iter().map(|version| version.to_string()).collect()
    }

    pub(crate) fn bits(self) -> u8 {
        self.0
    }

    pub(crate) fn from_bits(bits: u8) -> Versions {
        Versions(bits & Versions::ALL.0)
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().join(","))
    }
}

impl FromStr for Versions {
    type Err = String;

    /// Reads names with commas between them; `5.0` is `5`.
    fn from_str(text: &str) -> Result<Versions, String> {
        text.split(',').try_fold(Versions::NONE, |set, name| match name.trim() {
            "3.1" => Ok(set.with(Version::V31)),
            "3.1.1" => Ok(set.with(Version::V311)),
            "5" | "5.0" => Ok(set.with(Version::V5)),
            other => Err(format!("{other:?} is no version; there are 3.1, 3.1.1 and 5")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        for bits in 1..8 {
            let set = Versions::from_bits(bits);
            assert_eq!(set.to_string().parse(), Ok(set));
            assert_eq!(set.bits(), bits);
        }
    }

    #[test]
    fn refuses_other_names() {
        for text in ["", "4", "3.1,", "5,6", "mqtt"] {
            assert!(text.parse::<Versions>().is_err(), "{text:?}");
        }
        assert_eq!("5.0, 3.1".parse::<Versions>().map(|v| v.to_string()), Ok("3.1,5".to_owned()));
    }
}
