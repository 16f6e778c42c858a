//! Retained messages: set, cleared and searched among many.

use std::hint::black_box;

use super::{Operation, Scale};
use crate::message::Message;
use crate::retained::{Retained, Step};
use crate::time::Timestamp;

const NOW: Timestamp = Timestamp(1);
/// Messages set in one run.
const BATCH: usize = 256;
/// Devices of one site, each with a topic of its own.
const DEVICES: usize = 100;

fn topic(number: usize) -> String {
    format!("site/{}/device-{}/temperature", number / DEVICES, number % DEVICES)
}

fn message(number: usize) -> Message {
    Message::new(&topic(number), [b'x'; 64]).expect("a Topic Name").with_retain(true)
}

fn set(retained: &mut Retained<Message>, message: &Message) -> usize {
    let set = retained.set(message.topic(), message.clone(), message.size_bytes(), None);
    usize::from(set.is_ok())
}

fn retained(size: usize) -> Retained<Message> {
    let mut retained = Retained::new(usize::MAX, usize::MAX);
    for number in 0..size {
        set(&mut retained, &message(number));
    }
    retained
}

pub(super) fn operations(scale: Scale) -> Vec<Operation> {
    let mut all = Vec::new();
    for size in scale.sizes(&[1_000, 100_000]) {
        all.push(replace(size));
        all.push(set_and_clear(size));
        all.push(search("exact", "site/7/device-7/temperature", size, 1));
        all.push(search("plus", "site/7/+/temperature", size, DEVICES));
        all.push(search("multi", "site/7/#", size, DEVICES));
        // One in each site, and as many jumps.
        all.push(search("jumps", "site/+/device-7/temperature", size, size / DEVICES));
        all.push(search("nothing", "site/7/+/pressure", size, 0));
    }
    all.push(search_long());
    all
}

fn replace(size: usize) -> Operation {
    Operation::new("retained", format!("replace/{size}"), BATCH as u64, BATCH, move || {
        let mut retained = retained(size);
        let messages: Vec<Message> =
            (0..BATCH).map(|number| message(number * 7_919 % size)).collect();
        move || messages.iter().map(|message| set(&mut retained, black_box(message))).sum()
    })
}

fn set_and_clear(size: usize) -> Operation {
    Operation::new("retained", format!("set-and-clear/{size}"), BATCH as u64, BATCH, move || {
        let mut retained = retained(size);
        let messages: Vec<Message> = (size..size + BATCH).map(message).collect();
        move || {
            let set: usize = messages.iter().map(|one| set(&mut retained, black_box(one))).sum();
            for message in &messages {
                black_box(retained.clear(message.topic()));
            }
            if retained.len() == size { set } else { 0 }
        }
    })
}

/// Finds all that match; an element is a message found, or the search itself where there is none.
fn search(name: &str, filter: &'static str, size: usize, found: usize) -> Operation {
    let name = format!("search-{name}/{size}");
    Operation::new("retained", name, found.max(1) as u64, found, move || {
        let retained = retained(size);
        move || {
            let (mut found, mut after, mut steps) = (0, None, usize::MAX);
            while let Step::Found(topic, message) =
                retained.next_match(black_box(filter), after, NOW, &mut steps)
            {
                black_box(message);
                found += 1;
                after = Some(topic);
            }
            found
        }
    })
}

/// Topics of 60 KB and a filter that is like them to the last level; an element is a step.
fn search_long() -> Operation {
    const TOPICS: usize = 100;
    const LEVELS: usize = 30_000;
    let steps = TOPICS * (2 * LEVELS / 32 + 1);
    Operation::new("retained", "search-long", steps as u64, 0, || {
        let mut retained = Retained::new(usize::MAX, usize::MAX);
        for number in 0..TOPICS {
            let topic = format!("{}{number}", "x/".repeat(LEVELS));
            assert!(retained.set(&topic, message(number), topic.len(), None).is_ok());
        }
        let filter = format!("{}+/none", "x/".repeat(LEVELS));
        move || {
            let mut steps = usize::MAX;
            match retained.next_match(black_box(&filter), None, NOW, &mut steps) {
                Step::Found(..) | Step::Paused(_) => 1,
                Step::End => 0,
            }
        }
    })
}
