//! The errors of a configuration, one line each.

use std::fmt;

use super::json::Json;
use crate::spelling::distance;

/// One error of a configuration: its place, the problem, and the remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigError {
    /// The name of the file or of the environment variable.
    pub source_name: String,
    /// The key, such as `listeners.websockets.url`; for text that is not JSON, line and column; empty if the
    /// error concerns the whole text.
    pub at: String,
    /// The problem with the value, and the remedy.
    pub problem: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = if self.at.is_empty() { "" } else { ": " };
        write!(f, "{}{separator}{}: {}", self.source_name, self.at, self.problem)
    }
}

impl std::error::Error for ConfigError {}

/// All errors of a configuration, at least one, in the order of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub(super) Vec<ConfigError>);

impl ConfigErrors {
    pub(super) fn one(source: &str, at: &str, problem: String) -> ConfigErrors {
        let (source_name, at) = (source.to_owned(), at.to_owned());
        ConfigErrors(vec![ConfigError { source_name, at, problem }])
    }

    /// The errors, in the order of the text.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.0.iter()
    }
}

/// One line per error.
impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// The candidate that `name` was probably meant to be.
pub(super) fn nearest<'a>(
    name: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    let lower = name.to_lowercase();
    candidates
        .map(|candidate| (distance(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// A key of the file for people: quoted where it would not be one word.
pub(super) fn escaped(name: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '/' | ':');
    if !name.is_empty() && name.chars().count() <= 60 && name.chars().all(plain) {
        return name.to_owned();
    }
    Json::String(name.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_near_name_is_suggested() {
        let keys = || ["maxQueueDepth", "listeners", "url"].into_iter();
        assert_eq!(nearest("MAXQUEUEDEPTH", keys()), Some("maxQueueDepth"));
        assert_eq!(nearest("maxQueDepth", keys()), Some("maxQueueDepth"));
        assert_eq!(nearest("uri", keys()), Some("url"));
        assert_eq!(nearest("port", keys()), None);
        assert_eq!(nearest(&"x".repeat(1_000_000), keys()), None);
    }
}
