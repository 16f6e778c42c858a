//! Flows of several parties and versions, against a model of what must be delivered.
//!
//! Every run draws others. A failure names the seed of its flow: `HROTTI_FLOWS_SEED=N` plays that one
//! again. `HROTTI_FLOWS_COUNT=N` plays N of them instead of 40.

use std::env;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::codec::ALL;
use crate::failure::Step;
use crate::flows::{Dice, Flow, Focus, play};
use crate::target::Server;

const FLOWS: u64 = 40;

fn number(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

fn flows(server: &Server, focus: Focus) -> Step {
    let seeds: Vec<u64> = match number("HROTTI_FLOWS_SEED") {
        Some(seed) => vec![seed],
        None => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let mut dice = Dice::new(u64::from(now.subsec_nanos()) ^ now.as_secs() << 30);
            (0..number("HROTTI_FLOWS_COUNT").unwrap_or(FLOWS)).map(|_| dice.next()).collect()
        }
    };
    for seed in seeds {
        let flow = Flow::draw(seed, focus, &server.spoken(ALL));
        play(server, &flow)
            .map_err(|failure| failure.within(format!("HROTTI_FLOWS_SEED={seed}\n{flow}")))?;
    }
    Ok(())
}

pub(crate) fn live(server: &Server) -> Step {
    flows(server, Focus::Live)
}

pub(crate) fn retained(server: &Server) -> Step {
    flows(server, Focus::Retained)
}

pub(crate) fn away(server: &Server) -> Step {
    flows(server, Focus::Away)
}

pub(crate) fn shared(server: &Server) -> Step {
    flows(server, Focus::Shared)
}
