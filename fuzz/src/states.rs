//! The state of a broker: what is read is written, read and written again as it was.

use std::sync::Arc;

use ahash::RandomState;

use crate::ledger::Ledger;
use crate::limits::Limits;
use crate::message::Message;
use crate::session::Session;
use crate::snapshot::read::{Decoder, Item, head};
use crate::snapshot::write::Encoder;
use crate::snapshot::{Clocks, HEAD_BYTES, HeldBy, PREFIX_BYTES, SessionRecord};
use crate::subscription::ShareGroup;
use crate::time::Timestamp;
use crate::topic::TopicFilter;

const CLOCKS: Clocks = Clocks { now: Timestamp(1 << 40), wall: 1 << 41 };

/// What a state holds.
#[derive(Default)]
struct State {
    retained: Vec<Message>,
    sessions: Vec<(Session, HeldBy)>,
    shares: Vec<(TopicFilter, Arc<ShareGroup>)>,
}

pub(super) fn state(data: &[u8]) {
    let Some(state) = read(data) else { return };
    for (session, _) in &state.sessions {
        let books: Ledger = session.ledger();
        assert!(books.balances(), "{books:?}");
    }
    let written = write(&state);
    let again = read(&written).expect("what was written is a state");
    assert_eq!(written, write(&again));
}

/// `None` if the bytes are no state.
fn read(mut bytes: &[u8]) -> Option<State> {
    let hasher = RandomState::with_seed(7);
    let (prefix, rest) = bytes.split_first_chunk::<PREFIX_BYTES>()?;
    let mut decoder = Decoder::new(prefix, CLOCKS).ok()?;
    let mut state = State::default();
    bytes = rest;
    loop {
        let (first, rest) = bytes.split_first_chunk::<HEAD_BYTES>()?;
        let (tag, len) = head(first).ok()?;
        let (body, rest) = rest.split_at_checked(usize::try_from(len).ok()?)?;
        bytes = rest;
        for item in decoder.record(tag, body).ok()?.into_iter().flatten() {
            match item {
                Item::Retained(message) => state.retained.push(message),
                Item::Session(record) => {
                    let SessionRecord { head, held_by } = *record;
                    let id = head.client_id.clone();
                    let mut session = Session::new(id, hasher.clone(), &Limits::default());
                    session.import_head(head);
                    state.sessions.push((session, held_by));
                }
                Item::Shared(filter) => {
                    let group = Arc::new(ShareGroup);
                    decoder.identify(group.clone());
                    state.shares.push((filter, group));
                }
                Item::Backlog(number, backlog) => {
                    state.sessions.get_mut(number)?.0.import_backlog(*backlog);
                }
                Item::End(_) => return Some(state),
            }
        }
    }
}

fn write(state: &State) -> Vec<u8> {
    let mut encoder = Encoder::new(CLOCKS, &RandomState::with_seed(7));
    state.retained.iter().for_each(|message| encoder.retained(message));
    for (session, held_by) in &state.sessions {
        let record = SessionRecord { head: session.export_head(), held_by: held_by.clone() };
        encoder.session(&record);
        for (filter, subscription) in &record.head.subscriptions {
            encoder.subscription(filter, subscription);
        }
        for (filter, after) in &record.head.replays {
            encoder.replay(filter, after.as_deref());
        }
    }
    for (filter, group) in &state.shares {
        encoder.shared(filter, group);
    }
    for (number, (session, _)) in (0..).zip(&state.sessions) {
        let backlog = session.export_backlog();
        if backlog.is_empty() {
            continue;
        }
        encoder.backlog(number, &backlog);
        for (serial, delivery) in &backlog.inflight.sent {
            encoder.inflight(*serial, delivery.as_ref());
        }
        backlog.queue.iter().for_each(|delivery| encoder.queued(delivery));
    }
    encoder.end();
    encoder.bytes().to_vec()
}
