//! Retained messages against a list.

use std::collections::BTreeMap;

use super::input::Input;
use super::topics::matches;
use crate::retained::{Full, Retained, Step};
use crate::time::Timestamp;
use crate::topic::check_filter;

const LEVELS: [&str; 12] = ["a", "b", "", "a!", "a0", "$s", "c", "é", "/", "+", "#", "%"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kept {
    value: u32,
    bytes: usize,
    expires_at: Option<Timestamp>,
}

/// What is retained, with the bounds and the time.
struct Model {
    kept: BTreeMap<String, Kept>,
    messages_max: usize,
    bytes_max: usize,
    now: Timestamp,
}

impl Model {
    fn bytes(&self) -> usize {
        self.kept.values().map(|kept| kept.bytes).sum()
    }
}

pub(super) fn retained(data: &[u8]) {
    let mut input = Input::new(data);
    let messages_max = usize::from(input.byte());
    let bytes_max = usize::from(input.two_bytes());
    let mut model = Model { kept: BTreeMap::new(), messages_max, bytes_max, now: Timestamp(0) };
    let mut retained = Retained::new(messages_max, bytes_max);
    let mut next = 0;
    while !input.is_empty() {
        match input.below(8) {
            0..=2 => {
                next += 1;
                set(&mut retained, &mut model, &mut input, next);
            }
            3 => {
                let topic = any_text(&mut input);
                let old = model.kept.remove(&topic).map(|kept| kept.value);
                assert_eq!(retained.clear(&topic), old);
            }
            4 => model.now = Timestamp(model.now.0 + u64::from(input.byte())),
            5 => expire(&mut retained, &mut model, input.below(5)),
            _ => {
                let filter = any_text(&mut input);
                if check_filter(&filter).is_ok() && !filter.starts_with("$share/") {
                    search(&retained, &model, &filter, input.below(9) + 1);
                }
            }
        }
        assert_eq!((retained.len(), retained.bytes()), (model.kept.len(), model.bytes()));
        assert!(retained.len() <= messages_max && retained.bytes() <= bytes_max);
        let soonest = model.kept.values().filter_map(|kept| kept.expires_at).min();
        assert_eq!(retained.next_expiry(), soonest);
    }
}

fn any_text(input: &mut Input<'_>) -> String {
    let depth = 1 + input.below(5);
    let levels: Vec<_> = (0..depth).map(|_| input.choose(&LEVELS)).collect();
    levels.join("/")
}

fn set(retained: &mut Retained<u32>, model: &mut Model, input: &mut Input<'_>, value: u32) {
    let topic = any_text(input);
    if topic.contains(['+', '#']) {
        return;
    }
    let bytes = usize::from(input.byte());
    let expiry = input.byte();
    let expires_at = (expiry > 127).then(|| Timestamp(model.now.0 + u64::from(expiry)));
    let old = model.kept.remove(&topic);
    let fits = model.kept.len() < model.messages_max && model.bytes() + bytes <= model.bytes_max;
    let old = old.map(|kept| kept.value);
    let done = retained.set(&topic, value, bytes, expires_at);
    if fits {
        model.kept.insert(topic, Kept { value, bytes, expires_at });
        assert_eq!(done, Ok(old));
    } else {
        assert_eq!(done, Err(Full { refused: value, replaced: old }), "MQTT-3.3.1-5");
    }
}

/// Removes as many as are asked for, soonest first.
fn expire(retained: &mut Retained<u32>, model: &mut Model, count: usize) {
    let removed: Vec<_> = retained.expire(model.now).take(count).collect();
    let over = model.kept.values().filter(|kept| kept.expires_at.is_some_and(|at| at <= model.now));
    assert_eq!(removed.len(), over.count().min(count));
    let mut last = Timestamp(0);
    for value in removed {
        let topic = model.kept.iter().find(|(_, kept)| kept.value == value);
        let topic = topic.map(|(topic, _)| topic.clone()).unwrap_or_default();
        let at = model.kept.remove(&topic).and_then(|kept| kept.expires_at);
        assert!(at.is_some_and(|at| at >= last && at <= model.now), "{at:?} after {last:?}");
        last = at.unwrap_or_default();
    }
}

/// A search that pauses after so many steps finds what the list has, in its order.
fn search(retained: &Retained<u32>, model: &Model, filter: &str, steps: usize) {
    let wanted = model.kept.iter().filter(|(topic, kept)| {
        matches(filter, topic) && kept.expires_at.is_none_or(|at| at > model.now)
    });
    let mut wanted = wanted.map(|(topic, kept)| (topic.as_str(), kept.value));
    let mut after = None;
    // Each step looks at one topic at least.
    let mut turns = 2 * model.kept.len() + 2;
    loop {
        assert!(turns > 0, "the search of {filter:?} never ends");
        turns -= 1;
        let mut left = steps;
        match retained.next_match(filter, after, model.now, &mut left) {
            Step::Found(topic, value) => {
                assert_eq!(wanted.next(), Some((topic, *value)), "{filter:?}");
                after = Some(topic);
            }
            Step::Paused(topic) => {
                assert!(after.unwrap_or_default() <= topic);
                after = Some(topic);
            }
            Step::End => break,
        }
    }
    assert_eq!(wanted.next(), None, "{filter:?}");
}
