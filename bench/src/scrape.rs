//! What a scrape of the metrics costs a hrotti that has many Sessions.

use std::io;
use std::time::Instant;

use serde::Serialize;

use crate::admin::{Admin, value};
use crate::args;
use crate::broker::Broker;
use crate::goal::{SCRAPE_MS_AT_MOST, SCRAPE_SESSIONS};
use crate::link::Link;
use crate::load::idle::{open_all, rest};
use crate::load::{Needs, Setting};
use crate::process::{machine, raise_descriptor_limit};
use crate::report::{show, table};
use crate::stats::Spread;
use crate::target::{Target, Transport};

/// Descriptors that the tool and the broker need for themselves.
const SPARE_DESCRIPTORS: u64 = 100;

/// All that a run found. No path of the machine is in it.
#[derive(Debug, Serialize)]
pub(crate) struct Scrapes {
    tool: String,
    command: String,
    machine: String,
    version: String,
    configuration: String,
    sessions: u64,
    /// Scrapes of each round.
    scrapes: u32,
    /// CPU of a scrape that hrotti means not to exceed, in ms, and with how many Sessions.
    at_most_ms: f64,
    at_most_with: u64,
    rounds: Vec<Round>,
}

/// Scrapes one after the other.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Round {
    /// Of all threads of the broker, for each scrape.
    cpu_ms: f64,
    /// From the request to the last byte.
    wall_ms: Spread,
    /// Of the page, without the head.
    bytes: usize,
}

/// Connects the Clients, lets the broker rest, and scrapes.
///
/// # Errors
///
/// When not all Clients can connect, a scrape fails, or the metrics do not have the Sessions.
pub(crate) fn run(broker: &Broker, args: &args::Scrape, command: &str) -> io::Result<Scrapes> {
    let wanted = args.sessions + SPARE_DESCRIPTORS;
    let limit = raise_descriptor_limit(wanted);
    if limit < wanted {
        let most = limit.saturating_sub(SPARE_DESCRIPTORS);
        let text =
            format!("{limit} descriptors are allowed: raise `ulimit -n`, or --sessions {most}");
        return Err(io::Error::other(text));
    }
    let running = broker.start(Setting::Open)?;
    let target = running.target(Needs::over(Transport::Tcp))?;
    let address = running.admin().ok_or_else(|| io::Error::other("it has no admin listener"))?;
    let (links, failure) = open_all(target, args.sessions, 1);
    if let Some(error) = failure {
        let text = format!("stopped at {} Sessions: {error}", links.len());
        return Err(io::Error::new(error.kind(), text));
    }
    rest(target)?;
    let mut admin = Admin::open(address)?;
    // It is not measured: the first one also finds what the broker keeps for the later ones.
    check(&admin.metrics()?, args.sessions)?;
    let scrapes = args.scrapes.max(1);
    let rounds = (0..args.rounds.max(1)).map(|_| round(target, &mut admin, scrapes));
    let rounds = rounds.collect::<io::Result<_>>()?;
    links.into_iter().for_each(Link::close);
    Ok(Scrapes {
        tool: concat!("hrotti-bench ", env!("CARGO_PKG_VERSION")).to_owned(),
        command: command.to_owned(),
        machine: machine(),
        version: broker.version(),
        configuration: broker.configuration(&[Setting::Open].into()),
        sessions: args.sessions,
        scrapes,
        at_most_ms: SCRAPE_MS_AT_MOST,
        at_most_with: SCRAPE_SESSIONS,
        rounds,
    })
}

/// That these metrics are those of a broker with so many Sessions and Subscriptions.
fn check(metrics: &str, sessions: u64) -> io::Result<()> {
    for name in ["hrotti_sessions", "hrotti_subscriptions"] {
        let seen = value(metrics, name);
        if seen.is_none_or(|seen| seen < sessions as f64) {
            let seen = seen.map_or_else(|| "nothing".to_owned(), |seen| seen.to_string());
            return Err(io::Error::other(format!("{name} is {seen} instead of {sessions}")));
        }
    }
    Ok(())
}

fn round(target: &Target, admin: &mut Admin, scrapes: u32) -> io::Result<Round> {
    let before = target.cpu()?;
    let (mut walls, mut bytes) = (Vec::new(), 0);
    for _ in 0..scrapes {
        let begin = Instant::now();
        bytes = admin.metrics()?.len();
        walls.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    let used = before.zip(target.cpu()?).map(|(before, after)| after.ns_since(&before));
    let used = used.ok_or_else(|| io::Error::other("the broker's CPU cannot be read"))?;
    let cpu_ms = used as f64 / 1e6 / f64::from(scrapes);
    let wall_ms = Spread::of(walls).ok_or_else(|| io::Error::other("no scrape"))?;
    Ok(Round { cpu_ms, wall_ms, bytes })
}

/// The whole document.
pub(crate) fn document(seen: &Scrapes) -> String {
    let all = |get: fn(&Round) -> f64| Spread::of(seen.rounds.iter().map(get));
    let shown = |spread: Option<Spread>, digits| {
        spread.map_or_else(String::new, |spread| show(spread, digits))
    };
    let cpu = all(|round| round.cpu_ms);
    let verdict = match cpu {
        Some(cpu) if cpu.median > seen.at_most_ms => "**MISSED**",
        // Few Sessions show nothing of many.
        Some(_) if seen.sessions >= seen.at_most_with => "met",
        _ => "not measured",
    };
    let head =
        ["Sessions", "CPU ms/scrape", "at most", "", "wall ms/scrape", "slowest ms", "bytes"];
    let row = vec![
        seen.sessions.to_string(),
        shown(cpu, 3),
        format!("{:.0} with {}", seen.at_most_ms, seen.at_most_with),
        verdict.to_owned(),
        shown(all(|round| round.wall_ms.median), 3),
        all(|round| round.wall_ms.max).map_or_else(String::new, |all| format!("{:.3}", all.max)),
        shown(all(|round| round.bytes as f64), 0),
    ];
    format!(
        "# A scrape\n\n`{}`\n\n{} on {}. {} rounds of {} scrapes over one connection, one after the \
         other, of one broker; each Session is connected and has one subscription.\n\
         Medians of the rounds, with the lowest and the highest in brackets. CPU is user and system \
         time of all threads of the broker for each scrape; the bytes are those of the page.\n\n{}\n\
         hrotti: {}\n\n```text\n{}\n```\n",
        seen.command,
        seen.tool,
        seen.machine,
        seen.rounds.len(),
        seen.scrapes,
        table(&head, &[row]),
        seen.version,
        seen.configuration.trim_end(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::tests::{page, serve};

    fn seen(sessions: u64, cpu_ms: &[f64]) -> Scrapes {
        let wall_ms = Spread { median: 2.0, min: 1.0, max: 3.5 };
        let round = |&cpu_ms| Round { cpu_ms, wall_ms, bytes: 9000 };
        Scrapes {
            tool: "tool 1".to_owned(),
            command: "hrotti-bench scrape".to_owned(),
            machine: "machine".to_owned(),
            version: "hrotti 9".to_owned(),
            configuration: "quick\n".to_owned(),
            sessions,
            scrapes: 20,
            at_most_ms: SCRAPE_MS_AT_MOST,
            at_most_with: SCRAPE_SESSIONS,
            rounds: cpu_ms.iter().map(round).collect(),
        }
    }

    #[test]
    fn the_goal_stands_beside_the_figure() {
        let row = |seen: &Scrapes| {
            let document = document(seen);
            let row = document.lines().filter(|line| line.starts_with("| ")).nth(2).unwrap();
            row.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        let met = "| 10000 | 5.000 (4.000..30.000) | 20 with 10000 | met | 2.000 | 3.500 | 9000 |";
        assert_eq!(row(&seen(10_000, &[4.0, 30.0, 5.0])), met);
        assert!(row(&seen(10_000, &[21.0])).contains("| **MISSED** |"));
        assert!(row(&seen(50, &[1.0])).contains("| not measured |"), "too few to say");
        assert!(row(&seen(50, &[21.0])).contains("| **MISSED** |"), "too dear even with few");
    }

    #[test]
    fn json_has_the_goal_and_every_round() {
        let json = serde_json::to_value(seen(7, &[1.0, 2.0])).unwrap();
        assert_eq!((&json["sessions"], &json["at_most_ms"]), (&7.into(), &20.0.into()));
        assert_eq!(json["rounds"][1]["cpu_ms"], 2.0);
    }

    #[test]
    fn a_broker_without_the_sessions_is_not_measured() {
        assert!(check("hrotti_sessions 5\nhrotti_subscriptions 5\n", 5).is_ok());
        let error = check("hrotti_sessions 5\nhrotti_subscriptions 4\n", 5).unwrap_err();
        assert_eq!(error.to_string(), "hrotti_subscriptions is 4 instead of 5");
        let error = check("", 5).unwrap_err().to_string();
        assert_eq!(error, "hrotti_sessions is nothing instead of 5");
    }

    #[test]
    fn a_round_measures_each_scrape() {
        let mut admin = Admin::open(serve(vec![page("abc"); 3])).unwrap();
        let round = round(&crate::null::in_process(), &mut admin, 3).unwrap();
        assert_eq!(round.bytes, 3);
        assert!(round.wall_ms.min > 0.0 && round.cpu_ms >= 0.0, "{round:?}");
        let again = super::round(&crate::null::in_process(), &mut admin, 1);
        assert!(again.is_err(), "the connection is closed");
    }
}
