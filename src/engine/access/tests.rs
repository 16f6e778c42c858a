//! Questions, what is remembered of them, and the lines about denials.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::atomic::AtomicUsize;

use super::testing::{RULE, Rig, identity};
use super::*;
use crate::access::{Answer, Authenticating, Bans, Chain, Credentials};

fn network(client_id: &str) -> Asker<'_> {
    Asker { client_id, trusted: false }
}

fn subject() -> Option<Box<Subject>> {
    Some(Subject::new(identity("ann")))
}

#[test]
fn clients_do_not_write_where_the_server_does_pitfall_7() {
    let access = AccessControl::default();
    let host = Asker { client_id: "c", trusted: true };
    for topic in ["$SYS", "$SYS/", "$SYS/broker/uptime", "$share", "$share/g/t"] {
        assert_eq!(
            access.publish(network("c"), &mut None, topic),
            Err(Denied::Reserved),
            "{topic}"
        );
        assert_eq!(
            access.publish(host, &mut None, topic),
            Ok(Permit::UntilTheRulesChange),
            "{topic}"
        );
    }
    for topic in ["$SYSTEM", "$sys/a", "a/$SYS", "$shared/a", "$other"] {
        assert_eq!(
            access.publish(network("c"), &mut None, topic),
            Ok(Permit::UntilTheRulesChange),
            "{topic}"
        );
    }
}

#[test]
fn without_a_policy_everything_is_allowed_and_nothing_is_kept() {
    let access = AccessControl::default();
    let mut subject = None;
    for action in [Action::Publish, Action::Subscribe, Action::Unsubscribe, Action::Receive] {
        assert!(access.allows(network("c"), &mut subject, action, b"$SYS/a"));
    }
    assert!(subject.is_none());
}

#[test]
fn the_program_that_runs_the_broker_may_do_everything() {
    let access = AccessControl::with(Rig::allowing(|_| false));
    let host = Asker { client_id: "c", trusted: true };
    assert!(access.allows(host, &mut None, Action::Publish, b"t"));
    assert!(!access.allows(network("c"), &mut None, Action::Publish, b"t"));
}

/// A policy that counts its questions.
fn counting(allow: bool) -> (AccessControl, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let policy = Rig::allowing(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        allow
    });
    (AccessControl::with(policy), asked)
}

#[test]
fn a_decision_is_made_once_for_a_session_and_topic_until_the_rules_change() {
    for allow in [true, false] {
        let (access, asked) = counting(allow);
        let mut subject = subject();
        for _ in 0..3 {
            for topic in [b"a", b"b", b"c"] {
                for action in [Action::Publish, Action::Receive] {
                    assert_eq!(access.allows(network("c"), &mut subject, action, topic), allow);
                }
            }
        }
        assert_eq!(asked.load(Ordering::Relaxed), 6);
        access.replace(|present| present);
        assert_eq!(access.allows(network("c"), &mut subject, Action::Receive, b"a"), allow);
        assert_eq!(asked.load(Ordering::Relaxed), 7);
        let denied = if allow { 0 } else { 9 };
        assert_eq!(access.counts.read().publishes_denied, denied);
    }
}

#[test]
fn what_is_remembered_is_bounded_pitfall_15() {
    let (access, _) = counting(true);
    let mut subject = subject();
    for number in 0..1_000 {
        let topic = format!("topic/{number}");
        access.allows(network("c"), &mut subject, Action::Receive, topic.as_bytes());
        access.allows(network("c"), &mut subject, Action::Publish, topic.as_bytes());
    }
    let long = vec![b'x'; REMEMBERED_BYTES_MAX + 1];
    access.allows(network("c"), &mut subject, Action::Receive, &long);
    let subject = subject.unwrap();
    assert!(subject.others.len() <= REMEMBERED_MAX, "{}", subject.others.len());
    assert!(subject.last.unwrap().0.len() < long.len());
}

#[test]
fn a_policy_that_panics_denies_pitfall_10() {
    let access = AccessControl::with(Rig::allowing(|_| panic!("a fault of the policy")));
    assert!(!access.allows(network("c"), &mut subject(), Action::Publish, b"t"));
    let rig = Rig { is_current: Box::new(|_| panic!("another")), ..Rig::default() };
    let access = AccessControl::with(Arc::new(rig));
    assert!(!access.is_current(network("c"), subject().as_deref()));
}

#[test]
fn a_client_that_connected_without_a_policy_is_not_current_under_one_pitfall_10() {
    let access = AccessControl::default();
    assert!(access.is_current(network("c"), None));
    access.replace(|_| Some(Arc::new(Rig::default())));
    let mut none = None;
    assert!(!access.is_current(network("c"), none.as_deref()));
    access.allows(network("c"), &mut none, Action::Publish, b"t");
    assert!(!access.is_current(network("c"), none.as_deref()), "also after a question");
    assert!(access.is_current(network("c"), subject().as_deref()));
}

/// A policy that keeps no account of the Clients that it lets in, but of those that it would refuse.
struct Plain {
    refused: Option<&'static str>,
    allowed_by: Rule,
    asked: AtomicUsize,
}

impl Plain {
    fn new() -> Plain {
        Plain { refused: None, allowed_by: RULE, asked: AtomicUsize::new(0) }
    }
}

impl Policy for Plain {
    fn authenticate(self: Arc<Self>, _: Credentials) -> Authenticating {
        Box::pin(std::future::ready(Answer::accept(identity("ann"))))
    }

    fn authorize(&self, _: &Request<'_>) -> Decision {
        self.asked.fetch_add(1, Ordering::Relaxed);
        Decision::Allow(self.allowed_by.clone())
    }

    fn validity(&self, client: &Present<'_>) -> Validity {
        match client.identity.user_name() == self.refused {
            true => Validity::Gone,
            false => Validity::Foreign,
        }
    }
}

#[test]
fn a_policy_without_an_account_of_its_clients_keeps_them_until_it_is_replaced() {
    let plain = || -> Arc<dyn Policy> { Arc::new(Plain::new()) };
    let access = AccessControl::with(plain());
    let number = access.rules().number;
    let ann = Subject::new(identity("ann")).admitted_by(number);
    let current = |access: &AccessControl| access.is_current(network("c"), Some(&ann));
    assert!(current(&access));
    access.replace(|present| present);
    assert!(current(&access), "reported as changed");
    let chain = Chain::new(vec![Arc::new(Bans::new(9)), plain()]);
    access.replace(|_| Some(Arc::new(chain)));
    assert!(!current(&access), "nobody vouches for it");
    assert!(access.is_current(network("c"), subject().as_deref()), "the host does");
    let refusing: Arc<dyn Policy> = Arc::new(Plain { refused: Some("ann"), ..Plain::new() });
    let vouching: Arc<dyn Policy> = Arc::new(Rig::default());
    access.replace(|_| Some(Arc::new(Chain::new(vec![plain(), vouching.clone()]))));
    assert!(current(&access), "one vouches for it");
    access.replace(|_| Some(Arc::new(Chain::new(vec![vouching, refusing]))));
    assert!(!current(&access), "one refuses it");
    assert!(!access.is_current(network("c"), subject().as_deref()), "also if the host vouches");
}

#[test]
fn a_decision_for_one_question_is_not_remembered_whoever_passes_it_on() {
    let plain = Arc::new(Plain { allowed_by: RULE.for_one_question(), ..Plain::new() });
    let chain = Chain::new(vec![plain.clone()]);
    let access = AccessControl::with(Arc::new(Bans::new(9)).guard(Arc::new(chain)));
    let mut subject = subject();
    for times in 1..4 {
        assert_eq!(access.publish(network("c"), &mut subject, "t"), Ok(Permit::Once));
        assert!(access.allows(network("c"), &mut subject, Action::Receive, b"t"));
        assert_eq!(plain.asked.load(Ordering::Relaxed), 2 * times);
    }
}

#[test]
fn a_line_names_client_user_action_topic_and_rule() {
    let rule = Rule::line("acl", 7, "topic read home/#");
    let denial = Denial {
        client_id: "dev",
        user: Some("ann"),
        action: Action::Publish,
        topic: "home/door",
        rule: Some(&rule),
    };
    let line =
        r#"client "dev" of user "ann" may not publish "home/door": acl:7: topic read home/#"#;
    assert_eq!(denial.to_string(), line);
    let anonymous = Denial { user: None, rule: None, action: Action::Subscribe, ..denial };
    let line =
        r#"client "dev" without a user name may not subscribe "home/door": no rule allows it"#;
    assert_eq!(anonymous.to_string(), line);
    assert_eq!(User(Some("x\r")).to_string(), r#"of user "x\r""#);
}

#[test]
fn every_denial_is_announced_with_its_action_and_its_rule() {
    use crate::engine::announce::Announcer;
    use crate::host::WallClock;
    use futures_lite::future::{block_on, poll_once};

    let announcer = Arc::new(Announcer::new(WallClock::System));
    let mut events = announcer.receive();
    // A chain without policies has no answer: then no rule allows it.
    for (access, rule) in [
        (AccessControl::with(Rig::allowing(|_| false)), RULE),
        (AccessControl::with(Arc::new(Chain::new(Vec::new()))), NO_RULE),
    ] {
        let access = access.announcing(&announcer);
        for action in [Action::Publish, Action::Subscribe, Action::Unsubscribe, Action::Receive] {
            assert!(!access.allows(network("c"), &mut subject(), action, b"t"));
            let told = block_on(poll_once(events.next())).unwrap().unwrap().unwrap();
            let denied = Happening::Denied {
                client_id: "c".into(),
                action: action.word(),
                topic: "t".to_owned(),
                rule: rule.clone(),
            };
            assert_eq!(told.what, denied);
        }
    }
}
