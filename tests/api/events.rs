//! The stream of events, over TCP and WebSocket: refusals before CONNECT and by the rules of a listener, and what an
//! embedder makes of a Client's way.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use futures_lite::future::poll_once;
use hrotti::{
    Broker, ClientOrigin, DisconnectCause, DropReason, Events, Happening, Limits, ListenerConfig,
    ListenerRules, Message, ProtocolVersion, QoS, ReasonCode, SubscriptionOptions, TopicFilter,
};

use crate::peer::{Peer, block_on, in_time, listen};
use crate::raw::{Connect, limited, text, until};

/// The first happening of which `pick` makes something.
fn first<T>(events: &mut Events, mut pick: impl FnMut(&Happening) -> Option<T>) -> T {
    in_time(async {
        loop {
            let event = events.next().await.expect("the broker runs").expect("nothing is lost");
            if let Some(picked) = pick(&event.what) {
                return picked;
            }
        }
    })
}

fn refused(events: &mut Events) -> (ClientOrigin, ReasonCode, String) {
    first(events, |what| match what {
        Happening::Refused { client, code, why } => Some((client.clone(), *code, why.clone())),
        _ => None,
    })
}

fn disconnected(events: &mut Events) -> (ClientOrigin, DisconnectCause) {
    first(events, |what| match what {
        Happening::Disconnected { client, cause } => Some((client.clone(), *cause)),
        _ => None,
    })
}

fn listen_by(broker: &Broker, url: &str, change: fn(&mut ListenerRules)) -> String {
    let mut rules = ListenerRules::default();
    change(&mut rules);
    let config = ListenerConfig::new(url).unwrap().with_rules(rules);
    block_on(broker.add_listener("ruled", config)).unwrap()
}

#[test]
fn a_client_comes_and_goes_with_its_address_listener_and_version() {
    let (broker, endpoint) = limited(Limits::default());
    let mut events = broker.events();
    let mut lamp = Connect::new(5, "lamp").accepted(&endpoint);
    let client = first(&mut events, |what| match what {
        Happening::Connected { client, clean_start: true, keep_alive_secs: 0, .. } => {
            Some(client.clone())
        }
        _ => None,
    });
    assert_eq!((&*client.client_id, &*client.listener), ("lamp", "l"));
    assert_eq!((client.version, client.user_name.as_ref()), (Some(ProtocolVersion::V5), None));
    assert!(client.address.is_some_and(|address| address.ip().is_loopback()));
    lamp.send(&[0xE0, 0]);
    let (same, cause) = disconnected(&mut events);
    assert_eq!((same, cause), (client, DisconnectCause::ByClient(ReasonCode::SUCCESS)));

    Connect::new(4, "cut").accepted(&endpoint).vanish();
    let (_, cause) = disconnected(&mut events);
    assert!(matches!(cause, DisconnectCause::Lost(..)), "{cause}");

    let _stays = Connect::new(5, "stays").accepted(&endpoint);
    block_on(broker.stop_listener("l")).unwrap();
    let (_, cause) = disconnected(&mut events);
    assert_eq!(cause.code(), Some(ReasonCode::ADMINISTRATIVE_ACTION));
    first(&mut events, |what| {
        matches!(what, Happening::ListenerStopped { name } if name == "l").then_some(())
    });
}

#[test]
fn a_listener_is_told_of_whose_stop_nobody_waits_for() {
    let (broker, endpoint) = limited(Limits::default());
    let mut events = broker.events();
    let _stays = Connect::new(5, "stays").accepted(&endpoint);
    // The first poll begins the stop.
    drop(block_on(poll_once(broker.stop_listener("l"))));
    first(&mut events, |what| {
        matches!(what, Happening::ListenerStopped { name } if name == "l").then_some(())
    });
}

#[test]
fn the_stream_ends_with_the_broker_and_no_client_is_missing() {
    let (broker, endpoint) = limited(Limits::default());
    let mut events = broker.events();
    let _stays = Connect::new(5, "stays").accepted(&endpoint);
    block_on(broker.stop());
    let (_, cause) = disconnected(&mut events);
    assert_eq!(cause.code(), Some(ReasonCode::SERVER_SHUTTING_DOWN));
    assert!(in_time(events.next()).is_none());
}

#[test]
fn the_rules_of_a_listener_refuse_with_their_reason() {
    type Ruled = (fn(&mut ListenerRules), &'static str, ReasonCode, &'static str);
    let ruled: [Ruled; 4] = [
        (
            |rules| rules.versions = [ProtocolVersion::V5].into_iter().collect(),
            "old",
            ReasonCode::UNSUPPORTED_PROTOCOL_VERSION,
            "does not serve this version",
        ),
        (
            |rules| rules.connections_max = Some(0),
            "old",
            ReasonCode::QUOTA_EXCEEDED,
            "as many connections as it may",
        ),
        (
            |rules| rules.anonymous = Some(false),
            "old",
            ReasonCode::NOT_AUTHORIZED,
            "no Client without a User Name",
        ),
        (
            |rules| rules.networks_allowed = Some(Vec::new()),
            "",
            ReasonCode::NOT_AUTHORIZED,
            "network",
        ),
    ];
    for (rules, client_id, code, part) in ruled {
        let broker = Broker::new(100);
        let endpoint = listen_by(&broker, "tcp://127.0.0.1:0", rules);
        let mut events = broker.events();
        let mut peer = Peer::dial(&endpoint);
        if !client_id.is_empty() {
            peer.send(&Connect::new(4, client_id).bytes());
        }
        let (client, told, why) = refused(&mut events);
        assert_eq!((&*client.client_id, &*client.listener), (client_id, "ruled"), "{why}");
        assert_eq!(told, code, "{why}");
        assert!(why.contains(part), "{why}");
    }
}

#[test]
fn peers_are_refused_by_rate_and_by_their_handshake() {
    let limits = Limits { address_connects_per_sec_max: 1, ..Limits::default() };
    let (broker, endpoint) = limited(limits);
    let mut events = broker.events();
    let _peers: Vec<_> = (0..20).map(|_| Peer::dial(&endpoint)).collect();
    let (client, code, why) = refused(&mut events);
    assert_eq!((&*client.client_id, code), ("", ReasonCode::CONNECTION_RATE_EXCEEDED));
    assert!(why.contains("address_connects_per_sec_max"), "{why}");

    let (failed, late) = (Duration::from_secs(60), Duration::from_millis(50));
    for (timeout, sent, part) in [
        (failed, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "the handshake failed: "),
        (late, "", "handshake_timeout"),
    ] {
        let limits = Limits { handshake_timeout: timeout, ..Limits::default() };
        let broker = Broker::builder().limits(limits).build();
        let endpoint = listen_by(&broker, "ws://127.0.0.1:0", |_| {});
        let address = endpoint.trim_start_matches("ws://").trim_end_matches('/').to_owned();
        let mut events = broker.events();
        let mut peer = TcpStream::connect(&address).unwrap();
        peer.write_all(sent.as_bytes()).unwrap();
        let (client, code, why) = refused(&mut events);
        assert_eq!(code, ReasonCode::UNSPECIFIED_ERROR);
        assert!(why.starts_with(part) && client.address.is_some(), "{why}");
    }
}

/// What an embedder of a broker without any Client on the network sees.
#[test]
fn clients_in_process_are_told_of_by_what_they_do() {
    let broker = Broker::new(2);
    let mut events = broker.events();
    let mut client = broker.client("inside").unwrap();
    let filter = TopicFilter::new("$share/g/t").unwrap();
    block_on(client.subscribe(&filter, SubscriptionOptions::with_qos(QoS::AtLeastOnce))).unwrap();
    first(&mut events, |what| match what {
        Happening::Subscribed { client_id, filter, qos: QoS::AtLeastOnce } => {
            assert_eq!((&**client_id, filter.as_str()), ("inside", "$share/g/t"));
            Some(())
        }
        _ => None,
    });
    for _ in 0..5 {
        block_on(client.publish(Message::new("t", "x").unwrap())).unwrap();
    }
    let lost = first(&mut events, |what| match what {
        Happening::Dropped { client_id, reason: DropReason::QueueFull, messages } => {
            assert_eq!(&**client_id, "inside");
            Some(*messages)
        }
        _ => None,
    });
    assert_eq!((lost, broker.ledger().dropped(DropReason::QueueFull)), (3, 3));
    block_on(client.recv()).unwrap();
    assert!(block_on(client.unsubscribe(&filter)).unwrap());
    first(&mut events, |what| matches!(what, Happening::Unsubscribed { .. }).then_some(()));
}

#[test]
fn a_receiver_that_lags_is_told_how_many_events_it_lost() {
    let broker = Broker::new(100);
    let endpoint = listen(&broker, "l");
    let mut events = broker.events();
    let mut peer = Connect::new(5, "lamp").accepted(&endpoint);
    let filters: Vec<u8> =
        (0..2_000).flat_map(|n| [text(&format!("t/{n}")), vec![0]].concat()).collect();
    peer.send(&crate::raw::packet(0x82, &[&[0, 1, 0][..], &filters].concat()));
    until("all are subscribed", || broker.counters().subscriptions == 2_000);
    // Connected, and one for each Topic Filter.
    let lost = in_time(events.next()).unwrap().unwrap_err().0;
    let mut held = 0;
    while block_on(futures_lite::future::poll_once(events.next())).is_some() {
        held += 1;
    }
    assert_eq!((lost, held), (2_001 - 1_024, 1_024));
}
