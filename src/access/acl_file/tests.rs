//! Tests of the file's grammar, and of decisions against naive models.

use futures_lite::future::block_on;
use proptest::prelude::*;

use super::*;
use crate::access::Identity;
use crate::topic::tests::naive_matches;

fn acl(text: &str) -> AclFile {
    AclFile::parse(text, "acl").unwrap_or_else(|errors| panic!("{text:?}: {errors}"))
}

fn errors(text: &str) -> String {
    match AclFile::parse(text, "acl") {
        Ok(_) => panic!("{text:?} was accepted"),
        Err(errors) => errors.to_string(),
    }
}

fn decide(acl: &AclFile, user: Option<&str>, id: &str, action: Action, topic: &str) -> Decision {
    let identity = Identity::new(Rule::named("a test"));
    let identity = match user {
        Some(name) => identity.with_user_name(name),
        None => identity,
    };
    acl.authorize(&Request { identity: &identity, client_id: id, action, topic })
}

/// The line that decided, negative for a denial; 0 if none did.
fn line(decision: &Decision) -> i64 {
    let line = decision.rule().and_then(Rule::line_number).map_or(0, i64::from);
    if decision.is_allowed() { line } else { -line }
}

fn publish(text: &str, user: Option<&str>, topic: &str) -> i64 {
    line(&decide(&acl(text), user, "id", Action::Publish, topic))
}

fn subscribe(text: &str, filter: &str) -> i64 {
    line(&decide(&acl(text), None, "id", Action::Subscribe, filter))
}

#[test]
fn a_file_reads_as_mosquitto_reads_it() {
    let text = "# comment\n\ntopic a\ntopic  read   b c  \n topic write d\t\r\n   \n\
                user ann and bob \ntopic deny e\nuser  #x\ntopic readwrite deny\n\
                pattern %u/%c\npattern read write\nuser ann and bob\ntopic read deny g";
    assert_eq!(
        acl(text).to_string(),
        "topic readwrite a\ntopic read b c\ntopic write d\nuser ann and bob\ntopic deny e\nuser #x\n\
         topic readwrite deny\npattern readwrite %u/%c\npattern read write\nuser ann and bob\n\
         topic read deny g\n"
    );
}

const WRONG_LINES: &[(&str, &str)] = &[
    ("topics a", "the keyword \"topics\" is unknown; did you mean \"topic\"?"),
    ("Topic a", "the keyword \"Topic\" is unknown; did you mean \"topic\"?"),
    ("USER a", "the keyword \"USER\" is unknown; did you mean \"user\"?"),
    ("allow a", "the keyword \"allow\" is unknown; write one of user, topic, pattern"),
    ("topic READ a", "the access \"READ\" is unknown; did you mean \"read\"?"),
    ("topic reed a", "the access \"reed\" is unknown; did you mean \"read\"?"),
    (
        "topic a b",
        "a Topic Filter with a space needs its access before it; write \"topic readwrite a b\"",
    ),
    (
        "topic a # c",
        "a Topic Filter with a space needs its access before it; write \"topic readwrite a # c\"",
    ),
    ("topic", "the Topic Filter is missing; write \"topic read FILTER\""),
    ("pattern  ", "the Topic Filter is missing; write \"pattern read FILTER\""),
    (
        "topic deny ",
        "the Topic Filter is missing behind \"deny\"; for the topic of that name write \
             \"topic readwrite deny\"",
    ),
    ("user", "the user name is missing; write \"user NAME\""),
    ("user  ", "the user name is missing; write \"user NAME\""),
    (" # c", "a comment begins in the first column; remove the spaces before it"),
    ("\ttopic a", "a tab separates nothing here; write a space"),
    ("topic\ta", "a tab separates nothing here; write a space"),
    ("topic read\ta", "a tab separates nothing here; write a space"),
    ("user a\tb", "a tab separates nothing here; write a space"),
    ("topic a\0b", "it holds the control character '\\0'; remove it"),
    ("topic a\rtopic b", "it holds the control character '\\r'; remove it"),
    (
        "topic a/#/b",
        "the Topic Filter \"a/#/b\" cannot be used: '#' must stand alone in its level, and that \
             level must be the last [MQTT-4.7.1-1]",
    ),
    (
        "topic read a+",
        "the Topic Filter \"a+\" cannot be used: '+' must stand alone in its level [MQTT-4.7.1-2]",
    ),
    (
        "topic read $share/g/a/#",
        "a rule is about the Topic Filter behind the ShareName; write \"a/#\" for \"$share/g/a/#\"",
    ),
    (
        "topic $share/#",
        "a rule is about the Topic Filter behind the ShareName; write \"FILTER\" for \"$share/#\"",
    ),
    (
        "pattern a/x%c",
        "%c and %u stand only for a whole level; give each a level of its own in \"x%c\"",
    ),
    (
        "pattern %u%c/b",
        "%c and %u stand only for a whole level; give each a level of its own in \"%u%c\"",
    ),
];

#[test]
fn each_wrong_line_is_named_with_its_remedy() {
    for (wrong, problem) in WRONG_LINES {
        let text = format!("topic a\n{wrong}\ntopic b");
        assert_eq!(errors(&text), format!("acl:2: {problem}"), "{wrong:?}");
    }
    let all: Vec<&str> = WRONG_LINES.iter().map(|(wrong, _)| *wrong).collect();
    assert_eq!(errors(&all.join("\n")).lines().count(), WRONG_LINES.len());
    let long = format!("topic {}", "x".repeat(65_536));
    assert_eq!(
        errors(&long).split(" than").next(),
        Some("acl:1: the Topic Filter cannot be used: it is longer")
    );
    let deep = format!("topic {}", "/".repeat(200));
    assert!(errors(&deep).starts_with("acl:1: the Topic Filter has more than 200 levels"));
    assert!(errors("\u{feff}topic a").starts_with("acl:1: a byte order mark"));
}

/// Pitfall 10.
#[test]
fn a_file_without_a_rule_is_an_error_pitfall_10() {
    for text in ["", "\n\n", "# topic a\n", "user ann\n", " \r\n"] {
        assert_eq!(
            errors(text),
            "acl: it has no rule, so everything is denied; write \"topic deny #\" if that is meant"
        );
    }
    let nothing = acl("topic deny #");
    assert!(!decide(&nothing, Some("ann"), "id", Action::Publish, "a").is_allowed());
}

#[test]
fn a_valid_line_that_is_probably_a_mistake_has_a_remark() {
    let remarks =
        |text| acl(text).remarks().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    assert_eq!(remarks("topic a/%cd\npattern a/%c"), "");
    assert_eq!(
        remarks("topic a\npattern a"),
        "acl:2: a pattern without %c and %u holds for all Clients"
    );
    assert!(remarks("topic a/%c").starts_with("acl:1: %c and %u stand for themselves"));
}

#[test]
fn the_rule_is_named_by_file_line_and_text() {
    let acl = acl("user ann\n  topic read   a b  \ntopic deny c\n");
    let decision = decide(&acl, Some("ann"), "id", Action::Receive, "a b");
    assert_eq!(
        decision.rule().map(ToString::to_string).as_deref(),
        Some("acl:2: topic read   a b")
    );
    let decision = decide(&acl, Some("ann"), "id", Action::Publish, "a b");
    assert_eq!(named(&decision), "acl: no line allows it");
    let decision = decide(&acl, Some("ann"), "id", Action::Subscribe, "c");
    assert_eq!(named(&decision), "acl:3: topic deny c");
    let decision = decide(&acl, None, "id", Action::Unsubscribe, "c");
    assert_eq!(decision, Decision::Allow(UNSUBSCRIBE));
}

fn named(decision: &Decision) -> String {
    decision.rule().map(ToString::to_string).unwrap_or_default()
}

#[test]
fn the_first_of_several_lines_is_named() {
    assert_eq!(publish("topic a/+\ntopic a/b\ntopic #", None, "a/b"), 1);
    assert_eq!(publish("topic #\ntopic a/b", None, "a/b"), 1);
    assert_eq!(publish("topic a/b\ntopic write a/b", None, "a/b"), 1);
}

#[test]
fn access_words_say_what_they_mean() {
    let file = acl("topic read r\ntopic write w\ntopic readwrite b\ntopic d\ntopic deny d/#");
    let may = |action, topic| decide(&file, None, "id", action, topic).is_allowed();
    for (topic, read, write) in
        [("r", true, false), ("w", false, true), ("b", true, true), ("d", false, false)]
    {
        assert_eq!(may(Action::Receive, topic), read, "{topic}");
        assert_eq!(may(Action::Subscribe, topic), read, "{topic}");
        assert_eq!(may(Action::Publish, topic), write, "{topic}");
    }
}

#[test]
fn each_client_has_its_own_lines_and_never_those_of_anonymous_clients() {
    let text = "topic a\nuser u\ntopic b\npattern p/%u\nuser v\ntopic c\nuser u\ntopic d";
    for (user, topics) in [
        (None, "a"),
        (Some(""), "a"),
        (Some("u"), "b d p/u"),
        (Some("v"), "c p/v"),
        (Some("w"), "p/w"),
    ] {
        for topic in ["a", "b", "c", "d", "p/u", "p/v", "p/w", "p", "p/%u", "p/"] {
            let allowed = publish(text, user, topic) > 0;
            assert_eq!(allowed, topics.split(' ').any(|own| own == topic), "{user:?} {topic}");
        }
    }
}

#[test]
fn own_lines_come_before_patterns_and_denials_first() {
    assert_eq!(publish("topic a\ntopic deny a", None, "a"), -2);
    assert_eq!(publish("pattern deny a\ntopic a", None, "a"), 2);
    assert_eq!(publish("topic deny a\npattern a", None, "a"), -1);
    assert_eq!(publish("pattern a\npattern deny a", None, "a"), -2);
    assert_eq!(publish("pattern a\ntopic b", None, "c"), 0);
}

/// Pitfall 7.
#[test]
fn topics_with_dollar_need_a_filter_that_begins_so_pitfall_7() {
    for (text, line) in [
        ("topic #", 0),
        ("topic +/x", 0),
        ("topic $SYS/#", 1),
        ("topic $SYS/+", 1),
        ("topic #\ntopic deny $SYS/#", -2),
        ("topic $SYS/x\ntopic deny #", 1),
    ] {
        assert_eq!(publish(text, None, "$SYS/x"), line, "{text}");
    }
    assert_eq!(publish("topic $SYS/#", None, "SYS/x"), 0);
    assert_eq!(subscribe("topic read $SYS/#", "#"), 0);
    assert_eq!(subscribe("topic read $SYS/#", "+/x"), 0);
    assert_eq!(subscribe("topic read #", "$SYS/#"), 0);
    assert_eq!(subscribe("topic read $SYS/x", "$SYS/#"), 1);
}

/// Pitfall 8.
#[test]
fn names_are_put_in_as_literal_levels_pitfall_8() {
    let file = acl("pattern write c/%c/x\npattern write u/%u\npattern write b/%u/%c/#");
    let may = |user, id, topic| decide(&file, user, id, Action::Publish, topic).is_allowed();
    assert!(
        may(None, "id", "c/id/x") && !may(None, "id", "c/%c/x") && !may(None, "id", "c/other/x")
    );
    assert!(
        may(None, "a/b", "c/a/b/x") && !may(None, "a/b", "c/a/x") && !may(None, "a/b", "c/b/x")
    );
    assert!(may(Some("/"), "id", "u//") && !may(Some("/"), "id", "u/"));
    assert!(may(Some("u"), "i/d", "b/u/i/d/z/z") && may(Some("u"), "i/d", "b/u/i/d"));
    for user in [None, Some("")] {
        for topic in ["u/", "u/%u", "u", "b//id", "b/id"] {
            assert!(!may(user, "id", topic), "{user:?} {topic}");
        }
    }
    for (user, id) in [(Some("+"), "id"), (Some("u"), "+"), (Some("u"), "#"), (Some("u"), "a/#")] {
        for topic in ["c/id/x", "c/+/x", "u/u", "u/+", "b/u/id", "c/a/x"] {
            let decision = decide(&file, user, id, Action::Publish, topic);
            assert!(!decision.is_allowed(), "{user:?} {id} {topic}");
            assert!(named(&decision).contains("no pattern holds"), "{decision:?}");
        }
    }
}

/// Pitfall 8.
#[test]
fn a_client_identifier_with_dollar_opens_no_reserved_topic_pitfall_8() {
    let file = acl("pattern %c/#\npattern %u/#\npattern x/%c");
    for action in [Action::Publish, Action::Receive, Action::Subscribe] {
        for (user, id) in [(None, "$SYS"), (Some("$SYS"), "id"), (None, "$SYS/x")] {
            assert!(!decide(&file, user, id, action, "$SYS/x").is_allowed(), "{action} {id}");
        }
    }
    assert!(
        !decide(&file, None, "$SYS", Action::Subscribe, "#").is_allowed() || {
            // Through `x/%c` alone.
            file.coverage(None, "$SYS", "#").1.line_number() == Some(3)
        }
    );
    assert!(decide(&file, None, "$SYS", Action::Publish, "x/$SYS").is_allowed());
}

/// Pitfall 8.
#[test]
fn a_name_with_a_wildcard_is_refused_where_patterns_put_it_in_pitfall_8() {
    let reason = |text: &str, user: Option<&str>, id: &str| {
        let shown = Credentials::new(id, "a test".into());
        let shown = match user {
            Some(name) => shown.with_password(name, b"secret"),
            None => shown,
        };
        match block_on(Arc::new(acl(text)).authenticate(shown)) {
            Answer::NoAnswer => None,
            Answer::Refuse(refusal) => Some(refusal.reason()),
            other => panic!("{other:?}"),
        }
    };
    let id = Some(ReasonCode::CLIENT_IDENTIFIER_NOT_VALID);
    let user = Some(ReasonCode::BAD_USER_NAME_OR_PASSWORD);
    assert_eq!(reason("pattern a/%c", None, "a+"), id);
    assert_eq!(reason("pattern a/%c", Some("u"), "#"), id);
    assert_eq!(reason("pattern a/%c", Some("u+"), "a/b"), None);
    assert_eq!(reason("pattern a/%u", Some("u#"), "a"), user);
    assert_eq!(reason("pattern a/%u", Some("u"), "+"), None);
    assert_eq!(reason("pattern a", Some("+"), "+"), None);
    assert_eq!(reason("topic a/%c/%u", Some("+"), "+"), None);
    let plain = acl("topic +/a\npattern b");
    assert!(decide(&plain, None, "+", Action::Publish, "x/a").is_allowed());
    assert!(!decide(&plain, None, "+", Action::Publish, "b").is_allowed());
}

#[test]
fn a_subscription_is_allowed_by_what_could_be_received() {
    let coverage = |text: &str, filter| {
        let (coverage, rule) = acl(text).coverage(None, "id", filter);
        (coverage, rule.line_number().unwrap_or(0))
    };
    use Coverage::{None as Nothing, Part, Whole};
    for (text, filter, expected) in [
        ("topic read home/+", "home/#", (Part, 1)),
        ("topic read home/+", "home/+", (Whole, 1)),
        ("topic read home/+", "home/lamp", (Whole, 1)),
        ("topic read home/+", "#", (Part, 1)),
        ("topic read home/+", "+", (Nothing, 0)),
        ("topic read home/+", "garden/#", (Nothing, 0)),
        ("topic write home/#", "home/#", (Nothing, 0)),
        ("topic read #", "#", (Whole, 1)),
        ("topic read +/#", "#", (Whole, 1)),
        ("topic read #", "+/#", (Whole, 1)),
        ("topic read a/#", "a", (Whole, 1)),
        ("topic read a/+/#", "a/#", (Part, 1)),
        ("topic read #\ntopic deny a/#", "a/b", (Nothing, 2)),
        ("topic read #\ntopic deny a/#", "+/b", (Part, 1)),
        ("topic read a/b\ntopic deny a/b", "a/+", (Nothing, 2)),
        ("topic read a/b\ntopic read a/c\ntopic deny a/b", "a/+", (Part, 2)),
        ("topic read +/b\ntopic deny a/#", "a/+", (Nothing, 2)),
        ("topic deny a/b\npattern read a/#", "a/#", (Part, 2)),
        ("topic deny a/#\npattern read a/b", "+/b", (Nothing, 1)),
        ("pattern read x/%c", "x/id", (Whole, 1)),
        ("pattern read x/%c", "x/+", (Part, 1)),
        ("pattern read x/%c", "x/other", (Nothing, 0)),
        ("pattern read x/%u", "x/#", (Nothing, 0)),
        ("pattern read %c/#\npattern deny %c/x", "id/+", (Part, 1)),
        ("pattern read %c/x\npattern deny id/#", "#", (Nothing, 2)),
        ("pattern deny #\ntopic read a", "#", (Part, 2)),
        ("pattern deny #\ntopic read a", "b/#", (Nothing, 1)),
        ("pattern deny #\ntopic read a", "a", (Whole, 2)),
    ] {
        assert_eq!(coverage(text, filter), expected, "{text:?} {filter}");
    }
}

#[test]
fn a_name_of_several_levels_meets_a_subscription() {
    let file = acl("pattern read a/%c/z\npattern deny a/x/y/z");
    let coverage = |id, filter| file.coverage(None, id, filter).0;
    for (filter, expected) in [
        ("a/x/y/w/z", Coverage::None),
        ("a/x/+/z", Coverage::None),
        ("a/+/+/z", Coverage::None),
        ("a/x/#", Coverage::None),
        ("#", Coverage::None),
    ] {
        assert_eq!(coverage("x/y", filter), expected, "{filter}: what could be received is denied");
    }
    for (filter, expected) in [
        ("a/x/w/z", Coverage::Whole),
        ("a/x/+/z", Coverage::Part),
        ("a/+", Coverage::None),
        ("a/x/#", Coverage::Part),
        ("a/x/w/#", Coverage::Part),
        ("a/x/w/z/#", Coverage::Part),
        ("a/x/w/+", Coverage::Part),
        ("a/x/w", Coverage::None),
        ("#", Coverage::Part),
        ("$a/#", Coverage::None),
    ] {
        assert_eq!(coverage("x/w", filter), expected, "{filter}");
    }
}

/// One decision touches a few of a great many rules; that they are found shows that none is missing.
#[test]
fn ten_thousand_rules_of_a_thousand_users_are_told_apart() {
    let mut text = String::new();
    for user in 0..1000 {
        text += &format!("user user{user}\n");
        for rule in 0..10 {
            text += &format!("topic write home/{user}/{rule}/#\n");
        }
    }
    let file = acl(&text);
    for user in (0..1000).step_by(97) {
        for rule in 0..10 {
            let (name, topic) = (format!("user{user}"), format!("home/{user}/{rule}/x"));
            let decision = decide(&file, Some(&name), "id", Action::Publish, &topic);
            assert_eq!(line(&decision), user * 11 + rule + 2);
            assert!(!decide(&file, Some("user1000"), "id", Action::Publish, &topic).is_allowed());
        }
    }
}

/// Levels of rules and questions; `z` and `$z` stand for all others.
const LEVELS: &[&str] = &["", "a", "b", "$a"];
const OTHER_LEVELS: &[&str] = &["z", "$z"];

/// Every Topic Name of up to four levels, and the empty text, as if it were one: `/#` would match it.
fn topics() -> Vec<String> {
    let levels: Vec<&str> = LEVELS.iter().chain(OTHER_LEVELS).copied().collect();
    let mut all: Vec<String> = levels.iter().map(|level| (*level).to_owned()).collect();
    let mut last = all.clone();
    for _ in 1..4 {
        last = last
            .iter()
            .flat_map(|topic| levels.iter().map(move |level| format!("{topic}/{level}")))
            .collect();
        all.extend(last.clone());
    }
    all
}

/// A filter of up to three levels, of these and wildcards.
fn filters(more: &'static [&'static str]) -> impl Strategy<Value = String> {
    let levels: Vec<&str> = LEVELS.iter().chain(&["+", "+"]).chain(more).copied().collect();
    let level = prop::sample::select(levels);
    (prop::collection::vec(level, 0..3), any::<bool>()).prop_map(|(mut levels, open)| {
        if open || levels.is_empty() {
            levels.push("#");
        }
        match levels.join("/") {
            empty if empty.is_empty() => "/".to_owned(),
            filter => filter,
        }
    })
}

fn set(filter: &str, pattern: bool) -> FilterSet {
    let mut set = FilterSet::default();
    set.insert(filter, pattern, 0, &[Use::Read]);
    set
}

/// A filter of a pattern with the names put in; `None` if it holds for no topic of this Client.
fn naive_filter(filter: &str, id: &str, user: Option<&str>) -> Option<String> {
    let first = filter.split('/').next().unwrap_or_default();
    let mut levels = Vec::new();
    for level in filter.split('/') {
        levels.push(match level {
            "%c" => id,
            "%u" => user.filter(|name| !name.is_empty())?,
            level => level,
        });
    }
    let filter = levels.join("/");
    let became_reserved = first.starts_with('%') && filter.starts_with('$');
    (!became_reserved).then_some(filter)
}

/// A rule of a naive list: whose it is, its access, its filter.
type NaiveRule = (Option<&'static str>, bool, Access, String);

/// By the letter of the module's documentation, for one Topic Name.
fn naive_allows(
    rules: &[NaiveRule],
    user: Option<&str>,
    id: &str,
    write: bool,
    topic: &str,
) -> bool {
    let wild = [id, user.unwrap_or("")].iter().any(|name| name.contains(['+', '#']));
    for patterns in [false, true] {
        for deny in [true, false] {
            for (of_user, pattern, access, filter) in rules {
                let holds =
                    if *pattern { patterns && !wild } else { !patterns && *of_user == user };
                let fits = match access {
                    Access::Deny => deny,
                    Access::Read => !deny && !write,
                    Access::Write => !deny && write,
                    Access::ReadWrite => !deny,
                };
                let filter = match pattern {
                    true => naive_filter(filter, id, user),
                    false => Some(filter.clone()),
                };
                if holds && fits && filter.is_some_and(|filter| naive_matches(&filter, topic)) {
                    return !deny;
                }
            }
        }
    }
    false
}

fn text_of(rules: &[NaiveRule]) -> String {
    let mut text = String::new();
    let ordered = rules.iter().filter(|rule| rule.0.is_none() && !rule.1);
    for (user, pattern, access, filter) in
        ordered.chain(rules.iter().filter(|rule| rule.0.is_some() || rule.1))
    {
        let word = access.word();
        match (user, pattern) {
            (_, true) => text += &format!("pattern {word} {filter}\n"),
            (None, _) => text += &format!("topic {word} {filter}\n"),
            (Some(user), _) => text += &format!("user {user}\ntopic {word} {filter}\n"),
        }
    }
    text
}

const EVERY_ACCESS: [Access; 4] = [Access::Read, Access::Write, Access::ReadWrite, Access::Deny];

fn rules(accesses: &'static [Access]) -> impl Strategy<Value = Vec<NaiveRule>> {
    let access = prop::sample::select(accesses);
    let topic =
        (prop::sample::select(vec![None, Some("a"), Some("b/a")]), access.clone(), filters(&[]))
            .prop_map(|(user, access, filter)| (user, false, access, filter));
    let pattern = (access, filters(&["%c", "%u", "%c"]))
        .prop_map(|(access, filter)| (None, true, access, filter));
    prop::collection::vec(prop_oneof![topic, pattern], 1..6)
}

type NaiveClient = (Option<&'static str>, &'static str);

fn clients(
    users: &'static [Option<&'static str>],
    ids: &'static [&'static str],
) -> impl Strategy<Value = NaiveClient> {
    (prop::sample::select(users), prop::sample::select(ids))
}

fn any_client() -> impl Strategy<Value = NaiveClient> {
    clients(
        &[None, Some("a"), Some("b/a"), Some("$a"), Some("z"), Some("a+")],
        &["a", "b", "a/b", "/", "$a", "z/a", "#", "a/+"],
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn a_rule_covers_a_filter_if_it_matches_all_that_the_filter_matches(
        rule in filters(&[]),
        asked in filters(&[]),
    ) {
        let topics = topics();
        let mut matched = topics.iter().filter(|topic| naive_matches(&asked, topic));
        let covered = matched.all(|topic| naive_matches(&rule, topic));
        let found = set(&rule, false).covering(&Levels::new(&asked), &Client::plain(), Use::Read);
        prop_assert_eq!(found.is_some(), covered);
    }

    #[test]
    fn a_rule_overlaps_a_filter_if_both_match_a_topic(rule in filters(&[]), asked in filters(&[])) {
        let topics = topics();
        let overlap = topics.iter().any(|topic| naive_matches(&asked, topic) && naive_matches(&rule, topic));
        let levels = Levels::new(&asked);
        let found = set(&rule, false).any_overlapping(&levels, &Client::plain(), Use::Read, |_| true);
        prop_assert_eq!(found, overlap);
    }

    #[test]
    fn names_put_in_cover_and_overlap_as_their_levels_do(
        rule in filters(&["%c", "%u"]),
        asked in filters(&["z"]),
        (user, id) in clients(
            &[None, Some("a"), Some("b/a"), Some("$a"), Some("z")],
            &["a", "b", "a/b", "/", "$a", "z/a"],
        ),
    ) {
        let topics = topics();
        let filter = naive_filter(&rule, id, user);
        let by_rule = |topic: &str| filter.as_ref().is_some_and(|filter| naive_matches(filter, topic));
        let client = Client::of_pattern(id, user);
        let (set, levels) = (set(&rule, true), Levels::new(&asked));
        let overlap = topics.iter().any(|topic| naive_matches(&asked, topic) && by_rule(topic));
        // A name of several levels is longer than the enumerated topics.
        let short = filter.as_ref().is_none_or(|filter| filter.split('/').count() <= 4);
        let found = set.any_overlapping(&levels, &client, Use::Read, |_| true);
        prop_assert!(found == overlap || !short && found, "{:?}", filter);
        let covered = topics.iter().filter(|topic| naive_matches(&asked, topic)).all(|topic| by_rule(topic));
        let covers = set.covering(&levels, &client, Use::Read).is_some();
        prop_assert_eq!(covers, covered, "{:?}", filter);
    }

    #[test]
    fn decisions_agree_with_a_naive_reading(rules in rules(&EVERY_ACCESS), (user, id) in any_client(), asked in filters(&[])) {
        let file = acl(&text_of(&rules));
        let mut receivable = 0;
        let mut matched = 0;
        for topic in topics() {
            let may = |action| decide(&file, user, id, action, &topic).is_allowed();
            let read = naive_allows(&rules, user, id, false, &topic);
            prop_assert_eq!(may(Action::Receive), read, "receive {}", &topic);
            let write = naive_allows(&rules, user, id, true, &topic);
            prop_assert_eq!(may(Action::Publish), write, "publish {}", &topic);
            if naive_matches(&asked, &topic) {
                matched += 1;
                receivable += usize::from(read);
            }
        }
        let (coverage, rule) = file.coverage(user, id, &asked);
        match coverage {
            Coverage::Whole => prop_assert_eq!(receivable, matched, "{:?}", rule),
            // Several denials together may leave nothing, and names may be longer than the topics here.
            Coverage::Part => {}
            Coverage::None => prop_assert_eq!(receivable, 0, "{:?}", rule),
        }
        let allowed = decide(&file, user, id, Action::Subscribe, &asked).is_allowed();
        prop_assert_eq!(allowed, coverage != Coverage::None);
    }

    #[test]
    fn a_subscription_without_denials_is_allowed_only_if_something_can_be_received(
        rules in rules(&EVERY_ACCESS[..3]),
        // Longer names make filters longer than the enumerated topics.
        (user, id) in clients(&[None, Some("a"), Some("$a"), Some("z"), Some("a+")], &["a", "z", "#"]),
        asked in filters(&[]),
    ) {
        let topics = topics();
        let receivable = topics.iter().any(|topic| {
            naive_matches(&asked, topic) && naive_allows(&rules, user, id, false, topic)
        });
        let coverage = acl(&text_of(&rules)).coverage(user, id, &asked).0;
        prop_assert_eq!(coverage != Coverage::None, receivable);
    }

    #[test]
    fn what_is_accepted_reads_back_from_its_text(rules in rules(&EVERY_ACCESS)) {
        let text = acl(&text_of(&rules)).to_string();
        prop_assert_eq!(acl(&text).to_string(), text);
    }

    #[test]
    fn any_text_is_parsed_or_has_errors_of_one_line(text in "(?s)(topic|user|pattern|#| |\t|\n|%c|/|[+]|deny|read|.){0,20}") {
        match AclFile::parse(&text, "acl") {
            Ok(file) => {
                let text = file.to_string();
                prop_assert_eq!(acl(&text).to_string(), text);
            }
            Err(errors) => {
                prop_assert_eq!(errors.to_string().lines().count(), errors.iter().count());
                prop_assert!(errors.iter().all(|error| error.to_string().starts_with("acl:")));
            }
        }
    }
}
