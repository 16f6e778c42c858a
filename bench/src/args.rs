//! The command line.

use std::path::PathBuf;

use structopt::StructOpt;

use crate::codec::Version;
use crate::scenario::Overrides;
use crate::target::Transport;
use crate::tls;

/// Measures MQTT brokers: the cost of a message, and whether every message arrives.
#[derive(Debug, StructOpt)]
#[structopt(name = "hrotti-bench")]
pub(crate) enum Args {
    /// Measures one broker that is already running.
    Run(Run),
    /// Starts hrotti and its peers and measures them in turn.
    Compare(Compare),
    /// Makes tables and charts again from the JSON file of an earlier `compare`.
    Report(Report),
    /// Attacks brokers while healthy clients go on, and measures what those notice.
    Attack(Attack),
    /// Starts hrotti with many Sessions and measures what a scrape of its metrics costs.
    Scrape(Scrape),
    /// Lists the scenarios.
    List,
    /// Runs the null broker, which relays PUBLISH on a free port and does nothing else.
    Null,
}

#[derive(Debug, StructOpt)]
pub(crate) struct Run {
    /// The broker's address: tcp://HOST or tcp://HOST:PORT, or with ws://, mqtts:// or wss://
    #[structopt(long)]
    pub(crate) broker: String,
    /// The broker's process id; without it neither CPU nor memory is measured
    #[structopt(long)]
    pub(crate) pid: Option<u32>,
    /// The scenario (see `list`)
    pub(crate) scenario: String,
    #[structopt(flatten)]
    pub(crate) changes: Changes,
    /// Writes the result to this file as JSON
    #[structopt(long)]
    pub(crate) json: Option<PathBuf>,
}

#[derive(Debug, StructOpt)]
pub(crate) struct Compare {
    #[structopt(flatten)]
    pub(crate) brokers: Brokers,
    /// Rounds: runs of every scenario with every broker
    #[structopt(long, default_value = "5")]
    pub(crate) rounds: usize,
    /// Only these scenarios; may be given several times [default: those marked in `list`]
    #[structopt(long = "scenario", number_of_values = 1)]
    pub(crate) scenarios: Vec<String>,
    /// All scenarios
    #[structopt(long, conflicts_with = "scenarios")]
    pub(crate) all: bool,
    /// Measures hrotti once more with an admin listener whose metrics are scraped once a second during each
    /// run, and with $SYS published every ten seconds
    #[structopt(long)]
    pub(crate) observed: bool,
    #[structopt(flatten)]
    pub(crate) changes: Changes,
    /// Writes all rounds to this file as JSON, the input of `report`
    #[structopt(long)]
    pub(crate) json: Option<PathBuf>,
    #[structopt(flatten)]
    pub(crate) documents: Documents,
}

/// Which brokers are compared, and where they are.
#[derive(Debug, Default, StructOpt)]
pub(crate) struct Brokers {
    /// The hrotti program [default: beside this program, or in the path]
    #[structopt(long)]
    pub(crate) hrotti: Option<PathBuf>,
    /// Measures hrotti with this many workers too; may be given several times
    #[structopt(long, number_of_values = 1)]
    pub(crate) hrotti_workers: Vec<u32>,
    /// The mosquitto program [default: /usr/sbin/mosquitto, or in the path]
    #[structopt(long)]
    pub(crate) mosquitto: Option<PathBuf>,
    /// The rumqttd program [default: where bench/peers/install.sh puts it, or in the path]
    #[structopt(long)]
    pub(crate) rumqttd: Option<PathBuf>,
    /// The directory that aedes is installed in [default: where bench/peers/install.sh puts it]
    #[structopt(long)]
    pub(crate) aedes: Option<PathBuf>,
    /// Measures the null broker too, as a lower bound
    #[structopt(long)]
    pub(crate) floor: bool,
    /// Only this broker; may be given several times
    #[structopt(
        long,
        number_of_values = 1,
        possible_values = &["hrotti", "mosquitto", "rumqttd", "aedes", "null"]
    )]
    pub(crate) only: Vec<String>,
}

#[derive(Debug, StructOpt)]
pub(crate) struct Attack {
    #[structopt(flatten)]
    pub(crate) brokers: Brokers,
    /// Rounds: runs of every attack on every broker
    #[structopt(long, default_value = "3")]
    pub(crate) rounds: usize,
    /// Time before each attack, and time of the attack
    #[structopt(long, default_value = "10")]
    pub(crate) seconds: f64,
    /// Messages a second of the healthy clients, over all of them
    #[structopt(long, default_value = "5000")]
    pub(crate) rate: f64,
    /// What the healthy clients connect over
    #[structopt(
        long,
        default_value = "mqtts",
        parse(try_from_str = transport),
        possible_values = &["tcp", "mqtts"]
    )]
    pub(crate) transport: Transport,
    /// Only this attack; may be given several times [default: all, and none, as a control]
    #[structopt(long = "attack", number_of_values = 1)]
    pub(crate) attacks: Vec<String>,
    /// At most this many connections of the attacker at once. Each attack begins at most 1000 connections a second,
    /// so that figures tell of the broker and not of the attacker's own work; half-open begins its first 10000 at 2000 a
    /// second, and holds to the rate when the broker closes them
    #[structopt(long)]
    pub(crate) connections: Option<usize>,
    /// Writes the tables to this file as Markdown; they go to stdout in any case
    #[structopt(long)]
    pub(crate) markdown: Option<PathBuf>,
    /// Writes all rounds to this file as JSON
    #[structopt(long)]
    pub(crate) json: Option<PathBuf>,
}

#[derive(Debug, StructOpt)]
pub(crate) struct Scrape {
    /// Clients that are connected, each with one subscription
    #[structopt(long, default_value = "10000")]
    pub(crate) sessions: u64,
    /// Rounds, all of the same broker
    #[structopt(long, default_value = "5")]
    pub(crate) rounds: u32,
    /// Scrapes of each round, one after the other
    #[structopt(long, default_value = "20")]
    pub(crate) scrapes: u32,
    /// The hrotti program [default: beside this program, or in the path]
    #[structopt(long)]
    pub(crate) hrotti: Option<PathBuf>,
    /// Writes the table to this file as Markdown; it goes to stdout in any case
    #[structopt(long)]
    pub(crate) markdown: Option<PathBuf>,
    /// Writes all rounds to this file as JSON
    #[structopt(long)]
    pub(crate) json: Option<PathBuf>,
}

#[derive(Debug, StructOpt)]
pub(crate) struct Report {
    /// The file that `compare --json` wrote
    #[structopt(long)]
    pub(crate) json: PathBuf,
    #[structopt(flatten)]
    pub(crate) documents: Documents,
    /// Puts the table of the speed section into this file, between its two markers
    #[structopt(long)]
    pub(crate) readme: Option<PathBuf>,
}

/// What a comparison is written to.
#[derive(Debug, Default, StructOpt)]
pub(crate) struct Documents {
    /// Writes the tables to this file as Markdown; they go to stdout in any case
    #[structopt(long)]
    pub(crate) markdown: Option<PathBuf>,
    /// Writes bar charts into this directory as SVG
    #[structopt(long)]
    pub(crate) charts: Option<PathBuf>,
}

/// What a scenario may be given instead of its own values.
#[derive(Debug, Default, StructOpt)]
pub(crate) struct Changes {
    /// Measured time of each run, after half a second of warm-up [default: 3]
    #[structopt(long)]
    seconds: Option<f64>,
    /// Pairs, or clients on the side that has many
    #[structopt(long)]
    clients: Option<u32>,
    /// Bytes of a payload; at least 16
    #[structopt(long)]
    payload: Option<usize>,
    /// Closed loop: messages that may be outstanding for each publisher
    #[structopt(long)]
    window: Option<u32>,
    /// Open loop: messages a second over all publishers
    #[structopt(long, conflicts_with = "window")]
    rate: Option<f64>,
    /// Connections of the scenarios `connect` and `idle`
    #[structopt(long)]
    connections: Option<u64>,
    /// Publishers and subscribers use this QoS: 0, 1 or 2
    #[structopt(long, possible_values = &["0", "1", "2"])]
    qos: Option<u8>,
    /// The MQTT version of publishers and subscribers: 3.1.1 or 5
    #[structopt(long, parse(try_from_str = version))]
    mqtt: Option<Version>,
    /// The transport; `run` takes it from the URL
    #[structopt(long, parse(try_from_str = transport), possible_values = &["tcp", "ws", "mqtts", "wss"])]
    transport: Option<Transport>,
    /// The version of TLS that clients offer: 1.2 or 1.3 [default: 1.3]
    #[structopt(long, parse(try_from_str = tls_version), possible_values = &["1.2", "1.3"])]
    tls: Option<tls::Version>,
    /// The number of filters or retained messages of scenarios that load many
    #[structopt(long)]
    count: Option<u32>,
}

impl Changes {
    pub(crate) fn overrides(&self) -> Overrides {
        Overrides {
            seconds: self.seconds,
            clients: self.clients,
            payload: self.payload,
            window: self.window,
            rate: self.rate,
            connections: self.connections,
            qos: self.qos,
            version: self.mqtt,
            transport: self.transport,
            tls: self.tls,
            count: self.count,
        }
    }
}

fn version(text: &str) -> Result<Version, &'static str> {
    match text {
        "3.1.1" | "4" => Ok(Version::V311),
        "5" | "5.0" => Ok(Version::V5),
        _ => Err("it is 3.1.1 or 5"),
    }
}

fn transport(text: &str) -> Result<Transport, &'static str> {
    Transport::named(text).ok_or("it is tcp, ws, mqtts or wss")
}

fn tls_version(text: &str) -> Result<tls::Version, &'static str> {
    match text {
        "1.2" => Ok(tls::Version::V12),
        "1.3" => Ok(tls::Version::V13),
        _ => Err("it is 1.2 or 1.3"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_commands_parse() {
        let run = ["x", "run", "--broker", "tcp://h", "--pid", "7", "pairs", "--window", "4"];
        let Args::Run(run) = Args::from_iter_safe(run).unwrap() else {
            unreachable!("not run");
        };
        assert_eq!((run.pid, run.changes.overrides().window), (Some(7), Some(4)));
        let compare = ["x", "compare", "--seconds", "1", "--scenario", "idle", "--only", "hrotti"];
        let Args::Compare(compare) = Args::from_iter_safe(compare).unwrap() else {
            unreachable!("not compare");
        };
        assert_eq!((compare.rounds, compare.scenarios.len()), (5, 1));
        assert_eq!(compare.brokers.only, ["hrotti"]);
        assert!(Args::from_iter_safe(["x", "compare", "--only", "other"]).is_err());
        let compare = ["x", "compare", "--hrotti-workers", "2", "--aedes", "d", "--charts", "c"];
        let Args::Compare(compare) = Args::from_iter_safe(compare).unwrap() else {
            unreachable!("not compare");
        };
        assert_eq!(compare.brokers.hrotti_workers, [2]);
        assert_eq!(compare.brokers.aedes, Some("d".into()));
        assert_eq!(compare.documents.charts, Some("c".into()));
    }

    #[test]
    fn observation_is_measured_when_it_is_asked_for() {
        let observed = |words: &[&str]| {
            let args = Args::from_iter_safe([&["x", "compare"], words].concat()).unwrap();
            matches!(args, Args::Compare(Compare { observed: true, .. }))
        };
        assert!(observed(&["--observed", "--only", "hrotti"]));
        assert!(!observed(&[]));
    }

    #[test]
    fn a_scrape_has_defaults() {
        let parsed = |words: &[&str]| {
            let args = Args::from_iter_safe([&["x", "scrape"], words].concat());
            args.ok().and_then(|args| if let Args::Scrape(args) = args { Some(args) } else { None })
        };
        let all = parsed(&[]).unwrap();
        assert_eq!((all.sessions, all.rounds, all.scrapes), (10_000, 5, 20));
        let some = parsed(&["--sessions", "7", "--json", "f"]).unwrap();
        assert_eq!((some.sessions, some.json), (7, Some("f".into())));
        assert!(parsed(&["--sessions", "many"]).is_none());
    }

    #[test]
    fn all_and_some_exclude_each_other() {
        assert!(Args::from_iter_safe(["x", "compare", "--all"]).is_ok());
        let both = ["x", "compare", "--all", "--scenario", "idle"];
        assert!(Args::from_iter_safe(both).is_err());
    }

    #[test]
    fn a_report_needs_what_it_reports() {
        let report = ["x", "report", "--json", "f", "--readme", "r"];
        let Args::Report(report) = Args::from_iter_safe(report).unwrap() else {
            unreachable!("not report");
        };
        assert_eq!((report.json, report.readme), ("f".into(), Some("r".into())));
        assert!(Args::from_iter_safe(["x", "report"]).is_err());
    }

    #[test]
    fn an_attack_has_defaults_and_takes_a_part_of_itself() {
        let parsed = |words: &[&str]| {
            let args = Args::from_iter_safe([&["x", "attack"], words].concat());
            args.ok().and_then(|args| if let Args::Attack(args) = args { Some(args) } else { None })
        };
        let all = parsed(&[]).unwrap();
        assert_eq!((all.rounds, all.rate, all.transport), (3, 5000.0, Transport::Tls));
        assert!(all.attacks.is_empty());
        let one = parsed(&["--attack", "garbage", "--transport", "tcp"]).unwrap();
        assert_eq!((one.attacks, one.transport), (vec!["garbage".to_owned()], Transport::Tcp));
        assert!(parsed(&["--transport", "ws"]).is_none());
    }

    #[test]
    fn only_takes_every_broker() {
        for kind in crate::broker::Kind::ALL {
            assert!(Args::from_iter_safe(["x", "compare", "--only", kind.name()]).is_ok());
        }
    }

    #[test]
    fn a_load_s_protocol_may_be_changed() {
        let overrides = |words: &[&str]| {
            let words = [&["x", "run", "--broker", "tcp://h", "pairs"], words].concat();
            match Args::from_iter_safe(words) {
                Ok(Args::Run(run)) => Some(run.changes.overrides()),
                _ => None,
            }
        };
        let changed = overrides(&["--qos", "2", "--mqtt", "5", "--transport", "ws"]).unwrap();
        assert_eq!((changed.qos, changed.version), (Some(2), Some(Version::V5)));
        assert_eq!(changed.transport, Some(Transport::Ws));
        let changed = overrides(&["--transport", "mqtts", "--tls", "1.2"]).unwrap();
        assert_eq!(changed.transport, Some(Transport::Tls));
        assert_eq!(changed.tls, Some(tls::Version::V12));
        let changed = overrides(&["--mqtt", "3.1.1"]).unwrap();
        assert_eq!((changed.qos, changed.version), (None, Some(Version::V311)));
        for wrong in [["--qos", "3"], ["--mqtt", "3.1"], ["--transport", "udp"], ["--tls", "1.1"]] {
            assert!(overrides(&wrong).is_none(), "{wrong:?}");
        }
    }
}
