//! The topics below `$SYS/broker/`, in simulated time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::poll_once;
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use hrotti::access::{
    Action, Answer, Authenticating, Credentials, Decision, Identity, Policy, Request, Rule,
};
use hrotti::testing::{ClientStream, Connector, World};
use hrotti::{
    Broker, BrokerBuilder, Client, FilterReason, Limits, Message, QoS, SubscriptionOptions,
    TopicFilter,
};

use crate::peer::{connect_packet, subscribe_packet};

const SECOND: Duration = Duration::from_secs(1);
const TEN_SECONDS: Duration = Duration::from_secs(10);

struct Site {
    world: World,
    broker: Broker,
    connector: Connector,
}

/// A message as it came: whether RETAIN was set, and its payload, by Topic Name.
type Came = BTreeMap<String, (bool, String)>;

impl Site {
    fn new(builder: BrokerBuilder) -> Site {
        let world = World::new(3);
        let broker = world.build(builder);
        let connector = world.listen(&broker, "l").unwrap();
        Site { world, broker, connector }
    }

    fn with_sys() -> Site {
        Site::new(Broker::builder().sys_interval(TEN_SECONDS))
    }

    /// A Client of MQTT 3.1.1 with a subscription.
    fn watcher(&self, id: &str, filter: &str) -> ClientStream {
        let mut stream = self.connector.connect().unwrap();
        self.world.block_on(async {
            for (packet, answer) in [(connect_packet(id), 4), (subscribe_packet(filter, 0), 5)] {
                stream.write_all(&packet).await.unwrap();
                stream.read_exact(&mut vec![0; answer]).await.unwrap();
            }
        });
        stream
    }

    /// Every message that has come by now. Fails if a Topic Name comes twice.
    fn came(&self, stream: &mut ClientStream) -> Came {
        self.world.run_until_idle();
        let mut bytes = Vec::new();
        let mut part = [0; 4_096];
        while let Some(read) = self.world.block_on(poll_once(stream.read(&mut part))) {
            bytes.extend_from_slice(&part[..read.unwrap()]);
            self.world.run_until_idle();
        }
        let (mut came, mut rest) = (Came::new(), &*bytes);
        while let [header, len, behind @ ..] = rest {
            assert_eq!(header & 0xF6, 0x30, "PUBLISH of QoS 0");
            let (body, behind) = behind.split_at((*len).into());
            let (topic, payload) = body[2..].split_at(body[1].into());
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            let before = came.insert(text(topic), (header & 1 == 1, text(payload)));
            assert_eq!(before, None, "{}", text(topic));
            rest = behind;
        }
        came
    }

    fn subscriber(&self, id: &str, filter: &str) -> Client {
        let client = self.broker.client(id).unwrap();
        let filter = TopicFilter::new(filter).unwrap();
        let options = SubscriptionOptions::with_qos(QoS::AtMostOnce);
        self.world.block_on(client.subscribe(&filter, options)).unwrap();
        client
    }

    /// The retained messages below `$SYS/`.
    fn kept(&self) -> BTreeMap<String, String> {
        let mut client = self.subscriber("reader", "$SYS/#");
        let mut kept = BTreeMap::new();
        while let Some(Some(message)) = self.world.block_on(poll_once(client.recv())) {
            let text = String::from_utf8(message.payload().to_vec()).unwrap();
            kept.insert(message.topic().to_owned(), text);
        }
        kept
    }
}

fn topic(name: &str) -> String {
    format!("$SYS/broker/{name}")
}

/// The library's default.
#[test]
fn off_means_off() {
    let site = Site::new(Broker::builder());
    let tasks = site.world.tasks();
    site.world.advance(3_600 * SECOND);
    assert_eq!(site.world.tasks(), tasks);
    assert_eq!(site.broker.ledger().offered, 0);
    assert_eq!(site.kept(), BTreeMap::new());
}

/// As Home Assistant and the like ask for them.
#[test]
fn a_client_of_3_1_1_sees_what_is_kept_and_then_what_changes() {
    let site = Site::with_sys();
    site.world.advance(4 * SECOND);
    let mut stream = site.watcher("dashboard", "$SYS/#");
    let first = site.came(&mut stream);
    assert!(first.len() > 100, "{}", first.len());
    assert!(first.values().all(|(retain, _)| *retain));
    assert_eq!(first[&topic("uptime")].1, "0 seconds");
    assert!(first[&topic("version")].1.starts_with("hrotti version "));
    assert_eq!(first[&topic("clients/connected")].1, "0");
    // The clock on the wall began at a full minute.
    site.world.advance(5 * SECOND);
    assert_eq!(site.came(&mut stream), Came::new());
    site.world.advance(SECOND + SECOND / 4);
    let second = site.came(&mut stream);
    assert!(second.values().all(|(retain, _)| !*retain), "a live message");
    assert_eq!(second[&topic("uptime")].1, "10 seconds");
    assert_eq!(second[&topic("clients/connected")].1, "1");
    assert_eq!(second.get(&topic("version")), None, "it has not changed");
    assert_eq!(second.get(&topic("clients/expired")), None);
    for round in 2..5 {
        site.world.advance(TEN_SECONDS);
        let came = site.came(&mut stream);
        assert_eq!(came[&topic("uptime")].1, format!("{round}0 seconds"));
    }
    assert!(site.broker.ledger().balances());
}

#[test]
fn a_wildcard_in_the_first_level_does_not_match_them_mqtt_4_7_2_1() {
    let site = Site::with_sys();
    let (mut all, mut one) = (site.watcher("all", "#"), site.watcher("one", "+/broker/uptime"));
    site.world.advance(60 * SECOND);
    assert_eq!(site.came(&mut all), Came::new());
    assert_eq!(site.came(&mut one), Came::new());
    assert_eq!(site.broker.ledger().delivered, 0);
}

#[test]
fn the_values_are_those_of_the_library() {
    let site = Site::with_sys();
    site.world.advance(SECOND);
    let mut stream = site.watcher("watcher", "t/#");
    let shared = site.watcher("member", "$share/g/s");
    let away = site.broker.client("inside").unwrap();
    for number in 0..7 {
        let message = Message::new(&format!("t/{number}"), "12345").unwrap();
        site.world.block_on(away.publish(message.with_retain(number < 3))).unwrap();
    }
    assert_eq!(site.came(&mut stream).len(), 7);
    site.world.block_on(stream.write_all(b"\x30\x04\0\x01xy")).unwrap();
    site.world.run_until_idle();
    // Nothing moves until the next publication but its own messages, which nobody hears.
    let (traffic, counters) = (site.broker.traffic(), site.broker.counters());
    let ledger = site.broker.ledger();
    site.world.advance(TEN_SECONDS);
    let kept = site.kept();
    let number = |name: &str| kept[&topic(name)].parse::<u64>().unwrap();
    for (name, value) in [
        ("clients/total", 3),
        ("clients/connected", 3),
        ("clients/maximum", 3),
        ("subscriptions/count", 1),
        ("shared_subscriptions/count", 1),
        ("retained messages/count", 3),
        ("messages/stored", 3),
        ("store/messages/bytes", counters.retained_bytes as u64),
        ("publish/messages/sent", 7),
        ("publish/bytes/sent", 35),
        ("publish/messages/received", 1),
        ("publish/bytes/received", 1),
        ("messages/received", traffic.packets_received_total()),
        ("messages/sent", traffic.packets_sent_total()),
        ("bytes/received", traffic.bytes_received),
        ("bytes/sent", traffic.bytes_sent),
        ("connections/socket/count", 2),
        ("packet/out/count", 0),
        ("hrotti/ledger/delivered", ledger.delivered),
    ] {
        assert_eq!(number(name), value, "{name}");
    }
    // Every message so far, the Server's own of the first publication among them, was offered.
    assert_eq!(number("hrotti/ledger/offered"), ledger.offered);
    let unheard = number("hrotti/ledger/filtered/no-subscription");
    assert_eq!(unheard, ledger.filtered(FilterReason::NoSubscription));
    assert!(unheard > 100);
    assert_eq!(kept[&topic("load/publish/sent/1min")], "6.46"); // 7 in 9.75 s, times 1 - e^(-9.75/60)
    drop(shared);
}

/// A Session that gets all of them, with a queue that is shorter than their number, loses none while it reads.
#[test]
fn a_reader_loses_none_although_its_queue_is_short() {
    let limits = Limits { max_queue_depth: 20, ..Limits::default() };
    let site = Site::new(Broker::builder().limits(limits));
    let mut stream = site.watcher("dashboard", "$SYS/#");
    site.broker.set_sys_interval(TEN_SECONDS);
    site.world.advance(SECOND);
    assert_eq!(site.came(&mut stream).len(), site.kept().len());
    let ledger = site.broker.ledger();
    assert_eq!((ledger.dropped_total(), ledger.balances()), (0, true));
}

#[test]
fn a_full_store_keeps_none_out_and_none_takes_the_place_of_another_message() {
    let limits = Limits { retained_messages_max: 1, ..Limits::default() };
    let site = Site::new(Broker::builder().limits(limits).sys_interval(TEN_SECONDS));
    let host = site.broker.client("host").unwrap();
    let publish = |topic: &str| {
        let message = Message::new(topic, "kept").unwrap().with_retain(true);
        site.world.block_on(host.publish(message)).unwrap();
    };
    publish("first");
    site.world.advance(15 * SECOND);
    publish("second");
    let counters = site.broker.counters();
    assert_eq!((counters.retained_messages, counters.retained_refused), (1, 1));
    assert_eq!(counters.retained_bytes, "first".len() + "kept".len());
    assert!(site.kept().len() > 100);
    let mut first = site.subscriber("first", "first");
    assert!(site.world.block_on(first.recv()).is_some());
    let none = Site::new(
        Broker::builder()
            .limits(Limits { retained_messages_max: 0, ..Limits::default() })
            .sys_interval(TEN_SECONDS),
    );
    none.world.advance(SECOND);
    assert!(none.kept().len() > 100, "also where nothing may be retained");
}

#[test]
fn they_can_be_switched_while_the_broker_runs() {
    let site = Site::new(Broker::builder());
    site.broker.set_sys_interval(TEN_SECONDS);
    site.world.advance(SECOND);
    let all = site.kept().len();
    assert!(all > 100);
    site.broker.set_sys_interval(Duration::ZERO);
    assert_eq!(site.kept(), BTreeMap::new(), "at once");
    let offered = site.broker.ledger().offered;
    site.world.advance(100 * SECOND);
    assert_eq!(site.kept(), BTreeMap::new());
    assert_eq!(site.broker.ledger().offered, offered);
    // On and off, and the publication begins only afterwards.
    site.broker.set_sys_interval(TEN_SECONDS);
    site.broker.set_sys_interval(Duration::ZERO);
    site.world.advance(SECOND);
    assert_eq!(site.kept(), BTreeMap::new());
    site.broker.set_sys_interval(5 * SECOND);
    site.world.advance(SECOND);
    assert_eq!(site.kept().len(), all);
    let before = site.kept()[&topic("uptime")].clone();
    site.world.advance(5 * SECOND);
    assert_ne!(site.kept()[&topic("uptime")], before);
}

/// A publication that takes many turns is switched off in the middle.
#[test]
fn a_publication_that_is_switched_off_in_the_middle_leaves_nothing() {
    let (mut least, mut most) = (u64::MAX, 0);
    for turns in 1..40 {
        let site = Site::new(Broker::builder());
        let watchers: Vec<_> =
            (0..400).map(|n| site.subscriber(&format!("w{n}"), "$SYS/#")).collect();
        site.broker.set_sys_interval(TEN_SECONDS);
        // So many turns of tasks, among them those of the publication.
        site.world.advance(SECOND / 4 - Duration::from_millis(1));
        site.world.block_on(async {
            site.world.sleep(Duration::from_millis(1)).await;
            for _ in 0..turns {
                futures_lite::future::yield_now().await;
            }
            site.broker.set_sys_interval(Duration::ZERO);
        });
        let offered = site.broker.ledger().offered;
        (least, most) = (offered.min(least), offered.max(most));
        site.world.advance(SECOND);
        assert_eq!(site.kept(), BTreeMap::new(), "{turns}");
        assert!(site.broker.ledger().balances());
        drop(watchers);
    }
    assert!(least < most, "{least} to {most} messages had been offered");
}

/// Lets everybody in, and lets Clients receive what is not below `$SYS/broker/clients`.
struct NoClients;

impl Policy for NoClients {
    fn authenticate(self: Arc<Self>, _: Credentials) -> Authenticating {
        let identity = Identity::new(Rule::named("a test"));
        Box::pin(async { Answer::accept(identity) })
    }

    fn authorize(&self, request: &Request<'_>) -> Decision {
        let hidden = request.topic.starts_with("$SYS/broker/clients");
        match request.action == Action::Receive && hidden {
            true => Decision::Deny(Rule::named("hidden")),
            false => Decision::Allow(Rule::named("a test")),
        }
    }
}

#[test]
fn only_those_who_may_receive_them_get_them() {
    let policy = Broker::builder().policy(Arc::new(NoClients)).sys_interval(TEN_SECONDS);
    let site = Site::new(policy);
    site.world.advance(SECOND);
    let mut stream = site.watcher("dashboard", "$SYS/#");
    let first = site.came(&mut stream);
    site.world.advance(TEN_SECONDS);
    let second = site.came(&mut stream);
    for came in [first, second] {
        assert!(came.contains_key(&topic("uptime")));
        assert!(!came.keys().any(|name| name.contains("/clients/")));
    }
    let ledger = site.broker.ledger();
    assert!(ledger.balances() && ledger.filtered(FilterReason::NotAuthorized) > 7);
}

/// A Client's own message is not published there, and what is kept stays.
#[test]
fn clients_cannot_publish_there() {
    let site = Site::with_sys();
    site.world.advance(SECOND);
    let before = site.kept();
    let mut stream = site.watcher("liar", "$SYS/broker/uptime");
    site.came(&mut stream);
    let name = topic("uptime");
    let packet = [&[0x31, name.len() as u8 + 5, 0, name.len() as u8], name.as_bytes(), b"lie"];
    site.world.block_on(stream.write_all(&packet.concat())).unwrap();
    assert_eq!(site.came(&mut stream), Came::new());
    assert_eq!(site.kept(), before);
    assert_eq!(site.broker.ledger().filtered(FilterReason::ReservedTopic), 1);
}
