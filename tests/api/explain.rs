//! Why a message does or does not reach a Session, for every reason that there is, and the rule behind a decision.

use std::sync::Arc;

use hrotti::access::{
    Action, Answer, Authenticating, Credentials, Decision, Identity, Policy, Request, Rule,
};
use hrotti::{Broker, Cause, Difference, DropReason, Explanation, KeepsAway, Limits, Message, QoS};
use hrotti::{ListenerConfig, ListenerRules, SubscriptionOptions, TopicFilter};

use crate::peer::{Peer, block_on, listen};
use crate::raw::{Connect, limited, publish, subscribe, until};

const NO_LOCAL: u8 = 0x04;

/// A broker with one Client of MQTT 5 that has these subscriptions, each a Topic Filter with its options.
fn subscribed(limits: Limits, filters: &[(&str, u8)]) -> (Broker, String, Peer) {
    let (broker, endpoint) = limited(limits);
    let mut peer = Connect::new(5, "c").persistent().accepted(&endpoint);
    for (filter, options) in filters {
        peer.send(&subscribe(5, filter, *options));
        assert_eq!(peer.packet()[0], 0x90, "SUBACK");
    }
    (broker, endpoint, peer)
}

fn causes(explanation: &Explanation) -> Vec<(&Cause, KeepsAway)> {
    explanation.findings.iter().map(|finding| (&finding.cause, finding.keeps_away)).collect()
}

/// The first finding that keeps messages away.
#[track_caller]
fn obstacle(explanation: &Explanation, keeps_away: KeepsAway) -> Cause {
    let finding = explanation.obstacle().expect("an obstacle");
    assert_eq!(finding.keeps_away, keeps_away, "{explanation}");
    assert_eq!(explanation.would_arrive(), keeps_away == KeepsAway::Some, "{explanation}");
    finding.cause.clone()
}

fn message(topic: &str, payload: &[u8], qos: QoS) -> Message {
    Message::new(topic, payload).expect("a Topic Name").with_qos(qos)
}

#[test]
fn a_message_that_arrives_meets_no_obstacle() {
    let (broker, _, _peer) = subscribed(Limits::default(), &[("hall/+", 1), ("#", 0)]);
    let explanation = broker.explain_delivery("c", "hall/lamp");
    assert!(explanation.would_arrive() && explanation.obstacle().is_none(), "{explanation}");
    let filter = |text| TopicFilter::new(text).expect("a filter");
    let all = Cause::Subscription { filter: filter("#"), qos: QoS::AtMostOnce };
    let one = Cause::Subscription { filter: filter("hall/+"), qos: QoS::AtLeastOnce };
    assert_eq!(causes(&explanation), [(&all, KeepsAway::None), (&one, KeepsAway::None)]);
    assert_eq!(explanation.past.expect("a Session").offered, 0);
}

#[test]
fn no_session_and_the_one_that_was_meant() {
    let (broker, endpoint) = limited(Limits::default());
    let _peer = Peer::connect(&endpoint, "kitchen-sensor");
    for (id, nearest) in [("Kitchen-Sensor", true), ("kitchen-sensors", true), ("garage", false)] {
        let cause = obstacle(&broker.explain_delivery(id, "t"), KeepsAway::All);
        let nearest = nearest.then(|| "kitchen-sensor".to_owned());
        assert_eq!(cause, Cause::NoSession { nearest });
    }
}

#[test]
fn no_subscription_and_the_nearest() {
    let (broker, _, _peer) =
        subscribed(Limits::default(), &[("hall/+/state", 0), ("$share/g/jobs/#", 0)]);
    for (topic, filter, difference) in [
        ("Hall/lamp/state", "hall/+/state", Difference::Case),
        ("hall/lamp/state/now", "hall/+/state", Difference::Deeper { levels: 1 }),
        ("hall/lamp", "hall/+/state", Difference::Shallower { levels: 1 }),
        ("/hall/lamp/state", "hall/+/state", Difference::Slash),
        ("Jobs/1", "$share/g/jobs/#", Difference::Case),
    ] {
        let cause = obstacle(&broker.explain_delivery("c", topic), KeepsAway::All);
        let near = (TopicFilter::new(filter).expect("a filter"), difference);
        assert_eq!(cause, Cause::NoSubscription { nearest: Some(near) }, "{topic}");
    }
    let cause = obstacle(&broker.explain_delivery("c", "garden"), KeepsAway::All);
    assert_eq!(cause, Cause::NoSubscription { nearest: None });
}

#[test]
fn a_wildcard_does_not_reach_topics_of_the_server() {
    let (broker, _, _peer) = subscribed(Limits::default(), &[("#", 0)]);
    let cause = obstacle(&broker.explain_delivery("c", "$SYS/broker/uptime"), KeepsAway::All);
    let Cause::NoSubscription { nearest: Some((_, difference)) } = cause else {
        panic!("{cause:?}")
    };
    assert_eq!(difference, Difference::Dollar);
}

#[test]
fn what_is_no_topic_name() {
    let (broker, _, _peer) = subscribed(Limits::default(), &[("#", 0)]);
    let explanation = broker.explain_delivery("c", "hall/#");
    assert!(matches!(obstacle(&explanation, KeepsAway::All), Cause::NoTopicName(_)));
}

#[test]
fn no_local_keeps_the_clients_own_messages_away() {
    let (broker, _, mut peer) = subscribed(Limits::default(), &[("t", NO_LOCAL)]);
    assert_eq!(obstacle(&broker.explain_delivery("c", "t"), KeepsAway::Some), Cause::NoLocal);
    peer.send(&subscribe(5, "+", 0));
    peer.packet();
    assert!(broker.explain_delivery("c", "t").obstacle().is_none());
}

#[test]
fn a_client_that_is_away_gets_no_qos_0() {
    let (broker, _, peer) = subscribed(Limits::default(), &[("plain", 0), ("assured", 1)]);
    peer.vanish();
    until("it is away", || broker.sessions().iter().all(|session| !session.connected));
    let cause = obstacle(&broker.explain_delivery("c", "plain"), KeepsAway::All);
    assert_eq!(cause, Cause::Away { qos: QoS::AtMostOnce });
    let cause = obstacle(&broker.explain_delivery("c", "assured"), KeepsAway::Some);
    assert_eq!(cause, Cause::Away { qos: QoS::AtLeastOnce });
    let plain = broker.explain_message("c", &message("assured", b"x", QoS::AtMostOnce));
    assert_eq!(obstacle(&plain, KeepsAway::All), Cause::Away { qos: QoS::AtMostOnce });
    let assured = broker.explain_message("c", &message("assured", b"x", QoS::AtLeastOnce));
    assert!(
        assured.obstacle().is_none() && assured.to_string().contains("not connected"),
        "{assured}"
    );
}

#[test]
fn a_full_queue_and_what_it_cost_so_far() {
    let limits = Limits { max_queue_depth: 2, ..Limits::default() };
    let (broker, endpoint, peer) = subscribed(limits, &[("t", 1)]);
    peer.vanish();
    until("it is away", || broker.sessions().iter().all(|session| !session.connected));
    let mut publisher = Peer::connect(&endpoint, "publisher");
    for id in 1..=3 {
        publisher.send(&publish(4, "t", b"x", 1, id));
        publisher.packet();
    }
    let explanation = broker.explain_message("c", &message("t", b"x", QoS::AtLeastOnce));
    let cause = obstacle(&explanation, KeepsAway::All);
    assert_eq!(cause, Cause::QueueFull { waiting: 2, depth: 2 });
    assert_eq!(explanation.past.expect("a Session").dropped(DropReason::QueueFull), 1);
    let text = explanation.to_string();
    assert!(text.contains("2 messages wait, and 2 may (maxQueueDepth)"), "{text}");
    assert!(text.contains("2 not delivered yet, 1 dropped (queue full)"), "{text}");
}

#[test]
fn bytes_that_may_wait() {
    let limits = Limits { queue_bytes_max: 100, ..Limits::default() };
    let (broker, endpoint, peer) = subscribed(limits, &[("t", 1)]);
    peer.vanish();
    until("it is away", || broker.sessions().iter().all(|session| !session.connected));
    let mut publisher = Peer::connect(&endpoint, "publisher");
    publisher.send(&publish(4, "t", &[0; 60], 1, 1));
    publisher.packet();
    let large = broker.explain_message("c", &message("t", &[0; 60], QoS::AtLeastOnce));
    let cause = obstacle(&large, KeepsAway::All);
    assert_eq!(cause, Cause::QueueBytes { waiting: 61, bytes_max: 100 });
    let small = broker.explain_message("c", &message("t", b"x", QoS::AtLeastOnce));
    assert!(small.would_arrive(), "{small}");
}

#[test]
fn packets_that_are_too_large_for_the_client() {
    let (broker, endpoint) = limited(Limits::default());
    let maximum_packet_size = [0x27, 0, 0, 0, 50];
    let mut peer = Connect::new(5, "c").props(&maximum_packet_size).accepted(&endpoint);
    peer.send(&subscribe(5, "#", 1));
    peer.packet();
    assert!(broker.explain_delivery("c", "t").would_arrive());
    let cause = obstacle(
        &broker.explain_message("c", &message("t", &[0; 100], QoS::AtMostOnce)),
        KeepsAway::All,
    );
    assert_eq!(cause, Cause::TooLarge { packet_bytes: 106, maximum_packet_size: 50 });
    let long = "t".repeat(60);
    let cause = obstacle(&broker.explain_delivery("c", &long), KeepsAway::All);
    assert!(matches!(cause, Cause::TooLarge { .. }), "no payload is small enough");
}

#[test]
fn a_message_that_expires_at_once() {
    let (broker, _, _peer) = subscribed(Limits::default(), &[("t", 1)]);
    let expired = message("t", b"x", QoS::AtLeastOnce).with_expiry_secs(0);
    assert_eq!(obstacle(&broker.explain_message("c", &expired), KeepsAway::All), Cause::Expired);
}

#[test]
fn acknowledgements_that_are_missing_make_messages_wait() {
    let (broker, endpoint) = limited(Limits::default());
    let receive_maximum = [0x21, 0, 1];
    let mut peer = Connect::new(5, "c").props(&receive_maximum).accepted(&endpoint);
    peer.send(&subscribe(5, "t", 1));
    peer.packet();
    let mut publisher = Peer::connect(&endpoint, "publisher");
    publisher.send(&publish(4, "t", b"x", 1, 1));
    publisher.packet();
    assert_eq!(peer.packet()[0] & 0xF0, 0x30, "PUBLISH");
    until("it is in flight", || broker.sessions().iter().any(|session| session.inflight == 1));
    let explanation = broker.explain_delivery("c", "t");
    assert!(explanation.would_arrive(), "{explanation}");
    let waits = (&Cause::QuotaUsed { inflight: 1 }, KeepsAway::None);
    assert!(causes(&explanation).contains(&waits), "{explanation}");
}

#[test]
fn the_other_member_of_a_shared_subscription_gets_it() {
    let (broker, endpoint, _peer) = subscribed(Limits::default(), &[("$share/g/t", 0)]);
    let explanation = broker.explain_delivery("c", "t");
    assert!(explanation.obstacle().is_none(), "the only member: {explanation}");
    let mut other = Connect::new(5, "other").accepted(&endpoint);
    other.send(&subscribe(5, "$share/g/t", 0));
    other.packet();
    let mut publisher = Peer::connect(&endpoint, "publisher");
    for _ in 0..4 {
        let next = ["c", "other"].map(|id| broker.explain_delivery(id, "t").obstacle().is_none());
        assert_eq!(next.iter().filter(|next| **next).count(), 1, "one of both is next");
        let (waits, gets) = if next[0] { ("other", "c") } else { ("c", "other") };
        let cause = obstacle(&broker.explain_delivery(waits, "t"), KeepsAway::Some);
        let filter = TopicFilter::new("$share/g/t").expect("a filter");
        assert_eq!(cause, Cause::AnotherMember { filter, next: Some(gets.to_owned()) });
        let delivered = |id: &str| {
            let sessions = broker.sessions();
            sessions.iter().find(|session| session.client_id == id).map(|s| s.ledger.delivered)
        };
        let before = delivered(gets);
        publisher.send(&publish(4, "t", b"x", 0, 0));
        until("the one that was named got it", || delivered(gets) > before);
    }
}

/// Lets everybody in, and denies what is under `secret/`.
struct Secrets;

const SECRETS: Rule = Rule::named("secrets are for nobody");
const OTHERS: Rule = Rule::named("the rest is for everybody");

impl Policy for Secrets {
    fn authenticate(self: Arc<Self>, shown: Credentials) -> Authenticating {
        let identity = Identity::new(OTHERS).with_user_name(&shown.client_id);
        Box::pin(std::future::ready(Answer::accept(identity)))
    }

    fn authorize(&self, request: &Request<'_>) -> Decision {
        match request.topic.split('/').next() {
            Some("secret") if request.identity.user_name() == Some("c") => Decision::Deny(SECRETS),
            Some("nothing") => Decision::NoAnswer,
            _ => Decision::Allow(OTHERS),
        }
    }
}

#[test]
fn a_denial_names_its_rule() {
    let broker = Broker::builder().policy(Arc::new(Secrets)).build();
    let endpoint = listen(&broker, "l");
    let mut peer = Connect::new(5, "c").accepted(&endpoint);
    peer.send(&subscribe(5, "#", 0));
    assert_eq!(peer.packet()[0], 0x90);
    let cause = obstacle(&broker.explain_delivery("c", "secret/x"), KeepsAway::All);
    assert_eq!(cause, Cause::NotAuthorized { rule: Some(SECRETS) });
    let cause = obstacle(&broker.explain_delivery("c", "nothing"), KeepsAway::All);
    assert_eq!(cause, Cause::NotAuthorized { rule: None });
    let allowed = broker.explain_delivery("c", "other");
    assert!(causes(&allowed).contains(&(&Cause::Authorized { rule: OTHERS }, KeepsAway::None)));
    let denied = broker.counters();
    assert_eq!(
        (denied.receives_denied, denied.publishes_denied),
        (0, 0),
        "questions count nothing"
    );
}

#[test]
fn the_rule_of_each_action_is_told() {
    let broker = Broker::builder().policy(Arc::new(Secrets)).build();
    let endpoint = listen(&broker, "l");
    let _peer = Connect::new(5, "c").accepted(&endpoint);
    let _other = Connect::new(5, "d").accepted(&endpoint);
    for action in [Action::Publish, Action::Subscribe, Action::Unsubscribe, Action::Receive] {
        let explain = |id: &str, topic: &str| broker.explain_access(id, action, topic);
        assert_eq!(explain("c", "secret/x"), Some(Decision::Deny(SECRETS)), "{action}");
        assert_eq!(explain("d", "secret/x"), Some(Decision::Allow(OTHERS)), "{action}");
        assert_eq!(explain("c", "nothing"), Some(Decision::NoAnswer), "{action}");
        assert_eq!(explain("e", "t"), None, "{action}");
    }
    let publish = |topic: &str| broker.explain_access("d", Action::Publish, topic);
    let decision = publish("$SYS/broker").expect("a Session");
    assert!(
        !decision.is_allowed() && decision.rule().is_some(),
        "reserved for the Server: {decision:?}"
    );
}

#[test]
fn what_the_mount_point_of_the_listener_hides() {
    let (broker, _) = limited(Limits::default());
    let mut rules = ListenerRules::default();
    rules.mount_point = Some("hall".parse().expect("a mount point"));
    let mounted = ListenerConfig::new("tcp://127.0.0.1:0").expect("a URL").with_rules(rules);
    let mounted = block_on(broker.add_listener("mounted", mounted)).expect("a listener");
    let mut peer = Connect::new(4, "c").accepted(&mounted);
    peer.subscribe("#", 0);
    // The parent of the subtree matches `hall/#` too, and has no name in it.
    let cause = obstacle(&broker.explain_delivery("c", "hall"), KeepsAway::All);
    assert_eq!(cause, Cause::Unmounted);
    assert!(broker.explain_delivery("c", "hall/lamp").would_arrive());
}

#[test]
fn without_a_policy_the_rule_says_so() {
    let (broker, _, _peer) = subscribed(Limits::default(), &[("t", 0)]);
    let decision = broker.explain_access("c", Action::Publish, "t").expect("a Session");
    assert!(decision.is_allowed(), "{decision:?}");
    assert!(!broker.explain_delivery("c", "t").to_string().contains("may receive"));
}

#[test]
fn a_client_in_process_is_explained_too() {
    let broker = Broker::new(1);
    let client = broker.client("inside").expect("a free Client Identifier");
    let filter = TopicFilter::new("t").expect("a filter");
    block_on(client.subscribe(&filter, SubscriptionOptions::with_qos(QoS::AtMostOnce)))
        .expect("subscribed");
    assert!(broker.explain_delivery("inside", "t").would_arrive());
    let publisher = broker.client("publisher").expect("a free Client Identifier");
    block_on(publisher.publish(message("t", b"x", QoS::AtMostOnce))).expect("published");
    let cause = obstacle(&broker.explain_delivery("inside", "t"), KeepsAway::All);
    assert_eq!(cause, Cause::QueueFull { waiting: 1, depth: 1 });
}

#[test]
fn texts_from_clients_are_escaped_pitfall_18() {
    let (broker, endpoint) = limited(Limits::default());
    let mut peer = Connect::new(5, "a\nb").accepted(&endpoint);
    peer.send(&subscribe(5, "x\ny", 0));
    peer.packet();
    for topic in ["x\ny", "x\nz", "X\nY"] {
        let text = broker.explain_delivery("a\nb", topic).to_string();
        assert!(text.lines().skip(1).all(|line| line.starts_with("- ")), "{text}");
    }
}
