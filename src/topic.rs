//! Topic Names, Topic Filters and Share Names: checked once, when they are made, and matched level
//! by level.
//!
//! A value of these types is valid by construction, so no other module checks it again. All three are
//! cheap to clone: clones share one text. Nothing here recurses, and every operation is linear in the
//! length of the text.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

pub(crate) mod near;
pub(crate) mod tree;

#[cfg(test)]
pub(crate) mod tests;

/// The longest text in bytes: what the two-byte length of the wire can say (MQTT-4.7.3-3).
const TEXT_MAX: usize = 65_535;

/// What a shared subscription's Topic Filter starts with (MQTT-4.8.2-1).
const SHARE_PREFIX: &str = "$share/";

/// A Topic Name: the topic to which a message is published.
///
/// 1 to 65 535 bytes of UTF-8 without U+0000, `+` and `#`. Levels are separated by `/` and may be
/// empty; different texts are always different topics (MQTT-4.7.3-4). Names that start with `$` are
/// valid; the broker decides which of them a Client may publish to.
///
/// `Display` writes the text unescaped. It may hold control characters, so use `Debug`, which escapes
/// them, in logs.
///
/// ```
/// use hrotti::TopicName;
///
/// let name: TopicName = "sport/tennis/player1".parse()?;
/// assert_eq!(name.as_str(), "sport/tennis/player1");
/// assert!(TopicName::new("sport/+").is_err());
/// # Ok::<(), hrotti::TopicError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(Arc<str>);

/// A Topic Filter: the pattern of a subscription, including `$share/NAME/FILTER`.
///
/// 1 to 65 535 bytes of UTF-8 without U+0000. `+` matches one whole level; `#` matches any number of
/// levels and stands only at the end. A text that starts with `$share/` is the filter of a shared
/// subscription or is refused; `$share` and `$shared/x` are ordinary filters.
///
/// `Display` writes the text unescaped; use `Debug`, which escapes it, in logs.
///
/// ```
/// use hrotti::{TopicFilter, TopicName};
///
/// let filter = TopicFilter::new("$share/workers/jobs/#")?;
/// assert_eq!(filter.share_name(), Some("workers"));
/// assert_eq!(filter.filter_str(), "jobs/#");
/// assert!(filter.matches(&TopicName::new("jobs/1/start")?));
/// # Ok::<(), hrotti::TopicError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicFilter(Arc<str>);

/// A Share Name: the name of a shared subscription, common to all Sessions that share it.
///
/// 1 to 65 535 bytes of UTF-8 without U+0000, `/`, `+` and `#`.
///
/// ```
/// use hrotti::{ShareName, TopicFilter};
///
/// let share = ShareName::new("workers")?;
/// let filter = TopicFilter::shared(&share, &TopicFilter::new("jobs/#")?)?;
/// assert_eq!(filter.as_str(), "$share/workers/jobs/#");
/// # Ok::<(), hrotti::TopicError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShareName(Arc<str>);

/// Why a text is no Topic Name, Topic Filter or Share Name.
///
/// ```
/// use hrotti::{TopicError, TopicFilter};
///
/// let error = TopicFilter::new("sport/#/ranking").unwrap_err();
/// assert_eq!(error, TopicError::MalformedMultiLevelWildcard);
/// assert_eq!(error.statement(), "MQTT-4.7.1-1");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TopicError {
    /// The text is empty (MQTT-4.7.3-1).
    Empty,
    /// The text is longer than 65 535 bytes (MQTT-4.7.3-3).
    TooLong,
    /// The text holds U+0000 (MQTT-4.7.3-2).
    ContainsNul,
    /// A Topic Name holds `+` or `#` (MQTT-4.7.0-1).
    WildcardInName,
    /// `#` is not a whole level, or not the last one (MQTT-4.7.1-1).
    MalformedMultiLevelWildcard,
    /// `+` is not a whole level (MQTT-4.7.1-2).
    MalformedSingleLevelWildcard,
    /// The Share Name is empty (MQTT-4.8.2-1).
    ShareNameMissing,
    /// The Share Name holds `/`, `+` or `#` (MQTT-4.8.2-2).
    ShareNameInvalid,
    /// The Share Name is not followed by `/` and a Topic Filter (MQTT-4.8.2-2).
    ShareFilterMissing,
}

impl TopicError {
    /// The statement of the MQTT 5.0 standard that the text breaks, such as `MQTT-4.7.1-1`.
    pub fn statement(&self) -> &'static str {
        match self {
            TopicError::Empty => "MQTT-4.7.3-1",
            TopicError::TooLong => "MQTT-4.7.3-3",
            TopicError::ContainsNul => "MQTT-4.7.3-2",
            TopicError::WildcardInName => "MQTT-4.7.0-1",
            TopicError::MalformedMultiLevelWildcard => "MQTT-4.7.1-1",
            TopicError::MalformedSingleLevelWildcard => "MQTT-4.7.1-2",
            TopicError::ShareNameMissing => "MQTT-4.8.2-1",
            TopicError::ShareNameInvalid | TopicError::ShareFilterMissing => "MQTT-4.8.2-2",
        }
    }

    /// Whether the error is in the prefix `$share/NAME/` of a shared subscription. Errors in the filter
    /// behind the prefix are those of any other filter.
    pub fn is_share_error(&self) -> bool {
        matches!(
            self,
            TopicError::ShareNameMissing
                | TopicError::ShareNameInvalid
                | TopicError::ShareFilterMissing
        )
    }
}

impl fmt::Display for TopicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problem = match self {
            TopicError::Empty => "it is empty",
            TopicError::TooLong => "it is longer than 65535 bytes",
            TopicError::ContainsNul => "it holds the null character",
            TopicError::WildcardInName => "a topic name must not hold a wildcard ('+', '#')",
            TopicError::MalformedMultiLevelWildcard => {
                "'#' must stand alone in its level, and that level must be the last"
            }
            TopicError::MalformedSingleLevelWildcard => "'+' must stand alone in its level",
            TopicError::ShareNameMissing => "the share name is empty",
            TopicError::ShareNameInvalid => "a share name must not hold '/', '+' or '#'",
            TopicError::ShareFilterMissing => "the share name must be followed by '/' and a filter",
        };
        write!(f, "{problem} [{}]", self.statement())
    }
}

impl std::error::Error for TopicError {}

impl TopicName {
    /// Checks the text and makes a Topic Name of it.
    ///
    /// # Errors
    /// [`TopicError`] if the text is empty, too long, or holds U+0000 or a wildcard.
    pub fn new(text: &str) -> Result<TopicName, TopicError> {
        check_name(text).map(|()| TopicName(Arc::from(text)))
    }

    /// The number of levels: 1 to 65 536.
    pub fn levels(&self) -> usize {
        levels(&self.0)
    }
}

impl TopicFilter {
    /// Checks the text and makes a Topic Filter of it.
    ///
    /// # Errors
    /// [`TopicError`] if the text is empty, too long, holds U+0000, misplaces a wildcard, or starts
    /// with `$share/` without a valid Share Name and filter behind it.
    pub fn new(text: &str) -> Result<TopicFilter, TopicError> {
        check_filter(text).map(|()| TopicFilter(Arc::from(text)))
    }

    /// The Topic Filter `$share/SHARE/FILTER` of a shared subscription.
    ///
    /// # Errors
    /// [`TopicError::TooLong`] if both together are longer than 65 535 bytes.
    pub fn shared(share: &ShareName, filter: &TopicFilter) -> Result<TopicFilter, TopicError> {
        TopicFilter::new(&format!("{SHARE_PREFIX}{}/{}", share.0, filter.0))
    }

    /// The Share Name, if this is the filter of a shared subscription.
    pub fn share_name(&self) -> Option<&str> {
        split_share(&self.0).map(|(share, _)| share)
    }

    /// The filter that is matched against Topic Names: without `$share/NAME/`.
    pub fn filter_str(&self) -> &str {
        split_share(&self.0).map_or(&*self.0, |(_, filter)| filter)
    }

    /// Whether this is the filter of a shared subscription.
    pub fn is_shared(&self) -> bool {
        self.0.starts_with(SHARE_PREFIX)
    }

    /// Whether the filter holds a wildcard, that is, may match more than one Topic Name.
    pub fn has_wildcard(&self) -> bool {
        self.filter_str().contains(['+', '#'])
    }

    /// The number of levels of [`TopicFilter::filter_str`]: 1 to 65 536.
    pub fn levels(&self) -> usize {
        levels(self.filter_str())
    }

    /// Whether this filter matches `name`. Linear in the shorter of the two texts.
    pub fn matches(&self, name: &TopicName) -> bool {
        name_matches(self.filter_str(), &name.0)
    }
}

impl ShareName {
    /// Checks the text and makes a Share Name of it.
    ///
    /// # Errors
    /// [`TopicError`] if the text is empty, too long, or holds U+0000, `/`, `+` or `#`.
    pub fn new(text: &str) -> Result<ShareName, TopicError> {
        if text.is_empty() {
            return Err(TopicError::ShareNameMissing);
        }
        check_text(text)?;
        check_share_name(text).map(|()| ShareName(Arc::from(text)))
    }
}

/// What the three types have in common.
macro_rules! text_type {
    ($type:ident) => {
        impl $type {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = TopicError;

            fn from_str(text: &str) -> Result<$type, TopicError> {
                $type::new(text)
            }
        }

        impl TryFrom<&str> for $type {
            type Error = TopicError;

            fn try_from(text: &str) -> Result<$type, TopicError> {
                $type::new(text)
            }
        }

        impl TryFrom<String> for $type {
            type Error = TopicError;

            fn try_from(text: String) -> Result<$type, TopicError> {
                $type::new(&text)
            }
        }
    };
}

text_type!(TopicName);
text_type!(TopicFilter);
text_type!(ShareName);

/// Whether `text` is a Topic Name, without making one.
pub(crate) fn check_name(text: &str) -> Result<(), TopicError> {
    check_text(text)?;
    if text.bytes().any(|byte| matches!(byte, b'+' | b'#')) {
        return Err(TopicError::WildcardInName); // MQTT-4.7.0-1
    }
    Ok(())
}

/// Whether `text` is a Topic Filter, without making one.
pub(crate) fn check_filter(text: &str) -> Result<(), TopicError> {
    check_text(text)?;
    let Some(shared) = text.strip_prefix(SHARE_PREFIX) else { return check_wildcards(text) };
    let (share, filter) = match shared.split_once('/') {
        Some((share, filter)) => (share, Some(filter)),
        None => (shared, None),
    };
    check_share_name(share)?;
    match filter {
        None | Some("") => Err(TopicError::ShareFilterMissing), // MQTT-4.8.2-2
        Some(filter) => check_wildcards(filter),
    }
}

/// What holds for names and filters alike.
fn check_text(text: &str) -> Result<(), TopicError> {
    if text.is_empty() {
        return Err(TopicError::Empty); // MQTT-4.7.3-1
    }
    if text.len() > TEXT_MAX {
        return Err(TopicError::TooLong); // MQTT-4.7.3-3
    }
    if text.bytes().any(|byte| byte == 0) {
        return Err(TopicError::ContainsNul); // MQTT-4.7.3-2
    }
    Ok(())
}

fn check_share_name(text: &str) -> Result<(), TopicError> {
    if text.is_empty() {
        return Err(TopicError::ShareNameMissing); // MQTT-4.8.2-1
    }
    if text.contains(['/', '+', '#']) {
        return Err(TopicError::ShareNameInvalid); // MQTT-4.8.2-2
    }
    Ok(())
}

fn check_wildcards(filter: &str) -> Result<(), TopicError> {
    let bytes = filter.as_bytes();
    let begins_level = |at: usize| at == 0 || bytes.get(at - 1) == Some(&b'/');
    let ends_level = |at: usize| bytes.get(at + 1).is_none_or(|&byte| byte == b'/');
    if let Some(at) = bytes.iter().position(|&byte| byte == b'#')
        && !(begins_level(at) && at + 1 == bytes.len())
    {
        return Err(TopicError::MalformedMultiLevelWildcard); // MQTT-4.7.1-1
    }
    let mut bytes = bytes.iter().enumerate();
    if bytes.any(|(at, &byte)| byte == b'+' && !(begins_level(at) && ends_level(at))) {
        return Err(TopicError::MalformedSingleLevelWildcard); // MQTT-4.7.1-2
    }
    Ok(())
}

/// Share Name and filter of a valid shared subscription's filter.
fn split_share(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix(SHARE_PREFIX)?.split_once('/')
}

/// Whether `name` starts with `$`, and is so out of reach for a wildcard in the first level
/// (MQTT-4.7.2-1).
pub(crate) fn is_reserved(name: &str) -> bool {
    name.starts_with('$')
}

/// Whether the filter (without `$share/NAME/`) matches the name. Both are taken as they are
/// (MQTT-4.7.3-4).
pub(crate) fn name_matches(filter: &str, name: &str) -> bool {
    if is_reserved(name) && filter.starts_with(['+', '#']) {
        return false; // MQTT-4.7.2-1
    }
    let (mut wanted, mut given) = (split_levels(filter), split_levels(name));
    loop {
        match (wanted.next(), given.next()) {
            // `#` includes the level above it, so there may be nothing left to stand for.
            (Some(b"#"), _) | (None, None) => return true,
            (Some(b"+"), Some(_)) => {}
            (Some(level), Some(text)) if level == text => {}
            _ => return false,
        }
    }
}

/// The levels of a name or filter. A level is short: going byte by byte is quicker than a search made for long
/// texts, which begins anew for each level.
pub(crate) fn split_levels(text: &str) -> impl Iterator<Item = &[u8]> {
    text.as_bytes().split(|&byte| byte == b'/')
}

/// How many levels a name or filter has.
pub(crate) fn levels(text: &str) -> usize {
    1 + text.bytes().filter(|&byte| byte == b'/').count()
}
