//! The suite must be able to fail: broken brokers, each of which its cases have to notice.
//!
//! A mutant is the broker behind a transport that tampers with packets. Every mutant runs against the cases
//! named for it and must fail each of them; the same cases pass over the same transport when it tampers with
//! nothing, which shows that nothing but the mutation is at fault.

use std::collections::BTreeSet;
use std::io;
use std::thread;

use futures_lite::future::block_on;
use hrotti::Broker;
use hrotti::transport::tcp::TcpTransport;
use hrotti_conformance::{Case, Endpoint, Target, cases};

#[path = "mutants/deliveries.rs"]
mod deliveries;
#[path = "mutants/link.rs"]
mod link;
#[path = "mutants/packet.rs"]
mod packet;
#[path = "mutants/requests.rs"]
mod requests;
#[path = "mutants/table.rs"]
mod table;
#[path = "mutants/tamper.rs"]
mod tamper;

use link::{Flaw, Tamper, Tampering};

/// The chapter that runs whole over the transport that tampers with nothing.
const CONTROL: &str = "publish";

struct Broken {
    _broker: Broker,
    endpoint: Endpoint,
}

impl Broken {
    fn new(tamper: Tamper, flaw: Flaw) -> io::Result<Broken> {
        block_on(async {
            let broker = Broker::new(100);
            let tcp = TcpTransport::bind("127.0.0.1", 0).await?;
            let bound = broker.add_transport("case", Tampering::new(tcp, tamper, flaw)).await;
            let endpoint = Endpoint::parse(&bound.map_err(io::Error::other)?)?;
            Ok(Broken { _broker: broker, endpoint })
        })
    }
}

impl Target for Broken {
    fn endpoint(&self) -> Endpoint {
        self.endpoint.clone()
    }
}

#[allow(clippy::panic)] // a test fails by panicking
fn case(name: &str) -> Case {
    let found = cases().into_iter().find(|c| format!("{}::{}", c.chapter, c.name) == name);
    found.unwrap_or_else(|| panic!("there is no case {name}"))
}

/// A case on a broker, by name: `None` when all is as it should be.
type Work = (String, Box<dyn FnOnce() -> Option<String> + Send>);

/// Runs all at once, each against a broker of its own, and collects what went wrong: most of the time is
/// spent waiting for what a mutant has swallowed.
fn in_parallel(work: Vec<Work>) -> Vec<String> {
    let running: Vec<_> = work.into_iter().map(|(name, run)| (name, thread::spawn(run))).collect();
    let ended = running.into_iter().map(|(name, running)| match running.join() {
        Ok(outcome) => outcome.map(|text| format!("{name}: {text}")),
        Err(_) => Some(format!("{name}: panicked")),
    });
    ended.flatten().collect()
}

#[test]
fn every_mutant_is_killed() {
    let mut work: Vec<Work> = Vec::new();
    for mutant in table::all() {
        for name in mutant.caught_by {
            let (case, tamper, flaw) = (case(name), mutant.tamper, mutant.flaw);
            let run = move || match case.run(&Broken::new(tamper, flaw).ok()?) {
                Ok(()) => Some("survived".to_owned()),
                // A case that tested nothing has caught nothing.
                Err(skip) if skip.skipped().is_some() => Some(skip.to_string()),
                Err(failure) => {
                    println!("{:44} {name}\n{failure}", mutant.name);
                    None
                }
            };
            work.push((format!("{:?} and {name}", mutant.name), Box::new(run)));
        }
    }
    let survivors = in_parallel(work);
    assert!(survivors.is_empty(), "{survivors:#?}");
}

#[test]
fn without_a_mutation_every_case_holds() {
    let mut names: BTreeSet<String> =
        table::all().iter().flat_map(|m| m.caught_by).map(ToString::to_string).collect();
    let control = cases().into_iter().filter(|c| c.chapter == CONTROL);
    names.extend(control.map(|c| format!("{}::{}", c.chapter, c.name)));
    let mut work: Vec<Work> = Vec::new();
    for name in names {
        let case = case(&name);
        let run = move || match Broken::new(tamper::pass, Flaw::None) {
            Ok(sound) => case.run(&sound).err().map(|failure| failure.to_string()),
            Err(e) => Some(e.to_string()),
        };
        work.push((name, Box::new(run)));
    }
    let failed = in_parallel(work);
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn there_are_enough_mutants_and_no_two_are_one() {
    let all = table::all();
    let names: BTreeSet<&str> = all.iter().map(|m| m.name).collect();
    assert_eq!(names.len(), all.len());
    assert!(all.len() >= 25, "{}", all.len());
    assert!(all.iter().all(|m| !m.caught_by.is_empty()));
}
