//! Pages of long lists, and the order in which they are cut: made in steps, so that no thread is held for long.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;

use futures_lite::future;

use crate::budget::Budget;

/// Items that are sorted at once.
const RUN: usize = 1_024;

/// Which part of a long list is wanted: a page, counted from 1, and how many items a page has.
///
/// ```
/// use hrotti::PageRequest;
///
/// let second = PageRequest::new(2, 50)?;
/// assert_eq!((second.page(), second.limit()), (2, 50));
/// let error = PageRequest::new(1, 5_000).unwrap_err();
/// assert_eq!(error.to_string(), "limit: 5000 is not from 1 to 1000; ask for more pages");
/// # Ok::<(), hrotti::PageError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRequest {
    page: usize,
    limit: usize,
}

impl PageRequest {
    /// The most items of a page.
    pub const LIMIT_MAX: usize = 1_000;

    /// The items of a page by default.
    pub const LIMIT_DEFAULT: usize = 50;

    /// Asks for a page of `limit` items, 1 to [`PageRequest::LIMIT_MAX`].
    ///
    /// # Errors
    /// [`PageError`]: `page` is 0, or `limit` is out of its range.
    pub fn new(page: usize, limit: usize) -> Result<PageRequest, PageError> {
        if page == 0 {
            return Err(PageError::Page);
        }
        if limit == 0 || limit > Self::LIMIT_MAX {
            return Err(PageError::Limit(limit));
        }
        Ok(PageRequest { page, limit })
    }

    /// The number of the page, from 1 on.
    #[must_use]
    pub fn page(&self) -> usize {
        self.page
    }

    /// The most items that it has.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// The number of items before the page.
    pub(super) fn skipped(self) -> usize {
        (self.page - 1).saturating_mul(self.limit)
    }

    /// The number of items up to the end of the page.
    pub(super) fn end(self) -> usize {
        self.skipped().saturating_add(self.limit)
    }

    pub(super) fn of<T>(self, items: Vec<T>, count: usize) -> Page<T> {
        Page { items, count, page: self.page, limit: self.limit }
    }
}

/// The first page of [`PageRequest::LIMIT_DEFAULT`] items.
impl Default for PageRequest {
    fn default() -> PageRequest {
        PageRequest { page: 1, limit: Self::LIMIT_DEFAULT }
    }
}

/// Why there is no such page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PageError {
    /// Pages are counted from 1.
    Page,
    /// So many items are not allowed.
    Limit(usize),
}

impl fmt::Display for PageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PageError::Page => f.write_str("page: 0 is no page; pages are counted from 1"),
            PageError::Limit(limit) => {
                let max = PageRequest::LIMIT_MAX;
                write!(f, "limit: {limit} is not from 1 to {max}; ask for more pages")
            }
        }
    }
}

impl std::error::Error for PageError {}

/// A part of a long list.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page<T> {
    /// The items of the page, in order; none behind the last page.
    pub items: Vec<T>,
    /// The number of all items, of all pages.
    pub count: usize,
    /// The number of the page, from 1 on.
    pub page: usize,
    /// The most items that it could have.
    pub limit: usize,
}

/// Work in turns: yields whenever a turn's worth of work is done.
pub(super) struct Turns {
    pub(super) budget: Budget,
}

impl Turns {
    pub(super) fn begin() -> Turns {
        Turns { budget: Budget::of_a_turn() }
    }

    /// Lets other tasks run if the turn is over.
    pub(super) async fn pause(&mut self) {
        if self.budget.is_spent() {
            future::yield_now().await;
            self.budget = Budget::of_a_turn();
        }
    }

    pub(super) async fn spend(&mut self, steps: usize) {
        self.budget.spend(steps);
        self.pause().await;
    }
}

/// Items that come out in order. Runs of a bounded length are sorted one by one and merged as they are taken out, so that
/// no step takes long, and only the items that are taken are ordered wholly.
pub(super) struct Sorted<T> {
    /// Each sorted, the first item last.
    runs: Vec<Vec<T>>,
    /// The run that is filled.
    filling: Vec<T>,
    /// The first item of each run, once all have come.
    heads: BinaryHeap<Reverse<(T, usize)>>,
    len: usize,
}

impl<T: Ord> Sorted<T> {
    pub(super) fn new() -> Sorted<T> {
        Sorted { runs: Vec::new(), filling: Vec::new(), heads: BinaryHeap::new(), len: 0 }
    }

    /// How many items were added.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds an item. None may be added once one was taken.
    pub(super) fn add(&mut self, item: T) {
        self.len += 1;
        self.filling.push(item);
        if self.filling.len() == RUN {
            self.close_run();
        }
    }

    fn close_run(&mut self) {
        let mut run = std::mem::take(&mut self.filling);
        run.sort_unstable_by(|one, other| other.cmp(one));
        if let Some(first) = run.pop() {
            self.heads.push(Reverse((first, self.runs.len())));
            self.runs.push(run);
        }
    }

    /// Takes the next item out.
    pub(super) fn take_next(&mut self) -> Option<T> {
        if !self.filling.is_empty() {
            self.close_run();
        }
        let Reverse((item, number)) = self.heads.pop()?;
        if let Some(next) = self.runs.get_mut(number).and_then(Vec::pop) {
            self.heads.push(Reverse((next, number)));
        }
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_out_in_order_from_many_runs() {
        for count in [0, 1, RUN - 1, RUN, RUN + 1, 5 * RUN + 7] {
            let mut sorted = Sorted::new();
            for number in 0..count {
                sorted.add(number.wrapping_mul(7_919) % count.max(1));
            }
            let mut expected: Vec<_> = (0..count).map(|n| n * 7_919 % count.max(1)).collect();
            expected.sort_unstable();
            assert_eq!(sorted.len(), count);
            let taken: Vec<_> = std::iter::from_fn(|| sorted.take_next()).collect();
            assert_eq!(taken, expected);
        }
    }

    #[test]
    fn pages_are_counted_from_1_and_bounded() {
        let third = PageRequest::new(3, 20).unwrap();
        assert_eq!((third.skipped(), third.end()), (40, 60));
        assert_eq!(PageRequest::new(0, 20), Err(PageError::Page));
        assert_eq!(PageRequest::new(1, 0), Err(PageError::Limit(0)));
        assert_eq!(PageRequest::new(1, 1_001), Err(PageError::Limit(1_001)));
        assert!(PageRequest::new(usize::MAX, 1_000).is_ok_and(|page| page.end() == usize::MAX));
    }
}
