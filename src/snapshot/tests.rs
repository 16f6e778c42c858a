//! Tests of the format: Sessions survive it, and no bytes do harm.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::num::NonZeroU32;
use std::sync::Arc;

use ahash::RandomState;
use proptest::prelude::*;

use super::read::{Decoder, Item, head};
use super::write::Encoder;
use super::*;
use crate::ledger::Outcome;
use crate::limits::Limits;
use crate::message::Message;
use crate::packet::{PacketId, ProtocolVersion, QoS, ReasonCode, SubscriptionOptions};
use crate::session::handed::Backlog;
use crate::session::outgoing::Outgoing;
use crate::session::queue::Delivery;
use crate::session::testing::{Nothing, terms};
use crate::session::will::Will;
use crate::session::{Departure, Offered, Session};
use crate::subscription::{ShareGroup, Subscription};
use crate::topic::TopicFilter;

const WALL: u64 = 1_893_456_000_000;

fn clocks(now: u64) -> Clocks {
    Clocks { now: Timestamp(now), wall: WALL + now }
}

fn hasher() -> RandomState {
    RandomState::with_seed(7)
}

fn session(name: &str) -> Session {
    let limits = Limits { max_queue_depth: 50, ..Limits::default() };
    Session::new(name.into(), hasher(), &limits)
}

/// What the Client and the publishers do to a Session.
#[derive(Debug, Clone)]
enum Step {
    Offer {
        message: usize,
        qos: u8,
        retain: bool,
        ids: Vec<u32>,
        shared: bool,
    },
    /// Writes a batch, of which the transport takes so many sixteenths.
    Write(usize),
    Ack {
        id: u16,
        kind: u8,
    },
    Receive(u16),
    Release(u16),
    Subscribe {
        filter: usize,
        bits: u8,
        id: u32,
    },
    Reconnect {
        will: bool,
    },
    Pass(u64),
}

const FILTERS: [&str; 4] = ["a/+", "#", "$share/g/a", "b"];

fn step() -> impl Strategy<Value = Step> {
    let ids = prop::collection::vec(1_u32..9, 0..3);
    prop_oneof![
        8 => (0_usize..6, 0_u8..3, any::<bool>(), ids, any::<bool>()).prop_map(
            |(message, qos, retain, ids, shared)| Step::Offer { message, qos, retain, ids, shared }
        ),
        4 => (0_usize..=16).prop_map(Step::Write),
        6 => (1_u16..30, 0_u8..3).prop_map(|(id, kind)| Step::Ack { id, kind }),
        2 => (1_u16..9).prop_map(Step::Receive),
        1 => (1_u16..9).prop_map(Step::Release),
        2 => (0_usize..4, 0_u8..64, 0_u32..3)
            .prop_map(|(filter, bits, id)| Step::Subscribe { filter, bits, id }),
        1 => any::<bool>().prop_map(|will| Step::Reconnect { will }),
        1 => (1_u64..900).prop_map(Step::Pass),
    ]
}

/// Messages that several Sessions share: short, long, with properties, with an expiry.
fn messages() -> Vec<Message> {
    let plain = |topic, payload: &[u8]| Message::new(topic, payload).unwrap();
    let rich = plain("a/x", b"rich").with_content_type("text").unwrap();
    let rich = rich.with_user_property("k", "v").unwrap().with_response_topic("r").unwrap();
    vec![
        plain("a", b""),
        plain("a/b", b"short").with_qos(QoS::ExactlyOnce),
        plain("b", &[7; 9_000]).with_retain(true),
        rich.with_qos(QoS::AtLeastOnce),
        plain("a/b", b"soon").with_expiry_secs(1).accepted_at(Timestamp(5_000)),
        plain("b/c", b"late").with_expiry_secs(100).accepted_at(Timestamp(5_000)),
    ]
}

/// A Session and its Client.
struct Driven {
    session: Session,
    epoch: u64,
    now: u64,
    group: Arc<ShareGroup>,
    messages: Vec<Message>,
    /// All bytes that the transport took.
    written: Vec<u8>,
}

impl Driven {
    fn new(session: Session, now: u64, group: Arc<ShareGroup>, messages: Vec<Message>) -> Driven {
        Driven { session, epoch: 0, now, group, messages, written: Vec::new() }
    }

    fn attach(&mut self, will: bool) {
        let will = will.then(|| Will { message: self.messages[3].clone(), delay_secs: 7 });
        self.epoch = self.session.attach(terms(ProtocolVersion::V5), 60, will).0;
    }

    fn leave(&mut self) {
        let now = Timestamp(self.now);
        let _left = self.session.detach(self.epoch, Departure::Lost, now);
    }

    fn offer(&mut self, delivery: Delivery) {
        if let Offered::Full(refused) = self.session.offer(delivery, Timestamp(self.now)) {
            let _outcome: Outcome = self.session.give_up(refused);
        }
    }

    fn write(&mut self, sixteenths: usize) {
        let (mut out, mut protocol) = (Outgoing::default(), Vec::new());
        let now = Timestamp(self.now);
        let Some(epoch) = self.session.begin_batch(now, &mut out, &mut protocol, &mut Nothing)
        else {
            return;
        };
        let taken = out.with_slices(|slices| {
            let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
            let taken = bytes.len() * sixteenths / 16;
            self.written.extend(&bytes[..taken]);
            taken
        });
        self.session.end_batch(epoch, &mut out, taken);
    }

    fn take(&mut self, step: &Step) {
        let id = |id: u16| PacketId::new(id).unwrap();
        match step {
            Step::Offer { message, qos, retain, ids, shared } => self.offer(Delivery {
                message: self.messages[*message].clone(),
                qos: QoS::from_bits(*qos).unwrap(),
                retain: *retain,
                ids: (!ids.is_empty()).then(|| ids.as_slice().into()),
                shared: shared.then(|| self.group.clone()),
            }),
            Step::Write(sixteenths) => self.write(*sixteenths),
            Step::Ack { id: of, kind } => {
                let _acknowledged = match kind {
                    0 => self.session.puback(id(*of), ReasonCode::SUCCESS),
                    1 => self.session.pubrec(id(*of), ReasonCode::SUCCESS),
                    _ => self.session.pubcomp(id(*of)),
                };
            }
            Step::Receive(of) => drop(self.session.received().arrive(id(*of), 100)),
            Step::Release(of) => drop(self.session.received().release(id(*of))),
            Step::Subscribe { filter, bits, id } => {
                let filter = TopicFilter::new(FILTERS[*filter]).unwrap();
                let mut options = SubscriptionOptions::with_qos(QoS::from_bits(bits & 1).unwrap());
                options.no_local = bits & 4 != 0 && !filter.is_shared();
                options.retain_as_published = bits & 8 != 0;
                let subscription = Subscription { options, id: NonZeroU32::new(*id) };
                self.session.subscribe(filter, subscription);
            }
            Step::Reconnect { will } => {
                self.leave();
                self.attach(*will);
            }
            Step::Pass(millis) => self.now += millis,
        }
    }
}

/// A state of retained messages and Sessions, all with messages.
fn encode(sessions: &[&Driven], clocks: Clocks) -> Vec<u8> {
    let mut encoder = Encoder::new(clocks, &hasher());
    encoder.retained(&sessions[0].messages[2]);
    for driven in sessions {
        let head = driven.session.export_head();
        let mount = Some("mounted/".into());
        let held_by = HeldBy { user: HeldByUser::Named("ann".into()), mount };
        let record = SessionRecord { head, held_by };
        encoder.session(&record);
        for (filter, subscription) in &record.head.subscriptions {
            encoder.subscription(filter, subscription);
        }
        for (filter, after) in &record.head.replays {
            encoder.replay(filter, after.as_deref());
        }
    }
    encoder.shared(&TopicFilter::new("$share/g/a").unwrap(), &sessions[0].group);
    for (number, driven) in (0..).zip(sessions) {
        let backlog = driven.session.export_backlog();
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

/// What a state holds.
#[derive(Default)]
struct Decoded {
    retained: Vec<Message>,
    sessions: Vec<(SessionRecord, Backlog)>,
    group: Option<Arc<ShareGroup>>,
}

fn decode(bytes: &[u8], clocks: Clocks) -> Result<Decoded, StateError> {
    let short = || StateError::Io(io::ErrorKind::UnexpectedEof.into());
    let (prefix, mut rest) = bytes.split_first_chunk().ok_or_else(short)?;
    let mut decoder = Decoder::new(prefix, clocks)?;
    let mut decoded = Decoded::default();
    loop {
        let (first, behind) = rest.split_first_chunk().ok_or_else(short)?;
        let (tag, len) = head(first).map_err(|what| decoder.malformed(what))?;
        let len = usize::try_from(len).map_err(|_| short())?;
        let (body, behind) = behind.split_at_checked(len).ok_or_else(short)?;
        rest = behind;
        for item in decoder.record(tag, body)?.into_iter().flatten() {
            match item {
                Item::Retained(message) => decoded.retained.push(message),
                Item::Session(record) => decoded.sessions.push((*record, Backlog::default())),
                Item::Shared(_) => {
                    let group = Arc::new(ShareGroup);
                    decoder.identify(group.clone());
                    decoded.group = Some(group);
                }
                Item::Backlog(number, backlog) => decoded.sessions[number].1 = *backlog,
                Item::End(_) => return Ok(decoded),
            }
        }
    }
}

/// The Sessions of a state, in a process that has other clocks.
fn import(bytes: &[u8], clocks: Clocks, messages: &[Message]) -> Vec<Driven> {
    let decoded = decode(bytes, clocks).unwrap();
    assert_eq!(decoded.retained, [messages[2].clone()]);
    let group = decoded.group.unwrap();
    let mut messages = messages.to_vec();
    messages[2] = decoded.retained[0].clone();
    let driven = decoded.sessions.into_iter().map(|(record, backlog)| {
        let mut session = session(&record.head.client_id);
        session.import_head(record.head);
        session.import_backlog(backlog);
        assert!(session.ledger().balances());
        Driven::new(session, clocks.now.0, group.clone(), messages.clone())
    });
    driven.collect()
}

fn drive(steps: &[Vec<Step>]) -> Vec<Driven> {
    let (group, messages) = (Arc::new(ShareGroup), messages());
    let driven = steps.iter().enumerate().map(|(number, steps)| {
        let session = session(&format!("client-{number}"));
        let mut driven = Driven::new(session, 5_000, group.clone(), messages.clone());
        driven.attach(false);
        steps.iter().for_each(|step| driven.take(step));
        driven.leave();
        driven
    });
    driven.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 300 }))]

    #[test]
    fn what_was_read_is_written_as_it_was(
        steps in prop::collection::vec(prop::collection::vec(step(), 0..60), 1..4)
    ) {
        let driven = drive(&steps);
        let bytes = encode(&driven.iter().collect::<Vec<_>>(), clocks(1_000_000));
        // Another process: its own clock began at another time.
        let there = Clocks { now: Timestamp(40_000_000), wall: WALL + 1_000_000 };
        let imported = import(&bytes, there, &driven[0].messages);
        for (here, there) in driven.iter().zip(&imported) {
            let (here, there) = (here.session.ledger(), there.session.ledger());
            prop_assert_eq!((here.waiting, here.inflight), (there.waiting, there.inflight));
        }
        let again = encode(&imported.iter().collect::<Vec<_>>(), there);
        prop_assert!(bytes == again);
    }

    /// The same Client at the broker that has the Session now and at the one that had it.
    #[test]
    fn a_client_that_resumes_sees_what_it_would_have_seen(
        before in prop::collection::vec(step(), 0..80),
        after in prop::collection::vec(step(), 0..80)
    ) {
        let mut here = drive(&[before]).remove(0);
        let clocks = clocks(here.now);
        let bytes = encode(&[&here], clocks);
        let mut there = import(&bytes, clocks, &here.messages).remove(0);
        // The old Session may look sooner than it has to.
        prop_assert!(there.session.next_deadline() >= here.session.next_deadline());
        here.written.clear();
        for driven in [&mut here, &mut there] {
            driven.attach(false);
            driven.write(16);
            after.iter().for_each(|step| driven.take(step));
            driven.write(16);
        }
        prop_assert!(here.written == there.written);
        let (one, other) = (here.session.ledger(), there.session.ledger());
        prop_assert_eq!((one.waiting, one.inflight), (other.waiting, other.inflight));
        prop_assert!(one.balances() && other.balances());
    }

    /// Pitfalls 1, 13 and 17.
    #[test]
    fn damaged_bytes_are_an_error_or_a_state(
        steps in prop::collection::vec(step(), 0..40),
        at in any::<prop::sample::Index>(),
        with in any::<u8>(),
        cut in any::<bool>()
    ) {
        let driven = drive(&[steps]);
        let mut bytes = encode(&[&driven[0]], clocks(1_000_000));
        let at = at.index(bytes.len());
        if cut {
            bytes.truncate(at);
            prop_assert!(decode(&bytes, clocks(0)).is_err());
        } else {
            bytes[at] ^= with;
            if let Ok(decoded) = decode(&bytes, clocks(0)) {
                for (record, backlog) in decoded.sessions {
                    let mut session = session("other");
                    session.import_head(record.head);
                    session.import_backlog(backlog);
                    prop_assert!(session.ledger().balances());
                }
            }
        }
    }
}

#[test]
fn a_message_that_several_sessions_have_is_written_once() {
    let offer = Step::Offer { message: 2, qos: 1, retain: false, ids: Vec::new(), shared: false };
    let one = encode(&drive(&[vec![offer.clone()]]).iter().collect::<Vec<_>>(), clocks(0));
    let many = drive(&[vec![offer.clone(), offer.clone()], vec![offer.clone()], vec![offer]]);
    let many = encode(&many.iter().collect::<Vec<_>>(), clocks(0));
    assert!(one.len() > 9_000 && many.len() < one.len() + 1_000, "{} {}", one.len(), many.len());
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    let bytes = encode(&[&drive(&[Vec::new()])[0]], clocks(0));
    let error = |bytes: &[u8]| match decode(bytes, clocks(0)) {
        Ok(_) => panic!("it is not valid"),
        Err(error) => error.to_string(),
    };
    assert_eq!(error(b"something else"), "the bytes are no state of a broker");
    let mut other = bytes.clone();
    other[MAGIC.len() + 1] = 9;
    assert_eq!(error(&other), "the state has version 9, and this program reads 1");
    let mut other = bytes.clone();
    other[PREFIX_BYTES] = 77;
    assert_eq!(error(&other), "the state at byte 10: an unknown kind of record");
    let mut other = bytes.clone();
    *other.last_mut().unwrap() ^= 1;
    let place = bytes.len() - HEAD_BYTES - 24;
    assert_eq!(
        error(&other),
        format!(
            "the state at byte {place}: the end names other numbers of records than there were"
        )
    );
    assert_eq!(error(&bytes[..bytes.len() - 1]), "the bytes end before the state does");
}

#[test]
fn moments_keep_their_place_on_the_wall() {
    let here = Clocks { now: Timestamp(1_000), wall: WALL };
    let there = Clocks { now: Timestamp(9_000_000), wall: WALL + 60_000 };
    for (at, expected) in [(1_000, 8_940_000), (61_000, 9_000_000), (161_000, 9_100_000)] {
        assert_eq!(there.moment_of(here.wall_of(Timestamp(at))), Timestamp(expected));
    }
    assert_eq!(there.moment_of(here.wall_of(Timestamp::NEVER)), Timestamp::NEVER);
    let young = Clocks { now: Timestamp(5), wall: WALL + 60_000 };
    assert_eq!(young.moment_of(here.wall_of(Timestamp(0))), Timestamp(0), "it has passed");
}
