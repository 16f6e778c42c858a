//! Runs the registered cases against a broker that is running already.
//!
//! `hrotti-conformance URL [FILTER]`: each case whose `chapter::name` contains FILTER, in order; exit 1
//! when one does not hold.

use std::process::ExitCode;

use hrotti_conformance::{Capabilities, Endpoint, Target, cases};

struct Running(Endpoint);

impl Target for Running {
    fn endpoint(&self) -> Endpoint {
        self.0.clone()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::least()
    }
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let Some(url) = args.next() else {
        eprintln!("usage: hrotti-conformance URL [FILTER]");
        return ExitCode::from(2);
    };
    let target = match Endpoint::parse(&url) {
        Ok(endpoint) => Running(endpoint),
        Err(e) => {
            eprintln!("{url}: {e}");
            return ExitCode::from(2);
        }
    };
    let filter = args.next().unwrap_or_default();
    let (mut held, mut failed) = (0, 0);
    for case in cases() {
        if !format!("{}::{}", case.chapter, case.name).contains(&filter) {
            continue;
        }
        match case.run(&target) {
            Ok(()) => {
                held += 1;
                println!("ok      {}::{}", case.chapter, case.name);
            }
            Err(failure) => {
                failed += 1;
                println!("FAILED  {case}\n{failure}");
            }
        }
    }
    println!("{held} held, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
