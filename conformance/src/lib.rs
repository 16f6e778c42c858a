//! The MQTT standards as an executable test suite for brokers and transports.
//!
//! Cases are registered once, in [`for_each_case!`]; from there come the tests of each transport, the
//! list that the runner program prints, and the statements that each case checks.
//!
//! ```no_run
//! use hrotti::Broker;
//! use hrotti_conformance::{Endpoint, Fixture};
//!
//! struct Mine;
//!
//! impl Fixture for Mine {
//!     fn bind(broker: &Broker) -> std::io::Result<Endpoint> {
//!         // broker.add_transport("mine", MyTransport::bind()?), then how to dial it
//! #       let _ = broker;
//!         Endpoint::parse("tcp://127.0.0.1:1883")
//!     }
//! }
//!
//! hrotti_conformance::tests!(Mine);
//! # fn main() {}
//! ```

pub mod bridge;
mod capabilities;
mod cases;
pub mod client;
pub mod codec;
pub mod failure;
mod flows;
pub mod manifest;
mod register;
pub mod report;
pub mod rumqtt;
pub mod runner;
pub mod target;
pub mod tls;
mod versions;
pub mod wire;

pub use capabilities::{Capabilities, CapabilityError, Key};
pub use failure::{Failure, Step, skip};
pub use register::{Case, cases};
pub use target::{Endpoint, Fixture, House, Server, Target, Tcp, Ws};
pub use versions::Versions;

struct InProcess {
    endpoint: Endpoint,
    house: House,
}

impl Target for InProcess {
    fn endpoint(&self) -> Endpoint {
        self.endpoint.clone()
    }

    fn house(&self) -> Option<House> {
        Some(self.house.clone())
    }
}

/// Runs one case against a broker of its own, over the transport of `F`: what [`tests!`] expands to.
///
/// # Panics
/// When the case does not hold; one that has nothing to test is printed. The message names statements, packets and how to run it alone.
#[allow(clippy::panic)] // a test fails by panicking
pub fn run<F: Fixture>(chapter: &str, name: &str) {
    let Some(case) = cases().into_iter().find(|c| c.chapter == chapter && c.name == name) else {
        panic!("no case {chapter}::{name}");
    };
    let broker = F::broker();
    let endpoint = match F::bind(&broker) {
        Ok(endpoint) => endpoint,
        Err(e) => panic!("the transport does not listen: {e}"),
    };
    match case.run(&InProcess { endpoint, house: House::new::<F>(&broker) }) {
        Ok(()) => {}
        Err(failure) if failure.skipped().is_some() => print!("{case}\n{failure}"),
        Err(failure) => {
            panic!("{case}\n{failure}  alone:    cargo test --test <transport> {chapter}::{name}")
        }
    }
}
