//! Races: Clients that connect, disconnect, subscribe or publish at the same moment lose and leak nothing.

use std::collections::BTreeSet;
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hrotti::{Broker, ListenerConfig, Message, QoS, SubscriptionOptions, TopicFilter};

use crate::peer::{ANY, Peer, block_on, in_time, listen};
use crate::raw::{Connect, publish, subscribe, until};

fn filter(text: &str) -> TopicFilter {
    TopicFilter::new(text).unwrap()
}

/// Sessions, connections and subscriptions are gone, and every message has its outcome.
#[track_caller]
fn nothing_leaks(broker: &Broker) {
    until("nobody is left", || {
        let counters = broker.counters();
        (counters.connections, counters.sessions, counters.subscriptions) == (0, 0, 0)
    });
    let ledger = broker.ledger();
    assert!(ledger.balances(), "{ledger:?}");
    assert_eq!((ledger.waiting, ledger.inflight), (0, 0));
}

/// Of one publisher and one Topic Name, each subscriber sees an ascending sequence, retained messages included,
/// and what is retained is the newest: however many event loops there are and however often it subscribes.
#[test]
fn retained_messages_and_live_ones_come_in_one_order() {
    const LAST: u32 = 20_000;
    let broker = Broker::builder().max_queue_depth(100_000).event_loops(3).build();
    let endpoint = listen(&broker, "l");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for number in 0..3 {
            let (endpoint, done) = (&endpoint, &done);
            scope.spawn(move || {
                let mut peer = Connect::new(4, &format!("reader-{number}")).accepted(endpoint);
                let mut newest = 0;
                while !done.load(Ordering::Acquire) || newest < LAST {
                    peer.send(&subscribe(4, "t", 0));
                    loop {
                        let packet = peer.packet();
                        if packet[0] == 0x90 {
                            break;
                        }
                        let value = std::str::from_utf8(&packet[5..]).unwrap().parse().unwrap();
                        assert!(newest <= value, "{value} came after {newest}");
                        newest = value;
                    }
                }
            });
        }
        let mut publisher = Peer::connect(&endpoint, "publisher");
        let numbers: Vec<u32> = (1..=LAST).collect();
        for some in numbers.chunks(50) {
            let bytes: Vec<u8> = some
                .iter()
                .flat_map(|number| {
                    let mut bytes = publish(4, "t", format!("{number:08}").as_bytes(), 0, 0);
                    bytes[0] |= 1;
                    bytes
                })
                .collect();
            publisher.send(&bytes);
        }
        publisher.ping();
        done.store(true, Ordering::Release);
    });
    let mut late = broker.client("late").unwrap();
    let options = SubscriptionOptions::with_qos(QoS::AtMostOnce);
    in_time(late.subscribe(&filter("t"), options)).unwrap();
    assert_eq!(in_time(late.recv()).unwrap().payload(), format!("{LAST:08}").as_bytes());
}

/// MQTT-3.1.4-3, 3.1.2-8: a Will for each connection that was replaced, however many meet.
#[test]
fn pitfall_11_no_will_is_lost_in_a_storm_of_takeovers() {
    const THREADS: usize = 8;
    const ROUNDS: usize = 40;
    let broker = Broker::new(10_000);
    let endpoint = listen(&broker, "l");
    let mut wills = broker.client("wills").unwrap();
    let options = SubscriptionOptions::with_qos(QoS::AtMostOnce);
    in_time(wills.subscribe(&filter("will"), options)).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let endpoint = &endpoint;
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let payload = format!("{thread}.{round}");
                    let version = if thread % 2 == 0 { 4 } else { 5 };
                    let mut connect = Connect::new(version, "one").persistent();
                    connect.will = Some(("will", &payload));
                    let mut peer = Peer::dial(endpoint);
                    peer.send(&connect.bytes());
                    // Nothing comes for one that is replaced before its CONNACK was written.
                    let mut connack = Vec::new();
                    let read = std::io::Read::take(&peer.0, 4).read_to_end(&mut connack);
                    assert!(read.is_ok() && (connack.is_empty() || connack[3] == 0));
                }
            });
        }
    });
    let mut seen = BTreeSet::new();
    for _ in 0..THREADS * ROUNDS {
        let will = in_time(wills.recv()).unwrap();
        assert!(seen.insert(will.payload().to_vec()), "twice: {will:?}");
    }
}

/// Many connect with one Client Identifier, clean and not, while messages of every QoS come.
#[test]
fn pitfall_11_takeovers_under_traffic_leave_balanced_books() {
    let broker = Broker::new(50);
    let endpoint = listen(&broker, "l");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let publishers: Vec<_> = (0..2)
            .map(|number| {
                let (broker, over) = (&broker, &over);
                scope.spawn(move || {
                    let client = broker.client(&format!("p{number}")).unwrap();
                    let mut sent = 0u64;
                    while !over.load(Ordering::Relaxed) {
                        let levels = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
                        let qos = levels[sent as usize % levels.len()];
                        let message = Message::new("t/x", "payload").unwrap().with_qos(qos);
                        block_on(client.publish(message)).unwrap();
                        let _moment = broker.ledger();
                        sent += 1;
                    }
                })
            })
            .collect();
        let clients: Vec<_> = (0..6)
            .map(|number| {
                let endpoint = &endpoint;
                scope.spawn(move || {
                    for round in 0..25 {
                        let mut connect = Connect::new(if number % 2 == 0 { 4 } else { 5 }, "one");
                        if (number + round) % 3 != 0 {
                            connect = connect.persistent();
                        }
                        let mut peer = Peer::dial(endpoint);
                        // Whoever is taken over in the middle of this sees its stream end.
                        let mut bytes = connect.bytes();
                        bytes.extend(subscribe(connect.version, "t/#", 2));
                        bytes.extend(subscribe(connect.version, "$share/g/t/#", 1));
                        let _ = std::io::Write::write_all(&mut peer.0, &bytes);
                        let _closed = peer.is_closed_within(Duration::from_millis(5));
                    }
                })
            })
            .collect();
        clients.into_iter().for_each(|client| client.join().unwrap());
        over.store(true, Ordering::Relaxed);
        publishers.into_iter().for_each(|publisher| publisher.join().unwrap());
    });
    // Peers are accepted in their order: behind this one, none of them is still to be heard.
    let mut probe = Connect::new(4, "probe").accepted(&endpoint);
    until("the others are gone", || broker.listeners()[0].connections == 1);
    probe.send(&[0xE0, 0]);
    probe.until_closed();
    // The last one has a Session that stays: a clean one replaces it, and goes.
    let mut last = Connect::new(4, "one").accepted(&endpoint);
    last.send(&[0xE0, 0]);
    last.until_closed();
    nothing_leaks(&broker);
}

#[test]
fn pitfall_11_subscription_churn_leaks_no_subscription() {
    let broker = Broker::new(100);
    let client = broker.client("c").unwrap();
    let publisher = broker.client("p").unwrap();
    let options = SubscriptionOptions::with_qos(QoS::AtLeastOnce);
    let filters = [filter("a/+"), filter("$share/g/a/b")];
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (client, filters, publisher) = (&client, &filters, &publisher);
            scope.spawn(move || {
                for round in 0..2_000 {
                    let filter = &filters[round % 2];
                    if thread % 2 == 0 {
                        block_on(client.subscribe(filter, options)).unwrap();
                    } else {
                        block_on(client.unsubscribe(filter)).unwrap();
                    }
                    let message = Message::new("a/b", "x").unwrap();
                    block_on(publisher.publish(message)).unwrap();
                }
            });
        }
    });
    for filter in &filters {
        block_on(client.subscribe(filter, options)).unwrap();
        assert!(block_on(client.unsubscribe(filter)).unwrap());
    }
    assert_eq!(broker.counters().subscriptions, 0);
    drop((client, publisher));
    nothing_leaks(&broker);
}

/// As above over the network, with connections that vanish in the middle.
#[test]
fn pitfall_11_churn_over_the_network_while_publishing() {
    let broker = Broker::new(100);
    let endpoint = listen(&broker, "l");
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let endpoint = &endpoint;
            scope.spawn(move || {
                for round in 0..15u16 {
                    let id = format!("c{thread}");
                    let mut peer = Connect::new(5, &id).accepted(endpoint);
                    let mut bytes = Vec::new();
                    for i in 0..20u16 {
                        bytes.extend(subscribe(5, &format!("t/{i}"), (i % 3) as u8));
                        let qos = (i % 3) as u8;
                        bytes.extend(publish(5, &format!("t/{i}"), b"x", qos, i + 1));
                        let mut unsubscribe = vec![0, 2, 0];
                        unsubscribe.extend(crate::raw::text(&format!("t/{}", i / 2)));
                        bytes.extend(crate::raw::packet(0xA2, &unsubscribe));
                    }
                    let _ = std::io::Write::write_all(&mut peer.0, &bytes);
                    if round % 2 == 0 {
                        peer.vanish();
                    } else {
                        let _ = std::io::Write::write_all(&mut peer.0, &[0xE0, 0]);
                        peer.until_closed();
                    }
                }
            });
        }
    });
    nothing_leaks(&broker);
}

/// A peer that publishes to itself until the server closes.
fn talk(endpoint: &str, id: &str) {
    let mut peer = Connect::new(4, id).accepted(endpoint);
    peer.send(&subscribe(4, "t/#", 1));
    let mut reading = peer.0.try_clone().unwrap();
    let reader = std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while matches!(std::io::Read::read(&mut reading, &mut buffer), Ok(read) if read > 0) {}
    });
    let mut id = 1u16;
    loop {
        let mut bytes = publish(4, "t/x", b"payload", (id % 3) as u8, id);
        if id % 3 == 2 {
            bytes.extend([0x62, 2]); // PUBREL
            bytes.extend(id.to_be_bytes());
        }
        if std::io::Write::write_all(&mut peer.0, &bytes).is_err() {
            break;
        }
        id = id.checked_add(1).unwrap_or(1);
    }
    reader.join().unwrap();
}

#[test]
fn pitfall_11_a_listener_is_stopped_in_the_middle_of_traffic() {
    let broker = Broker::new(100);
    for round in 0..3 {
        let endpoint = listen(&broker, "busy");
        std::thread::scope(|scope| {
            for number in 0..3 {
                let endpoint = &endpoint;
                scope.spawn(move || talk(endpoint, &format!("{round}.{number}")));
            }
            until("all are there", || broker.counters().connections == 3);
            let enough = broker.ledger().offered + 500;
            until("there is traffic", || broker.ledger().offered >= enough);
            in_time(broker.stop_listener("busy")).unwrap();
            assert_eq!(broker.counters().connections, 0);
        });
    }
    nothing_leaks(&broker);
}

#[test]
fn pitfall_11_the_broker_is_dropped_in_the_middle_of_traffic() {
    let broker = Broker::new(100);
    let endpoint = listen(&broker, "busy");
    std::thread::scope(|scope| {
        for number in 0..3 {
            let endpoint = &endpoint;
            scope.spawn(move || talk(endpoint, &number.to_string()));
        }
        until("all are there", || broker.counters().connections == 3);
        until("there is traffic", || broker.ledger().offered >= 500);
        drop(broker); // the talkers end when they see it
    });
    // The address is free again, once the last connection is gone.
    let next = Broker::new(100);
    until("the address is free", || {
        block_on(next.add_listener("l", ListenerConfig::new(&endpoint).unwrap())).is_ok()
    });
}

#[test]
fn pitfall_11_in_process_clients_are_dropped_in_the_middle_of_traffic() {
    let broker = Broker::new(20);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            let client = broker.client("p").unwrap();
            while !over.load(Ordering::Relaxed) {
                let message = Message::new("t", "x").unwrap().with_qos(QoS::AtLeastOnce);
                block_on(client.publish(message)).unwrap();
            }
        });
        let droppers: Vec<_> = (0..3)
            .map(|number| {
                let broker = &broker;
                scope.spawn(move || {
                    for round in 0..100 {
                        let mut client = broker.client(&format!("{number}.{round}")).unwrap();
                        let options = SubscriptionOptions::with_qos(QoS::AtLeastOnce);
                        in_time(client.subscribe(&filter("$share/g/t"), options)).unwrap();
                        in_time(client.subscribe(&filter("t"), options)).unwrap();
                        in_time(client.recv()).unwrap();
                    }
                })
            })
            .collect();
        droppers.into_iter().for_each(|dropper| dropper.join().unwrap());
        over.store(true, Ordering::Relaxed);
        publisher.join().unwrap();
    });
    nothing_leaks(&broker);
}

#[test]
fn listeners_are_not_added_to_a_broker_that_stops() {
    for _ in 0..20 {
        let broker = Broker::new(100);
        std::thread::scope(|scope| {
            let adding = scope.spawn(|| {
                block_on(broker.add_listener("l", ListenerConfig::new(ANY).unwrap())).is_ok()
            });
            in_time(broker.stop());
            adding.join().unwrap();
        });
        assert!(broker.listeners().is_empty());
    }
}

/// When a member's Session ends, another gets what waited and the QoS 1 that was not acknowledged; not
/// QoS 2 that was sent (MQTT-4.8.2-5), nor what was refused (MQTT-4.8.2-6).
#[test]
fn what_a_member_of_a_shared_subscription_leaves_is_handed_on() {
    let broker = Broker::new(100);
    let endpoint = listen(&broker, "l");
    let publisher = broker.client("pub").unwrap();
    let send = |payload: &str, qos| {
        let message = Message::new("t", payload).unwrap().with_qos(qos);
        assert_eq!(in_time(publisher.publish(message)).unwrap().accepted, 1);
    };
    // Receive Maximum 3: the fourth waits.
    let mut first = Connect::new(5, "first").props(&[0x21, 0, 3]).accepted(&endpoint);
    first.send(&subscribe(5, "$share/g/t", 2));
    first.packet();
    send("refused", QoS::AtLeastOnce);
    let refused = first.packet();
    first.send(&[0x40, 4, refused[5], refused[6], 0x80, 0]);
    send("sent 2", QoS::ExactlyOnce);
    send("sent 1", QoS::AtLeastOnce);
    send("also 1", QoS::AtLeastOnce);
    for _ in 0..3 {
        first.packet();
    }
    send("waits 2", QoS::ExactlyOnce);
    first.ping();
    let mut second = Connect::new(5, "second").accepted(&endpoint);
    second.send(&subscribe(5, "$share/g/t", 2));
    second.packet();
    first.vanish();
    for expected in ["sent 1", "also 1", "waits 2"] {
        let packet = second.packet();
        assert!(packet.ends_with(expected.as_bytes()), "{expected}: {packet:x?}");
        assert_eq!(packet[0] & 0x08, 0, "it is no duplicate for this Client");
    }
    send("marker", QoS::AtMostOnce);
    assert!(second.packet().ends_with(b"marker"));
    let ledger = broker.ledger();
    assert!(ledger.balances(), "{ledger:?}");
    assert_eq!(ledger.dropped(hrotti::DropReason::RefusedByClient), 1);
    assert_eq!(ledger.dropped(hrotti::DropReason::SessionEnded), 1, "the QoS 2 that was sent");
}
