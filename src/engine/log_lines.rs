//! Lines of the log about Clients: how many are written in a second, and how texts from Clients are shown.

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::time::Timestamp;

/// The bytes of a text from a Client that a line shows.
const SHOWN_BYTES_MAX: usize = 200;

/// Keeps a flood of events from becoming a flood of lines (pitfall 18): at most `MAX` in one second.
#[derive(Debug, Default)]
pub(crate) struct LineLimit<const MAX: u32> {
    lines: AtomicU32,
    held_back: AtomicU64,
    /// The beginning of the present second, in milliseconds.
    since: AtomicU64,
}

impl<const MAX: u32> LineLimit<MAX> {
    /// Whether one more line may be written in this second.
    pub(crate) fn admits(&self) -> bool {
        let admitted = self.lines.load(Ordering::Relaxed) < MAX
            && self.lines.fetch_add(1, Ordering::Relaxed) < MAX;
        if !admitted {
            self.held_back.fetch_add(1, Ordering::Relaxed);
        }
        admitted
    }

    /// Called with every tick. At the end of a second in which lines were held back, their number.
    pub(crate) fn tick(&self, now: Timestamp) -> Option<u64> {
        if now.millis_since(Timestamp(self.since.load(Ordering::Relaxed))) < 1_000 {
            return None;
        }
        self.since.store(now.0, Ordering::Relaxed);
        self.take()
    }

    /// The number of lines that were held back and not told yet.
    pub(crate) fn take(&self) -> Option<u64> {
        if self.lines.load(Ordering::Relaxed) == 0 {
            return None;
        }
        self.lines.store(0, Ordering::Relaxed);
        Some(self.held_back.swap(0, Ordering::Relaxed)).filter(|&lines| lines > 0)
    }
}

/// A text from a Client, escaped, and not at any length.
pub(crate) struct Shown<'a>(pub(crate) &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = prefix_end(self.0, SHOWN_BYTES_MAX);
        let shown = self.0.get(..end).unwrap_or_default();
        write!(f, "{shown:?}{}", if end < self.0.len() { "…" } else { "" })
    }
}

/// The end of the longest prefix of at most `max` bytes.
fn prefix_end(text: &str, max: usize) -> usize {
    (0..=max.min(text.len())).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_so_many_lines_and_the_rest_is_counted_pitfall_18() {
        let limit = LineLimit::<3>::default();
        let admitted = |times: u32| (0..times).filter(|_| limit.admits()).count();
        assert_eq!((admitted(10), limit.tick(Timestamp(1_000))), (3, Some(7)));
        assert_eq!((admitted(2), limit.tick(Timestamp(1_999))), (2, None), "the second goes on");
        assert_eq!((admitted(2), limit.tick(Timestamp(2_000))), (1, Some(1)));
        assert_eq!((admitted(3), limit.tick(Timestamp(3_000))), (3, None), "none was held back");
        assert_eq!(limit.tick(Timestamp(4_000)), None);
        assert_eq!((admitted(5), limit.take(), limit.take()), (3, Some(2), None), "the end");
    }

    #[test]
    fn texts_of_clients_are_escaped_and_cut_between_characters_pitfall_18() {
        assert_eq!(Shown("a\n\u{1b}[0m").to_string(), r#""a\n\u{1b}[0m""#);
        let shown = Shown(&"é".repeat(150)).to_string();
        assert_eq!(shown, format!("\"{}\"…", "é".repeat(100)));
    }
}
