//! An attacker's hour in minutes: healthy clients at a steady rate, and what they notice while
//! somebody else attacks the same broker. It reports; it judges nobody but by one ratio.

mod arrivals;
mod kinds;
pub(crate) mod report;
mod swarm;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use serde::Serialize;

use self::arrivals::{Arrival, Arrivals};
use self::kinds::Attack;
use self::swarm::Counts;
use crate::args;
use crate::broker::{Broker, Choice, Kind};
use crate::load::flow::{Latency, Steady};
use crate::load::{Needs, Setting};
use crate::process::{CpuSample, Memory, machine, raise_descriptor_limit};
use crate::target::{Target, Transport};

/// Healthy pairs.
const PAIRS: u32 = 10;
/// Descriptors that the tool and a broker need beside those of the attack.
const SPARE_DESCRIPTORS: u64 = 500;
/// How long a broker has to calm down before its memory is looked at again.
const CALM: Duration = Duration::from_secs(1);

/// What is run.
#[derive(Debug)]
pub(crate) struct Plan {
    attacks: Vec<Attack>,
    rounds: usize,
    time: Duration,
    rate: f64,
    /// What the healthy clients connect over.
    transport: Transport,
}

/// All that a run found. No path of the machine is in it.
#[derive(Debug, Serialize)]
pub(crate) struct Siege {
    tool: String,
    command: String,
    machine: String,
    /// Of the healthy clients, and seconds of each part.
    healthy: String,
    brokers: Vec<Besieged>,
    attacks: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Besieged {
    kind: Kind,
    name: String,
    version: String,
    configuration: String,
}

/// An attack on all brokers.
#[derive(Debug, Serialize)]
struct Row {
    name: &'static str,
    about: String,
    /// By broker.
    cells: Vec<Cell>,
}

#[derive(Debug, Default, Serialize)]
struct Cell {
    rounds: Vec<Round>,
    failures: Vec<String>,
}

/// One attack on one broker.
#[derive(Debug, Clone, Serialize)]
struct Round {
    before: Phase,
    during: Phase,
    /// Once the attacker has gone.
    after: Option<Memory>,
    attacker: Counts,
    /// Of the healthy clients' messages.
    lost: u64,
    /// Lines that the broker logged meanwhile, where its log is read.
    logged: u64,
    notes: Vec<String>,
}

/// What healthy clients noticed, and what the broker used.
#[derive(Debug, Clone, Serialize)]
struct Phase {
    latency: Latency,
    arrivals: Arrivals,
    /// Of one core.
    cpu_percent: Option<f64>,
    /// At the end.
    memory: Option<Memory>,
}

impl Plan {
    /// # Errors
    ///
    /// When an attack is named that does not exist.
    pub(crate) fn new(args: &args::Attack) -> io::Result<Self> {
        let mut attacks = kinds::all();
        for name in &args.attacks {
            if !attacks.iter().any(|attack| attack.name == name) {
                let names: Vec<_> = attacks.iter().map(|attack| attack.name).collect();
                let text = format!("no attack {name:?}; there are: {}", names.join(", "));
                return Err(io::Error::other(text));
            }
        }
        attacks.retain(|attack| {
            args.attacks.is_empty() || args.attacks.iter().any(|name| name == attack.name)
        });
        let most = attacks.iter().map(|attack| attack.at_once).max().unwrap_or(0);
        let limit = raise_descriptor_limit(most as u64 + SPARE_DESCRIPTORS);
        let allowed =
            usize::try_from(limit.saturating_sub(SPARE_DESCRIPTORS)).unwrap_or(usize::MAX);
        for attack in &mut attacks {
            attack.at_once = attack.at_once.min(args.connections.unwrap_or(usize::MAX));
            if attack.at_once > allowed {
                eprintln!(
                    "{}: {allowed} connections, more descriptors are not allowed",
                    attack.name
                );
                attack.at_once = allowed;
            }
        }
        Ok(Self {
            attacks,
            rounds: args.rounds.max(1),
            time: Duration::from_secs_f64(args.seconds.clamp(0.05, 86_400.0)),
            rate: args.rate,
            transport: args.transport,
        })
    }
}

/// Attacks every broker in turn, each attack on a fresh one; says on stderr how far it is.
///
/// # Errors
///
/// When no broker is there that this tool can set up with users.
pub(crate) fn run(plan: &Plan, choice: &Choice, command: &str) -> io::Result<Siege> {
    let needs = Needs { setting: Setting::Guarded, ..Needs::over(Transport::Tls) };
    let brokers: Vec<_> =
        choice.brokers.iter().filter(|broker| broker.can(needs).is_ok()).collect();
    if brokers.is_empty() {
        return Err(io::Error::other("none of these brokers is set up with users by this tool"));
    }
    let row = |attack: &Attack| Row {
        name: attack.name,
        about: attack.about(),
        cells: brokers.iter().map(|_| Cell::default()).collect(),
    };
    let mut rows: Vec<Row> = plan.attacks.iter().map(row).collect();
    for round in 0..plan.rounds {
        for (row, attack) in rows.iter_mut().zip(&plan.attacks) {
            for (cell, broker) in row.cells.iter_mut().zip(&brokers) {
                eprint!(
                    "round {}/{}  {:<16} {:<10} ",
                    round + 1,
                    plan.rounds,
                    attack.name,
                    broker.name
                );
                match besiege(broker, attack, plan) {
                    Ok(seen) => {
                        let (before, during) = (&seen.before.latency, &seen.during.latency);
                        eprintln!("p99 {:.0} µs, then {:.0} µs", before.p99_us, during.p99_us);
                        cell.rounds.push(seen);
                    }
                    Err(error) => {
                        eprintln!("failed: {error}");
                        cell.failures.push(format!("round {}: {error}", round + 1));
                    }
                }
            }
        }
    }
    let settings = [Setting::Guarded].into();
    let besieged = |broker: &&Broker| Besieged {
        kind: broker.kind,
        name: broker.name.clone(),
        version: broker.version(),
        configuration: broker.configuration(&settings),
    };
    Ok(Siege {
        tool: concat!("hrotti-bench ", env!("CARGO_PKG_VERSION")).to_owned(),
        command: command.to_owned(),
        machine: machine(),
        healthy: format!(
            "{PAIRS} healthy pairs{}, QoS 0, 64 B, {} messages/s in all; {} s before each attack and \
             {} s of it, {} rounds",
            plan.transport.over(),
            plan.rate,
            plan.time.as_secs_f64(),
            plan.time.as_secs_f64(),
            plan.rounds
        ),
        brokers: brokers.iter().map(besieged).collect(),
        attacks: rows,
    })
}

impl Siege {
    /// Whether a run with hrotti failed. What an attack did is for the reader to judge.
    pub(crate) fn is_bad(&self) -> bool {
        let cells = self.attacks.iter().flat_map(|row| self.brokers.iter().zip(&row.cells));
        let mut ours = cells.filter(|(broker, _)| broker.kind == Kind::Hrotti);
        ours.any(|(_, cell)| !cell.failures.is_empty())
    }
}

fn besiege(broker: &Broker, attack: &Attack, plan: &Plan) -> io::Result<Round> {
    let running = broker.start(Setting::Guarded)?;
    let at = |transport| {
        running.target(Needs { setting: Setting::Guarded, ..Needs::over(transport) }).copied()
    };
    let (healthy, victim) = (at(plan.transport)?, at(attack.over)?);
    let lines = running.lines();
    let seen = watch(&healthy, &victim, attack, plan.rate, plan.time)?;
    Ok(Round { logged: running.lines() - lines, ..seen })
}

/// Healthy clients at `healthy`, first alone and then while `victim` is attacked; both are the same
/// broker.
fn watch(
    healthy: &Target,
    victim: &Target,
    attack: &Attack,
    rate: f64,
    time: Duration,
) -> io::Result<Round> {
    let mut steady = Steady::open(healthy, PAIRS, rate)?;
    let (is_over, has_watched) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        let arrivals = scope.spawn(|| arrivals::knock(healthy, &has_watched));
        let mut swarm = None;
        let phases = (|| {
            let before = phase(&mut steady, healthy, time)?;
            let begin = Instant::now();
            swarm = Some(scope.spawn(|| swarm::run(victim, attack, &is_over)));
            Ok::<_, io::Error>((before, begin, phase(&mut steady, healthy, time)?))
        })();
        // Whatever came of it, the others have to end.
        is_over.store(true, Ordering::Relaxed);
        has_watched.store(true, Ordering::Relaxed);
        let attacker = swarm.map_or_else(|| Ok(Counts::default()), joined)?;
        let arrived: Vec<Arrival> = joined(arrivals)?;
        let (mut before, begin, mut during) = phases?;
        let (first, second): (Vec<_>, Vec<_>) =
            arrived.into_iter().partition(|arrival| arrival.begin < begin);
        before.arrivals = Arrivals::of(&first);
        during.arrivals = Arrivals::of(&second);
        let outcome = steady.finish()?;
        thread::sleep(CALM.min(time));
        let after = healthy.memory()?;
        let lost = outcome.lost;
        let notes = outcome.notes;
        Ok(Round { before, during, after, attacker, lost, logged: 0, notes })
    })
}

fn joined<T>(handle: ScopedJoinHandle<'_, io::Result<T>>) -> io::Result<T> {
    handle.join().unwrap_or_else(|_| Err(io::Error::other("a thread of this tool broke down")))
}

fn phase(steady: &mut Steady, target: &Target, time: Duration) -> io::Result<Phase> {
    let (begin, before) = (Instant::now(), target.cpu()?);
    let latency = steady.measure(time)?;
    let seconds = begin.elapsed().as_secs_f64();
    let used = |(before, after): (CpuSample, CpuSample)| after.ns_since(&before) as f64 / 1e9;
    let cpu_percent = before.zip(target.cpu()?).map(used).map(|used| used / seconds * 100.0);
    Ok(Phase { latency, arrivals: Arrivals::default(), cpu_percent, memory: target.memory()? })
}

#[cfg(test)]
mod tests;
