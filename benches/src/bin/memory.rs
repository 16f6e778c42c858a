//! What a subscription and a retained message weigh in resident memory, allocator and all. Each case has a
//! process of its own, so that none grows into what another one has left. Reads `/proc`: Linux alone.

use std::process::{Command, ExitCode};

use futures_lite::future::block_on;
use hrotti::{Broker, Client, Limits, Message, RetainHandling, SubscriptionOptions, TopicFilter};
use hrotti_benches::operations::weigh_tree;

const MANY: usize = 1_000_000;
const SUBSCRIPTION_BYTES_MAX: f64 = 300.0;
const RETAINED_BYTES_MAX: f64 = 450.0;

/// A case: what it is, how many things it makes, the bytes that one may weigh, and the making.
type Case = (&'static str, usize, f64, fn(usize) -> f64);

/// Where filters have their upper levels in common, one or two levels are a filter's own.
const CASES: &[Case] = &[
    ("tree alone, exact filter, one own level", MANY, SUBSCRIPTION_BYTES_MAX, |count| {
        weigh(|| weigh_tree("last", count), count)
    }),
    ("tree alone, exact filter", MANY, SUBSCRIPTION_BYTES_MAX, |count| {
        weigh(|| weigh_tree("exact", count), count)
    }),
    ("tree alone, filter with +", MANY, SUBSCRIPTION_BYTES_MAX, |count| {
        weigh(|| weigh_tree("plus", count), count)
    }),
    ("tree alone, filter with #", MANY, SUBSCRIPTION_BYTES_MAX, |count| {
        weigh(|| weigh_tree("multi", count), count)
    }),
    ("tree alone, 200 levels, 199 of its own", 10_000, 800.0, |count| {
        weigh(|| weigh_tree("deep", count), count)
    }),
    ("broker, exact filter, one own level", MANY, SUBSCRIPTION_BYTES_MAX, |count| {
        subscriptions(10, count, |n| format!("site/{}/{n}", n / 1_000))
    }),
    ("broker, exact filter, 10 Sessions", MANY, SUBSCRIPTION_BYTES_MAX, |count| {
        subscriptions(10, count, topic)
    }),
    ("broker, exact filter, 10000 Sessions", MANY, SUBSCRIPTION_BYTES_MAX, |count| {
        subscriptions(10_000, count, topic)
    }),
    ("broker, filter with +, 10 Sessions", MANY, SUBSCRIPTION_BYTES_MAX, |count| {
        subscriptions(10, count, |n| format!("site/{}/+/{n}/temperature", n / 1_000))
    }),
    ("broker, filter with #, 10 Sessions", MANY, SUBSCRIPTION_BYTES_MAX, |count| {
        subscriptions(10, count, |n| format!("site/{}/device/{n}/#", n / 1_000))
    }),
    ("broker, retained, 64 bytes each", MANY, RETAINED_BYTES_MAX, retained),
];

fn main() -> ExitCode {
    if let Some(number) = std::env::args().nth(1) {
        let case = number.parse().ok().and_then(|number: usize| CASES.get(number));
        let Some((_, count, _, bytes_each)) = case else { return ExitCode::FAILURE };
        println!("{}", bytes_each(*count));
        return ExitCode::SUCCESS;
    }
    let mut code = ExitCode::SUCCESS;
    for (number, (name, count, max, _)) in CASES.iter().enumerate() {
        let Some(bytes) = measured_apart(number) else {
            println!("{name}: could not be measured");
            code = ExitCode::FAILURE;
            continue;
        };
        let verdict = if bytes <= *max { "" } else { "  TOO MUCH" };
        println!("{name:40} {count:>9} {bytes:>6.0} bytes each (at most {max}){verdict}");
        if bytes > *max {
            code = ExitCode::FAILURE;
        }
    }
    code
}

/// The result of a case, from a process that does nothing else.
fn measured_apart(number: usize) -> Option<f64> {
    let output = Command::new(std::env::current_exe().ok()?).arg(number.to_string()).output();
    String::from_utf8(output.ok()?.stdout).ok()?.trim().parse().ok()
}

/// By how much making it lets the resident memory grow, for each of so many.
fn weigh<T>(make: impl FnOnce() -> T, count: usize) -> f64 {
    let before = resident_bytes();
    let made = make();
    let after = resident_bytes();
    drop(made);
    (after - before) / count as f64
}

fn resident_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok());
    kilobytes.expect("VmRSS in /proc/self/status") * 1_024.0
}

fn topic(number: usize) -> String {
    format!("site/{}/device/{number}/temperature", number / 1_000)
}

fn subscriptions(sessions: usize, count: usize, filter: fn(usize) -> String) -> f64 {
    let limits = Limits { session_subscriptions_max: count, ..Limits::default() };
    let broker = Broker::builder().limits(limits).build();
    let clients: Vec<Client> = (0..sessions)
        .map(|number| broker.client(&format!("client-{number}")).expect("a free one"))
        .collect();
    let subscribe = || {
        for number in 0..count {
            let filter = TopicFilter::new(&filter(number)).expect("a Topic Filter");
            let client = &clients[number % sessions];
            // Nobody reads: what is retained would wait to be sent.
            let mut options = SubscriptionOptions::default();
            options.retain_handling = RetainHandling::DoNotSend;
            block_on(client.subscribe(&filter, options)).expect("a subscription");
        }
    };
    let bytes = weigh(subscribe, count);
    let held: usize = broker.sessions().iter().map(|session| session.subscriptions).sum();
    assert_eq!(held, count);
    bytes
}

fn retained(count: usize) -> f64 {
    let broker = Broker::new(100);
    let client = broker.client("publisher").expect("a free one");
    let publish = || {
        for number in 0..count {
            let message = Message::new(&topic(number), [b'x'; 64]).expect("a Topic Name");
            block_on(client.publish(message.with_retain(true))).expect("a running broker");
        }
    };
    let bytes = weigh(publish, count);
    assert_eq!(broker.counters().retained_messages, count);
    bytes
}
