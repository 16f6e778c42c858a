use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::AtomicBool;

use super::*;
use crate::capabilities::Capabilities;
use crate::failure::skip;
use crate::register::Case;
use crate::target::Endpoint;

struct Closing(Endpoint, Capabilities);

impl Target for Closing {
    fn endpoint(&self) -> Endpoint {
        self.0.clone()
    }

    fn capabilities(&self) -> Capabilities {
        self.1
    }
}

/// A server that closes every connection at once.
fn closing(can: Capabilities) -> io::Result<Arc<Closing>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || listener.incoming().flatten().for_each(drop));
    Ok(Arc::new(Closing(Endpoint::Tcp(address), can)))
}

fn run_all(cases: &[fn(&Server) -> Step], can: Capabilities, limit: Duration) -> Vec<Verdict> {
    let target = closing(can).unwrap();
    let jobs: Vec<Job> = cases
        .iter()
        .map(|&run| Job { case: Case::of("test", "case", run), target: Arc::clone(&target) as _ })
        .collect();
    run(&jobs, 3, limit, |_| ())
}

fn dials(server: &Server) -> Step {
    server.dial().map(drop).map_err(|e| Failure::new("a stream", e.to_string()))
}

fn only(version: &str) -> Capabilities {
    let mut can = Capabilities::all();
    can.versions = version.parse().unwrap();
    can
}

const LONG: Duration = Duration::from_secs(60);

#[test]
fn every_end_has_its_outcome_in_the_order_of_the_jobs() {
    let cases: [fn(&Server) -> Step; 4] = [
        dials,
        |server| server.v5("a").connect().map(drop),
        |_| Err(skip("needs rain")),
        |_| panic!("of {}", "itself"),
    ];
    let verdicts = run_all(&cases, Capabilities::all(), LONG);
    assert!(matches!(verdicts[0].outcome, Outcome::Passed));
    assert!(matches!(&verdicts[1].outcome, Outcome::Failed(f) if f.expected().contains("CONNACK")));
    assert!(matches!(&verdicts[2].outcome, Outcome::Skipped(r) if r == "needs rain"));
    assert!(matches!(&verdicts[3].outcome, Outcome::Failed(f) if f.came() == "a panic: of itself"));
}

#[test]
fn a_case_that_never_ends_fails_alone() {
    let cases: [fn(&Server) -> Step; 2] = [
        |_| {
            loop {
                thread::park();
            }
        },
        dials,
    ];
    let verdicts = run_all(&cases, Capabilities::all(), Duration::from_millis(300));
    assert!(matches!(&verdicts[0].outcome, Outcome::Failed(f) if f.came().contains("none within")));
    assert!(matches!(verdicts[1].outcome, Outcome::Passed));
}

#[test]
fn a_case_that_tests_nothing_is_skipped() {
    let verdicts = run_all(&[|_| Ok(())], Capabilities::all(), LONG);
    assert!(matches!(verdicts[0].outcome, Outcome::Skipped(_)));
    let cases: [fn(&Server) -> Step; 3] = [
        |server| server.spoken([crate::codec::Version::V31]).iter().try_for_each(|_| dials(server)),
        |server| server.v31("a").connect().map(drop),
        |server| server.house().map(drop),
    ];
    let verdicts = run_all(&cases, only("3.1.1,5"), LONG);
    for (verdict, reason) in
        verdicts.iter().zip(["needs MQTT 3.1,", "needs MQTT 3.1,", "in this process"])
    {
        assert!(
            matches!(&verdict.outcome, Outcome::Skipped(r) if r.contains(reason)),
            "{verdict:?}"
        );
    }
    assert_eq!(verdicts[0].left_out.to_string(), "3.1");
}

#[test]
fn a_failure_is_laid_to_the_versions_that_fail_alone() {
    use crate::codec::{ALL, Version};
    fn fails(server: &Server, with: impl Fn(&[Version]) -> bool) -> Step {
        let spoken = server.spoken(ALL);
        spoken.iter().try_for_each(|&version| server.dial_as(version).map(drop))?;
        if with(&spoken) { Err(Failure::new("right", "wrong")) } else { Ok(()) }
    }
    let cases: [fn(&Server) -> Step; 4] = [
        |server| fails(server, |spoken| spoken.contains(&Version::V5)),
        |server| fails(server, |spoken| !spoken.contains(&Version::V5) || spoken.len() > 1),
        |server| fails(server, |spoken| spoken.len() > 1),
        dials,
    ];
    let verdicts = run_all(&cases, Capabilities::all(), LONG);
    let with: Vec<String> = verdicts.iter().map(|v| v.failed_with.to_string()).collect();
    assert_eq!(with, ["5", "3.1,3.1.1", "3.1,3.1.1,5", ""]);
    let held: Vec<String> = verdicts.iter().map(|v| v.passed_with.to_string()).collect();
    assert_eq!(held, ["3.1,3.1.1", "5", "3.1,3.1.1,5", "5"]);
}

#[test]
fn no_more_than_asked_for_at_a_time() {
    static RUNNING: AtomicUsize = AtomicUsize::new(0);
    static TOO_MANY: AtomicBool = AtomicBool::new(false);
    fn counted(server: &Server) -> Step {
        if RUNNING.fetch_add(1, Ordering::SeqCst) >= 3 {
            TOO_MANY.store(true, Ordering::SeqCst);
        }
        let step = dials(server);
        RUNNING.fetch_sub(1, Ordering::SeqCst);
        step
    }
    let verdicts = run_all(&[counted as fn(&Server) -> Step; 60], Capabilities::all(), LONG);
    assert!(verdicts.iter().all(|v| matches!(v.outcome, Outcome::Passed)));
    assert!(!TOO_MANY.load(Ordering::SeqCst));
}

#[test]
fn events_come_in_pairs() {
    let target = closing(Capabilities::all()).unwrap();
    let job = Job { case: Case::of("test", "case", dials), target };
    let mut open = Vec::new();
    let mut ended = 0;
    run(&vec![job; 20], 4, LONG, |event| match event {
        Event::Began(i) => open.push(*i),
        Event::Ended(i, _) => {
            ended += 1;
            open.retain(|began| began != i);
        }
    });
    assert_eq!((open.len(), ended), (0, 20));
}

#[test]
fn cases_that_subscribe_to_everything_run_by_themselves() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/cases");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let chapter =
            path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
        let mut function = String::new();
        for line in text.lines() {
            if let Some((_, rest)) = line.split_once("fn ") {
                function = rest.split(['(', '<']).next().unwrap_or_default().to_owned();
            }
            if line.contains(".subscribe_everywhere(") {
                found.push((chapter.clone(), function.clone()));
            }
        }
    }
    found.sort();
    found.dedup();
    let found: Vec<(&str, &str)> = found.iter().map(|(c, f)| (c.as_str(), f.as_str())).collect();
    assert_eq!(found, BY_THEMSELVES);
}
