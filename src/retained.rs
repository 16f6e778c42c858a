//! Retained messages: at most one for each Topic Name (MQTT-3.3.1-5), bounded in number and bytes.
//!
//! They are kept in the order of their topics, so that a filter is answered by seeking: its
//! literal levels lead to the place, and `+` jumps over whole levels. A search is a cursor with a
//! budget of work; its caller resumes it after the topic where it paused. A message that changes in
//! between may be found or not; one that stays is found exactly once.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use crate::time::Timestamp;
use crate::topic::is_reserved;

#[cfg(test)]
mod tests;

/// So many bytes of a topic are compared with a filter, level by level, in one step.
const STEP_BYTES: usize = 32;
/// So many bytes of a place are made and sought in one step.
const SEEK_STEP_BYTES: usize = 64;
/// The least text above all that start with `$`.
const ABOVE_RESERVED: &str = "%";
/// What follows `/` in the order of texts: `a0` is the least text above all that start with `a/`.
const ABOVE_SEPARATOR: char = '0';

/// Retained messages by Topic Name. `V` is what is kept for each.
pub(crate) struct Retained<V> {
    entries: BTreeMap<Arc<str>, Entry<V>>,
    /// The topics of those that expire, soonest first.
    expiring: BTreeSet<(Timestamp, Arc<str>)>,
    bytes: usize,
    /// How many are kept apart from the bounds.
    apart: usize,
    messages_max: usize,
    bytes_max: usize,
}

struct Entry<V> {
    value: V,
    bytes: usize,
    expires_at: Option<Timestamp>,
    apart: bool,
}

/// A bound is reached: the topic has no retained message now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full<V> {
    /// The value that was not taken.
    pub(crate) refused: V,
    /// The former value. The newer message had to replace it (MQTT-3.3.1-5), so it is removed, too:
    /// no Client is sent a value that is known to be out of date.
    pub(crate) replaced: Option<V>,
}

/// The result of [`Retained::next_match`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step<'a, V> {
    /// The next match. The search continues after this topic.
    Found(&'a str, &'a V),
    /// The budget is used up. The search continues after this topic, which need not match.
    Paused(&'a str),
    /// There is no further match.
    End,
}

impl<V> Retained<V> {
    /// Nothing retained, and room for so many messages and bytes (0: none at all).
    pub(crate) fn new(messages_max: usize, bytes_max: usize) -> Retained<V> {
        Retained {
            entries: BTreeMap::new(),
            expiring: BTreeSet::new(),
            bytes: 0,
            apart: 0,
            messages_max,
            bytes_max,
        }
    }

    /// Other bounds from now on. What is retained stays, and counts.
    pub(crate) fn set_bounds(&mut self, messages_max: usize, bytes_max: usize) {
        (self.messages_max, self.bytes_max) = (messages_max, bytes_max);
    }

    /// Retains `value` for `topic` and returns what it replaces (MQTT-3.3.1-5). `bytes` is what
    /// it counts for; from `expires_at` on it is no longer there.
    ///
    /// # Errors
    /// [`Full`] if a bound would be exceeded. What has expired counts until
    /// [`Retained::expire`] has removed it.
    pub(crate) fn set(
        &mut self,
        topic: &str,
        value: V,
        bytes: usize,
        expires_at: Option<Timestamp>,
    ) -> Result<Option<V>, Full<V>> {
        if self.entries.get(topic).is_some_and(|entry| entry.apart) {
            self.clear(topic);
        }
        let entry_of = |value| Entry { value, bytes, expires_at, apart: false };
        if let Some(entry) = self.entries.get(topic) {
            let others = self.bytes - entry.bytes;
            // Where bounds were lowered below what is retained, a message that takes no more room replaces the older.
            if bytes <= entry.bytes || self.has_bytes_for(others, bytes) {
                return Ok(self.replace(topic, entry_of(value)));
            }
            return Err(Full { refused: value, replaced: self.clear(topic) });
        }
        if self.len() >= self.messages_max || !self.has_bytes_for(self.bytes, bytes) {
            return Err(Full { refused: value, replaced: None });
        }
        let topic = Arc::from(topic);
        if let Some(at) = expires_at {
            self.expiring.insert((at, Arc::clone(&topic)));
        }
        self.bytes += bytes;
        self.entries.insert(topic, entry_of(value));
        Ok(None)
    }

    /// Retains `value` for `topic` apart from the bounds: a full store does not refuse it, and it takes no room from
    /// others. The caller bounds the number of such topics.
    pub(crate) fn keep(&mut self, topic: &str, value: V) {
        self.clear(topic);
        self.apart += 1;
        let entry = Entry { value, bytes: 0, expires_at: None, apart: true };
        self.entries.insert(Arc::from(topic), entry);
    }

    /// Removes what is retained for `topic` (MQTT-3.3.1-6), expired or not, and returns it.
    pub(crate) fn clear(&mut self, topic: &str) -> Option<V> {
        let (topic, entry) = self.entries.remove_entry(topic)?;
        if let Some(at) = entry.expires_at {
            self.expiring.remove(&(at, topic));
        }
        self.bytes -= entry.bytes;
        self.apart -= usize::from(entry.apart);
        Some(entry.value)
    }

    /// All retained messages after `after`, in the order of their topics.
    pub(crate) fn after(&self, after: Option<&str>) -> impl Iterator<Item = (&str, &V)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let entries = self.entries.range::<str, _>((from, Bound::Unbounded));
        entries.map(|(topic, entry)| (&**topic, &entry.value))
    }

    /// The first retained message after `after` whose topic matches `filter` (one without
    /// `$share/NAME/`), in the order of the bytes of the topics; `None` starts at the first.
    ///
    /// `steps` is the budget: one is spent for each topic looked at, each 32 bytes compared and each
    /// 64 bytes of a text sought in the map. The search pauses at 0, at once if it is 0 already. What
    /// one topic takes is spent at once, so the last one may cost more than was left.
    pub(crate) fn next_match<'a>(
        &'a self,
        filter: &str,
        after: Option<&'a str>,
        now: Timestamp,
        steps: &mut usize,
    ) -> Step<'a, V> {
        let mut last = after.unwrap_or_default();
        if *steps == 0 {
            return Step::Paused(last);
        }
        let (mut place, mut seek, mut work) = (String::new(), Seek::Place, 1);
        match after {
            None => place.push_str(literal_prefix(filter)),
            Some(after) => {
                let look = look(filter, after, &mut place);
                (seek, work) = (look.seek, work + look.compared / STEP_BYTES);
            }
        }
        loop {
            let (from, len) = match seek {
                Seek::Next => (Bound::Excluded(last), last.len()),
                Seek::Place => (Bound::Included(place.as_str()), place.len()),
                Seek::End => return Step::End,
            };
            let mut entries = self.entries.range::<str, _>((from, Bound::Unbounded));
            work += len / SEEK_STEP_BYTES;
            loop {
                let Some((topic, entry)) = entries.next() else {
                    *steps = steps.saturating_sub(work);
                    return Step::End;
                };
                let look = look(filter, topic, &mut place);
                *steps = steps.saturating_sub(work + look.compared / STEP_BYTES);
                if look.matches && !entry.has_expired(now) {
                    return Step::Found(topic, &entry.value);
                }
                (last, seek, work) = (topic, look.seek, 1);
                if *steps == 0 && seek != Seek::End {
                    return Step::Paused(last);
                }
                if seek != Seek::Next {
                    break;
                }
            }
        }
    }

    /// Removes messages that have expired by `now`, soonest first, one for each item that the iterator
    /// returns; the rest stays for the next call.
    pub(crate) fn expire(&mut self, now: Timestamp) -> impl Iterator<Item = V> {
        std::iter::from_fn(move || {
            if self.next_expiry()? > now {
                return None;
            }
            let (_, topic) = self.expiring.pop_first()?;
            let entry = self.entries.remove(&*topic)?;
            self.bytes -= entry.bytes;
            Some(entry.value)
        })
    }

    /// When the next one expires.
    pub(crate) fn next_expiry(&self) -> Option<Timestamp> {
        self.expiring.first().map(|(at, _)| *at)
    }

    /// How many are kept within the bounds, with those that have expired and are not removed yet.
    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.apart
    }

    /// Whether nothing is kept, within the bounds or apart from them.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What they count for together.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    fn has_bytes_for(&self, others: usize, bytes: usize) -> bool {
        others.checked_add(bytes).is_some_and(|total| total <= self.bytes_max)
    }

    /// Puts `entry` where there is one already.
    fn replace(&mut self, topic: &str, entry: Entry<V>) -> Option<V> {
        let topic = Arc::clone(self.entries.get_key_value(topic)?.0);
        if let Some(at) = entry.expires_at {
            self.expiring.insert((at, Arc::clone(&topic)));
        }
        let (bytes, expires_at) = (entry.bytes, entry.expires_at);
        let old = self.entries.get_mut(&topic).map(|kept| std::mem::replace(kept, entry))?;
        if let Some(at) = old.expires_at
            && old.expires_at != expires_at
        {
            self.expiring.remove(&(at, topic));
        }
        self.bytes = self.bytes - old.bytes + bytes;
        Some(old.value)
    }
}

impl<V> Entry<V> {
    fn has_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }
}

/// The place of the next topic that may match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seek {
    /// Right after the topic just seen.
    Next,
    /// At a place, or above it, that is greater than the topic just seen.
    Place,
    /// Nowhere.
    End,
}

/// The comparison of a topic with a filter.
#[derive(Debug, PartialEq, Eq)]
struct Look {
    /// Whether the filter matches it.
    matches: bool,
    seek: Seek,
    /// How many bytes of it were compared.
    compared: usize,
}

/// Whether `topic` matches `filter`, and where the first greater topic that may match can be: in
/// `place`, if it is a place. Nothing that matches lies between.
///
/// Topics are ordered by their bytes, and some characters are less than `/`: `a!` comes between
/// `a` and `a/b`. What starts with `a/` is without a gap all the same, and ends before `a0`.
fn look(filter: &str, topic: &str, place: &mut String) -> Look {
    place.clear();
    if is_reserved(topic) && filter.starts_with(['+', '#']) {
        place.push_str(ABOVE_RESERVED);
        return Look { matches: false, seek: Seek::Place, compared: 0 }; // MQTT-4.7.2-1
    }
    // Where the last level that a `+` stands for ends in the topic.
    let mut variable = None;
    let (mut wanted, mut start) = (filter, 0);
    loop {
        let (level, deeper) = split_level(wanted);
        let (text, rest) = split_level(&topic[start..]);
        let end = start + text.len();
        let (matches, seek) = match (level, deeper, rest) {
            ("#", ..) => (true, Seek::Next),
            ("+", Some(deeper), Some(_)) => {
                variable = Some(end);
                (wanted, start) = (deeper, end + 1);
                continue;
            }
            // Only `+` can stand for a longer text, and such a text may come before `topic/`.
            ("+", deeper, None) => (deeper.is_none_or(|deeper| deeper == "#"), Seek::Next),
            ("+", None, Some(_)) => (false, seek_beyond(topic, Some(end), place)),
            _ if level != text => {
                let found = seek_literal(&topic[..start], wanted, topic, place);
                (false, found.unwrap_or_else(|| seek_beyond(topic, variable, place)))
            }
            (_, Some(deeper), Some(_)) => {
                (wanted, start) = (deeper, end + 1);
                continue;
            }
            (_, Some(deeper), None) => {
                place.extend([topic, "/", literal_prefix(deeper)]);
                (deeper == "#", Seek::Place) // `#` includes the level above it
            }
            (_, None, rest) => (rest.is_none(), seek_beyond(topic, variable, place)),
        };
        return Look { matches, seek, compared: end.max(start + level.len()) };
    }
}

/// The place below `above` (which ends with `/` or is empty) where `wanted` leads to, if it is
/// after `topic`. `wanted` starts with a literal level that `topic` does not have there.
fn seek_literal(above: &str, wanted: &str, topic: &str, place: &mut String) -> Option<Seek> {
    place.extend([above, literal_prefix(wanted)]);
    if **place <= *topic && split_level(wanted).1 == Some("#") {
        place.push('/'); // `a!` is between `a` and `a/b`, and `a/#` means both.
    }
    (**place > *topic).then_some(Seek::Place)
}

/// Past all that is below the level that the last `+` stands for.
fn seek_beyond(topic: &str, variable: Option<usize>, place: &mut String) -> Seek {
    place.clear();
    let Some(end) = variable else { return Seek::End };
    place.push_str(&topic[..end]);
    place.push(ABOVE_SEPARATOR);
    Seek::Place
}

/// The first level, and what follows its `/`. A level is short: going byte by byte is quicker than a
/// search made for long texts.
fn split_level(text: &str) -> (&str, Option<&str>) {
    match text.bytes().position(|byte| byte == b'/') {
        Some(end) => (&text[..end], text.get(end + 1..)),
        None => (text, None),
    }
}

/// What every topic that the filter matches starts with: `a/b` of `a/b/#`, `a/` of `a/+`.
fn literal_prefix(filter: &str) -> &str {
    match filter.find(['+', '#']) {
        None => filter,
        Some(wildcard) => {
            let prefix = &filter[..wildcard];
            if filter[wildcard..].starts_with('#') {
                prefix.strip_suffix('/').unwrap_or(prefix)
            } else {
                prefix
            }
        }
    }
}
