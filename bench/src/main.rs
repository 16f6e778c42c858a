//! A load tool for MQTT brokers: it measures what a message costs the broker, proves by sequence
//! numbers that all arrived, and sets brokers side by side in one run.
//!
//! One thread, hand-made packets and a readiness loop of its own, so that the tool stays far
//! cheaper than what it measures; its own cost stands in every table.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod access;
mod admin;
mod args;
mod attack;
mod broker;
mod certificate;
mod chart;
mod codec;
mod compare;
mod goal;
mod link;
mod load;
mod metric;
mod null;
mod poll;
mod process;
mod progress;
mod report;
mod scenario;
mod scrape;
mod sequence;
mod stats;
mod target;
mod tls;
mod ws;

use std::path::Path;
use std::process::ExitCode;
use std::{env, fs, io};

use serde::Serialize;
use structopt::StructOpt;

use crate::args::{Args, Attack, Compare, Documents, Report, Run, Scrape};
use crate::compare::Comparison;
use crate::target::Target;

fn main() -> ExitCode {
    let result = match Args::from_args() {
        Args::Run(args) => run(&args),
        Args::Compare(args) => compare(&args),
        Args::Report(args) => report_again(&args),
        Args::Attack(args) => attack(&args),
        Args::Scrape(args) => scrape(&args),
        Args::Null => null::serve(),
        Args::List => {
            println!("* is what `compare` runs when nothing is named");
            for scenario in scenario::all() {
                let mark = if scenario.by_default { '*' } else { ' ' };
                println!("{mark} {:<27} {}", scenario.name, scenario.about());
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
        scenarios.retain(|scenario| args.all || scenario.by_default);
    }
    let scenarios: Vec<_> =
        scenarios.into_iter().map(|scenario| scenario.with(&overrides)).collect();
    let mut choice = broker::choose(&args.brokers)?;
    if args.observed {
        choice.add_observed()?;
    }
    let command = command_line(env::args().skip(1));
    let keep = |comparison: &Comparison| {
        args.json.as_deref().map_or(Ok(()), |path| write_json(path, comparison))
    };
    let comparison = compare::compare(&choice, &scenarios, args.rounds.max(1), &command, keep)?;
    write_documents(&args.documents, &comparison)?;
    if comparison.is_bad() {
        return Err(io::Error::other("hrotti failed or lost messages; the tables say where"));
    }
    Ok(())
}

fn attack(args: &Attack) -> io::Result<()> {
    let plan = attack::Plan::new(args)?;
    let choice = broker::choose(&args.brokers)?;
    let command = command_line(env::args().skip(1));
    let siege = attack::run(&plan, &choice, &command)?;
    let document = attack::report::document(&siege);
    print!("{document}");
    if let Some(path) = &args.markdown {
        fs::write(path, &document).map_err(|error| naming(path, &error))?;
    }
    args.json.as_deref().map_or(Ok(()), |path| write_json(path, &siege))?;
    if siege.is_bad() {
        return Err(io::Error::other(
            "hrotti failed under attack; the lines below the tables say how",
        ));
    }
    Ok(())
}

fn scrape(args: &Scrape) -> io::Result<()> {
    let hrotti = broker::observed_hrotti(args.hrotti.clone())?;
    let command = command_line(env::args().skip(1));
    let seen = scrape::run(&hrotti, args, &command)?;
    let document = scrape::document(&seen);
    print!("{document}");
    if let Some(path) = &args.markdown {
        fs::write(path, &document).map_err(|error| naming(path, &error))?;
    }
    args.json.as_deref().map_or(Ok(()), |path| write_json(path, &seen))
}

fn report_again(args: &Report) -> io::Result<()> {
    let text = fs::read_to_string(&args.json).map_err(|error| naming(&args.json, &error))?;
    let comparison: Comparison = serde_json::from_str(&text)?;
    write_documents(&args.documents, &comparison)?;
    if let Some(path) = &args.readme {
        let text = fs::read_to_string(path).map_err(|error| naming(path, &error))?;
        let text = report::readme::rewritten(&text, &comparison).map_err(io::Error::other);
        let text = text.map_err(|error| naming(path, &error))?;
        fs::write(path, text).map_err(|error| naming(path, &error))?;
    }
    Ok(())
}

fn write_documents(to: &Documents, comparison: &Comparison) -> io::Result<()> {
    let document = report::document(comparison);
    print!("{document}");
    if let Some(path) = &to.markdown {
        fs::write(path, &document).map_err(|error| naming(path, &error))?;
    }
    if let Some(path) = &to.charts {
        chart::write(path, comparison).map_err(|error| naming(path, &error))?;
    }
    Ok(())
}

/// How this program was called, without the paths of this machine.
fn command_line(words: impl Iterator<Item = String>) -> String {
    let shown = |word: String| {
        let (option, value) = match word.split_once('=') {
            Some((option, value)) if option.starts_with("--") => (format!("{option}="), value),
            _ => (String::new(), word.as_str()),
        };
        match Path::new(value).file_name() {
            Some(name) if value.starts_with('/') => option + &name.to_string_lossy(),
            _ => word,
        }
    };
    let words = words.map(shown);
    ["hrotti-bench".to_owned()].into_iter().chain(words).collect::<Vec<_>>().join(" ")
}

fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    fs::write(path, text + "\n").map_err(|error| naming(path, &error))
}

fn naming(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_names_no_path_of_the_machine() {
        let words = ["compare", "--hrotti", "/a/b/hrotti", "--json=/tmp/x.json", "--charts", "c/d"];
        let line = command_line(words.into_iter().map(str::to_owned));
        assert_eq!(line, "hrotti-bench compare --hrotti hrotti --json=x.json --charts c/d");
    }
}
