//! Lists against naive models.

use proptest::prelude::*;
use serde_json::json;

use super::super::{AclFile, Identity, Policy as _};
use super::*;

const ANN: Names<'static> = Names { user_name: Some("ann"), client_id: "c1" };

fn read(value: &Value, names: Names<'_>) -> Result<TopicLists, &'static str> {
    TopicLists::read(value, &"a test".into(), names)
}

fn ask(lists: &TopicLists, action: Action, topic: &str) -> bool {
    let identity = Identity::new(Rule::named("a test"));
    lists.authorize(&Request { identity: &identity, client_id: "c1", action, topic }).is_allowed()
}

#[test]
fn each_list_allows_its_actions_and_nothing_else() {
    let lists = json!({"pub": ["out/#"], "sub": ["in/+"], "all": ["both"]});
    let lists = read(&lists, ANN).expect("valid lists");
    for (action, topic, allowed) in [
        (Action::Publish, "out/a/b", true),
        (Action::Publish, "out", true),
        (Action::Publish, "in/a", false),
        (Action::Publish, "both", true),
        (Action::Receive, "in/a", true),
        (Action::Receive, "in/a/b", false),
        (Action::Receive, "out/a", false),
        (Action::Receive, "both", true),
        (Action::Subscribe, "in/a", true),
        (Action::Subscribe, "in/#", true),
        (Action::Subscribe, "#", true),
        (Action::Subscribe, "out/#", false),
        (Action::Subscribe, "in/a/b", false),
        (Action::Unsubscribe, "out/#", true),
    ] {
        assert_eq!(ask(&lists, action, topic), allowed, "{action} {topic}");
    }
}

#[test]
fn empty_lists_deny_everything_pitfall_10() {
    for value in [json!({}), json!({"pub": [], "sub": [], "all": []})] {
        let lists = read(&value, ANN).expect("valid lists");
        for action in [Action::Publish, Action::Subscribe, Action::Receive] {
            assert!(!ask(&lists, action, "a"), "{action}");
        }
    }
}

#[test]
fn lists_that_are_not_understood_are_errors_pitfall_10() {
    for value in [
        json!(null),
        json!("a/#"),
        json!(["a/#"]),
        json!([{"permission": "allow", "action": "publish", "topic": "a"}]),
        json!({"publish": ["a"]}),
        json!({"pub": "a"}),
        json!({"pub": [1]}),
        json!({"pub": [""]}),
        json!({"pub": ["a/#/b"]}),
        json!({"pub": ["a+"]}),
        json!({"sub": ["$share/g/a"]}),
        json!({"sub": vec!["a"; FILTERS_MAX + 1]}),
        json!({"sub": ["a".repeat(BYTES_MAX / 2), "b".repeat(BYTES_MAX / 2 + 1)]}),
    ] {
        assert!(read(&value, ANN).is_err(), "{value}");
    }
}

#[test]
fn a_rule_names_the_list_and_the_filter() {
    let lists = read(&json!({"pub": ["${username}/x"]}), ANN).expect("valid lists");
    let identity = Identity::new(Rule::named("a test"));
    let request =
        Request { identity: &identity, client_id: "c1", action: Action::Publish, topic: "ann/x" };
    let decision = lists.authorize(&request);
    assert_eq!(decision.rule().map(Rule::to_string).as_deref(), Some("a test: pub ${username}/x"));
}

#[test]
fn names_are_substituted_as_text_pitfall_8() {
    let value = json!({"all": ["u/${username}/#", "c/x-${clientid}-y/+", "plain/${other}"]});
    let hostile = Names { user_name: Some("+"), client_id: "a/#/${username}" };
    let lists = read(&value, hostile).expect("valid lists");
    for (action, topic, allowed) in [
        (Action::Publish, "u/ann/x", false),
        (Action::Subscribe, "u/ann/#", false),
        (Action::Subscribe, "u/+/#", false),
        (Action::Receive, "u/ann/x", false),
        (Action::Receive, "c/x-a/b/c", false),
        (Action::Publish, "plain/${other}", true),
    ] {
        assert_eq!(ask(&lists, action, topic), allowed, "{action} {topic}");
    }
    let ann = read(&value, Names { user_name: Some("ann"), client_id: "a/b" }).expect("valid");
    assert!(ask(&ann, Action::Receive, "c/x-a/b-y/z"));
    assert!(ask(&ann, Action::Publish, "u/ann/x") && !ask(&ann, Action::Publish, "u/bob/x"));
}

/// What the broker says of itself, and the names that begin with `$`, are for those whom a list names them to.
#[test]
fn a_name_that_a_client_chose_reaches_no_topic_that_begins_with_dollar_pitfall_8() {
    for value in [json!({"all": ["${clientid}/#"]}), json!({"all": ["${username}${clientid}/#"]})] {
        for names in [
            Names { user_name: Some(""), client_id: "$SYS" },
            Names { user_name: Some("$"), client_id: "SYS" },
            Names { user_name: Some(""), client_id: "$SYS/broker" },
        ] {
            let lists = read(&value, names).expect("valid lists");
            for action in [Action::Publish, Action::Receive, Action::Subscribe] {
                for topic in ["$SYS/broker/load", "$SYS/broker", "$SYS/#", "$/x"] {
                    assert!(!ask(&lists, action, topic), "{value}: {action} {topic}");
                }
            }
        }
    }
    let lists = json!({"all": ["$SYS/${clientid}/#", "a/${clientid}", "x${clientid}"]});
    let lists = read(&lists, Names { user_name: None, client_id: "$c" }).expect("valid lists");
    for topic in ["$SYS/$c/x", "a/$c", "x$c"] {
        assert!(ask(&lists, Action::Receive, topic), "{topic}");
    }
}

#[test]
fn without_a_user_name_its_filters_are_left_out() {
    let value = json!({"all": ["${username}/#", "u${username}", "open"]});
    let lists = read(&value, Names { user_name: None, client_id: "c" }).expect("valid lists");
    assert!(ask(&lists, Action::Publish, "open"));
    assert!(!ask(&lists, Action::Publish, "/x") && !ask(&lists, Action::Publish, "u"));
}

/// Names over a small alphabet, so that matches are frequent.
fn name() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "", "$x"]), 1..4)
        .prop_map(|levels| levels.join("/"))
        .prop_filter("no empty name", |name| !name.is_empty())
}

fn filter() -> impl Strategy<Value = String> {
    let level = prop::sample::select(vec!["a", "b", "", "+", "$x"]);
    (prop::collection::vec(level, 0..4), any::<bool>())
        .prop_map(|(mut levels, rest)| {
            if rest {
                levels.push("#");
            }
            levels.join("/")
        })
        .prop_filter("no empty filter", |filter| !filter.is_empty())
}

/// All names of up to four levels over the alphabet and one level that no filter has. Also the empty name, which is
/// none, so that filters which have nothing but it in common count as overlapping: nothing comes of it.
fn all_names() -> Vec<String> {
    let mut names = vec![String::new()];
    let mut all = Vec::new();
    for depth in 0..4 {
        let alphabet = ["a", "b", "", "$x", "z"];
        let join = |name: &String, level: &str| match depth {
            0 => level.to_owned(),
            _ => format!("{name}/{level}"),
        };
        names = names.iter().flat_map(|name| alphabet.map(|level| join(name, level))).collect();
        all.extend(names.iter().cloned());
    }
    all
}

proptest! {
    #[test]
    fn matching_agrees_with_the_matching_of_subscriptions(filter in filter(), name in name()) {
        let parsed = levels(&filter, ANN).expect("no names in it");
        prop_assert_eq!(matches(&parsed, &name), topic::name_matches(&filter, &name));
    }

    #[test]
    fn two_filters_overlap_exactly_if_one_name_matches_both(one in filter(), two in filter()) {
        let parsed = levels(&one, ANN).expect("no names in it");
        let both = all_names()
            .into_iter()
            .find(|name| topic::name_matches(&one, name) && topic::name_matches(&two, name));
        prop_assert_eq!(overlaps(&parsed, &two), both.is_some(), "{:?}", both);
    }

    /// The same rules as lines of an access control list of mosquitto.
    #[test]
    fn lists_decide_as_an_access_control_list_with_the_same_filters(
        publish in prop::collection::vec(filter(), 0..3),
        subscribe in prop::collection::vec(filter(), 0..3),
        all in prop::collection::vec(filter(), 0..2),
        name in name(),
        asked in filter(),
    ) {
        // A file must have a rule.
        let all = [all, vec!["one".to_owned()]].concat();
        let lists = read(&json!({"pub": publish, "sub": subscribe, "all": all}), ANN);
        let lists = lists.expect("valid lists");
        let mut file = "user ann\n".to_owned();
        for (access, filters) in [("write", &publish), ("read", &subscribe), ("readwrite", &all)] {
            file.extend(filters.iter().map(|filter| format!("topic {access} {filter}\n")));
        }
        let file = AclFile::parse(&file, "acl").expect("a list");
        let identity = Identity::new(Rule::named("a test")).with_user_name("ann");
        for (action, topic) in [
            (Action::Publish, &name),
            (Action::Receive, &name),
            (Action::Subscribe, &name),
            (Action::Subscribe, &asked),
        ] {
            let request = Request { identity: &identity, client_id: "c1", action, topic };
            let same = lists.authorize(&request).is_allowed() == file.authorize(&request).is_allowed();
            prop_assert!(same, "{action} {topic:?}");
        }
    }

    #[test]
    fn reading_is_total(texts in prop::collection::vec("\\PC{0,12}", 0..4), user in "\\PC{0,6}") {
        let names = Names { user_name: Some(&user), client_id: &user };
        if let Ok(lists) = read(&json!({"all": texts}), names) {
            ask(&lists, Action::Subscribe, &user);
        }
    }
}
