//! Sessions in the order in which a search lists them.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::engine::session_cell::SessionCell;

/// A Session in the order of a query: `rank` is less for one that comes earlier.
pub(super) struct Ranked {
    pub(super) rank: u64,
    pub(super) cell: Arc<SessionCell>,
}

impl Ranked {
    pub(super) fn by_client_id(cell: Arc<SessionCell>) -> Ranked {
        Ranked { rank: 0, cell }
    }

    fn key(&self) -> (u64, &str, u64) {
        (self.rank, &self.cell.client_id, self.cell.key)
    }
}

impl Ord for Ranked {
    fn cmp(&self, other: &Ranked) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Ranked) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Ranked) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Ranked {}
