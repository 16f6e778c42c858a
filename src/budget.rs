//! The budget of work of one turn of a task, so that no request of one peer delays other peers for long.
//!
//! A step stands for 50 to 100 nanoseconds of work. Every loop whose length a packet decides spends steps, pauses
//! when they are used up, and continues in the next turn of its task.

/// The steps of one turn: about a millisecond of work.
pub(crate) const TURN_STEPS: usize = 12_000;

/// Bytes that are looked at, compared or copied for one step.
const BYTES_PER_STEP: usize = 256;

/// The steps that a turn has left.
#[derive(Debug)]
pub(crate) struct Budget {
    left: usize,
    whole: usize,
}

impl Budget {
    /// The budget of one turn.
    pub(crate) fn of_a_turn() -> Budget {
        Budget::of(TURN_STEPS)
    }

    pub(crate) fn of(steps: usize) -> Budget {
        Budget { left: steps, whole: steps }
    }

    /// Spends steps. Work that was begun is finished, so the last part of a turn may cost more steps than were left.
    pub(crate) fn spend(&mut self, steps: usize) {
        self.left = self.left.saturating_sub(steps);
    }

    /// Spends the steps that work on `bytes` bytes costs.
    pub(crate) fn spend_bytes(&mut self, bytes: usize) {
        self.spend(bytes / BYTES_PER_STEP);
    }

    /// Whether the turn is over.
    pub(crate) fn is_spent(&self) -> bool {
        self.left == 0
    }

    /// The steps that were spent.
    pub(crate) fn spent(&self) -> usize {
        self.whole.saturating_sub(self.left)
    }

    /// The steps left, for a search that counts them down by itself.
    pub(crate) fn left(&mut self) -> &mut usize {
        &mut self.left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_ends_when_its_steps_are_spent() {
        let mut budget = Budget::of(10);
        budget.spend(4);
        budget.spend_bytes(5 * BYTES_PER_STEP);
        assert!(!budget.is_spent());
        budget.spend(100);
        assert!(budget.is_spent());
        assert_eq!(budget.spent(), 10);
        *budget.left() = 1;
        assert!(!budget.is_spent());
    }
}
