//! What a scrape costs.

use hrotti::Limits;

use super::http::Served;

/// Sessions of a large broker.
const SESSIONS: usize = 10_000;
/// Scrapes over which the cost is averaged: the system counts CPU time in steps of 10 ms.
const SCRAPES: u32 = 20;

/// Prometheus keeps a time series for each line, so Clients must not be able to make lines.
///
/// The CPU time of a scrape, with that of the client, is printed: `cargo test --release --test admin cost -- --nocapture`.
#[test]
fn a_scrape_has_as_many_lines_with_ten_thousand_sessions_as_with_none() {
    let served = Served::with(Limits::default(), None, None);
    let lines = || {
        let reply = served.get("/metrics");
        assert_eq!(reply.status, 200);
        reply.text().lines().count()
    };
    let few = lines();
    let clients: Vec<_> = (0..SESSIONS)
        .map(|number| served.broker.client(&format!("client-{number}")).expect("a free name"))
        .collect();
    assert_eq!(lines(), few);
    let (before, ledger_before) = (cpu_millis(), std::time::Instant::now());
    for _ in 0..SCRAPES {
        assert!(served.broker.ledger().balances());
    }
    let (ledger, after_ledger) = (ledger_before.elapsed() / SCRAPES, cpu_millis());
    (0..SCRAPES).for_each(|_| assert_eq!(lines(), few));
    let scrapes = cpu_millis().saturating_sub(after_ledger);
    println!(
        "{SESSIONS} Sessions: a scrape costs {:.1} ms of CPU time, the ledger alone {:.1} ms ({ledger:?} on the clock)",
        f64::from(scrapes) / f64::from(SCRAPES),
        f64::from(after_ledger.saturating_sub(before)) / f64::from(SCRAPES)
    );
    drop(clients);
}

/// The CPU time of this process in milliseconds, where the system says it.
fn cpu_millis() -> u32 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let field = |number: usize| -> u32 {
        rest.split(' ').nth(number - 3).and_then(|field| field.parse().ok()).unwrap_or(0)
    };
    (field(14) + field(15)) * 10
}
