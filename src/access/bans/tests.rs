//! Bans against a naive list, and as a file.
#![allow(clippy::unwrap_used, clippy::panic)]

use futures_lite::future::block_on;
use proptest::prelude::*;

use super::*;
use crate::access::Chain;
use crate::access::Identity;

fn peer(address: &str) -> PeerInfo {
    let address: std::net::IpAddr = address.parse().unwrap();
    PeerInfo::from(std::net::SocketAddr::new(address, 50_000))
}

fn client(id: &str) -> BanTarget {
    BanTarget::Client(id.to_owned())
}

fn user(name: &str) -> BanTarget {
    BanTarget::User(name.to_owned())
}

fn network(text: &str) -> BanTarget {
    BanTarget::Address(text.parse().unwrap())
}

fn bans(targets: impl IntoIterator<Item = BanTarget>) -> Arc<Bans> {
    let bans = Bans::new(100);
    for target in targets {
        bans.add(Ban::new(target).with_by("ann").with_reason("tests")).unwrap();
    }
    Arc::new(bans)
}

/// The rule that refuses a peer, if one does.
fn refused(policy: Arc<dyn Policy>, shown: Credentials) -> Option<String> {
    match block_on(policy.authenticate(shown)) {
        Answer::Refuse(refusal) => {
            assert_eq!(refusal.reason(), ReasonCode::BANNED);
            Some(refusal.rule().to_string())
        }
        _ => None,
    }
}

#[test]
fn a_client_a_user_and_an_address_are_refused_by_a_rule_that_says_why() {
    let bans = bans([client("c"), user("ann"), network("192.0.2.0/24"), network("2001:db8::/32")]);
    let shown = |id, address| Credentials::new(id, peer(address));
    for (shown, rule) in [
        (shown("c", "10.0.0.1"), Some("bans: client \\\"c\\\", by ann: tests")),
        (shown("C", "10.0.0.1"), None),
        (
            shown("d", "10.0.0.1").with_password("ann", b""),
            Some("bans: user \\\"ann\\\", by ann: tests"),
        ),
        (shown("d", "10.0.0.1").with_password("bob", b""), None),
        (shown("d", "192.0.2.9"), Some("bans: address 192.0.2.0/24, by ann: tests")),
        (shown("d", "::ffff:192.0.2.9"), Some("bans: address 192.0.2.0/24, by ann: tests")),
        (shown("d", "2001:db8::9"), Some("bans: address 2001:db8::/32, by ann: tests")),
        (shown("d", "192.0.3.9"), None),
        (Credentials::new("d", PeerInfo::from("inside")), None),
    ] {
        assert_eq!(refused(bans.clone(), shown.clone()).as_deref(), rule, "{shown:?}");
    }
}

#[test]
fn a_ban_holds_from_its_beginning_to_its_end() {
    let bans = Bans::new(10);
    let from = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
    let ban = Ban { from, ..Ban::new(client("c")) }.lasting(Duration::from_secs(60));
    bans.add_at(ban, from).unwrap();
    let sought = Sought { client_id: Some("c"), ..Sought::default() };
    let at = |secs| from + Duration::from_secs(secs);
    assert!(bans.refusal(&sought, from - Duration::from_secs(1)).is_none());
    assert!(bans.refusal(&sought, at(0)).is_some() && bans.refusal(&sought, at(59)).is_some());
    assert!(bans.refusal(&sought, at(60)).is_none());
    assert_eq!((bans.list_at(at(59)).len(), bans.list_at(at(60)).len()), (1, 0));
}

#[test]
fn bans_that_have_ended_make_room_and_others_do_not_pitfall_15() {
    let bans = Bans::new(2);
    let now = SystemTime::now();
    let short = Ban { from: now, ..Ban::new(network("10.0.0.0/8")) };
    bans.add_at(short.lasting(Duration::from_secs(1)), now).unwrap();
    bans.add_at(Ban::new(client("a")), now).unwrap();
    let full = bans.add_at(Ban::new(client("b")), now).unwrap_err();
    assert!(full.to_string().starts_with("bans_max: 2 bans"), "{full}");
    assert!(bans.add_at(Ban::new(client("a")), now).unwrap().is_some(), "it replaces one");
    let later = now + Duration::from_secs(1);
    assert_eq!(bans.add_at(Ban::new(client("b")), later), Ok(None));
    assert!(read(&bans.kept).widths.is_empty());
}

#[test]
fn automatic_bans_never_take_the_room_or_the_place_of_an_ordered_one() {
    let bans = Bans::new(3);
    let of_ann = |id: &str| BanTarget::ClientOfUser { client_id: id.into(), user: "ann".into() };
    let short = |id: &str, secs| Ban::new(of_ann(id)).lasting(Duration::from_secs(secs));
    for (id, secs) in [("a", 300), ("b", 100), ("c", 200)] {
        assert_eq!(bans.add_automatic(short(id, secs)), Ok(None));
    }
    assert!(bans.add_automatic(short("d", 900)).is_err());
    let kept = || bans.list().into_iter().map(|ban| ban.target).collect::<Vec<_>>();
    bans.add(Ban::new(client("ordered"))).unwrap();
    assert_eq!(kept(), [client("ordered"), of_ann("a"), of_ann("c")], "b would have ended first");
    bans.add(Ban::new(of_ann("c"))).unwrap();
    bans.add_automatic(short("c", 1)).unwrap();
    assert_eq!(bans.list()[2].until, None, "an ordered ban is not made shorter");
    bans.add(Ban::new(user("bob"))).unwrap();
    assert_eq!(kept(), [client("ordered"), user("bob"), of_ann("c")]);
    assert!(bans.add(Ban::new(user("carol"))).is_err(), "all three were ordered");
}

#[test]
fn a_connected_client_is_not_current_any_more_once_it_is_banned() {
    let bans = bans([]);
    let chain = Chain::new(vec![bans.clone()]);
    let identity = Identity::new(Rule::named("a test")).with_user_name("ann");
    let peer = peer("192.0.2.9");
    let present = Present { identity: &identity, client_id: "c", peer: Some(&peer) };
    for target in [client("c"), user("ann"), network("192.0.2.9")] {
        assert_eq!(chain.validity(&present), Validity::Foreign);
        bans.add(Ban::new(target.clone())).unwrap();
        assert_eq!(chain.validity(&present), Validity::Gone, "{target:?}");
        bans.remove(&target).unwrap();
    }
}

/// Gives everybody the user name `ann`, at once or after one step.
struct Ann {
    steps: bool,
}

impl super::super::Exchange for Ann {
    fn proceed(self: Box<Self>, _: crate::access::Secret) -> Authenticating {
        let identity = Identity::new(Rule::named("a test")).with_user_name("ann");
        Box::pin(async { Answer::accept(identity) })
    }
}

impl Policy for Ann {
    fn authenticate(self: Arc<Self>, _: Credentials) -> Authenticating {
        if self.steps {
            let (data, next) = (Vec::new(), Box::new(Ann { steps: true }));
            return Box::pin(async { Answer::Continue { data, next } });
        }
        let identity = Identity::new(Rule::named("a test")).with_user_name("ann");
        Box::pin(async { Answer::accept(identity) })
    }

    fn authorize(&self, _: &Request<'_>) -> Decision {
        Decision::Allow(Rule::named("a test"))
    }
}

#[test]
fn a_user_name_that_comes_out_of_another_policy_is_judged_too() {
    for banned in [true, false] {
        let bans = bans(banned.then(|| user("ann")));
        let shown = || Credentials::new("c", peer("10.0.0.1"));
        let guard = bans.guard(Arc::new(Ann { steps: false }));
        assert_eq!(refused(guard, shown()).is_some(), banned);
        let guard = bans.guard(Arc::new(Ann { steps: true }));
        let Answer::Continue { next, .. } = block_on(guard.authenticate(shown())) else {
            panic!("a step");
        };
        let answer = block_on(next.proceed(crate::access::Secret::default()));
        assert_eq!(matches!(answer, Answer::Refuse(_)), banned);
    }
}

// ---- Files -----------------------------------------------------------------------------------------

#[test]
fn a_file_reads_back() {
    let text = r#"{"bans": [
        {"client": "c", "by": "ann", "reason": "a \"reason\"", "from": "2026-11-28T19:00:00Z"},
        {"user": "bob", "until": "2037-01-01T00:00:00Z"},
        {"address": "192.0.2.7"},
        {"address": "10.0.0.0/8"},
        {"client": "c", "user": "bob"},
        {"client": "c", "address": "2001:db8::/64"}
    ]}"#;
    let bans = Bans::parse(text, "bans.json", 10).unwrap();
    assert_eq!(bans.list().len(), 6);
    let again = Bans::parse(&bans.to_json(), "bans.json", 10).unwrap();
    assert_eq!(again.list(), bans.list());
    let shown = Credentials::new("c", peer("192.0.2.7"));
    let rule = refused(Arc::new(again), shown).unwrap();
    assert!(rule.starts_with("bans.json: bans[0]: client"), "{rule}");
    assert!(Bans::parse("{\"bans\": []}", "bans.json", 10).unwrap().list().is_empty());
}

#[test]
fn what_is_wrong_with_a_file_is_told_all_at_once_with_a_remedy_pitfall_10() {
    for (text, problem) in [
        ("", "bans.json:1: EOF while parsing"),
        ("[]", "bans.json:1: invalid"),
        ("{}", "missing field `bans`"),
        ("{\"bans\": [{\"clinet\": \"c\"}]}", "unknown field `clinet`, expected one of `client`"),
        ("{\"bans\": [{\"client\": \"c\", \"client\": \"d\"}]}", "duplicate field `client`"),
        ("{\"bans\": [{}]}", "bans[0]: nobody is banned; write one of client, user and address"),
        ("{\"bans\": [{\"client\": \"\"}]}", "bans[0]: an empty text"),
        ("{\"bans\": [{\"client\": \"c\", \"user\": \"\"}]}", "bans[0]: an empty text"),
        ("{\"bans\": [{\"address\": \"::1\", \"user\": \"u\"}]}", "about a user and an address"),
        ("{\"bans\": [{\"address\": \"10.0.0.1/8\"}]}", "write \"10.0.0.0/8\""),
        (
            "{\"bans\": [{\"user\": \"u\", \"until\": \"tomorrow\"}]}",
            "until: \"tomorrow\" is no time",
        ),
        ("{\"bans\": [{\"user\": \"u\", \"from\": \"2026-01-01\"}]}", "2026-11-28T19:00:00Z"),
        (
            "{\"bans\": [{\"user\": \"u\", \"from\": \"2026-01-02T00:00:00Z\", \
             \"until\": \"2026-01-01T00:00:00Z\"}]}",
            "ends before it begins",
        ),
        (
            "{\"bans\": [{\"user\": \"u\"}, {\"user\": \"u\"}]}",
            "bans[1]: user \"u\" is banned twice",
        ),
        ("{\"bans\": [{\"user\": \"a\"}, {\"user\": \"b\"}, {\"user\": \"c\"}]}", "limits.bansMax"),
    ] {
        let errors = Bans::parse(text, "bans.json", 2).unwrap_err().to_string();
        assert!(errors.contains(problem) && errors.starts_with("bans.json"), "{text}: {errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
    }
    let two = "{\"bans\": [{}, {\"address\": \"x\"}]}";
    assert_eq!(Bans::parse(two, "b", 9).unwrap_err().iter().count(), 2);
}

#[derive(Debug, Clone)]
enum Step {
    Add(u8, Option<u64>),
    Remove(u8),
    Ask(u8, u8, u8),
}

fn target(number: u8) -> BanTarget {
    let name = (number / 3).to_string();
    let network = Network::new([10, 0, 0, number].into(), 20 + number % 13);
    match number % 5 {
        0 => client(&name),
        1 => user(&name),
        2 => BanTarget::Address(network),
        3 => BanTarget::ClientOfUser { client_id: name, user: (number % 10).to_string() },
        _ => BanTarget::ClientAt { client_id: name, network },
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..30_u8, prop::option::of(1..20_u64)).prop_map(|(target, secs)| Step::Add(target, secs)),
        (0..30_u8).prop_map(Step::Remove),
        (0..10_u8, 0..10_u8, any::<u8>()).prop_map(|(id, name, host)| Step::Ask(id, name, host)),
    ]
}

proptest! {
    #[test]
    fn bans_agree_with_a_list(steps in prop::collection::vec(step(), 1..80)) {
        let bans = Bans::new(100);
        let mut list: Vec<Ban> = Vec::new();
        let mut now = SystemTime::UNIX_EPOCH;
        for step in steps {
            now += Duration::from_secs(1);
            match step {
                Step::Add(number, secs) => {
                    let mut ban = Ban { from: now, ..Ban::new(target(number)) };
                    if let Some(secs) = secs {
                        ban = ban.lasting(Duration::from_secs(secs));
                    }
                    list.retain(|other| other.target != ban.target);
                    list.push(ban.clone());
                    bans.add_at(ban, now).unwrap();
                }
                Step::Remove(number) => {
                    list.retain(|ban| ban.target != target(number));
                    bans.remove(&target(number));
                }
                Step::Ask(id, name, host) => {
                    let (id, name) = (id.to_string(), name.to_string());
                    let address = std::net::IpAddr::from([10, 0, 0, host]);
                    let expected = list.iter().any(|ban| ban.holds(now) && match &ban.target {
                        BanTarget::Client(client) => *client == id,
                        BanTarget::User(user) => *user == name,
                        BanTarget::Address(network) => network.contains(address),
                        BanTarget::ClientOfUser { client_id, user } => *client_id == id && *user == name,
                        BanTarget::ClientAt { client_id, network } => *client_id == id && network.contains(address),
                    });
                    let shown = Credentials::new(&id, peer(&address.to_string())).with_password(&name, b"");
                    prop_assert_eq!(bans.refusal_of(&shown, now).is_some(), expected);
                }
            }
            list.retain(|ban| !ban.has_ended(now));
            prop_assert_eq!(bans.list_at(now).len(), list.len());
        }
    }

    #[test]
    fn any_text_of_a_file_is_judged(text in "\\PC{0,60}", nested in "[\\[\\]{}:,\"a-z0-9]{0,60}") {
        let _ = Bans::parse(&text, "bans", 10);
        let _ = Bans::parse(&format!("{{\"bans\": [{nested}]}}"), "bans", 10);
    }
}
