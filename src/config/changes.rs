//! The difference of two configurations, as far as their texts tell.

use std::fmt;

use super::keys::{holds_of, shown};
use super::{Config, Setting};
use crate::limits::Holds;

impl Config {
    /// All settings: those of the listeners that are not the default, then each limit, access setting, the number of
    /// workers and the streams of the log.
    #[must_use]
    pub fn settings(&self) -> Vec<Setting> {
        shown(self)
    }

    /// What changes from this configuration to another one, as far as the two texts tell: the contents of the files that
    /// they name are not compared. [`Server::plan`](crate::Server::plan) compares them, too.
    ///
    /// ```
    /// use hrotti::config::Config;
    ///
    /// let listeners = r#""listeners": { "tcp": { "url": "tcp://127.0.0.1" } }"#;
    /// let old = Config::from_json(&format!("{{ {listeners} }}"), "old.json")?;
    /// let text = format!(r#"{{ {listeners}, "limits": {{ "maxInflight": 64 }}, "workers": 2 }}"#);
    /// let lines: Vec<String> =
    ///     old.changes_to(&Config::from_json(&text, "new.json")?).iter().map(ToString::to_string).collect();
    /// let expected = ["~ limits.maxInflight 1024 -> 64 (new connections)", "! workers 1 -> 2 (at the next start)"];
    /// assert_eq!(lines, expected);
    /// # Ok::<(), hrotti::config::ConfigErrors>(())
    /// ```
    #[must_use]
    pub fn changes_to(&self, new: &Config) -> Vec<Change> {
        difference(&self.settings(), &new.settings())
    }
}

/// A change of a configuration. `Display` writes one line: `+` is added, `-` removed, `~` changed, and `!` waits for the
/// next start.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// There is a listener more.
    ListenerAdded {
        /// Its name.
        name: String,
        /// Its URL.
        url: String,
    },
    /// There is a listener less.
    ListenerRemoved {
        /// Its name.
        name: String,
        /// Its URL.
        url: String,
    },
    /// A setting has another value.
    Setting {
        /// Its key.
        key: String,
        /// The value before; `None`: it was not set.
        before: Option<String>,
        /// The new value; `None`: it is not set.
        after: Option<String>,
        /// From when the new value holds.
        holds: Holds,
    },
    /// The contents of a file have changed, and its name has not.
    Contents {
        /// The key that names the file.
        key: String,
        /// The file.
        file: String,
        /// From when the new contents hold.
        holds: Holds,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "(none)".to_owned());
        match self {
            Change::ListenerAdded { name, url } => write!(f, "+ listener {name} {url}"),
            Change::ListenerRemoved { name, url } => write!(f, "- listener {name} {url}"),
            Change::Setting { key, before, after, holds } => {
                let sign = if *holds == Holds::NextStart { '!' } else { '~' };
                write!(f, "{sign} {key} {} -> {} ({holds})", value(before), value(after))
            }
            Change::Contents { key, file, holds } => {
                write!(f, "~ {key} {file}: contents changed ({holds})")
            }
        }
    }
}

/// What changes from one list of settings to another: listeners first, then settings in the order of the new list. Nothing
/// is said of the settings of a listener that is only in one of them.
///
/// ```
/// use hrotti::config::{Setting, difference};
///
/// let before = [Setting::new("listeners.a.url", "tcp://127.0.0.1:1883", false)];
/// let after = [Setting::new("listeners.b.url", "tcp://127.0.0.1:1884", false)];
/// let lines: Vec<String> = difference(&before, &after).iter().map(ToString::to_string).collect();
/// assert_eq!(lines, ["- listener a tcp://127.0.0.1:1883", "+ listener b tcp://127.0.0.1:1884"]);
/// ```
#[must_use]
pub fn difference(before: &[Setting], after: &[Setting]) -> Vec<Change> {
    let listed = |all: &[Setting], name: &str| listeners(all).any(|(known, _)| known == name);
    let removed = listeners(before)
        .filter(|(name, _)| !listed(after, name))
        .map(|(name, url)| Change::ListenerRemoved { name: name.to_owned(), url: url.to_owned() });
    let added = listeners(after).filter(|(name, _)| !listed(before, name));
    let added = added
        .map(|(name, url)| Change::ListenerAdded { name: name.to_owned(), url: url.to_owned() });
    let mut changes: Vec<Change> = removed.chain(added).collect();
    let find = |all: &[Setting], key: &str| all.iter().find(|known| known.key == key).cloned();
    let gone = before.iter().filter(|old| find(after, &old.key).is_none());
    for setting in after.iter().chain(gone) {
        let key = &setting.key;
        let of_both = |name: &str| listed(before, name) && listed(after, name);
        if listener_of(key, before, after).is_some_and(|name| !of_both(name)) {
            continue;
        }
        let (old, new) = (find(before, key), find(after, key));
        if old != new {
            let same = old.as_ref().map(|old| &old.value) == new.as_ref().map(|new| &new.value);
            let value = |setting: Setting| match setting.default && same {
                true => format!("{} (default)", setting.value),
                false => setting.value,
            };
            let (before, after) = (old.map(value), new.map(value));
            let holds = holds_of(key);
            changes.push(Change::Setting { key: key.clone(), before, after, holds });
        }
    }
    changes
}

/// The names of the listeners, as keys have them, and their URLs.
fn listeners(settings: &[Setting]) -> impl Iterator<Item = (&str, &str)> {
    settings.iter().filter_map(|setting| {
        let name = setting.key.strip_prefix("listeners.")?.strip_suffix(".url")?;
        Some((name, setting.value.as_str()))
    })
}

/// The listener that a key belongs to.
fn listener_of<'a>(key: &str, before: &'a [Setting], after: &'a [Setting]) -> Option<&'a str> {
    let rest = key.strip_prefix("listeners.")?;
    let mut names = listeners(before).chain(listeners(after)).map(|(name, _)| name);
    names.find(|name| rest.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
}
