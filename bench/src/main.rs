//! A load tool for MQTT brokers: it measures what a message costs the broker, proves by sequence
//! numbers that all arrived, and sets brokers side by side in one run.
//!
//! One thread, hand-made packets and a readiness loop of its own, so that the tool stays far
//! cheaper than what it measures; its own cost stands in every table.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod args;
mod broker;
mod codec;
mod compare;
mod link;
mod load;
mod metric;
mod null;
mod poll;
mod process;
mod report;
mod scenario;
mod sequence;
mod stats;
mod target;
mod ws;

use std::path::Path;
use std::process::ExitCode;
use std::{env, fs, io};

use serde::Serialize;
use structopt::StructOpt;

use crate::args::{Args, Compare, Run};
use crate::broker::{Broker, Kind};
use crate::target::Target;

fn main() -> ExitCode {
    let result = match Args::from_args() {
        Args::Run(args) => run(&args),
        Args::Compare(args) => compare(&args),
        Args::Null => null::serve(),
        Args::List => {
            for scenario in scenario::all() {
                println!("{:<10} {}", scenario.name, scenario.about());
            }
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hrotti-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Run) -> io::Result<()> {
    let scenario = scenario::named(&args.scenario)?.with(&args.changes.overrides());
    let target = Target::new(&args.broker, args.pid)?;
    eprintln!("{scenario:?}");
    scenario.prepare();
    let outcome = scenario.run(&target)?;
    print!("{}", report::single(&outcome));
    args.json.as_deref().map_or(Ok(()), |path| write_json(path, &outcome))
}

fn compare(args: &Compare) -> io::Result<()> {
    let overrides = args.changes.overrides();
    let mut scenarios = Vec::new();
    for name in &args.scenarios {
        scenarios.push(scenario::named(name)?);
    }
    if scenarios.is_empty() {
        scenarios = scenario::all();
        scenarios.retain(|scenario| scenario.by_default);
    }
    let scenarios: Vec<_> =
        scenarios.into_iter().map(|scenario| scenario.with(&overrides)).collect();
    let brokers = chosen_brokers(args)?;
    let comparison = compare::compare(&brokers, &scenarios, args.rounds.max(1))?;
    let document = report::document(&comparison, &command_line());
    print!("{document}");
    if let Some(path) = &args.markdown {
        fs::write(path, &document).map_err(|error| naming(path, &error))?;
    }
    if let Some(path) = &args.json {
        write_json(path, &comparison)?;
    }
    if comparison.has_failures() {
        return Err(io::Error::other("some runs failed; the tables say which"));
    }
    Ok(())
}

/// hrotti and mosquitto, and the null broker if it is wanted; or those of them that were named.
fn chosen_brokers(args: &Compare) -> io::Result<Vec<Broker>> {
    let hrotti = args.hrotti.clone().unwrap_or_else(broker::default_hrotti);
    let mosquitto = args.mosquitto.clone().unwrap_or_else(broker::default_mosquitto);
    let mut brokers = vec![
        Broker { kind: Kind::Hrotti, binary: hrotti },
        Broker { kind: Kind::Mosquitto, binary: mosquitto },
        Broker { kind: Kind::Null, binary: env::current_exe()? },
    ];
    brokers.retain(|broker| {
        let (kind, only) = (broker.kind, &args.only);
        let named = only.iter().any(|name| name == kind.name());
        named || (if kind == Kind::Null { args.floor } else { only.is_empty() })
    });
    Ok(brokers)
}

/// How this program was called, without the paths of this machine.
fn command_line() -> String {
    let shown = |word: String| match Path::new(&word).file_name() {
        Some(name) if word.starts_with('/') => name.to_string_lossy().into_owned(),
        _ => word,
    };
    let words = env::args().skip(1).map(shown);
    ["hrotti-bench".to_owned()].into_iter().chain(words).collect::<Vec<_>>().join(" ")
}

fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    fs::write(path, text + "\n").map_err(|error| naming(path, &error))
}

fn naming(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
