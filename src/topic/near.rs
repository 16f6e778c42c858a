//! Topic Filters that almost match a Topic Name, and the difference.

use std::fmt;

use super::{is_reserved, name_matches, split_levels};
use crate::spelling::distance;

/// What keeps a Topic Filter from matching a Topic Name.
///
/// ```
/// use hrotti::Difference;
///
/// let difference = Difference::between("Home/+/state", "home/lamp/state");
/// assert_eq!(difference, Some(Difference::Case));
/// assert_eq!(Difference::between("home/#", "home/lamp/state"), None, "it matches");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Difference {
    /// The Topic Name begins with `$`, and no wildcard in the first level matches it (MQTT-4.7.2-1).
    Dollar,
    /// The letters differ in case only: topics are case-sensitive.
    Case,
    /// One of the two has a `/` more at its beginning or its end, which makes a further, empty level.
    Slash,
    /// One level differs.
    Level {
        /// The number of the level, counted from 1.
        number: usize,
        /// The level of the filter.
        filter: String,
        /// The level of the name.
        name: String,
    },
    /// The name has further levels: the filter lacks `/#` at its end, or these levels.
    Deeper {
        /// The number of further levels.
        levels: usize,
    },
    /// The filter has further levels.
    Shallower {
        /// The number of further levels.
        levels: usize,
    },
    /// Some letters in several levels differ.
    Spelling {
        /// Their number.
        letters: usize,
    },
}

impl Difference {
    /// The difference between a Topic Filter, without `$share/NAME/`, and a Topic Name that it almost matches. `None`
    /// if it matches, or is far from it.
    #[must_use]
    pub fn between(filter: &str, name: &str) -> Option<Difference> {
        nearness(filter, name).map(|(difference, _)| difference)
    }
}

/// The filter that is nearest to the name, without being one that matches it.
pub(crate) fn nearest<'a>(
    filters: impl Iterator<Item = &'a str>,
    name: &str,
) -> Option<(&'a str, Difference)> {
    let near = filters.filter_map(|filter| {
        let (difference, far) = nearness(filter, name)?;
        Some((far, filter, difference))
    });
    // The text decides between two that are as near, so that the answer is the same each time.
    near.min_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)))
        .map(|(_, filter, difference)| (filter, difference))
}

/// The difference, and how far both are from each other.
fn nearness(filter: &str, name: &str) -> Option<(Difference, usize)> {
    if name_matches(filter, name) {
        return None;
    }
    let wild = filter.starts_with(['+', '#']);
    if wild && is_reserved(name) && name_matches(filter, &name[1..]) {
        return Some((Difference::Dollar, 0));
    }
    if name_matches(&filter.to_lowercase(), &name.to_lowercase()) {
        return Some((Difference::Case, 1));
    }
    if name_matches(bare(filter), bare(name)) {
        return Some((Difference::Slash, 2));
    }
    by_level(filter, name).or_else(|| {
        let letters = distance(filter, name);
        let allowed = filter.len().min(name.len()) / 4;
        (letters <= allowed).then(|| (Difference::Spelling { letters }, 10 + letters))
    })
}

fn bare(text: &str) -> &str {
    let text = text.strip_prefix('/').unwrap_or(text);
    text.strip_suffix('/').unwrap_or(text)
}

/// The difference if all levels but one match, or all of one are the first of the other.
fn by_level(filter: &str, name: &str) -> Option<(Difference, usize)> {
    let text = |level: &[u8]| String::from_utf8_lossy(level).into_owned();
    let (mut wanted, mut given) = (split_levels(filter), split_levels(name));
    let mut differing = None;
    let mut same = 0;
    for number in 1.. {
        match (wanted.next(), given.next()) {
            (Some(b"#"), _) | (None, None) => break,
            (Some(b"+"), Some(_)) => same += 1,
            (Some(one), Some(other)) if one == other => same += 1,
            (Some(one), Some(other)) if differing.is_none() => {
                differing = Some((number, text(one), text(other)));
            }
            (Some(_), Some(_)) => return None,
            // Further levels of one alone are a difference only where everything before is the same.
            (None, Some(_)) if differing.is_none() && same > 0 => {
                let levels = 1 + given.count();
                return Some((Difference::Deeper { levels }, 4 + levels));
            }
            (Some(_), None) if differing.is_none() && same > 0 => {
                let levels = 1 + wanted.filter(|level| *level != b"#").count();
                return Some((Difference::Shallower { levels }, 4 + levels));
            }
            _ => return None,
        }
    }
    let (number, filter, name) = differing?;
    let letters = distance(&filter, &name);
    let spelled = letters <= (filter.chars().count() / 2).max(1);
    // A level that is another word says little unless other levels are the same.
    let far = if spelled { 3 + letters.min(3) } else { 8 };
    (spelled || same > 0).then_some((Difference::Level { number, filter, name }, far))
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Difference::Dollar => {
                f.write_str("no wildcard in the first level matches a topic that begins with $")
            }
            Difference::Case => f.write_str("its letters differ in case"),
            Difference::Slash => f.write_str("one of the two has a / more at an end"),
            Difference::Level { number, filter, name } => {
                write!(f, "its level {number} is {filter:?} and not {name:?}")
            }
            Difference::Deeper { levels } => {
                write!(
                    f,
                    "the topic has {levels} more level{}; \"/#\" at its end would match",
                    plural(*levels)
                )
            }
            Difference::Shallower { levels } => {
                write!(f, "it has {levels} more level{} than the topic", plural(*levels))
            }
            Difference::Spelling { letters } => {
                write!(f, "{letters} letter{} differ", plural(*letters))
            }
        }
    }
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn level(number: usize, filter: &str, name: &str) -> Difference {
        Difference::Level { number, filter: filter.to_owned(), name: name.to_owned() }
    }

    #[test]
    fn each_difference_is_named() {
        for (filter, name, expected) in [
            ("+/broker/#", "$SYS/broker/uptime", Some(Difference::Dollar)),
            ("#", "$SYS/broker/uptime", Some(Difference::Dollar)),
            ("Home/Lamp", "home/lamp", Some(Difference::Case)),
            ("home/+/State", "home/lamp/state", Some(Difference::Case)),
            ("/hall/lamp", "hall/lamp", Some(Difference::Slash)),
            ("home/lamp", "home/lamp/", Some(Difference::Slash)),
            ("home/lmap", "home/lamp", Some(level(2, "lmap", "lamp"))),
            ("home/kitchen/+", "home/bath/lamp", Some(level(2, "kitchen", "bath"))),
            ("haus/#", "hous/lamp/state", Some(level(1, "haus", "hous"))),
            ("home", "home/lamp", Some(Difference::Deeper { levels: 1 })),
            ("home/+", "home/lamp/state/now", Some(Difference::Deeper { levels: 2 })),
            ("home/lamp/state", "home/lamp", Some(Difference::Shallower { levels: 1 })),
            ("home/lamp/+/now/#", "home/lamp", Some(Difference::Shallower { levels: 2 })),
            ("homes/lamps", "home/lamp", Some(Difference::Spelling { letters: 2 })),
            ("home/lamp", "home/lamp", None),
            ("home/#", "home", None),
            ("garden/gate", "home/lamp", None),
            ("a", "b/c", None),
        ] {
            assert_eq!(Difference::between(filter, name), expected, "{filter} {name}");
        }
    }

    #[test]
    fn the_nearest_filter_is_found() {
        for (filters, name, expected) in [
            (&["home/lmap", "HOME/LAMP", "home/lamp/state"][..], "home/lamp", Some("HOME/LAMP")),
            (&["home/door", "home/lmap"], "home/lamp", Some("home/lmap")),
            (&["b/x", "a/x"], "c/x", Some("a/x")),
            (&["garden"], "home/lamp", None),
            (&[], "home/lamp", None),
        ] {
            let found = nearest(filters.iter().copied(), name).map(|(filter, _)| filter);
            assert_eq!(found, expected, "{filters:?} {name}");
        }
    }

    #[test]
    fn texts_of_clients_are_escaped_pitfall_18() {
        let shown = level(1, "a\nb", "c\u{1b}[31m").to_string();
        assert!(!shown.contains(char::is_control), "{shown:?}");
    }

    proptest! {
        #[test]
        fn a_filter_that_matches_has_no_difference(
            filter in "[abA$+#/]{1,8}", name in "[abA$/]{1,8}",
        ) {
            let difference = Difference::between(&filter, &name);
            prop_assert!(difference.is_none() || !name_matches(&filter, &name));
        }

        #[test]
        fn any_texts_are_compared(filter in "\\PC{0,40}", name in "\\PC{0,40}") {
            if let Some(difference) = Difference::between(&filter, &name) {
                prop_assert!(!difference.to_string().is_empty());
            }
        }
    }
}
