//! The store of retained messages against a plain list.

use proptest::prelude::*;

use super::*;
use crate::topic::name_matches;
use crate::topic::tests::{any_filter, any_name};

impl<V> Retained<V> {
    /// What is retained for `topic`, unless it has expired.
    fn get(&self, topic: &str, now: Timestamp) -> Option<&V> {
        let entry = self.entries.get(topic)?;
        (!entry.has_expired(now)).then_some(&entry.value)
    }
}

const NOW: Timestamp = Timestamp(1_000);

fn retained(topics: &[&str]) -> Retained<u32> {
    let mut retained = Retained::new(usize::MAX, usize::MAX);
    for (topic, value) in topics.iter().zip(0..) {
        assert_eq!(retained.set(topic, value, 1, None), Ok(None));
    }
    retained
}

/// All that the cursor finds when it is given `budget` steps at a time, and how often it paused.
fn found<'a>(
    retained: &'a Retained<u32>,
    filter: &str,
    now: Timestamp,
    budget: usize,
) -> (Vec<(&'a str, u32)>, usize) {
    let (mut found, mut pauses, mut after, mut steps) = (Vec::new(), 0, None, budget);
    loop {
        match retained.next_match(filter, after, now, &mut steps) {
            Step::Found(topic, value) => {
                found.push((topic, *value));
                after = Some(topic);
            }
            Step::Paused(topic) => {
                assert_eq!(steps, 0);
                (after, steps) = (Some(topic), budget);
                pauses += 1;
            }
            Step::End => return (found, pauses),
        }
    }
}

/// How many topics are looked at to find all.
fn looks(retained: &Retained<u32>, filter: &str) -> usize {
    let (mut steps, mut after) = (usize::MAX, None);
    while let Step::Found(topic, _) = retained.next_match(filter, after, NOW, &mut steps) {
        after = Some(topic);
    }
    usize::MAX - steps
}

fn topics<'a>(retained: &'a Retained<u32>, filter: &str) -> Vec<&'a str> {
    found(retained, filter, NOW, usize::MAX).0.into_iter().map(|(topic, _)| topic).collect()
}

#[test]
fn a_newer_message_replaces_the_older_mqtt_3_3_1_5() {
    let mut retained = Retained::new(10, 100);
    assert_eq!(retained.set("a", 'x', 10, Some(Timestamp(2_000))), Ok(None));
    assert_eq!(retained.set("a", 'y', 30, Some(Timestamp(3_000))), Ok(Some('x')));
    assert_eq!((retained.len(), retained.bytes()), (1, 30));
    assert_eq!(retained.next_expiry(), Some(Timestamp(3_000)));
    assert_eq!(retained.set("a", 'z', 20, Some(Timestamp(3_000))), Ok(Some('y')));
    assert_eq!(retained.next_expiry(), Some(Timestamp(3_000)));
    assert_eq!(retained.set("a", 'w', 20, None), Ok(Some('z')));
    assert_eq!((retained.get("a", Timestamp::NEVER), retained.next_expiry()), (Some(&'w'), None));
    assert_eq!(retained.get("b", NOW), None);
}

#[test]
fn clearing_removes_the_message_mqtt_3_3_1_6() {
    let mut retained = Retained::new(10, 100);
    assert_eq!(retained.set("a", 'x', 10, Some(NOW)), Ok(None));
    assert_eq!(retained.set("a/b", 'y', 20, None), Ok(None));
    assert_eq!(retained.clear("a"), Some('x'), "although it has expired");
    assert_eq!(retained.clear("a"), None);
    assert_eq!((retained.len(), retained.bytes(), retained.next_expiry()), (1, 20, None));
    assert_eq!((retained.get("a", NOW), retained.get("a/b", NOW)), (None, Some(&'y')));
}

/// Pitfall 15: bounded in number and bytes.
#[test]
fn what_does_not_fit_is_given_back() {
    let refused = |refused, replaced| Err(Full { refused, replaced });
    let mut retained = Retained::new(2, 100);
    assert_eq!(retained.set("a", 'a', 101, None), refused('a', None));
    assert_eq!(retained.set("a", 'a', 60, Some(Timestamp(2_000))), Ok(None));
    assert_eq!(retained.set("b", 'b', 41, None), refused('b', None));
    assert_eq!(retained.set("b", 'b', usize::MAX, None), refused('b', None));
    assert_eq!(retained.set("b", 'b', 40, None), Ok(None));
    assert_eq!(retained.set("c", 'c', 0, None), refused('c', None), "two are there");
    assert_eq!(retained.set("b", 'B', 40, None), Ok(Some('b')), "at both bounds");
    assert_eq!((retained.len(), retained.bytes()), (2, 100));
    // MQTT-3.3.1-5: the old one is out of date, so it does not stay where the new one cannot go.
    assert_eq!(retained.set("a", 'A', 61, None), refused('A', Some('a')));
    assert_eq!((retained.len(), retained.bytes(), retained.next_expiry()), (1, 40, None));
    assert_eq!(Retained::new(0, 100).set("a", 'a', 0, None), refused('a', None));
    assert_eq!(Retained::new(1, 0).set("a", 'a', 0, None), Ok(None));
}

/// The newest state of each topic is worth more than a bound that is exceeded anyway.
#[test]
fn below_lower_bounds_what_is_retained_stays_and_is_replaced() {
    let mut retained = Retained::new(3, 100);
    for topic in ["a", "b", "c"] {
        assert_eq!(retained.set(topic, 'x', 10, None), Ok(None));
    }
    retained.set_bounds(1, 50);
    assert_eq!(retained.set("a", 'y', 20, None), Ok(Some('x')), "the bytes are within their bound");
    retained.set_bounds(1, 15);
    assert_eq!(retained.set("a", 'z', 20, None), Ok(Some('y')), "it takes no more than before");
    assert_eq!((retained.len(), retained.bytes()), (3, 40));
    assert_eq!(retained.set("d", 'd', 0, None), Err(Full { refused: 'd', replaced: None }));
    let refused = Err(Full { refused: 'w', replaced: Some('z') });
    assert_eq!(retained.set("a", 'w', 21, None), refused, "it would take more");
    assert_eq!((retained.len(), retained.bytes()), (2, 20));
}

#[test]
fn what_has_expired_is_not_found_and_is_removed_soonest_first() {
    let mut retained = Retained::new(10, 100);
    let times = [("e", 3_000), ("a", 1_001), ("b", 1_000), ("c", 999), ("d", 1_000)];
    for ((topic, at), value) in times.into_iter().zip(0..) {
        assert_eq!(retained.set(topic, value, 10, Some(Timestamp(at))), Ok(None));
    }
    assert_eq!(retained.set("f", 5, 10, None), Ok(None));
    assert_eq!(topics(&retained, "#"), ["a", "e", "f"]);
    assert_eq!(retained.get("b", NOW), None);
    assert_eq!(retained.get("b", Timestamp(999)), Some(&2));
    assert_eq!(retained.next_expiry(), Some(Timestamp(999)));
    assert_eq!(retained.expire(NOW).take(1).collect::<Vec<_>>(), [3]);
    assert_eq!((retained.len(), retained.bytes()), (5, 50), "the rest waits for the next call");
    assert_eq!(retained.expire(NOW).collect::<Vec<_>>(), [2, 4]);
    assert_eq!(retained.expire(NOW).count(), 0);
    assert_eq!((retained.len(), retained.bytes()), (3, 30));
    assert_eq!(retained.next_expiry(), Some(Timestamp(1_001)));
    assert_eq!(retained.expire(Timestamp::NEVER).count(), 2);
    assert_eq!((retained.len(), retained.bytes(), retained.next_expiry()), (1, 10, None));
}

#[test]
fn a_first_wildcard_finds_no_dollar_topic_mqtt_4_7_2_1() {
    let retained = retained(&["!", "#x", "$", "$SYS", "$SYS/a", "$a", "%", "a", "a/$b", "/$c"]);
    assert_eq!(topics(&retained, "#"), ["!", "#x", "%", "/$c", "a", "a/$b"]);
    assert_eq!(topics(&retained, "+"), ["!", "#x", "%", "a"]);
    assert_eq!(topics(&retained, "+/a"), Vec::<&str>::new());
    assert_eq!(topics(&retained, "$SYS/#"), ["$SYS", "$SYS/a"]);
    assert_eq!(looks(&retained, "#"), 8, "six, the first with $, and the end");
}

/// `!` and `-` come before `/`, `0` comes after it.
#[test]
fn characters_below_the_separator_hide_nothing() {
    let retained = retained(&["a", "a!", "a!/b", "a-/b/c", "a/", "a/!", "a/b", "a/b/c", "a0", "b"]);
    assert_eq!(topics(&retained, "a/#"), ["a", "a/", "a/!", "a/b", "a/b/c"]);
    assert_eq!(topics(&retained, "+"), ["a", "a!", "a0", "b"]);
    assert_eq!(topics(&retained, "+/b"), ["a!/b", "a/b"]);
    assert_eq!(topics(&retained, "+/b/#"), ["a!/b", "a-/b/c", "a/b", "a/b/c"]);
    assert_eq!(topics(&retained, "a/+"), ["a/", "a/!", "a/b"]);
    assert_eq!(topics(&retained, "a"), ["a"]);
    assert_eq!(topics(&retained, "a!/#"), ["a!", "a!/b"]);
}

#[test]
fn whole_levels_are_jumped_over() {
    let mut retained = Retained::new(usize::MAX, usize::MAX);
    for device in 0..50 {
        for value in 0..40 {
            let topic = format!("dev{device:02}/value/{value:02}");
            assert_eq!(retained.set(&topic, 0, 1, None), Ok(None));
        }
        assert_eq!(retained.set(&format!("dev{device:02}/status"), 1, 1, None), Ok(None));
    }
    assert_eq!(topics(&retained, "+/status").len(), 50);
    // At most: where a device begins, its status; then the end.
    assert_eq!(looks(&retained, "+/status"), 51);
    assert_eq!(topics(&retained, "+/value/07").len(), 50);
    assert!(looks(&retained, "+/value/07") <= 101, "{}", looks(&retained, "+/value/07"));
    assert_eq!(topics(&retained, "dev07/value/+").len(), 40);
    assert!(looks(&retained, "dev07/value/+") <= 41);
    assert_eq!(topics(&retained, "dev07/#").len(), 41);
    assert!(looks(&retained, "dev07/#") <= 42);
    assert_eq!(looks(&retained, "dev07/status"), 1);
    assert!(topics(&retained, "+").is_empty());
    assert!(looks(&retained, "+") <= 51, "{}", looks(&retained, "+"));
    assert_eq!(looks(&retained, "nothing/#"), 1);
}

#[test]
fn a_budget_pauses_and_is_never_exceeded() {
    let retained = retained(&["a/1", "a/2", "b/1", "b/2", "c/1"]);
    let mut steps = 0;
    assert_eq!(retained.next_match("#", None, NOW, &mut steps), Step::Paused(""));
    assert_eq!(retained.next_match("#", Some("b"), NOW, &mut steps), Step::Paused("b"));
    steps = 3;
    assert_eq!(retained.next_match("+/2", None, NOW, &mut steps), Step::Found("a/2", &1));
    assert_eq!(steps, 1);
    assert_eq!(retained.next_match("+/2", Some("a/2"), NOW, &mut steps), Step::Paused("b/1"));
    assert_eq!(steps, 0);
    steps = 9;
    assert_eq!(retained.next_match("+/2", Some("b/1"), NOW, &mut steps), Step::Found("b/2", &3));
    assert_eq!(retained.next_match("+/2", Some("b/2"), NOW, &mut steps), Step::End);
    let (all, pauses) = found(&retained, "#", NOW, 1);
    assert_eq!((all.len(), pauses), (5, 5));
}

/// Where texts are long, they are what takes time.
#[test]
fn long_texts_take_more_steps() {
    let long = "x/".repeat(3_200);
    let topics: Vec<String> = (0..10).map(|at| format!("{long}{at}")).collect();
    let retained = retained(&topics.iter().map(String::as_str).collect::<Vec<_>>());
    let bytes = topics.iter().map(String::len).sum::<usize>();
    for filter in [&format!("{long}+"), &format!("{}+", "+/".repeat(3_200)), "#"] {
        assert_eq!(self::topics(&retained, filter).len(), 10);
    }
    let looked = looks(&retained, &format!("{long}none"));
    assert!((100..400).contains(&looked), "one place and one look: {looked}");
    let looked = looks(&retained, &format!("+/{}none", &long[2..]));
    assert!((100..1_000).contains(&looked), "{looked}");
    let looked = looks(&retained, &format!("{long}+/none"));
    assert!((bytes / 32..4 * bytes / 32).contains(&looked), "each is looked at: {looked}");
    assert_eq!(looks(&retained, "y/+"), 1);
    let (all, pauses) = found(&retained, &format!("{long}+"), NOW, 150);
    assert_eq!(all.len(), 10);
    assert!(pauses >= 9, "each takes more than there are: {pauses}");
}

/// A subscriber's cursor waits for room between two steps, and publishers go on meanwhile.
#[test]
fn a_cursor_goes_on_although_its_topic_is_gone() {
    let mut retained = retained(&["a", "b", "c", "d"]);
    let mut steps = usize::MAX;
    assert_eq!(retained.next_match("#", Some("a"), NOW, &mut steps), Step::Found("b", &1));
    assert_eq!(retained.clear("b"), Some(1));
    assert_eq!(retained.clear("c"), Some(2));
    assert_eq!(retained.set("bb", 9, 1, None), Ok(None));
    assert_eq!(retained.next_match("#", Some("b"), NOW, &mut steps), Step::Found("bb", &9));
    assert_eq!(retained.next_match("#", Some("bb"), NOW, &mut steps), Step::Found("d", &3));
}

/// Pitfall 6: many levels cost neither stack nor more than linear time.
#[test]
fn the_deepest_topics_are_found() {
    let deepest = "/".repeat(65_535);
    let retained = retained(&[&deepest, &deepest[1..], "a"]);
    assert_eq!(topics(&retained, "#").len(), 3);
    assert_eq!(topics(&retained, &deepest), [&deepest]);
    assert_eq!(topics(&retained, &"+/".repeat(32_767)), Vec::<&str>::new());
    assert_eq!(topics(&retained, &format!("{}#", &deepest[..65_000])).len(), 2);
}

proptest! {
    #[test]
    fn the_cursor_agrees_with_looking_at_all(
        given in prop::collection::btree_map(any_name(), 0..2_000_u64, 0..60),
        filter in any_filter(),
        budget in prop_oneof![Just(1_usize), 2..9_usize, Just(usize::MAX)],
    ) {
        let mut retained = Retained::new(usize::MAX, usize::MAX);
        let mut expected = Vec::new();
        for ((topic, expires_at), value) in given.iter().zip(0..) {
            let expires_at = (*expires_at > 500).then_some(Timestamp(*expires_at));
            prop_assert_eq!(retained.set(topic, value, 1, expires_at), Ok(None));
            let has_expired = expires_at.is_some_and(|at| at <= NOW);
            if !has_expired && crate::topic::tests::naive_matches(&filter, topic) {
                expected.push((topic.as_str(), value));
            }
        }
        prop_assert_eq!(found(&retained, &filter, NOW, budget).0, expected);
    }

    /// The seek goes forward and jumps over nothing that matches.
    #[test]
    fn a_seek_is_past_the_topic_and_not_past_a_match(
        filter in any_filter(),
        topic in any_name(),
        later in any_name(),
    ) {
        let mut place = "what the last look left".to_owned();
        let look = look(&filter, &topic, &mut place);
        prop_assert_eq!(look.matches, name_matches(&filter, &topic));
        let passes = match look.seek {
            Seek::Next => false,
            Seek::Place => {
                prop_assert!(place > topic, "{place:?}");
                later < place
            }
            Seek::End => true,
        };
        prop_assert!(!(passes && later > topic && name_matches(&filter, &later)));
    }

    #[test]
    fn any_sequence_of_changes_keeps_the_books(
        changes in prop::collection::vec((0..4_u8, 0..8_usize, 0..40_usize, 0..30_u64), 0..120),
    ) {
        let mut retained = Retained::new(5, 100);
        let mut model: BTreeMap<String, (u32, usize, Option<Timestamp>)> = BTreeMap::new();
        for ((what, topic, bytes, time), value) in changes.into_iter().zip(0_u32..) {
            let topic = format!("t/{topic}");
            match what {
                0 => prop_assert_eq!(retained.clear(&topic), model.remove(&topic).map(|kept| kept.0)),
                1 => {
                    let mut gone: Vec<u32> = retained.expire(Timestamp(time)).collect();
                    gone.sort_unstable();
                    let is_kept = |at: Option<Timestamp>| at.is_none_or(|at| at > Timestamp(time));
                    let mut expected: Vec<u32> =
                        model.values().filter(|kept| !is_kept(kept.2)).map(|kept| kept.0).collect();
                    expected.sort_unstable();
                    prop_assert_eq!(gone, expected);
                    model.retain(|_, kept| is_kept(kept.2));
                }
                _ => {
                    let at = (time < 25).then_some(Timestamp(time));
                    let replaced = model.remove(&topic).map(|kept| kept.0);
                    let total: usize = model.values().map(|kept| kept.1).sum();
                    let expected = if model.len() < 5 && total + bytes <= 100 {
                        model.insert(topic.clone(), (value, bytes, at));
                        Ok(replaced)
                    } else {
                        Err(Full { refused: value, replaced })
                    };
                    prop_assert_eq!(retained.set(&topic, value, bytes, at), expected);
                }
            }
            prop_assert_eq!(retained.len(), model.len());
            prop_assert_eq!(retained.bytes(), model.values().map(|kept| kept.1).sum::<usize>());
            prop_assert_eq!(retained.next_expiry(), model.values().filter_map(|kept| kept.2).min());
            prop_assert!(retained.len() <= 5 && retained.bytes() <= 100);
        }
    }
}

#[test]
fn what_is_kept_apart_is_found_and_counts_for_no_bound() {
    let mut retained = Retained::new(1, 10);
    assert!(retained.is_empty());
    for topic in ["$SYS/a", "$SYS/b", "$SYS/a"] {
        retained.keep(topic, 'x');
    }
    assert_eq!((retained.len(), retained.bytes(), retained.is_empty()), (0, 0, false));
    assert_eq!(retained.set("a", 'a', 10, None), Ok(None), "they take no room");
    assert_eq!(retained.set("b", 'b', 1, None), Err(Full { refused: 'b', replaced: None }));
    retained.keep("$SYS/c", 'x');
    assert_eq!((retained.len(), retained.bytes()), (1, 10));
    let found = |retained: &Retained<char>, filter: &str| {
        let (mut after, mut steps) = (None, usize::MAX);
        let mut count = 0;
        while let Step::Found(topic, _) = retained.next_match(filter, after, NOW, &mut steps) {
            (after, count) = (Some(topic), count + 1);
        }
        count
    };
    assert_eq!((found(&retained, "$SYS/#"), found(&retained, "#")), (3, 1));
    assert_eq!(retained.clear("$SYS/a"), Some('x'));
    // The program that runs the broker may publish there: its message counts.
    assert_eq!(retained.clear("a"), Some('a'));
    assert_eq!(retained.set("$SYS/b", 'y', 4, None), Ok(None));
    assert_eq!((retained.len(), retained.bytes(), found(&retained, "$SYS/#")), (1, 4, 2));
    retained.keep("$SYS/b", 'z');
    assert_eq!((retained.len(), retained.bytes(), found(&retained, "$SYS/#")), (0, 0, 2));
}
