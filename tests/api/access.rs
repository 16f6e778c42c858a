//! Access rules for clients in process, and their replacement while the broker runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use futures_lite::future::{block_on, poll_once};
use hrotti::access::{
    Action, Answer, Authenticating, Chain, Credentials, Decision, Identity, Policy, Present,
    Request, Rule, Validity,
};
use hrotti::{Broker, ClientError, Message, QoS, ReasonCode, SubscriptionOptions, TopicFilter};

const RULE: Rule = Rule::named("a test");

/// Everybody may do everything with the topics below `open`, and as long as it is set with those below `half`.
#[derive(Default)]
struct Doors {
    half_open: AtomicBool,
    nobody_is_current: AtomicBool,
}

impl Policy for Doors {
    fn authenticate(self: Arc<Self>, _: Credentials) -> Authenticating {
        Box::pin(async { Answer::accept(Identity::new(RULE)) })
    }

    fn authorize(&self, request: &Request<'_>) -> Decision {
        let half = request.topic.starts_with("half/") && self.half_open.load(Ordering::Relaxed);
        let filter = request.action == Action::Subscribe;
        match request.topic.starts_with("open/") || half || filter {
            true => Decision::Allow(RULE),
            false => Decision::Deny(RULE),
        }
    }

    fn validity(&self, _: &Present<'_>) -> Validity {
        Validity::current_if(!self.nobody_is_current.load(Ordering::Relaxed))
    }
}

fn broker() -> (Broker, Arc<Doors>) {
    let doors = Arc::new(Doors::default());
    (Broker::builder().policy(doors.clone()).build(), doors)
}

fn message(topic: &str) -> Message {
    Message::new(topic, "x").unwrap().with_qos(QoS::AtLeastOnce)
}

fn refused<T>(reason: ReasonCode) -> Result<T, ClientError> {
    Err(ClientError::Refused(reason))
}

#[test]
fn a_client_in_process_is_bound_by_its_identity_and_the_host_by_nothing() {
    let (broker, doors) = broker();
    let host = broker.client("host").unwrap();
    let mut guest = broker.client_as("guest", Identity::new(RULE)).unwrap();
    let all = TopicFilter::new("#").unwrap();
    let qos_1 = SubscriptionOptions::with_qos(QoS::AtLeastOnce);
    block_on(async {
        guest.subscribe(&all, qos_1).await.unwrap();
        assert_eq!(guest.publish(message("half/1")).await, refused(ReasonCode::NOT_AUTHORIZED));
        assert_eq!(guest.publish(message("$SYS/x")).await, refused(ReasonCode::NOT_AUTHORIZED));
        assert_eq!(guest.unsubscribe(&all).await, refused(ReasonCode::NOT_AUTHORIZED));
        guest.publish(message("open/1")).await.unwrap();
        host.publish(message("half/2")).await.unwrap();
        host.publish(message("$SYS/x")).await.unwrap();
        assert_eq!(guest.recv().await.unwrap().topic(), "open/1");
        assert!(poll_once(guest.recv()).await.is_none(), "the rest is denied");
        // It waits in the queue while the rules change.
        host.publish(message("half/3")).await.unwrap();
        doors.half_open.store(true, Ordering::Relaxed);
        broker.policy_changed();
        assert_eq!(guest.recv().await.unwrap().topic(), "half/3");
        guest.publish(message("half/4")).await.unwrap();
        assert_eq!(guest.recv().await.unwrap().topic(), "half/4");
    });
    let counters = broker.counters();
    assert_eq!((counters.publishes_denied, counters.subscribes_denied), (1, 1));
    assert_eq!(counters.receives_denied, 1);
    assert!(broker.ledger().balances());
}

#[test]
fn an_identity_that_has_ended_lets_a_client_in_process_do_nothing() {
    let (broker, _) = broker();
    let past = SystemTime::now() - Duration::from_secs(1);
    let mut guest = broker.client_as("guest", Identity::new(RULE).with_end(past)).unwrap();
    let expired = ReasonCode::MAXIMUM_CONNECT_TIME;
    block_on(async {
        assert_eq!(guest.publish(message("open/1")).await, refused(expired));
        let filter = TopicFilter::new("open/#").unwrap();
        assert_eq!(
            guest.subscribe(&filter, SubscriptionOptions::default()).await,
            refused(expired)
        );
        assert!(guest.recv().await.is_none());
    });
}

#[test]
fn a_client_in_process_that_new_rules_would_not_let_in_ends() {
    let (broker, doors) = broker();
    let mut guest = broker.client_as("guest", Identity::new(RULE)).unwrap();
    let host = broker.client("host").unwrap();
    doors.nobody_is_current.store(true, Ordering::Relaxed);
    broker.policy_changed();
    block_on(async {
        assert!(guest.recv().await.is_none(), "woken, and told to end");
        let gone = refused(ReasonCode::ADMINISTRATIVE_ACTION);
        assert_eq!(guest.publish(message("open/1")).await, gone);
        host.publish(message("open/1")).await.unwrap();
    });
    assert_eq!(broker.counters().policy_disconnects, 1);
}

#[test]
fn rules_can_be_removed_and_put_back() {
    let broker = Broker::new(100);
    let guest = broker.client_as("guest", Identity::new(RULE)).unwrap();
    let publish = || block_on(guest.publish(message("t")));
    for _ in 0..2 {
        assert!(publish().is_ok());
        broker.set_policy(Some(Arc::new(Chain::new(Vec::new()))));
        assert_eq!(publish(), refused(ReasonCode::NOT_AUTHORIZED));
        broker.set_policy(None);
    }
}
