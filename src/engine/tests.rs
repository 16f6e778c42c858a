//! The engine without any socket: what one turn does, what it leaves for the next, and who is asked.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::access::testing::{Rig, identity};
use super::access::{AccessControl, Denied, Subject};
use super::batch::{Arriving, Batch, Flush, Heard, Publishing, Routed};
use super::errand::Errand;
use super::registry::Claim;
use super::route::RouteCache;
use super::session_cell::{Link, Owner, SessionCell};
use super::state::Engine;
use super::timers::Mailbox;
use crate::access::Action;
use crate::budget::Budget;
use crate::events::DisconnectCause;
use crate::host::Host;
use crate::host::by_hand::ByHand;
use crate::ledger::FilterReason;
use crate::limits::Limits;
use crate::message::Message;
use crate::packet::{ProtocolVersion, PublishProperties, QoS, ReasonCode, SubscriptionOptions};
use crate::session::outgoing::Outgoing;
use crate::session::{Session, Terms};
use crate::subscription::Subscription;
use crate::time::Timestamp;
use crate::topic::TopicFilter;

const NOW: Timestamp = Timestamp(0);
const LOST: DisconnectCause = DisconnectCause::Lost("the peer ended the stream", None);

fn engine_with(access: AccessControl) -> (Arc<Engine>, Arc<ByHand>) {
    let tasks = Arc::new(ByHand::default());
    let host = Host::Custom(tasks.clone());
    (Arc::new(Engine::new(Limits::default(), host, access)), tasks)
}

fn engine() -> (Arc<Engine>, Arc<ByHand>) {
    engine_with(AccessControl::default())
}

fn terms() -> Terms {
    Terms {
        version: ProtocolVersion::V5,
        quota: u16::MAX,
        maximum_packet_size: None,
        topic_alias_maximum: 0,
    }
}

/// A Session whose Client is connected and takes messages in process.
fn session(engine: &Engine, id: &str) -> Arc<SessionCell> {
    let Claim::New { cell, .. } =
        engine.registry.claim(id, true, Owner::Network, None, &engine.limits())
    else {
        panic!("{id} is in use");
    };
    let mut state = cell.lock();
    let _attached = state.session.attach(terms(), 0, None);
    cell.set_connected(&state, true);
    drop(state);
    cell
}

fn epoch(cell: &SessionCell) -> u64 {
    cell.lock().session.epoch()
}

/// A Session and its Network Connection.
fn held(cell: &SessionCell) -> (&SessionCell, u64) {
    (cell, epoch(cell))
}

fn subscribe(engine: &Engine, cell: &Arc<SessionCell>, filter: &str) {
    let options = SubscriptionOptions::with_qos(QoS::AtLeastOnce);
    let filter = TopicFilter::new(filter).unwrap();
    let (reason, replay) =
        engine.subscribe(cell, epoch(cell), filter, Subscription { options, id: None }).unwrap();
    assert!(!reason.is_error(), "{reason}");
    replay.into_iter().for_each(|replay| cell.lock().session.replay(replay));
}

fn arriving<'a>(topic: &'a str, payload: &'a str, retain: bool) -> Arriving<'a> {
    let properties = PublishProperties::default();
    let (qos, payload) = (QoS::AtLeastOnce, payload.as_bytes());
    Arriving { topic, payload, qos, retain, properties, frozen: None }
}

/// A Session whose Client publishes, and is in no registry.
fn publisher() -> SessionCell {
    let mut session =
        Session::new("publisher".into(), ahash::RandomState::with_seed(1), &Limits::default());
    let _attached = session.attach(terms(), 0, None);
    SessionCell::new(u64::MAX, session, Owner::Network)
}

/// Publishes in a turn that has steps enough.
fn publish(engine: &Engine, batch: &mut Batch, arriving: Arriving<'_>) -> Heard {
    let (mut cache, mut budget) = (RouteCache::default(), Budget::of_a_turn());
    match batch.publish(engine, held(&publisher()), &mut cache, arriving, NOW, &mut budget) {
        Routed::Heard(heard) => heard,
        Routed::Later(_) | Routed::Unasked(..) => panic!("a turn has steps enough for this"),
    }
}

fn flush(engine: &Engine, batch: &mut Batch) {
    let flushed =
        batch.flush(engine, None, &mut Outgoing::default(), NOW, &mut Budget::of_a_turn());
    assert_ne!(flushed, Flush::Unfinished);
}

/// The payloads of all messages that a Session has by now.
fn taken(engine: &Engine, cell: &Arc<SessionCell>) -> Vec<String> {
    let mut budget = Budget::of_a_turn();
    let take = || {
        let mut state = cell.lock();
        let mut sending = engine.sending(cell, &mut budget);
        let (session, mut asking) = state.sending(&mut sending);
        let message = session.take_message(NOW, &mut asking)?;
        Some(String::from_utf8(message.payload().to_vec()).unwrap())
    };
    std::iter::from_fn(take).collect()
}

/// A Session that subscribes amid the batch sees no older message after a newer one.
#[test]
fn a_retained_message_is_stored_when_those_before_it_were_pushed() {
    let (engine, _) = engine();
    let cell = session(&engine, "subscriber");
    subscribe(&engine, &cell, "t");
    let mut batch = Batch::default();
    batch.begin(&engine);
    let mut seen = Vec::new();
    for payload in ["1", "2", "3"] {
        publish(&engine, &mut batch, arriving("t", payload, true));
        subscribe(&engine, &cell, "t");
        seen.extend(taken(&engine, &cell));
    }
    flush(&engine, &mut batch);
    seen.extend(taken(&engine, &cell));
    assert!(seen.is_sorted(), "{seen:?}");
    assert_eq!(seen.last().map(String::as_str), Some("3"));
}

/// A Session keeps its depth when the limit changes. Pushed later, the messages would find its queue full at once, and it
/// would not be noticed before.
#[test]
fn messages_are_pushed_by_the_shortest_queue_that_they_go_to() {
    let (engine, _) = engine();
    engine.set_limits(Limits { max_queue_depth: 8, ..Limits::default() });
    let short = session(&engine, "short");
    engine.set_limits(Limits { max_queue_depth: 10_000, ..Limits::default() });
    let long = session(&engine, "long");
    subscribe(&engine, &long, "long");
    subscribe(&engine, &long, "both");
    subscribe(&engine, &short, "both");
    let (publisher, mut cache) = (publisher(), RouteCache::default());
    let mut waiting = |topic: &str| {
        let mut batch = Batch::default();
        batch.begin(&engine);
        for _ in 0..5 {
            let (held, arriving) = (held(&publisher), arriving(topic, "x", false));
            let mut budget = Budget::of_a_turn();
            let published = batch.publish(&engine, held, &mut cache, arriving, NOW, &mut budget);
            assert!(matches!(published, Routed::Heard(Heard::By(_))));
        }
        let before = [&short, &long].map(|cell| cell.lock().session.waiting_len());
        flush(&engine, &mut batch);
        before
    };
    assert_eq!(waiting("long"), [0, 0], "together");
    assert_eq!(waiting("both"), [4, 9], "two by two");
}

/// Every target gets its message once, in however many turns.
#[test]
fn a_fan_out_pauses_and_goes_on() {
    let (engine, _) = engine();
    let cells: Vec<_> = (0..100).map(|n| session(&engine, &format!("s{n}"))).collect();
    cells.iter().for_each(|cell| subscribe(&engine, cell, "t"));
    let group: Vec<_> = (0..3).map(|n| session(&engine, &format!("m{n}"))).collect();
    group.iter().for_each(|cell| subscribe(&engine, cell, "$share/g/t"));
    let (mut batch, mut cache) = (Batch::default(), RouteCache::default());
    batch.begin(&engine);
    let mut turns = 0;
    let mut left: Option<Publishing> = None;
    for number in 0..6 {
        let payload = number.to_string();
        loop {
            turns += 1;
            let mut budget = Budget::of(40);
            let published = match left.take() {
                None => {
                    let arriving = arriving("t", &payload, number == 3);
                    batch.publish(
                        &engine,
                        held(&publisher()),
                        &mut cache,
                        arriving,
                        NOW,
                        &mut budget,
                    )
                }
                Some(rest) => rest.advance(&mut batch, &engine, "p", &mut cache, NOW, &mut budget),
            };
            match published {
                Routed::Heard(heard) => {
                    assert_eq!(heard, Heard::By(101));
                    break;
                }
                Routed::Later(rest) | Routed::Unasked(rest, _) => left = Some(rest),
            }
        }
    }
    let mut out = Outgoing::default();
    while batch.flush(&engine, None, &mut out, NOW, &mut Budget::of(40)) == Flush::Unfinished {
        turns += 1;
    }
    assert!(turns > 12, "{turns} turns");
    for cell in &cells {
        assert_eq!(taken(&engine, cell), ["0", "1", "2", "3", "4", "5"]);
    }
    let mut shared: Vec<_> = group.iter().flat_map(|cell| taken(&engine, cell)).collect();
    shared.sort_unstable();
    assert_eq!(shared, ["0", "1", "2", "3", "4", "5"]);
    let ledger = engine.ledger();
    assert!(ledger.balances() && ledger.offered == 606, "{ledger}");
}

#[test]
fn the_subscriptions_of_an_ended_session_go_in_many_turns_and_count_no_more_at_once() {
    let (engine, tasks) = engine();
    let cell = session(&engine, "many");
    for number in 0..20_000 {
        subscribe(&engine, &cell, &format!("filter/{number}"));
    }
    let generation = engine.generation.load(Ordering::Acquire);
    engine.end_session(&cell, |_| true);
    assert!(engine.generation.load(Ordering::Acquire) > generation, "routes are found anew");
    assert!(engine.counters().subscriptions > 10_000);
    let mut batch = Batch::default();
    batch.begin(&engine);
    for number in [0, 10_000, 19_999] {
        let topic = format!("filter/{number}");
        assert_eq!(publish(&engine, &mut batch, arriving(&topic, "x", false)), Heard::Unmatched);
    }
    assert!(tasks.run() > 3);
    assert_eq!(engine.counters().subscriptions, 0);
}

/// A Client cannot discard the cached routes of publishers by requests without effect.
#[test]
fn unsubscribing_from_what_is_not_subscribed_leaves_every_route_valid() {
    let (engine, _) = engine();
    let cell = session(&engine, "a");
    subscribe(&engine, &cell, "t");
    let generation = engine.generation.load(Ordering::Acquire);
    for filter in ["u", "t/#", "$share/g/t"] {
        let reason =
            engine.unsubscribe(&cell, epoch(&cell), &TopicFilter::new(filter).unwrap()).unwrap();
        assert_eq!(reason, ReasonCode::NO_SUBSCRIPTION_EXISTED);
    }
    assert_eq!(engine.generation.load(Ordering::Acquire), generation);
    assert!(
        !engine
            .unsubscribe(&cell, epoch(&cell), &TopicFilter::new("t").unwrap())
            .unwrap()
            .is_error()
    );
    assert!(engine.generation.load(Ordering::Acquire) > generation);
}

#[test]
fn the_bytes_of_all_topic_filters_have_a_limit_pitfall_15() {
    let limits = Limits { subscription_bytes_max: 10, ..Limits::default() };
    let engine = Engine::new(limits, Host::stock(None), AccessControl::default());
    let (one, two) = (session(&engine, "one"), session(&engine, "two"));
    subscribe(&engine, &one, "12345");
    subscribe(&engine, &two, "12345");
    let options = SubscriptionOptions::default();
    let third = TopicFilter::new("x").unwrap();
    let subscription = Subscription { options, id: None };
    assert!(engine.subscribe(&one, epoch(&one), third.clone(), subscription).unwrap().0.is_error());
    assert_eq!(engine.counters().subscriptions_refused, 1);
    let reason =
        engine.unsubscribe(&two, epoch(&two), &TopicFilter::new("12345").unwrap()).unwrap();
    assert_eq!(reason, ReasonCode::SUCCESS);
    assert!(!engine.subscribe(&one, epoch(&one), third, subscription).unwrap().0.is_error());
}

/// Rules by which one Client may neither publish nor receive.
fn one_is_denied() -> AccessControl {
    AccessControl::with(Rig::allowing(|request| {
        request.client_id != "denied" || request.action == Action::Subscribe
    }))
}

/// Pitfall 9: a member of a shared subscription that may not receive a message is passed over.
#[test]
fn a_member_that_may_not_receive_is_not_picked() {
    let (engine, _) = engine_with(one_is_denied());
    let (denied, free) = (session(&engine, "denied"), session(&engine, "free"));
    subscribe(&engine, &denied, "$share/g/t");
    let mut batch = Batch::default();
    batch.begin(&engine);
    publish(&engine, &mut batch, arriving("t", "nobody", false));
    flush(&engine, &mut batch);
    assert_eq!(engine.ledger().filtered(FilterReason::NotAuthorized), 1);
    subscribe(&engine, &free, "$share/g/t");
    for number in 0..4 {
        publish(&engine, &mut batch, arriving("t", &number.to_string(), false));
    }
    flush(&engine, &mut batch);
    assert_eq!(taken(&engine, &free), ["0", "1", "2", "3"]);
    assert!(taken(&engine, &denied).is_empty());
    assert!(engine.ledger().balances());
}

/// Pitfall 9: a Will is asked for again when it is published, by whatever the rules are then.
#[test]
fn a_will_that_may_not_be_published_is_counted() {
    let (engine, _) = engine_with(one_is_denied());
    let cell = session(&engine, "free");
    subscribe(&engine, &cell, "#");
    for publisher in ["denied", "free"] {
        let will = Message::new("will", publisher).unwrap();
        let (errand, publisher) =
            (Errand::new(&engine, publisher.into()), session(&engine, publisher));
        errand.publish(&engine, held(&publisher), will, NOW).run(&engine);
    }
    assert_eq!(taken(&engine, &cell), ["free"]);
    assert_eq!(engine.ledger().filtered(FilterReason::NotAuthorized), 1);
    assert!(engine.ledger().balances());
}

/// Pitfall 9: also among members that are away, each with its own rules.
#[test]
fn a_member_that_is_away_and_may_not_receive_is_not_picked() {
    let (engine, _) = engine_with(one_is_denied());
    let members = [session(&engine, "denied"), session(&engine, "free")];
    for cell in &members {
        subscribe(&engine, cell, "$share/g/t");
        let (epoch, _before) = cell.lock().session.attach(terms(), 60, None);
        engine.leave_session(cell, epoch, LOST, NOW);
    }
    let mut batch = Batch::default();
    batch.begin(&engine);
    for number in 0..4 {
        publish(&engine, &mut batch, arriving("t", &number.to_string(), false));
    }
    flush(&engine, &mut batch);
    assert_eq!(members[0].lock().session.waiting_len(), 0);
    assert_eq!(members[1].lock().session.waiting_len(), 4);
}

/// A Client makes the rules speak no longer than a turn, however many messages they deny.
#[test]
fn denied_messages_are_thrown_away_in_as_many_turns_as_they_take_pitfall_14() {
    let (engine, _) = engine_with(one_is_denied());
    let cell = session(&engine, "denied");
    for number in 0..3_000 {
        let message = Message::new(&format!("kept/{number}"), "x").unwrap().accepted_at(NOW);
        engine.retain(&message.with_retain(true), NOW);
    }
    subscribe(&engine, &cell, "kept/#");
    let (mut turns, mut more) = (0, true);
    while more {
        let mut state = cell.lock();
        let mut budget = Budget::of_a_turn();
        let mut sending = engine.sending(&cell, &mut budget);
        let (session, mut asking) = state.sending(&mut sending);
        assert!(session.take_message(NOW, &mut asking).is_none());
        more = session.has_more();
        turns += 1;
    }
    assert!(turns > 2, "{turns} turns");
    assert_eq!(engine.ledger().filtered(FilterReason::NotAuthorized), 3_000);
}

/// Many Clients, a turn's worth at a time, and a change amid them begins anew.
#[test]
fn every_client_is_asked_for_after_a_change_of_the_rules_in_many_turns() {
    let (engine, tasks) = engine();
    let cells: Vec<_> = (0..3_000).map(|n| session(&engine, &format!("c{n}"))).collect();
    for cell in &cells {
        cell.lock().link = Some(Link { mailbox: Arc::new(Mailbox::new()), inline: None });
    }
    engine.set_policy(Some(Arc::new(Rig::default())));
    engine.policy_changed();
    assert!(tasks.run() > 3);
    let ordered = |cell: &Arc<SessionCell>| {
        cell.lock().link.as_ref().is_some_and(|link| link.mailbox.ordered().is_some())
    };
    assert!(cells.iter().all(ordered), "none was let in by rules");
    assert_eq!(engine.counters().policy_disconnects, 3_000);
}

/// The rules let everybody in and everybody do everything, and are not to be asked.
fn silent() -> AccessControl {
    AccessControl::with(Rig::allowing(|request| panic!("{request:?}")))
}

/// The old Network Connection's packets must not be decided by the new one's identity.
#[test]
fn packets_of_a_connection_that_was_taken_over_are_not_decided_pitfall_10() {
    let (engine, _) = engine_with(silent());
    let cell = session(&engine, "c");
    let old = epoch(&cell);
    let (_new, _unsent) = cell.lock().session.attach(terms(), 0, None);
    let mut batch = Batch::default();
    batch.begin(&engine);
    let (mut cache, mut budget) = (RouteCache::default(), Budget::of_a_turn());
    let arriving = arriving("t", "x", false);
    let routed = batch.publish(&engine, (&cell, old), &mut cache, arriving, NOW, &mut budget);
    assert!(matches!(routed, Routed::Heard(Heard::Denied(Denied::TakenOver))), "{routed:?}");
    let filter = TopicFilter::new("t").unwrap();
    let subscription = Subscription { options: SubscriptionOptions::default(), id: None };
    assert!(engine.subscribe(&cell, old, filter.clone(), subscription).is_err());
    assert!(engine.unsubscribe(&cell, old, &filter).is_err());
    assert!(engine.ledger().balances());
    assert_eq!(engine.ledger().offered, 0);
}

/// A member that is away and whose Client would not be let in takes no message from the others.
#[test]
fn a_member_whose_user_was_removed_is_not_picked_until_it_is_let_in_again() {
    let removed = Arc::new(AtomicBool::new(false));
    let is_removed = removed.clone();
    let rig = Rig {
        is_current: Box::new(move |identity| {
            identity.user_name() != Some("gone") || !is_removed.load(Ordering::Relaxed)
        }),
        ..Rig::default()
    };
    let (engine, tasks) = engine_with(AccessControl::with(Arc::new(rig)));
    let members = ["gone", "stays"].map(|id| {
        let cell = session(&engine, id);
        cell.lock().subject = Some(Subject::new(identity(id)));
        subscribe(&engine, &cell, "$share/g/t");
        let (epoch, _before) = cell.lock().session.attach(terms(), 60, None);
        engine.leave_session(&cell, epoch, LOST, NOW);
        cell
    });
    let waiting = || [0, 1].map(|member: usize| members[member].lock().session.waiting_len());
    let mut batch = Batch::default();
    batch.begin(&engine);
    let mut four = || {
        for number in 0..4 {
            publish(&engine, &mut batch, arriving("t", &number.to_string(), false));
        }
        flush(&engine, &mut batch);
    };
    four();
    assert_eq!(waiting(), [2, 2]);
    removed.store(true, Ordering::Relaxed);
    engine.policy_changed();
    tasks.run();
    four();
    assert_eq!(waiting(), [2, 6], "what waits stays");
    assert_eq!(engine.counters().policy_disconnects, 0);
    removed.store(false, Ordering::Relaxed);
    engine.policy_changed();
    tasks.run();
    four();
    assert_eq!(waiting(), [4, 8]);
}

/// A PUBLISH that is parked while its Client gets another identity must not have its route remembered for that one.
#[test]
fn a_parked_publish_leaves_no_route_to_another_identity_pitfall_10() {
    for forgotten in [false, true] {
        let (engine, _) = engine();
        let publisher = publisher();
        let (mut batch, mut cache) = (Batch::default(), RouteCache::default());
        batch.begin(&engine);
        let mut spent = Budget::of(0);
        let arriving = arriving("t", "x", false);
        let held = held(&publisher);
        let Routed::Later(mut parked) =
            batch.publish(&engine, held, &mut cache, arriving, NOW, &mut spent)
        else {
            panic!("it is parked")
        };
        if forgotten {
            parked.forget_permit();
        }
        let mut budget = Budget::of_a_turn();
        let routed = parked.advance(&mut batch, &engine, "p", &mut cache, NOW, &mut budget);
        assert!(matches!(routed, Routed::Heard(Heard::Unmatched)));
        assert_eq!(cache.get(&engine, "t").is_none(), forgotten);
    }
}
