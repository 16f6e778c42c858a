//! Runs the cases against a broker that is running already, of any make. [`args::Args`] says what it can be
//! told.
//!
//! Exit codes: 0 when nothing failed, 1 when a case did, 2 when the run could not be made: a command line or
//! a file that cannot be used, a broker that takes no connections, a report that cannot be written.

use std::fs;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use hrotti_conformance::codec::Version;
use hrotti_conformance::report::{self, Record, Report};
use hrotti_conformance::runner::{self, Job, Verdict};
use hrotti_conformance::tls::Trust;
use hrotti_conformance::{Capabilities, Case, Endpoint, Target, cases};

use self::program::args::{self, Args, Usage};
use self::program::progress::Progress;
use self::program::summary;

mod program {
    pub(crate) mod args;
    pub(crate) mod progress;
    pub(crate) mod summary;
}

/// A case waits for many answers: so often the time for one is the time for all.
const ANSWERS: u32 = 20;

/// A broker at one URL.
struct Running {
    url: String,
    endpoint: Endpoint,
    /// Where 5.0 is served, if elsewhere.
    v5: Option<Endpoint>,
    capabilities: Capabilities,
    deadline: Duration,
}

impl Target for Running {
    fn endpoint(&self) -> Endpoint {
        self.endpoint.clone()
    }

    fn endpoint_for(&self, version: Version) -> Endpoint {
        match &self.v5 {
            Some(v5) if version == Version::V5 => v5.clone(),
            _ => self.endpoint(),
        }
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn deadline(&self) -> Duration {
        self.deadline
    }
}

fn main() -> ExitCode {
    let args = match Args::read(std::env::args_os()) {
        Ok(args) => args,
        Err(Usage::Asked(text)) => return say(&text),
        Err(Usage::Wrong(text)) => return complain(&text),
    };
    match act(&args) {
        Ok(code) => code,
        Err(text) => complain(&text),
    }
}

/// Prints to the standard output; that nobody reads it is no error.
fn say(text: &str) -> ExitCode {
    let _ = writeln!(io::stdout(), "{text}");
    ExitCode::SUCCESS
}

fn complain(text: &str) -> ExitCode {
    eprintln!("{text}");
    ExitCode::from(2)
}

fn act(args: &Args) -> Result<ExitCode, String> {
    if !args.matrix.is_empty() {
        return compare(args).map(|text| say(text.trim_end()));
    }
    let chosen: Vec<Case> = cases().into_iter().filter(|case| args.chooses(case)).collect();
    if chosen.is_empty() {
        return Err(format!("no case is chosen by {}; --list shows all", args.filter.join(" or ")));
    }
    if args.list {
        let lines: Vec<String> = chosen.iter().map(ToString::to_string).collect();
        return Ok(say(&lines.join("\n")));
    }
    test(args, &chosen)
}

fn compare(args: &Args) -> Result<String, String> {
    let read = |path: &std::path::PathBuf| {
        let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        Report::from_json(&text).map_err(|e| format!("{}: no report: {e}", path.display()))
    };
    let reports: Result<Vec<Report>, String> = args.matrix.iter().map(read).collect();
    Ok(report::matrix(&reports?))
}

fn test(args: &Args, chosen: &[Case]) -> Result<ExitCode, String> {
    let targets = targets(args)?;
    let started = SystemTime::now();
    let clock = Instant::now();
    let jobs: Vec<Job> = targets
        .iter()
        .flat_map(|target| chosen.iter().map(|&case| Job { case, target: Arc::clone(target) as _ }))
        .collect();
    // The jobs of one URL stand together, in the order of the targets.
    let url = |i: usize| targets[i / chosen.len()].url.as_str();
    let mut progress = Progress::new(jobs.len(), args.quiet);
    let limit = args.timeout() * ANSWERS;
    let verdicts = runner::run(&jobs, args.jobs.into(), limit, |event| match event {
        runner::Event::Began(i) => progress.began(&jobs[*i].case, url(*i)),
        runner::Event::Ended(i, verdict) => progress.ended(&jobs[*i].case, url(*i), verdict),
    });
    progress.close();
    let record = |(i, verdict): (usize, &Verdict)| {
        let case = &jobs[i].case;
        Record::new(case, url(i), verdict, &args.alone(case, url(i)))
    };
    let cases: Vec<Record> = verdicts.iter().enumerate().map(record).collect();
    let report = Report {
        suite: concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION")).into(),
        broker: args.name.clone().unwrap_or_else(|| args.urls().join(" and ")),
        started: report::utc(started),
        seconds: report::rounded(clock.elapsed()),
        urls: targets.iter().map(|target| target.url.clone()).collect(),
        versions: targets[0].capabilities.versions.names(),
        capabilities: targets[0].capabilities.to_json(),
        totals: Report::count(&cases),
        cases,
    };
    say(&summary::text(&report));
    for path in &args.report {
        let text = path.write(&report)?;
        fs::write(&path.file, text).map_err(|e| format!("{}: {e}", path.file.display()))?;
    }
    Ok(if report.totals.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The broker at each URL; each must take a connection.
fn targets(args: &Args) -> Result<Vec<Arc<Running>>, String> {
    let mut capabilities = Capabilities::least();
    if let Some(path) = &args.capabilities {
        let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        capabilities =
            Capabilities::from_json(&text).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    if let Some(asked) = args.versions {
        capabilities.versions = capabilities.versions.and(asked);
    }
    if capabilities.versions.names().is_empty() {
        return Err("no version is left of --versions and the capability file".into());
    }
    let deadline = args.timeout();
    let trust = args.ca_file.as_ref().map(|path| {
        let read = fs::read(path).and_then(|text| Trust::from_pem(&text));
        read.map_err(|e| format!("{}: {e}", path.display()))
    });
    let trust = trust.transpose()?;
    let reach = |url: &str| {
        let reached = match &trust {
            Some(trust) if args::is_tls(url) => trust.endpoint(url),
            _ => Endpoint::reach(url, deadline),
        };
        reached.map_err(|e| format!("{url}: {e}"))
    };
    let v5 = args.v5_url.as_deref().map(reach).transpose()?;
    let target = |url: &String| {
        let (url, v5) = (url.clone(), v5.clone());
        Ok(Arc::new(Running { endpoint: reach(&url)?, url, v5, capabilities, deadline }))
    };
    args.urls().iter().map(target).collect()
}
