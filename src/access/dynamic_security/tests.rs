//! Dynamic security against its rules, a file of mosquitto, and wrong files.

use futures_lite::future::block_on;
use proptest::prelude::*;

use super::*;
use crate::access::testing::validity;
use crate::reason_code::ReasonCode;
use crate::topic;
use crate::transport::PeerInfo;

const ANN: &str = "$7$101$VKOLKl0m4B4ch5OP$rAF18QVJQWMuAni/uXW06AGJV9AdlOd7XPC9cRmbWu6pTocFWk/ZroFcf00zxbutQcc8U68D9nIDZuqg6VYnGw==";

/// Written by mosquitto_ctrl 2.0.11: `dynsec init d.json admin secret`.
const BY_MOSQUITTO: &str = include_str!("by_mosquitto.json");

fn policy(text: &str) -> Arc<DynamicSecurity> {
    match DynamicSecurity::parse(text, "d.json") {
        Ok(policy) => Arc::new(policy),
        Err(errors) => unreachable!("{errors}"),
    }
}

fn connect(policy: &Arc<DynamicSecurity>, client_id: &str, name: &str, password: &str) -> Answer {
    let shown = Credentials::new(client_id, PeerInfo::from("test"));
    block_on(policy.clone().authenticate(shown.with_password(name, password.as_bytes())))
}

fn refusal(answer: &Answer) -> (ReasonCode, String) {
    let Answer::Refuse(refusal) = answer else { unreachable!("{answer:?}") };
    (refusal.reason(), refusal.rule().to_string())
}

/// `+`, `-` or `?` for no answer, and the rule.
fn decide(
    policy: &DynamicSecurity,
    user: Option<&str>,
    client_id: &str,
    action: Action,
    topic: &str,
) -> String {
    let identity = Identity::new(Rule::named("a test"));
    let identity = user.iter().fold(identity, |identity, user| identity.with_user_name(user));
    match policy.authorize(&Request { identity: &identity, client_id, action, topic }) {
        Decision::Allow(rule) => format!("+{rule}"),
        Decision::Deny(rule) => format!("-{rule}"),
        Decision::NoAnswer => "?".to_owned(),
    }
}

/// One user `u` with one role of these entries: type, topic, priority, allow.
fn one_role(acls: &[(&str, &str, i32, bool)], rest: &str) -> Arc<DynamicSecurity> {
    let acls: Vec<_> = acls
        .iter()
        .map(|(kind, topic, priority, allow)| {
            serde_json::json!({"acltype": kind, "topic": topic, "priority": priority, "allow": allow})
                .to_string()
        })
        .collect();
    policy(&format!(
        r#"{{"clients": [{{"username": "u", "roles": [{{"rolename": "r"}}]}}],
            "roles": [{{"rolename": "r", "acls": [{}] {rest}}}]}}"#,
        acls.join(",")
    ))
}

#[test]
fn a_file_that_mosquitto_wrote_is_read() {
    let policy = policy(BY_MOSQUITTO);
    let Answer::Accept { identity, .. } = connect(&policy, "c", "admin", "secret") else {
        unreachable!("the admin is let in")
    };
    assert_eq!(identity.user_name(), Some("admin"));
    assert_eq!(identity.rule().to_string(), "d.json: client admin");
    assert!(matches!(connect(&policy, "c", "admin", "Secret"), Answer::Refuse(_)));
    let decide = |action, topic| decide(&policy, Some("admin"), "c", action, topic);
    let control = "role admin: publishClientSend $CONTROL/dynamic-security/# (priority 0): allow";
    assert_eq!(
        decide(Action::Publish, "$CONTROL/dynamic-security/v1"),
        format!("+d.json: {control}")
    );
    assert_eq!(decide(Action::Publish, "a"), "-d.json: defaultACLAccess: publishClientSend false");
    assert!(decide(Action::Subscribe, "a/#").starts_with('+'));
    assert!(decide(Action::Receive, "$SYS/uptime").starts_with("+d.json: role admin"));
    assert!(decide(Action::Receive, "$other").starts_with("+d.json: defaultACLAccess"));
    assert!(decide(Action::Receive, "$CONTROL/other").starts_with('-'), "never by default");
}

#[test]
fn a_client_is_let_in_unless_it_is_disabled_or_pinned_to_another_identifier() {
    let file = policy(&format!(
        r#"{{"clients": [
            {{"username": "ann", "encoded_password": "{ANN}", "clientid": "lamp"}},
            {{"username": "bob", "encoded_password": "{ANN}", "disabled": true}},
            {{"username": "eve"}}
        ]}}"#
    ));
    assert!(matches!(connect(&file, "lamp", "ann", "open sesame"), Answer::Accept { .. }));
    let (bad, not_authorized) = (ReasonCode::BAD_USER_NAME_OR_PASSWORD, ReasonCode::NOT_AUTHORIZED);
    for (client_id, name, password, reason, rule) in [
        ("lamp2", "ann", "open sesame", not_authorized, "d.json: client ann"),
        ("lamp", "ann", "guess", bad, "d.json: client ann"),
        ("lamp2", "ann", "guess", bad, "d.json: client ann"),
        ("c", "bob", "open sesame", not_authorized, "d.json: client bob"),
        ("c", "bob", "guess", bad, "d.json: client bob"),
        ("c", "eve", "", bad, "d.json: client eve"),
        ("c", "eve", "open sesame", bad, "d.json: client eve"),
        ("c", "dave", "open sesame", bad, "d.json: no client of this user name"),
    ] {
        let answer = connect(&file, client_id, name, password);
        assert_eq!(refusal(&answer), (reason, rule.to_owned()), "{client_id} {name} {password}");
    }
    let without = Credentials::new("c", PeerInfo::from("test"));
    let answer = block_on(file.clone().authenticate(without.clone()));
    assert!(matches!(answer, Answer::NoAnswer));
    let empty = without.clone().with_password("", b"open sesame");
    let answer = block_on(file.clone().authenticate(empty));
    assert!(matches!(answer, Answer::NoAnswer), "an empty User Name is none");
    let mut no_password = without;
    no_password.user_name = Some("ann".into());
    assert_eq!(refusal(&block_on(file.clone().authenticate(no_password))).0, bad);
    assert_eq!(
        decide(&file, Some("bob"), "c", Action::Publish, "t"),
        "-d.json: client bob",
        "whoever let it in"
    );
}

#[test]
fn an_identity_is_current_until_its_client_is_changed_or_disabled() {
    let file = |rest: &str| {
        policy(&format!(
            r#"{{"clients": [{{"username": "ann", "encoded_password": "{ANN}" {rest}}}]}}"#
        ))
    };
    let Answer::Accept { identity, .. } = connect(&file(""), "c", "ann", "open sesame") else {
        unreachable!("ann is let in")
    };
    assert_eq!(validity(&*file(""), &identity), Validity::Current);
    assert_eq!(validity(&*file(r#", "disabled": true"#), &identity), Validity::Gone);
    assert_eq!(validity(&*policy("{}"), &identity), Validity::Gone);
    for (client_id, expected) in [("c", Validity::Current), ("d", Validity::Gone)] {
        let bound = file(&format!(r#", "clientid": "{client_id}""#));
        assert_eq!(validity(&*bound, &identity), expected, "its Client Identifier is c");
    }
    let passwords = crate::access::PasswordFile::parse(&format!("bob:{ANN}"), "passwords");
    let passwords = passwords.expect("a good file");
    assert_eq!(validity(&passwords, &identity), Validity::Foreign, "this policy did not let it in");
    let without_password = policy(r#"{"clients": [{"username": "ann"}]}"#);
    assert_eq!(validity(&*without_password, &identity), Validity::Gone);
    let other = Identity::new(Rule::named("a certificate")).with_user_name("ann");
    assert_eq!(validity(&*policy("{}"), &other), Validity::Foreign, "another policy let it in");
}

#[test]
fn roles_are_asked_by_priority_before_groups_and_the_first_match_decides() {
    let role = |name: &str, allow: bool| {
        format!(
            r#"{{"rolename": "{name}", "acls": [{{"acltype": "publishClientSend", "topic": "{name}/#", "allow": {allow}}},
                {{"acltype": "publishClientSend", "topic": "all/{name}", "allow": {allow}}},
                {{"acltype": "publishClientSend", "topic": "all/+", "allow": {allow}}}]}}"#
        )
    };
    let file = |clients: &str, groups: &str| {
        let roles: Vec<_> =
            [("a", true), ("b", false), ("c", true)].map(|(name, allow)| role(name, allow)).into();
        policy(&format!(
            r#"{{"clients": [{{"username": "u" {clients}}}], "groups": [{groups}], "roles": [{}]}}"#,
            roles.join(",")
        ))
    };
    let decides = |file: &DynamicSecurity| {
        let rule = decide(file, Some("u"), "c", Action::Publish, "all/x");
        rule.split("d.json: role ")
            .nth(1)
            .and_then(|rest| rest.get(..1))
            .unwrap_or("none")
            .to_owned()
    };
    for (clients, groups, first) in [
        ("", "", "none"),
        (r#", "roles": [{"rolename": "b"}, {"rolename": "a"}]"#, "", "a"), // by name
        (r#", "roles": [{"rolename": "a"}, {"rolename": "b", "priority": 0}]"#, "", "b"), // -1 else
        (
            r#", "roles": [{"rolename": "a", "priority": 5}, {"rolename": "c", "priority": 2000000}]"#,
            "",
            "c",
        ),
        (
            r#", "roles": [{"rolename": "a"}], "groups": [{"groupname": "g"}]"#,
            r#"{"groupname": "g", "roles": [{"rolename": "b", "priority": 9}]}"#,
            "a",
        ),
        (
            r#", "groups": [{"groupname": "g", "priority": 1}, {"groupname": "h", "priority": 2}]"#,
            r#"{"groupname": "g", "roles": [{"rolename": "b"}]}, {"groupname": "h", "roles": [{"rolename": "c"}]}"#,
            "c",
        ),
        (
            "",
            r#"{"groupname": "h", "clients": [{"username": "u"}], "roles": [{"rolename": "c"}]},
               {"groupname": "g", "clients": [{"username": "u"}], "roles": [{"rolename": "b"}]}"#,
            "b", // by the group's name
        ),
    ] {
        assert_eq!(decides(&file(clients, groups)), first, "{clients} {groups}");
    }
    // A role that does not match is passed over.
    let both = file(r#", "roles": [{"rolename": "a", "priority": 1}, {"rolename": "b"}]"#, "");
    let rule = decide(&both, Some("u"), "c", Action::Publish, "b/1");
    assert_eq!(rule, "-d.json: role b: publishClientSend b/# (priority 0): deny");
}

#[test]
fn in_a_role_the_highest_priority_decides_and_literal_subscriptions_come_first() {
    let file = one_role(
        &[
            ("publishClientSend", "a/#", 1, false),
            ("publishClientSend", "a/b", 2, true),
            ("publishClientSend", "+/+", 2, false),
            ("subscribePattern", "#", 99, false),
            ("subscribeLiteral", "a/+", -1, true),
            ("unsubscribePattern", "a/#", 0, false),
            ("unsubscribeLiteral", "a/b", 0, true),
        ],
        "",
    );
    for (action, topic, allowed) in [
        (Action::Publish, "a/b", true),
        (Action::Publish, "a/c", false),
        (Action::Publish, "a", false),
        (Action::Receive, "a/b", false),
        (Action::Subscribe, "a/+", true),
        (Action::Subscribe, "a/b", false),
        (Action::Unsubscribe, "a/b", true),
        (Action::Unsubscribe, "a/+", false),
        (Action::Unsubscribe, "b", false),
    ] {
        let decided = decide(&file, Some("u"), "c", action, topic);
        assert_eq!(decided.starts_with('+'), allowed, "{action} {topic}: {decided}");
    }
    let equal = one_role(
        &[("publishClientSend", "a/+", 3, false), ("publishClientSend", "a/b", 3, true)],
        "",
    );
    let decided = decide(&equal, Some("u"), "c", Action::Publish, "a/b");
    assert!(decided.contains(" a/+ "), "the order of the file: {decided}");
}

#[test]
fn wildcard_subscriptions_can_be_denied_to_a_role() {
    let file = one_role(
        &[("subscribePattern", "#", 0, true), ("subscribeLiteral", "a/#", 0, true)],
        r#", "allowwildcardsubs": false"#,
    );
    let denied = "-d.json: role r: allowwildcardsubs false";
    assert_eq!(decide(&file, Some("u"), "c", Action::Subscribe, "a/#"), denied);
    assert_eq!(decide(&file, Some("u"), "c", Action::Subscribe, "a/+/b"), denied);
    assert!(decide(&file, Some("u"), "c", Action::Subscribe, "a/b").starts_with('+'));
}

#[test]
fn anonymous_clients_have_the_roles_of_their_group_and_strangers_get_no_answer() {
    let text = r#"{"anonymousGroup": "g",
        "groups": [{"groupname": "g", "roles": [{"rolename": "r"}]}],
        "roles": [{"rolename": "r", "acls": [
            {"acltype": "publishClientSend", "topic": "open", "allow": true}]}],
        "defaultACLAccess": {"publishClientReceive": true}}"#;
    let file = policy(text);
    assert!(decide(&file, None, "c", Action::Publish, "open").starts_with("+d.json: role r"));
    assert!(decide(&file, None, "c", Action::Publish, "other").starts_with('-'));
    assert!(decide(&file, None, "c", Action::Receive, "other").starts_with('+'));
    assert_eq!(decide(&file, Some("x"), "c", Action::Publish, "open"), "?");
}

/// Pitfall 10.
#[test]
fn an_empty_file_lets_nobody_in_and_allows_nothing_pitfall_10() {
    let file = policy("{}");
    assert!(matches!(connect(&file, "c", "ann", ""), Answer::Refuse(_)));
    for action in [Action::Publish, Action::Subscribe, Action::Unsubscribe, Action::Receive] {
        assert!(decide(&file, None, "c", action, "t").starts_with("-d.json: no role matches"));
    }
}

/// Pitfall 8.
#[test]
fn a_name_is_no_wildcard_wherever_it_is_put_in_pitfall_8() {
    let file = one_role(
        &[
            ("publishClientSend", "c/%c/x", 0, true),
            ("publishClientSend", "u/%u", 0, true),
            ("publishClientSend", "%c/#", 0, true),
            ("publishClientSend", "x%c/%cx", 0, true),
            ("subscribePattern", "c/%c/+", 0, true),
            ("subscribeLiteral", "c/%c/#", 0, true),
        ],
        "",
    );
    for (client_id, action, topic, allowed) in [
        ("lamp", Action::Publish, "c/lamp/x", true),
        ("lamp", Action::Publish, "c/door/x", false),
        ("lamp", Action::Publish, "u/u", true),
        ("lamp", Action::Publish, "lamp/any/thing", true),
        ("a/b", Action::Publish, "c/a/b/x", true),
        ("a/b", Action::Publish, "c/a/x", false),
        ("lamp", Action::Publish, "xlamp/lampx", false),
        ("lamp", Action::Publish, "x%c/%cx", true),
        ("+", Action::Publish, "c/door/x", false),
        ("#", Action::Publish, "any/thing", false),
        ("$SYS", Action::Publish, "$SYS/uptime", false),
        ("", Action::Publish, "c//x", false),
        ("+", Action::Subscribe, "c/+/+", false),
        ("lamp", Action::Subscribe, "c/lamp/+", true),
        ("lamp", Action::Subscribe, "c/lamp/#", false),
        ("lamp", Action::Subscribe, "c/+/x", false),
        ("lamp", Action::Subscribe, "c/%c/#", true),
    ] {
        let decided = decide(&file, Some("u"), client_id, action, topic);
        assert_eq!(decided.starts_with('+'), allowed, "{client_id} {action} {topic}: {decided}");
    }
    let by_user = one_role(&[("publishClientSend", "%u/#", 0, true)], "");
    assert!(decide(&by_user, None, "c", Action::Publish, "/x").starts_with('-'));
    let answer = connect(&file, "a+", "u", "");
    assert_eq!(refusal(&answer).0, ReasonCode::CLIENT_IDENTIFIER_NOT_VALID);
    let answer = connect(&file, "a", "u#", "");
    let rule = "d.json: with %u, a User Name must not hold + or #".to_owned();
    assert_eq!(refusal(&answer), (ReasonCode::BAD_USER_NAME_OR_PASSWORD, rule));
}

/// Wrong files and all their errors.
const WRONG: &[(&str, &str)] = &[
    ("[]", "d.json: the file must be an object in {}"),
    (r#"{"roles": {}}"#, "d.json: roles must be a list in []"),
    (r#"{"role": []}"#, "d.json: role is no known key; did you mean \"roles\"?"),
    (r#"{"clients": [7]}"#, "d.json: clients[0] must be an object in {}"),
    (r#"{"clients": [{}]}"#, "d.json: clients[0].username is missing; write a text"),
    (r#"{"clients": [{"username": ""}]}"#, "d.json: clients[0].username is empty; write a text"),
    (r#"{"clients": [{"username": 1}]}"#, "d.json: clients[0].username must be a text in quotes"),
    (
        r#"{"clients": [{"username": "a"}, {"username": "a"}]}"#,
        "d.json: clients[1].username: \"a\" is there twice; delete one of the two",
    ),
    (
        r#"{"clients": [{"username": "a", "disabled": "yes"}]}"#,
        "d.json: clients[0].disabled must be true or false",
    ),
    (
        r#"{"clients": [{"username": "a", "disabled": true, "Disabled": false}]}"#,
        "d.json: clients[0].Disabled is there twice; delete one of the two",
    ),
    (
        r#"{"clients": [{"username": "a", "dissabled": true}]}"#,
        "d.json: clients[0].dissabled is no known key; did you mean \"disabled\"?",
    ),
    (
        r#"{"clients": [{"username": "a", "password": "x"}]}"#,
        "d.json: clients[0].password needs salt and iterations beside it",
    ),
    (
        r#"{"clients": [{"username": "a", "password": "x", "salt": "x", "iterations": 0}]}"#,
        "d.json: clients[0].password: its number of iterations 0 is not from 1 to 10000000; \
             set the password again with mosquitto_ctrl dynsec setClientPassword",
    ),
    (
        r#"{"clients": [{"username": "a", "encoded_password": "secret"}]}"#,
        "d.json: clients[0].encoded_password: it is no hash; \
             set the password again with mosquitto_ctrl dynsec setClientPassword",
    ),
    (
        r#"{"clients": [{"username": "a", "roles": [{"rolename": "r"}], "groups": [{"groupname": "g"}]}]}"#,
        "d.json: clients[0].groups[0].groupname: there is no group \"g\" in the file; add or delete it\n\
             d.json: clients[0].roles[0].rolename: there is no role \"r\" in the file; add or delete it",
    ),
    (
        r#"{"anonymousGroup": "g"}"#,
        "d.json: anonymousGroup: there is no group \"g\" in the file; add or delete it",
    ),
    (
        r#"{"groups": [{"groupname": "g", "clients": [{"username": "a"}]}]}"#,
        "d.json: groups[0].clients[0].username: there is no client \"a\" in the file; add or delete it",
    ),
    (
        r#"{"roles": [{"rolename": "r", "acls": [{"acltype": "publish", "topic": "a#", "priority": 1.5}]}]}"#,
        "d.json: roles[0].acls[0].allow is missing; write true or false\n\
             d.json: roles[0].acls[0].priority must be a whole number\n\
             d.json: roles[0].acls[0].acltype: \"publish\" is no type; use one of publishClientSend, \
             publishClientReceive, subscribeLiteral, subscribePattern, unsubscribeLiteral, unsubscribePattern\n\
             d.json: roles[0].acls[0].topic: \"a#\" is no Topic Filter: '#' must stand alone in its level, \
             and that level must be the last [MQTT-4.7.1-1]",
    ),
    (
        r#"{"defaultACLAccess": {"subscribe": 1}}"#,
        "d.json: defaultACLAccess.subscribe must be true or false",
    ),
];

/// Pitfall 10.
#[test]
fn every_error_has_its_path_and_remedy_pitfall_10() {
    for (text, errors) in WRONG {
        let found = DynamicSecurity::parse(text, "d.json").expect_err(text).to_string();
        assert_eq!(found, *errors, "{text}");
    }
    for text in ["", "{", "{\"roles\": [\n}", "null x", &"[".repeat(100_000)] {
        let found = DynamicSecurity::parse(text, "d.json").expect_err("no JSON").to_string();
        assert!(found.contains(": it is no JSON: ") && found.lines().count() == 1, "{found}");
    }
}

/// Pitfall 19.
#[test]
fn no_error_and_no_debug_shows_a_password_pitfall_19() {
    let text = r#"{"clients": [{"username": "a", "encoded_password": "hunter2"}]}"#;
    let errors = DynamicSecurity::parse(text, "d.json").expect_err("no hash");
    assert!(!format!("{errors} {errors:?}").contains("hunter2"));
    assert!(!format!("{:?}", policy(BY_MOSQUITTO)).contains("atnnwVEg"));
}

fn any_json() -> impl Strategy<Value = String> {
    const WORDS: &[&str] = &[
        "clients",
        "groups",
        "roles",
        "acls",
        "acltype",
        "topic",
        "allow",
        "priority",
        "username",
        "rolename",
        "groupname",
        "password",
        "salt",
        "iterations",
        "encoded_password",
        "defaultACLAccess",
        "subscribe",
        "anonymousGroup",
        "publishClientSend",
        "a/#",
        "%c",
    ];
    let text = prop::sample::select(WORDS).prop_map(|word| format!("{word:?}"));
    let leaf = prop_oneof![
        text.clone(),
        Just("true".to_owned()),
        Just("null".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f32>()
            .prop_filter("JSON has no others", |number| number.is_finite())
            .prop_map(|number| number.to_string()),
    ];
    let text = text.boxed();
    leaf.prop_recursive(5, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6)
                .prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::vec((text.clone(), inner), 0..6).prop_map(|pairs| {
                let pairs: Vec<_> =
                    pairs.into_iter().map(|(key, value)| format!("{key}:{value}")).collect();
                format!("{{{}}}", pairs.join(","))
            }),
        ]
    })
}

fn filter() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(&["a", "b", "+", "", "$a"][..]), 1..4)
        .prop_flat_map(|levels| {
            let text = levels.join("/");
            prop_oneof![Just(text.clone()), Just(format!("{text}/#")), Just("#".to_owned())]
        })
        .prop_filter("a filter", |text| topic::check_filter(text).is_ok())
}

/// All names of up to four levels.
fn names() -> Vec<String> {
    let levels = ["a", "b", "", "$a"];
    let mut names: Vec<String> = Vec::new();
    let mut open = vec![String::new()];
    for depth in 0..4 {
        let longer = open.iter().flat_map(|start| {
            levels.map(
                |level| {
                    if depth == 0 { level.to_owned() } else { format!("{start}/{level}") }
                },
            )
        });
        open = longer.collect();
        names.extend(open.iter().filter(|name| !name.is_empty()).cloned());
    }
    names
}

proptest! {
    #[test]
    fn the_parser_is_total(json in any_json(), text in ".*") {
        for text in [json, text] {
            if let Err(errors) = DynamicSecurity::parse(&text, "d.json") {
                prop_assert!(errors.to_string().lines().all(|line| line.starts_with("d.json:")));
            }
        }
    }

    /// Against the names that both match.
    #[test]
    fn a_pattern_covers_a_filter_only_if_it_matches_all_its_names(wide in filter(), narrow in filter()) {
        let pattern = Pattern::new(&wide).expect("a filter");
        let names = names();
        let mut matched = names.iter().filter(|name| topic::name_matches(&narrow, name));
        let all = matched.all(|name| topic::name_matches(&wide, name));
        if pattern.covers(&narrow, "c", None) {
            prop_assert!(all, "{} {}", wide, narrow);
        } else {
            // `+/#` matches what `#` matches; mosquitto does not see it either.
            prop_assert!(!all || wide.ends_with("+/#"), "{} {}", wide, narrow);
        }
    }

    #[test]
    fn a_pattern_matches_names_as_a_subscription_does(filter in filter(), at in any::<prop::sample::Index>()) {
        let names = names();
        let name = &names[at.index(names.len())];
        let pattern = Pattern::new(&filter).expect("a filter");
        // A filter that begins with a wildcard reaches no `$` name, and others name it in full.
        prop_assert_eq!(pattern.matches(name, "c", None), topic::name_matches(&filter, name));
    }
}
