//! Tests of names, filters and matching, and what the tests of other rooms need of them: names and
//! filters to draw from, and a naive model of matching.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;

use super::*;

/// Levels that make many matches, with what is special: empty ones, `$`, characters of several
/// bytes, characters around `/` in the order of bytes, and more than fits into a node.
const LEVELS: &[&str] =
    &["", "a", "b", "a!", "a0", "-", "$a", "$SYS", "é", "日本", "a level longer than 22 bytes"];

fn text_of(levels: &[usize], choices: &[&str]) -> String {
    levels.iter().map(|&at| choices[at % choices.len()]).collect::<Vec<_>>().join("/")
}

/// Any Topic Name of up to five levels.
pub(crate) fn any_name() -> impl Strategy<Value = String> {
    prop::collection::vec(0..LEVELS.len(), 1..6)
        .prop_map(|levels| text_of(&levels, LEVELS))
        .prop_filter("a name has a character", |name| !name.is_empty())
}

/// Any Topic Filter of up to five levels, without `$share`.
pub(crate) fn any_filter() -> impl Strategy<Value = String> {
    let choices: Vec<&str> = ["+", "+", "+", "a", "a"].iter().chain(LEVELS).copied().collect();
    let above = prop::collection::vec(0..choices.len(), 0..5);
    (above, any::<bool>()).prop_map(move |(above, multi)| match (above.is_empty(), multi) {
        (true, _) => "#".to_owned(),
        (false, true) => format!("{}/#", text_of(&above, &choices)),
        (false, false) => match text_of(&above, &choices) {
            text if text.is_empty() => "+".to_owned(),
            text => text,
        },
    })
}

/// As the standard tells it, level by level.
pub(crate) fn naive_matches(filter: &str, name: &str) -> bool {
    fn levels_match(filter: &[&str], name: &[&str]) -> bool {
        match (filter, name) {
            ([], []) | (["#"], _) => true,
            (["+", filter @ ..], [_, name @ ..]) => levels_match(filter, name),
            ([wanted, filter @ ..], [given, name @ ..]) => {
                wanted == given && levels_match(filter, name)
            }
            _ => false,
        }
    }
    let filter: Vec<&str> = filter.split('/').collect();
    let name: Vec<&str> = name.split('/').collect();
    if name[0].starts_with('$') && (filter[0] == "+" || filter[0] == "#") {
        return false;
    }
    levels_match(&filter, &name)
}

/// A Topic Filter of the text, which is valid.
pub(crate) fn filter(text: &str) -> TopicFilter {
    TopicFilter::new(text).expect("a Topic Filter")
}

fn name(text: &str) -> TopicName {
    TopicName::new(text).expect("a Topic Name")
}

fn share(text: &str) -> ShareName {
    ShareName::new(text).expect("a Share Name")
}

#[test]
fn names_are_checked_when_made_mqtt_4_7_0_1_and_4_7_3() {
    let longest = "x".repeat(65_535);
    for valid in ["a", "/", "//", "a/", "$", "$SYS/x", "$share/a/b", " ", "a b", "é/日本", &longest]
    {
        assert_eq!(
            TopicName::new(valid).map(|name| name.as_str().to_owned()),
            Ok(valid.to_owned())
        );
    }
    let cases = [
        ("", TopicError::Empty, "MQTT-4.7.3-1"),
        (&*"x".repeat(65_536), TopicError::TooLong, "MQTT-4.7.3-3"),
        (&*"é".repeat(32_768), TopicError::TooLong, "MQTT-4.7.3-3"),
        ("\0", TopicError::ContainsNul, "MQTT-4.7.3-2"),
        ("a/b\0", TopicError::ContainsNul, "MQTT-4.7.3-2"),
        ("+", TopicError::WildcardInName, "MQTT-4.7.0-1"),
        ("#", TopicError::WildcardInName, "MQTT-4.7.0-1"),
        ("a/b+", TopicError::WildcardInName, "MQTT-4.7.0-1"),
        ("a#/b", TopicError::WildcardInName, "MQTT-4.7.0-1"),
    ];
    for (text, error, statement) in cases {
        assert_eq!(TopicName::new(text), Err(error));
        assert!(error.to_string().contains(statement), "{error}");
        assert!(!error.is_share_error());
    }
}

#[test]
fn filters_are_checked_when_made_mqtt_4_7_1_and_4_7_3() {
    let longest = "/".repeat(65_535);
    for valid in
        ["#", "+", "/", "//#", "+/+", "/+", "+/", "a/+/b/#", "a", "$SYS/#", "+/#", &longest]
    {
        assert_eq!(filter(valid).as_str(), valid);
        assert_eq!((filter(valid).share_name(), filter(valid).filter_str()), (None, valid));
        assert_eq!(filter(valid).has_wildcard(), valid.contains(['#', '+']));
    }
    let cases = [
        ("", TopicError::Empty),
        ("a\0", TopicError::ContainsNul),
        (&*"/".repeat(65_536), TopicError::TooLong),
        ("a#", TopicError::MalformedMultiLevelWildcard),
        ("#a", TopicError::MalformedMultiLevelWildcard),
        ("a/#/b", TopicError::MalformedMultiLevelWildcard),
        ("#/", TopicError::MalformedMultiLevelWildcard),
        ("#/#", TopicError::MalformedMultiLevelWildcard),
        ("##", TopicError::MalformedMultiLevelWildcard),
        ("+#", TopicError::MalformedMultiLevelWildcard),
        ("a+", TopicError::MalformedSingleLevelWildcard),
        ("+a/b", TopicError::MalformedSingleLevelWildcard),
        ("a/++/b", TopicError::MalformedSingleLevelWildcard),
    ];
    for (text, error) in cases {
        assert_eq!(TopicFilter::new(text), Err(error), "{text:.20}");
        assert!(!error.is_share_error());
    }
    assert_eq!(TopicError::MalformedMultiLevelWildcard.statement(), "MQTT-4.7.1-1");
    assert_eq!(TopicError::MalformedSingleLevelWildcard.statement(), "MQTT-4.7.1-2");
}

/// Pitfall 7: malformed `$share`.
#[test]
fn shared_filters_are_checked_when_made_mqtt_4_8_2_1_and_2() {
    let ordinary = ["$share", "$shared/a/b", "$Share/a/b", "$shar", "/$share/a/b", "$share0"];
    for text in ordinary {
        assert_eq!((filter(text).share_name(), filter(text).filter_str()), (None, text));
        assert!(!filter(text).is_shared());
    }
    let valid = [
        ("$share/a/b", "a", "b"),
        ("$share/a//", "a", "/"),
        ("$share/a//b", "a", "/b"),
        ("$share/a/#", "a", "#"),
        ("$share/a/+/b/#", "a", "+/b/#"),
        ("$share/ /$SYS/#", " ", "$SYS/#"),
        ("$share/$share/$share", "$share", "$share"),
        ("$share/é/$share/g/x", "é", "$share/g/x"),
    ];
    for (text, share, inner) in valid {
        assert_eq!(filter(text).share_name(), Some(share));
        assert_eq!(filter(text).filter_str(), inner);
        assert!(filter(text).is_shared());
        assert_eq!(TopicFilter::shared(&self::share(share), &filter(inner)), Ok(filter(text)));
    }
    let malformed = [
        ("$share/", TopicError::ShareNameMissing, "MQTT-4.8.2-1"),
        ("$share//", TopicError::ShareNameMissing, "MQTT-4.8.2-1"),
        ("$share//x", TopicError::ShareNameMissing, "MQTT-4.8.2-1"),
        ("$share/a", TopicError::ShareFilterMissing, "MQTT-4.8.2-2"),
        ("$share/a/", TopicError::ShareFilterMissing, "MQTT-4.8.2-2"),
        ("$share/a+/x", TopicError::ShareNameInvalid, "MQTT-4.8.2-2"),
        ("$share/+/x", TopicError::ShareNameInvalid, "MQTT-4.8.2-2"),
        ("$share/a#b/x", TopicError::ShareNameInvalid, "MQTT-4.8.2-2"),
        ("$share/#", TopicError::ShareNameInvalid, "MQTT-4.8.2-2"),
        ("$share/#/", TopicError::ShareNameInvalid, "MQTT-4.8.2-2"),
    ];
    for (text, error, statement) in malformed {
        assert_eq!(TopicFilter::new(text), Err(error), "{text}");
        assert!(error.is_share_error());
        assert_eq!(error.statement(), statement);
    }
    // What is wrong behind the Share Name is what would be wrong without it.
    let inner = [
        ("$share/a/b#", TopicError::MalformedMultiLevelWildcard),
        ("$share/a/#/b", TopicError::MalformedMultiLevelWildcard),
        ("$share/a/b+", TopicError::MalformedSingleLevelWildcard),
        ("$share/a\0/b", TopicError::ContainsNul),
        ("$share/a#", TopicError::ShareNameInvalid),
        ("$share#", TopicError::MalformedMultiLevelWildcard),
        ("$share+/a", TopicError::MalformedSingleLevelWildcard),
    ];
    for (text, error) in inner {
        assert_eq!(TopicFilter::new(text), Err(error), "{text}");
    }
}

#[test]
fn share_names_are_checked_when_made_mqtt_4_8_2_2() {
    assert_eq!(ShareName::new("a b").map(|share| share.to_string()), Ok("a b".to_owned()));
    assert_eq!(ShareName::new(""), Err(TopicError::ShareNameMissing));
    for text in ["a/b", "+", "a#", "/"] {
        assert_eq!(ShareName::new(text), Err(TopicError::ShareNameInvalid));
    }
    assert_eq!(ShareName::new("a\0"), Err(TopicError::ContainsNul));
    assert_eq!(ShareName::new(&"a".repeat(65_536)), Err(TopicError::TooLong));
    let longest = share(&"a".repeat(65_535));
    assert_eq!(TopicFilter::shared(&longest, &filter("x")), Err(TopicError::TooLong));
}

#[test]
fn matching_follows_section_4_7() {
    let cases = [
        ("sport/tennis/player1/#", "sport/tennis/player1", true),
        ("sport/tennis/player1/#", "sport/tennis/player1/ranking", true),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
        ("sport/tennis/player1/#", "sport/tennis/player10", false),
        ("sport/#", "sport", true),
        ("sport/#", "sport/", true),
        ("#", "a", true),
        ("#", "/", true),
        ("sport/tennis/+", "sport/tennis/player1", true),
        ("sport/tennis/+", "sport/tennis/player1/ranking", false),
        ("sport/+", "sport", false),
        ("sport/+", "sport/", true),
        ("+/+", "/finance", true),
        ("/+", "/finance", true),
        ("+", "/finance", false),
        ("+/#", "a", true),
        ("a", "a/", false),
        ("a/", "a", false),
        ("a//b", "a/b", false),
        ("/a", "a", false),
    ];
    for (text, given, expected) in cases {
        let name = name(given);
        assert_eq!(filter(text).matches(&name), expected, "{text} {name}");
        assert_eq!(filter(&format!("$share/g/{text}")).matches(&name), expected);
    }
}

/// Also pitfall 7: `$` topics.
#[test]
fn a_first_wildcard_matches_no_dollar_topic_mqtt_4_7_2_1() {
    for text in ["#", "+", "+/#", "+/monitor", "$share/g/#", "$share/g/+/monitor"] {
        for reserved in ["$SYS", "$SYS/monitor", "$", "$share", "$x/monitor"] {
            assert!(!filter(text).matches(&name(reserved)), "{text} {reserved}");
        }
    }
    for text in ["$SYS/#", "$SYS/+", "$SYS/monitor", "$share/g/$SYS/+"] {
        assert!(filter(text).matches(&name("$SYS/monitor")), "{text}");
    }
    assert!(filter("a/+").matches(&name("a/$x")));
}

#[test]
fn texts_are_not_normalized_mqtt_4_7_3_4() {
    // Case, composed and decomposed characters, spaces and a byte order mark are all different.
    let texts = ["accounts", "ACCOUNTS", "é", "e\u{301}", " a", "a", "a ", "\u{feff}a", "./a"];
    for one in texts {
        for other in texts {
            assert_eq!(filter(one).matches(&name(other)), one == other, "{one:?} {other:?}");
        }
    }
}

/// Pitfall 6: many levels cost neither stack nor more than linear time.
#[test]
fn the_deepest_topics_are_checked_and_matched() {
    let deepest = "/".repeat(65_535);
    let longest = name(&deepest);
    assert_eq!((longest.levels(), levels("a"), levels("a/b"), levels("/")), (65_536, 1, 2, 2));
    assert!(filter(&deepest).matches(&longest));
    let wild = format!("{}+", "+/".repeat(32_767));
    assert_eq!(filter(&wild).levels(), 32_768);
    assert!(!filter(&wild).matches(&longest));
    assert!(filter(&wild).matches(&name(&deepest[..32_767])));
}

#[test]
fn the_types_are_texts() {
    let text = name("a/b");
    assert_eq!("a/b".parse(), Ok(text.clone()));
    assert_eq!(TopicName::try_from("a/b"), Ok(text.clone()));
    assert_eq!(TopicName::try_from("a/b".to_owned()), Ok(text.clone()));
    assert_eq!((text.to_string(), text.as_ref()), ("a/b".to_owned(), "a/b"));
    assert_eq!(format!("{:?}", name("\n")), r#"TopicName("\n")"#);
    assert_eq!(HashMap::from([(text, 1)]).get("a/b"), Some(&1));
    assert_eq!(BTreeMap::from([(filter("a/+"), 1)]).get("a/+"), Some(&1));
    assert_eq!(std::mem::size_of::<TopicFilter>(), 16);
}

proptest! {
    #[test]
    fn matching_agrees_with_the_model(wanted in any_filter(), given in any_name()) {
        let expected = naive_matches(&wanted, &given);
        prop_assert_eq!(name_matches(&wanted, &given), expected);
        prop_assert_eq!(filter(&wanted).matches(&name(&given)), expected);
    }

    #[test]
    fn a_name_is_a_filter_that_matches_itself_alone(one in any_name(), other in any_name()) {
        prop_assert_eq!(name_matches(&one, &other), one == other);
    }

    /// Pitfall 7, and the whole grammar: what is accepted is what the rules accept, read as a
    /// list of levels.
    #[test]
    fn any_text_is_a_filter_or_an_error(
        start in prop_oneof![Just(""), Just("$share"), Just("$share/"), Just("$share/g/")],
        end in "[a+#/$]{0,8}",
    ) {
        let text = format!("{start}{end}");
        let levels: Vec<&str> = text.split('/').collect();
        let shared = levels[0] == "$share" && levels.len() > 1;
        let inner = if shared { levels.get(2..).unwrap_or_default() } else { &levels };
        let share_is_valid = !shared || !(levels[1].is_empty() || levels[1].contains(['+', '#']));
        let wildcards_are_valid = inner.iter().enumerate().all(|(at, level)| match *level {
            "#" => at == inner.len() - 1,
            "+" => true,
            _ => !level.contains(['+', '#']),
        });
        let is_valid = share_is_valid && wildcards_are_valid && !inner.join("/").is_empty();
        prop_assert_eq!(TopicFilter::new(&text).is_ok(), is_valid, "{}", text);
    }

    #[test]
    fn no_text_is_too_strange(text in any::<String>()) {
        prop_assert_eq!(TopicName::new(&text).is_ok(), check_name(&text).is_ok());
        if let Ok(name) = TopicName::new(&text) {
            prop_assert_eq!(filter("#").matches(&name), !text.starts_with('$'));
        }
        if let Ok(filter) = TopicFilter::new(&text) {
            prop_assert_eq!(filter.as_str(), text);
        }
    }
}
