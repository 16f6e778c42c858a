//! Seeing and steering a running broker: each question against a known load, and each act with what the Client sees.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hrotti::{
    Broker, Client, ClientError, DropReason, LimitUse, Limits, ListenerConfig, ListenerRules,
    Message, PageRequest, ProtocolVersion, QoS, QueuedMessage, ReasonCode, RetainedQuery,
    SessionInfo, SessionOrder, SessionQuery, SubscriptionInfo, SubscriptionOptions,
    SubscriptionQuery, TopicFilter, TopicName,
};
use proptest::prelude::*;

use crate::peer::{ANY, Peer, block_on, in_time, listen};
use crate::raw::{Connect, limited, packet, publish, subscribe, text, until};
use crate::rules::{Everybody, with_user};

fn filter(text: &str) -> TopicFilter {
    TopicFilter::new(text).unwrap()
}

fn message(topic: &str, payload: &str, qos: QoS) -> Message {
    Message::new(topic, payload).unwrap().with_qos(qos)
}

fn page(number: usize, limit: usize) -> PageRequest {
    PageRequest::new(number, limit).unwrap()
}

fn find(broker: &Broker, change: impl FnOnce(&mut SessionQuery)) -> Vec<String> {
    let mut query = SessionQuery::default();
    query.page = page(1, PageRequest::LIMIT_MAX);
    change(&mut query);
    let found = in_time(broker.find_sessions(&query));
    assert_eq!(found.count, found.items.len());
    found.items.into_iter().map(|info| info.client_id).collect()
}

fn info(broker: &Broker, client_id: &str) -> SessionInfo {
    broker.session(client_id).unwrap().info
}

// ---- Sessions --------------------------------------------------------------------------------------

#[test]
fn sessions_are_found_by_identifier_user_and_address() {
    let broker = Broker::builder().policy(Arc::new(Everybody)).build();
    let endpoint = listen(&broker, "hall");
    let mut ann = Peer::dial(&endpoint);
    ann.send(&with_user("meter-1", "ann"));
    ann.packet();
    let mut bob = Peer::dial(&endpoint);
    bob.send(&with_user("lamp", "bob-meter"));
    bob.packet();
    let away = Connect::new(5, "away").persistent().accepted(&endpoint);
    away.vanish();
    until("it is away", || !info(&broker, "away").connected);
    let inside = broker.client("inside").unwrap();
    let search = |text: &str| find(&broker, |query| query.search = Some(text.to_owned()));
    assert_eq!(search(""), ["away", "inside", "lamp", "meter-1"]);
    assert_eq!(search("meter"), ["lamp", "meter-1"]);
    assert_eq!(search("ann"), ["meter-1"]);
    assert_eq!(search("127.0.0.1"), ["away", "lamp", "meter-1"]);
    let port = ann.0.local_addr().unwrap().to_string();
    assert_eq!(search(&port), ["meter-1"]);
    assert_eq!(search("Ann"), [""; 0]);
    assert_eq!(find(&broker, |query| query.connected = Some(false)), ["away"]);
    assert_eq!(find(&broker, |query| query.connected = Some(true)), ["inside", "lamp", "meter-1"]);
    let found = info(&broker, "lamp");
    assert_eq!(found.user_name.as_deref(), Some("bob-meter"));
    assert_eq!(found.address, Some(bob.0.local_addr().unwrap()));
    assert_eq!(found.listener.as_deref(), Some("hall"));
    assert_eq!(found.version, Some(ProtocolVersion::V3_1_1));
    let shown = found.to_string();
    assert!(shown.starts_with(r#""lamp" of user "bob-meter" at 127.0.0.1:"#), "{shown}");
    assert!(shown.ends_with(", connected, 0 of 100 messages wait"), "{shown}");
    assert!(broker.session("nobody").is_none());
    drop(inside);
}

#[test]
fn sessions_are_listed_by_what_they_hold_and_lost() {
    let broker = Broker::new(10);
    let take = |id: &str, count: usize, messages: usize| {
        let client = broker.client(id).unwrap();
        in_time(client.subscribe(&filter(id), SubscriptionOptions::default())).unwrap();
        for _ in 0..messages {
            in_time(broker.publish(message(id, "four", QoS::AtMostOnce))).unwrap();
        }
        let mut client = client;
        for _ in 0..count {
            in_time(client.recv()).unwrap();
        }
        client
    };
    // Taken, waiting, dropped: 0, 3, 0; 2, 8, 7; 9, 1, 2; 0, 3, 0.
    let clients = [take("b", 0, 3), take("c", 2, 17), take("d", 9, 12), take("a", 0, 3)];
    let by = |order| find(&broker, |query| query.order = order);
    assert_eq!(by(SessionOrder::ClientId), ["a", "b", "c", "d"]);
    assert_eq!(by(SessionOrder::Waiting), ["c", "a", "b", "d"]);
    assert_eq!(by(SessionOrder::Dropped), ["c", "d", "a", "b"]);
    assert_eq!(by(SessionOrder::Delivered), ["d", "c", "a", "b"]);
    let found = info(&broker, "c");
    assert_eq!((found.waiting, found.depth, found.waiting_bytes), (8, 10, 8 * 5));
    assert_eq!(found.ledger.dropped(DropReason::QueueFull), 7);
    assert!(found.ledger.balances());
    drop(clients);
}

#[test]
fn pages_are_cut_from_one_order_without_a_gap() {
    let broker = Broker::new(10);
    let clients: Vec<Client> =
        (0..97).map(|number| broker.client(&format!("c{number:02}")).unwrap()).collect();
    let mut found = Vec::new();
    for number in 1..=4 {
        let mut query = SessionQuery::default();
        query.page = page(number, 30);
        let cut = in_time(broker.find_sessions(&query));
        assert_eq!((cut.count, cut.page, cut.limit), (97, number, 30));
        assert_eq!(cut.items.len(), if number < 4 { 30 } else { 7 });
        found.extend(cut.items.into_iter().map(|info| info.client_id));
    }
    let expected: Vec<_> = clients.iter().map(|client| client.id().to_owned()).collect();
    assert_eq!(found, expected);
    let mut query = SessionQuery::default();
    query.page = page(1_000_000, 1_000);
    let behind = in_time(broker.find_sessions(&query));
    assert_eq!((behind.count, behind.items.len()), (97, 0));
}

/// Walks page by page behind the last Client Identifier, while other Sessions come and go all the time.
#[test]
fn no_session_that_stays_is_missing_or_twice_while_others_come_and_go() {
    const STAYING: usize = 3_000;
    let broker = Broker::new(10);
    let name = |number: usize, kind: &str| format!("{:04}-{kind}", number * 7_919 % STAYING);
    let staying: Vec<Client> =
        (0..STAYING).map(|number| broker.client(&name(number, "stays")).unwrap()).collect();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0;
            while !done.load(Ordering::Acquire) {
                let some: Vec<_> = (number..number + 50)
                    .filter_map(|number| broker.client(&name(number, "passes")).ok())
                    .collect();
                drop(some);
                number += 50;
            }
        });
        for limit in [1_000, 7, 50] {
            let mut found = Vec::new();
            let mut query = SessionQuery::default();
            query.page = page(1, limit);
            loop {
                let cut = in_time(broker.find_sessions(&query));
                let Some(last) = cut.items.last() else { break };
                query.after = Some(last.client_id.clone());
                found.extend(cut.items.into_iter().map(|info| info.client_id));
                if limit == 7 && found.len() > 500 {
                    break; // a whole walk in small steps is a matter of patience
                }
            }
            assert!(found.windows(2).all(|two| two[0] < two[1]), "in order, none twice");
            let last = found.last().cloned().unwrap_or_default();
            let stayed: Vec<_> = found.iter().filter(|id| id.ends_with("stays")).collect();
            let mut all: Vec<_> = staying.iter().map(|client| client.id()).collect();
            all.sort_unstable();
            all.retain(|id| **id <= *last || limit != 7);
            assert_eq!(stayed, all, "limit {limit}");
        }
        done.store(true, Ordering::Release);
    });
}

#[test]
fn what_a_client_publishes_is_counted_once() {
    let (broker, endpoint) = limited(Limits::default());
    let mut peer = Connect::new(4, "p").accepted(&endpoint);
    let mut bytes = Vec::new();
    (0..20).for_each(|_| bytes.extend(publish(4, "t", b"x", 0, 0)));
    (1..=3).for_each(|id| bytes.extend(publish(4, "t", b"x", 1, id)));
    let twice = publish(4, "t", b"x", 2, 9);
    bytes.extend([twice.clone(), twice].concat());
    peer.send(&bytes);
    (0..5).for_each(|_| drop(peer.packet()));
    until("all are counted", || info(&broker, "p").publishes_received >= 24);
    peer.ping();
    assert_eq!(info(&broker, "p").publishes_received, 24);
    let inside = broker.client("inside").unwrap();
    in_time(inside.publish(message("t", "x", QoS::AtMostOnce))).unwrap();
    assert_eq!(info(&broker, "inside").publishes_received, 1);
}

// ---- One Session -----------------------------------------------------------------------------------

#[test]
fn a_session_shows_its_will_its_terms_and_its_subscriptions() {
    let broker = Broker::new(100);
    let mut rules = ListenerRules::default();
    rules.mount_point = Some("site".parse().unwrap());
    let config = ListenerConfig::new(ANY).unwrap().with_rules(rules);
    let endpoint = in_time(broker.add_listener("l", config)).unwrap();
    let connect = Connect::new(5, "c").will_delayed("gone", "bye", 9).props(&[0x27, 0, 0, 4, 0]);
    let mut peer = connect.accepted(&endpoint);
    peer.send(&subscribe(5, "$share/g/jobs", 0x29));
    peer.packet();
    peer.send(&packet(0x82, &[&[0, 1, 2, 0x0B, 7][..], &text("a/#"), &[2]].concat()));
    peer.packet();
    let detail = broker.session("c").unwrap();
    let will = detail.will.unwrap();
    assert_eq!((will.topic(), will.payload()), ("site/gone", &b"bye"[..]));
    assert_eq!(detail.maximum_packet_size, Some(1024));
    assert_eq!(detail.mount_point.as_deref(), Some("site/"));
    assert!(!detail.blocked && !detail.quota_used);
    let found = broker.session_subscriptions("c", page(1, 1)).unwrap();
    assert_eq!((found.count, found.items.len()), (2, 1));
    assert_eq!(found.items[0].filter.share_name(), Some("g"));
    assert_eq!(found.items[0].subscription_id, None);
    assert!(found.items[0].options.retain_as_published && !found.items[0].options.no_local);
    let second = &broker.session_subscriptions("c", page(2, 1)).unwrap().items[0];
    assert_eq!((second.filter.as_str(), second.subscription_id), ("site/a/#", Some(7)));
    assert_eq!(second.to_string(), r#""c": "site/a/#" at QoS 2"#);
    assert!(broker.session_subscriptions("d", page(1, 1)).is_none());
    assert!(broker.session_queue("d", page(1, 1)).is_none());
}

#[test]
fn a_queue_shows_what_is_in_flight_released_and_waiting() {
    let (broker, endpoint) = limited(Limits { max_inflight: 3, ..Limits::default() });
    let mut peer = Connect::new(5, "c").accepted(&endpoint);
    peer.send(&subscribe(5, "q/+", 2));
    peer.packet();
    let publish = |number: usize, qos| {
        let message = message(&format!("q/{number}"), "four", qos);
        in_time(broker.publish(message.with_expiry_secs(600).with_retain(true))).unwrap();
    };
    (0..6).for_each(|number| publish(number, QoS::ExactlyOnce));
    let first = peer.packet();
    assert_eq!(first[0] >> 4, 3, "PUBLISH: {first:x?}");
    peer.packet();
    peer.packet();
    peer.send(&[0x50, 2, first[7], first[8]]); // PUBREC
    assert_eq!(peer.packet()[0], 0x62, "PUBREL");
    let all = broker.session_queue("c", page(1, 100)).unwrap();
    assert_eq!(all.count, 6);
    let shown = |one: &QueuedMessage| {
        (one.message.as_ref().map(|m| m.topic().to_owned()), one.waiting, one.packet_id.is_some())
    };
    let expected: Vec<_> = (0..6)
        .map(|number| ((number > 0).then(|| format!("q/{number}")), number >= 3, number < 3))
        .collect();
    assert_eq!(all.items.iter().map(shown).collect::<Vec<_>>(), expected);
    for one in all.items.iter().skip(1) {
        assert_eq!((one.qos, one.retain), (QoS::ExactlyOnce, false));
        assert!((590..=600).contains(&one.expires_in_secs.unwrap()));
    }
    assert_eq!(all.items[0].to_string(), "received by the Client and not released, in flight");
    assert_eq!(all.items[5].to_string(), r#""q/5": 4 bytes at QoS 2, waiting"#);
    let third = broker.session_queue("c", page(3, 2)).unwrap();
    assert_eq!(third.items.iter().map(shown).collect::<Vec<_>>(), expected[4..]);
    let detail = broker.session("c").unwrap();
    assert!(detail.quota_used);
    assert_eq!((detail.info.inflight, detail.info.waiting), (3, 3));
}

// ---- Acts ------------------------------------------------------------------------------------------

#[test]
fn a_disconnected_client_is_told_why_its_will_is_published_and_its_session_stays() {
    let (broker, endpoint) = limited(Limits::default());
    let mut wills = broker.client("wills").unwrap();
    in_time(wills.subscribe(&filter("will/+"), SubscriptionOptions::default())).unwrap();
    for (version, given, told) in [
        (5, ReasonCode::ADMINISTRATIVE_ACTION, 0x98),
        (5, ReasonCode::SERVER_MOVED, 0x9D),
        (5, ReasonCode::BANNED, 0x98),
        (4, ReasonCode::ADMINISTRATIVE_ACTION, 0),
    ] {
        let connect = || {
            let mut connect = Connect::new(version, "c").persistent();
            connect.will = Some(("will/c", "gone"));
            connect
        };
        let mut peer = connect().accepted(&endpoint);
        peer.send(&subscribe(version, "kept", 1));
        peer.packet();
        assert!(broker.disconnect("c", given));
        match version {
            5 => peer.expect_disconnect(told),
            _ => peer.expect_silent_close(),
        }
        assert_eq!(in_time(wills.recv()).unwrap().topic(), "will/c");
        until("it is away", || !info(&broker, "c").connected);
        assert!(!broker.disconnect("c", given), "it is not connected");
        assert_eq!(info(&broker, "c").subscriptions, 1);
        let (mut again, connack) = connect().send(&endpoint);
        assert_eq!((connack[2], connack[3]), (1, 0), "the Session is there");
        again.ping();
        again.send(&[0xE0, 0]);
        again.until_closed();
    }
    // One that lasts no longer than its connection.
    let mut peer = Connect::new(5, "short").accepted(&endpoint);
    assert!(broker.disconnect("short", ReasonCode::ADMINISTRATIVE_ACTION));
    peer.expect_disconnect(0x98);
    until("it has ended", || broker.session("short").is_none());
    assert!(!broker.disconnect("nobody", ReasonCode::ADMINISTRATIVE_ACTION));
}

#[test]
fn a_client_in_process_that_is_disconnected_gets_nothing_more() {
    let broker = Broker::new(10);
    let mut client = broker.client("c").unwrap();
    assert!(broker.disconnect("c", ReasonCode::ADMINISTRATIVE_ACTION));
    let refused = Err(ClientError::Refused(ReasonCode::ADMINISTRATIVE_ACTION));
    assert_eq!(in_time(client.publish(message("t", "x", QoS::AtMostOnce))), refused);
    assert!(in_time(client.recv()).is_none());
}

#[test]
fn an_ended_session_is_gone_with_its_connection_and_its_messages_are_in_the_books() {
    let (broker, endpoint) = limited(Limits { max_inflight: 1, ..Limits::default() });
    let mut wills = broker.client("wills").unwrap();
    in_time(wills.subscribe(&filter("will"), SubscriptionOptions::default())).unwrap();
    for connected in [true, false] {
        let mut connect = Connect::new(5, "c").persistent();
        connect.will = Some(("will", "gone"));
        connect.will_delay = 200;
        let mut peer = connect.accepted(&endpoint);
        peer.send(&subscribe(5, "t", 1));
        peer.packet();
        for _ in 0..5 {
            in_time(broker.publish(message("t", "x", QoS::AtLeastOnce))).unwrap();
        }
        peer.packet();
        let before = broker.ledger().dropped(DropReason::SessionEnded);
        if connected {
            assert!(broker.end_session("c"));
            peer.expect_disconnect(0x98);
        } else {
            peer.vanish();
            until("it is away", || !info(&broker, "c").connected);
            assert!(broker.end_session("c"));
        }
        assert_eq!(in_time(wills.recv()).unwrap().payload(), b"gone");
        assert!(broker.session("c").is_none() && !broker.end_session("c"));
        until("nothing of it is left", || {
            let counters = broker.counters();
            (counters.connections, counters.sessions, counters.subscriptions) == (0, 1, 1)
        });
        let ledger = broker.ledger();
        assert!(ledger.balances(), "{ledger:?}");
        assert_eq!(ledger.dropped(DropReason::SessionEnded), before + 5);
        let (mut again, connack) = Connect::new(5, "c").persistent().send(&endpoint);
        assert_eq!((connack[2], connack[3]), (0, 0), "a new Session");
        again.ping();
        again.vanish();
        until("it is away", || !info(&broker, "c").connected);
        assert!(broker.end_session("c"));
    }
}

#[test]
fn the_server_publishes_without_a_client() {
    let broker = Broker::builder().policy(Arc::new(Everybody)).build();
    let mut clients: Vec<Client> = Vec::new();
    for (id, text) in [("a", "t/#"), ("b", "t/x"), ("c", "$share/g/t/+"), ("d", "$SYS/#")] {
        let client = broker.client(id).unwrap();
        let mut options = SubscriptionOptions::default();
        options.no_local = id == "b";
        in_time(client.subscribe(&filter(text), options)).unwrap();
        clients.push(client);
    }
    let kept = message("t/x", "1", QoS::AtMostOnce).with_retain(true);
    let published = in_time(broker.publish(kept)).unwrap();
    assert_eq!((published.matched, published.accepted), (3, 3));
    for client in &mut clients[..3] {
        assert_eq!(in_time(client.recv()).unwrap().payload(), b"1");
    }
    let sys = in_time(broker.publish(message("$SYS/x", "", QoS::AtMostOnce))).unwrap();
    assert_eq!(sys.matched, 1);
    let nobody = in_time(broker.publish(message("u", "", QoS::AtMostOnce))).unwrap();
    assert_eq!(nobody.matched, 0);
    assert_eq!(broker.counters().retained_messages, 1);
    let ledger = broker.ledger();
    assert!(ledger.balances());
    assert_eq!((ledger.offered, ledger.delivered, ledger.waiting), (5, 3, 1));
    let deep = "/".repeat(broker.limits().topic_levels_max);
    let refused = in_time(broker.publish(message(&deep, "", QoS::AtMostOnce)));
    assert_eq!(refused, Err(ClientError::Refused(ReasonCode::TOPIC_NAME_INVALID)));
    in_time(broker.stop());
    let stopped = in_time(broker.publish(message("t/x", "2", QoS::AtMostOnce)));
    assert_eq!(stopped, Err(ClientError::Stopped));
}

/// A message for more Sessions than one turn reaches, whose future is dropped after its first poll.
#[test]
fn a_message_of_the_server_that_was_begun_is_finished() {
    let broker = Broker::new(10);
    let clients: Vec<Client> = (0..9_000)
        .map(|number| {
            let client = broker.client(&number.to_string()).unwrap();
            in_time(client.subscribe(&filter("t"), SubscriptionOptions::default())).unwrap();
            client
        })
        .collect();
    let once = async {
        let mut publish = std::pin::pin!(broker.publish(message("t", "x", QoS::AtMostOnce)));
        futures_lite::future::poll_once(&mut publish).await
    };
    assert_eq!(block_on(once), None, "it takes more than one turn");
    until("all have it", || broker.ledger().waiting == 9_000);
    drop(clients);
}

// ---- Retained messages -----------------------------------------------------------------------------

fn retain(broker: &Broker, topic: &str, expiry_secs: Option<u32>) {
    let message = message(topic, "kept", QoS::AtLeastOnce).with_retain(true);
    let message = match expiry_secs {
        Some(secs) => message.with_expiry_secs(secs),
        None => message,
    };
    in_time(broker.publish(message)).unwrap();
}

#[test]
fn retained_messages_are_found_page_by_page_and_removed_by_filter() {
    const COUNT: usize = 5_000;
    let broker = Broker::new(10);
    let started = std::time::SystemTime::now();
    (0..COUNT).for_each(|number| retain(&broker, &format!("a/{number:04}/x"), Some(100)));
    for topic in ["b", "b/x", "$internal/state"] {
        retain(&broker, topic, None);
    }
    let mut query = RetainedQuery::new(filter("a/+/x"));
    query.page = page(5, 1_000);
    let last = in_time(broker.find_retained(&query));
    assert_eq!((last.count, last.items.len()), (COUNT, 1_000));
    let first = &last.items[0];
    assert_eq!(first.message.topic(), "a/4000/x");
    assert_eq!(first.to_string(), r#""a/4000/x": 4 bytes at QoS 1"#);
    assert!((90..=100).contains(&first.expires_in_secs.unwrap()));
    let slack = std::time::Duration::from_secs(1); // the clock on the wall and the broker's are two
    assert!(first.published_at >= started - slack);
    assert!(first.published_at <= std::time::SystemTime::now() + slack);
    // Behind the last of a page, whatever was removed before it.
    assert_eq!(in_time(broker.clear_retained(&filter("a/4000/x"))), 1);
    query.page = page(1, 10);
    query.after = Some("a/4000/x".to_owned());
    let next = in_time(broker.find_retained(&query));
    assert_eq!((next.count, next.items[0].message.topic()), (999, "a/4001/x"));

    let mut replay = broker.client("c").unwrap();
    assert_eq!(in_time(broker.clear_retained(&filter("#"))), COUNT + 1);
    let counters = broker.counters();
    assert_eq!(counters.retained_messages, 1, "MQTT-4.7.2-1: # is not about $");
    in_time(replay.subscribe(&filter("#"), SubscriptionOptions::default())).unwrap();
    retain(&broker, "new", None);
    assert_eq!(in_time(replay.recv()).unwrap().topic(), "new", "nothing else is replayed");
    assert_eq!(in_time(broker.clear_retained(&filter("$internal/#"))), 1);
    assert_eq!(in_time(broker.clear_retained(&filter("$internal/#"))), 0);
    assert_eq!(broker.counters().retained_bytes, "new".len() + "kept".len());
}

// ---- Subscriptions ---------------------------------------------------------------------------------

fn found(broker: &Broker, query: &SubscriptionQuery) -> Vec<(String, String)> {
    let (mut all, mut query) = (Vec::new(), query.clone());
    let count = in_time(broker.find_subscriptions(&query)).count;
    // Page by page, and each behind the last one.
    for limit in [3, 1_000] {
        all.clear();
        query.after = None;
        query.page = page(1, limit);
        loop {
            let cut = in_time(broker.find_subscriptions(&query));
            let key = |one: &SubscriptionInfo| (one.client_id.clone(), one.filter.to_string());
            let Some(last) = cut.items.last().map(key) else { break };
            query.after = Some(last);
            all.extend(cut.items.iter().map(key));
        }
        assert_eq!(all.len(), count);
    }
    all
}

fn level() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("a"), Just("b"), Just("ab"), Just("")]
}

fn some_filter() -> impl Strategy<Value = String> {
    let level = prop_oneof![4 => level(), 1 => Just("+")];
    let share = prop_oneof![3 => Just(""), 1 => Just("$share/g/"), 1 => Just("$share/h/")];
    let end = prop_oneof![3 => Just(""), 1 => Just("/#")];
    let reserved = prop_oneof![5 => Just(""), 1 => Just("$S/")];
    (share, reserved, prop::collection::vec(level, 1..4), end).prop_filter_map(
        "no Topic Filter",
        |(share, reserved, levels, end)| {
            let text = format!("{share}{reserved}{}{end}", levels.join("/"));
            TopicFilter::new(&text).is_ok().then_some(text)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The search in the tree and in the Sessions finds what a comparison of every subscription finds.
    #[test]
    fn subscriptions_are_found_as_by_a_naive_model(
        subscriptions in prop::collection::btree_set((0_usize..6, some_filter()), 0..40),
        topic in prop::collection::vec(level(), 1..4).prop_map(|levels| levels.join("/")),
        reserved in any::<bool>(),
        about in some_filter(),
    ) {
        let broker = Broker::new(10);
        let clients: Vec<Client> =
            (0..6).map(|number| broker.client(&format!("c{number}")).unwrap()).collect();
        for (client, text) in &subscriptions {
            let text = filter(text);
            let subscribed = clients[*client].subscribe(&text, SubscriptionOptions::default());
            in_time(subscribed).unwrap();
        }
        let expect = |wanted: &dyn Fn(&str, &TopicFilter) -> bool| -> Vec<(String, String)> {
            let all = subscriptions.iter().map(|(client, text)| (format!("c{client}"), text.clone()));
            all.filter(|(client, text)| wanted(client, &filter(text))).collect()
        };
        let query = SubscriptionQuery::default();
        prop_assert_eq!(found(&broker, &query), expect(&|_, _| true));

        let topic = if reserved { format!("$S/{topic}") } else { topic };
        if let Ok(name) = TopicName::new(&topic) {
            let mut query = SubscriptionQuery::default();
            query.topic = Some(name.clone());
            prop_assert_eq!(found(&broker, &query), expect(&|_, filter| filter.matches(&name)));
            query.client_id = Some("c3".to_owned());
            let of_client = expect(&|client, filter| client == "c3" && filter.matches(&name));
            prop_assert_eq!(found(&broker, &query), of_client);
        }
        let mut query = SubscriptionQuery::default();
        query.filter = Some(about.clone());
        let same = |filter: &TopicFilter| filter.as_str() == about || filter.filter_str() == about;
        prop_assert_eq!(found(&broker, &query), expect(&|_, filter| same(filter)));

        let mut query = SubscriptionQuery::default();
        query.below = Some(about.clone());
        let levels = |text: &str| text.split('/').map(str::to_owned).collect::<Vec<_>>();
        let below = |filter: &TopicFilter| {
            levels(filter.as_str()).starts_with(&levels(&about))
                || levels(filter.filter_str()).starts_with(&levels(&about))
        };
        prop_assert_eq!(found(&broker, &query), expect(&|_, filter| below(filter)));
    }
}

/// Subscriptions of a Session that stay are listed once while others change.
#[test]
fn subscriptions_that_stay_are_found_once_while_others_change() {
    let broker = Broker::new(10);
    let client = broker.client("c").unwrap();
    let options = SubscriptionOptions::default();
    for number in 0..500 {
        in_time(client.subscribe(&filter(&format!("stays/{number}")), options)).unwrap();
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0;
            while !done.load(Ordering::Acquire) {
                let passing = filter(&format!("passes/{}", number % 90));
                in_time(client.subscribe(&passing, options)).unwrap();
                in_time(client.unsubscribe(&filter(&format!("passes/{}", (number + 9) % 90))))
                    .unwrap();
                number += 1;
            }
        });
        for _ in 0..20 {
            let mut query = SubscriptionQuery::default();
            query.page = page(1, 60);
            let mut stayed = BTreeSet::new();
            loop {
                let cut = in_time(broker.find_subscriptions(&query));
                let Some(last) = cut.items.last() else { break };
                query.after = Some((last.client_id.clone(), last.filter.to_string()));
                for one in cut.items {
                    let text = one.filter.to_string();
                    assert!(stayed.insert(text), "twice: {}", one.filter);
                }
            }
            assert_eq!(stayed.iter().filter(|text| text.starts_with("stays/")).count(), 500);
        }
        done.store(true, Ordering::Release);
    });
}

// ---- Limits and listeners --------------------------------------------------------------------------

#[test]
fn limits_show_how_far_they_are_used_and_what_they_refused() {
    let limits = Limits {
        max_queue_depth: 5,
        sessions_max: 8,
        retained_messages_max: 2,
        max_inflight: 4,
        ..Limits::default()
    };
    let (broker, endpoint) = limited(limits);
    let mut peer = Connect::new(5, "c").accepted(&endpoint);
    peer.send(&subscribe(5, "t", 1));
    peer.packet();
    let slow = broker.client("slow").unwrap();
    in_time(slow.subscribe(&filter("t"), SubscriptionOptions::default())).unwrap();
    for number in 0..7 {
        in_time(broker.publish(message("t", "x", QoS::AtLeastOnce))).unwrap();
        if number < 4 {
            peer.packet();
        }
        retain(&broker, &format!("r/{number}"), None);
    }
    let silent = Peer::dial(&endpoint);
    until("its handshake waits for CONNECT", || {
        block_on(broker.limits_in_use())
            .iter()
            .any(|l| l.name == "limits.handshakesMax" && l.used == Some(1))
    });
    let all = in_time(broker.limits_in_use());
    let of = |name: &str| -> LimitUse { *all.iter().find(|limit| limit.name == name).unwrap() };
    for (name, value, used, refused) in [
        ("maxQueueDepth", 5, Some(5), Some(2)),
        ("limits.sessionsMax", 8, Some(2), Some(0)),
        ("limits.connectionsMax", broker.limits().connections_max as u64, Some(1), Some(0)),
        ("limits.maxInflight", 4, Some(4), None),
        ("limits.retainedMessagesMax", 2, Some(2), Some(5)),
        ("limits.subscriptionsMax", broker.limits().subscriptions_max as u64, Some(2), Some(0)),
        (
            "limits.subscriptionBytesMax",
            broker.limits().subscription_bytes_max as u64,
            Some(2),
            Some(0),
        ),
        ("limits.stopTimeoutSecs", broker.limits().stop_timeout.as_secs(), None, None),
    ] {
        let limit = of(name);
        assert_eq!((limit.value, limit.used, limit.refused), (value, used, refused), "{name}");
    }
    assert_eq!(of("limits.sessionsMax").share(), Some(0.25));
    assert_eq!(of("maxQueueDepth").to_string(), "maxQueueDepth: 5 of 5 messages, refused 2 times");
    silent.vanish();
}

#[test]
fn listeners_tell_whom_they_serve_and_refuse() {
    let broker = Broker::new(10);
    let mut rules = ListenerRules::default();
    rules.versions = [ProtocolVersion::V3_1_1, ProtocolVersion::V5].into_iter().collect();
    let config = ListenerConfig::new("mqtt://localhost:0").unwrap().with_rules(rules.clone());
    let endpoint = in_time(broker.add_listener("l", config)).unwrap();
    let before = broker.listeners().remove(0);
    assert_eq!((before.accepted, before.refused, before.connections), (0, 0, 0));
    let mut peers: Vec<Peer> = [(4, "a"), (5, "b"), (5, "c")]
        .map(|(version, id)| Connect::new(version, id).accepted(&endpoint))
        .into();
    let mut old = Peer::dial(&endpoint);
    old.send(&Connect::new(3, "d").bytes());
    old.until_closed();
    until("it is gone", || broker.listeners()[0].connections == 3);
    let after = broker.listeners().remove(0);
    assert_eq!(after.url.as_deref(), Some("mqtt://localhost:0"));
    assert_eq!(after.rules, rules);
    assert_eq!(after.since, before.since);
    let versions =
        [(ProtocolVersion::V3_1, 0), (ProtocolVersion::V3_1_1, 1), (ProtocolVersion::V5, 2)];
    assert_eq!(after.versions, versions);
    assert_eq!((after.accepted, after.refused), (4, 1));
    for peer in &mut peers {
        peer.send(&[0xE0, 0]);
        peer.until_closed();
    }
    until("all have left", || broker.listeners()[0].versions.iter().all(|(_, count)| *count == 0));
}
