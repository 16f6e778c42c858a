//! The whole broker in one thread, with a virtual clock and faulty links, many times: each seed is another run of
//! several clients of every version, held against a model.
//!
//! ```text
//! cargo test -p hrotti-conformance --test simulation                                   some hundred seeds
//! HROTTI_SEEDS=100000 cargo test --release -p hrotti-conformance --test simulation -- --nocapture
//! HROTTI_SEED=17 cargo test -p hrotti-conformance --test simulation seeds -- --nocapture   one again, byte by byte
//! ```
#![allow(clippy::unwrap_used, clippy::panic)] // tests fail by panicking

#[path = "simulation/checks.rs"]
mod checks;
#[path = "simulation/device.rs"]
mod device;
#[path = "simulation/model.rs"]
mod model;
#[path = "simulation/story.rs"]
mod story;

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};

use hrotti::testing::Event;
use story::{Figures, Story};

/// Runs of a test that nobody has asked for more.
const SEEDS: u64 = 200;

fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Seeds that may fail before a run gives up.
const FAILURES_MAX: usize = 10;

/// Plays one seed. What is wrong comes with the command that plays it again.
fn play(seed: u64, told: bool) -> (Figures, u64) {
    let mut story = Story::new(seed, told);
    let played = catch_unwind(AssertUnwindSafe(|| story.play()));
    if told {
        story.world.trace().iter().for_each(|event| println!("{event}"));
    }
    let again = format!(
        "again: HROTTI_SEED={seed} cargo test -p hrotti-conformance --test simulation seeds -- --nocapture"
    );
    match played {
        Ok(Ok(())) => (story.figures, story.world.fingerprint()),
        Ok(Err(wrong)) => panic!("seed {seed}: {wrong}\n{again}"),
        Err(panic) => {
            println!("seed {seed} panicked; {again}");
            std::panic::resume_unwind(panic)
        }
    }
}

#[test]
fn seeds() {
    if let Some(seed) = number("HROTTI_SEED") {
        println!("{:#?}", play(seed, true).0);
        return;
    }
    let first = number("HROTTI_FIRST_SEED").unwrap_or(0);
    let seeds = number("HROTTI_SEEDS").unwrap_or(SEEDS);
    let mut figures = Figures::default();
    let mut failed = Vec::new();
    for seed in first..first + seeds {
        let played = catch_unwind(|| play(seed, false));
        match played {
            Ok((played, _)) => figures.add(played),
            Err(_) => failed.push(seed),
        }
        if failed.len() == FAILURES_MAX {
            break;
        }
        if figures.seeds.is_multiple_of(1_000) {
            println!("{} of {seeds} seeds", figures.seeds);
        }
    }
    println!("{figures:#?}");
    assert!(failed.is_empty(), "seeds {failed:?}");
    assert!(figures.deliveries > seeds && figures.cuts > 0 && figures.panics > 0);
}

/// Every byte on every link, with its time.
fn events(seed: u64) -> (u64, Vec<Event>) {
    let mut story = Story::new(seed, false);
    story.world.record(true);
    story.play().unwrap();
    (story.world.fingerprint(), story.world.trace())
}

#[test]
fn a_seed_is_the_same_run_each_time() {
    for seed in 1_000_000..1_000_005 {
        let (one, other) = (events(seed), events(seed));
        assert!(one.1.len() > 100 && one == other, "seed {seed}");
    }
}
