//! The mutants: what each does wrong, and which cases must notice.

use super::link::Flaw;
use super::tamper::{Mutant, flawed};
use super::{deliveries, requests};

pub(crate) fn all() -> Vec<Mutant> {
    [deliveries::all(), requests::all(), streams()].into_iter().flatten().collect()
}

/// Transports that are none.
fn streams() -> Vec<Mutant> {
    vec![
        flawed(
            "close drops what was not flushed",
            &["stream::close_implies_flush"],
            Flaw::CloseDropsUnsent,
        ),
        flawed(
            "close is not told to the peer",
            &["stream::close_implies_flush"],
            Flaw::CloseIsNotTold,
        ),
        flawed("the peer's end is not seen", &["stream::end_in_one_direction"], Flaw::EndIsNotSeen),
        flawed(
            "a read loses a byte",
            &["stream::large_payload_arrives_whole", "stream::every_size_arrives_whole"],
            Flaw::ReadsOneByteLess,
        ),
        flawed(
            "a large write loses a byte",
            &["stream::large_payload_arrives_whole", "stream::every_size_arrives_whole"],
            Flaw::LargeWriteLosesBytes,
        ),
        flawed(
            "accept waits for the peer",
            &["stream::hung_set_up_holds_up_nobody"],
            Flaw::AcceptWaitsForThePeer,
        ),
        flawed(
            "one packet for each read",
            &["stream::many_packets_in_one_write", "stream::split_in_two_at_every_border"],
            Flaw::OnePacketForEachRead,
        ),
    ]
}
