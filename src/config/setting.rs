//! One setting of a configuration as text.

use super::errors::escaped;

/// Stands for any listener's name in a path.
pub(super) const ANY_NAME: &str = "NAME";

/// One setting of a configuration, as text.
///
/// ```
/// use hrotti::config::Config;
///
/// let settings = Config::default().settings();
/// let depth = settings.iter().find(|setting| setting.key == "maxQueueDepth").unwrap();
/// assert_eq!((depth.value.as_str(), depth.default), ("100", true));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Setting {
    /// Where it stands in the file: names, joined by dots. The name of a listener is quoted if it is not one word.
    pub key: String,
    /// Its value, on one line.
    pub value: String,
    /// Whether the value is the default.
    pub default: bool,
}

impl Setting {
    /// A setting, for a list that comes from elsewhere.
    #[must_use]
    pub fn new(key: impl Into<String>, value: impl Into<String>, default: bool) -> Setting {
        Setting { key: key.into(), value: value.into(), default }
    }

    /// The key of a setting of a listener, from what follows its name.
    ///
    /// ```
    /// use hrotti::config::Setting;
    ///
    /// assert_eq!(Setting::key_of_listener("my tcp", "qosMax"), "listeners.\"my tcp\".qosMax");
    /// ```
    #[must_use]
    pub fn key_of_listener(name: &str, rest: &str) -> String {
        listener_key(&format!("listeners.{ANY_NAME}.{rest}"), name)
    }
}

/// The key of a setting of a listener, from its path in the list of keys.
pub(super) fn listener_key(path: &str, name: &str) -> String {
    path.replacen(ANY_NAME, &escaped(name), 1)
}
