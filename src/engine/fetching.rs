//! The wait for answers that the access policy fetches before a packet is carried out.

use std::task::Context;

use crate::access::Preparing;
use crate::runtime::contain;
use crate::time::Timestamp;

/// The name of the policy in the line about its panic.
const POLICY: &str = "an access policy";

/// Answers that are fetched together. A panic of the policy ends the wait for them.
pub(crate) struct Fetching {
    waits: Vec<Preparing>,
    /// When the wait ends at the latest.
    pub(crate) by: Timestamp,
}

impl Fetching {
    pub(crate) fn new(waits: Vec<Preparing>, by: Timestamp) -> Fetching {
        Fetching { waits, by }
    }

    /// Whether the wait is over.
    pub(crate) fn is_over(&mut self, cx: &mut Context<'_>, now: Timestamp) -> bool {
        let waits = &mut self.waits;
        let polled =
            contain(POLICY, || waits.retain_mut(|wait| wait.as_mut().poll(cx).is_pending()));
        polled.is_none() || waits.is_empty() || now >= self.by
    }
}

impl Drop for Fetching {
    fn drop(&mut self) {
        for wait in std::mem::take(&mut self.waits) {
            contain(POLICY, || drop(wait));
        }
    }
}
