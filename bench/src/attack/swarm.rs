//! The attacker's connections: opened at a rate, silent after their first bytes, and opened again
//! when they end. Nothing here speaks TLS or MQTT; what comes is looked at and thrown away.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::kinds::{Attack, hello};
use crate::load::crowd::dial;
use crate::poll::{Poll, Ready};
use crate::target::Target;

/// How often new connections are begun.
const TICK: Duration = Duration::from_millis(5);
/// Connections that are begun between two looks at those that are there.
const BEGUN_PER_LOOK: usize = 100;
/// So much of a second's connections may be made up for when this tool was late.
const ARREARS: f64 = 0.05;

/// What came of them.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub(super) struct Counts {
    pub(super) begun: u64,
    /// By what the answer was.
    pub(super) answers: BTreeMap<String, u64>,
    /// The broker closed it, with or without an answer before.
    pub(super) closed: u64,
    /// The kernel of this machine did not begin it.
    pub(super) failed: u64,
    /// Most at the same time, and at the end.
    pub(super) most: usize,
    pub(super) left: usize,
}

struct Intruder {
    stream: TcpStream,
    unsent: Vec<u8>,
    is_answered: bool,
}

/// When a connection may be begun.
struct Pace {
    per_sec: f64,
    first_per_sec: f64,
    /// Connections that are left of the first ones.
    first: usize,
    /// Connections that are due, and a part of the next one.
    due: f64,
}

impl Pace {
    fn of(attack: &Attack) -> Self {
        let Attack { per_sec, first_per_sec, at_once: first, .. } = *attack;
        Self { per_sec, first_per_sec, first, due: 0.0 }
    }

    fn pass(&mut self, time: Duration) {
        let rate = if self.first > 0 { self.first_per_sec } else { self.per_sec };
        self.due = (self.due + rate * time.as_secs_f64()).min((rate * ARREARS).max(1.0));
    }

    fn is_due(&self) -> bool {
        self.due >= 1.0
    }

    fn begun(&mut self) {
        self.first = self.first.saturating_sub(1);
        self.due -= 1.0;
    }
}

struct Swarm<'a> {
    attack: &'a Attack,
    hello: Vec<u8>,
    poll: Poll,
    /// By token.
    intruders: Vec<Option<Intruder>>,
    free: Vec<usize>,
    counts: Counts,
}

/// Attacks until `is_over`.
///
/// # Errors
///
/// When the readiness loop breaks, or rustls makes no ClientHello.
pub(super) fn run(target: &Target, attack: &Attack, is_over: &AtomicBool) -> io::Result<Counts> {
    let mut swarm = Swarm {
        attack,
        hello: hello()?,
        poll: Poll::new()?,
        intruders: (0..attack.at_once).map(|_| None).collect(),
        free: (0..attack.at_once).collect(),
        counts: Counts::default(),
    };
    let (mut pace, mut seen, mut ready) = (Pace::of(attack), Instant::now(), Vec::new());
    while !is_over.load(Ordering::Relaxed) {
        let before = std::mem::replace(&mut seen, Instant::now());
        pace.pass(seen - before);
        for _ in 0..BEGUN_PER_LOOK {
            if !pace.is_due() {
                break;
            }
            let Some(token) = swarm.free.pop() else { break };
            pace.begun();
            swarm.begin(target, token)?;
        }
        swarm.counts.most = swarm.counts.most.max(swarm.there());
        swarm.poll.wake_after(TICK)?;
        swarm.poll.wait(&mut ready)?;
        for event in &ready {
            swarm.handle(*event);
        }
    }
    swarm.counts.left = swarm.there();
    Ok(swarm.counts)
}

impl Swarm<'_> {
    fn there(&self) -> usize {
        self.intruders.len() - self.free.len()
    }

    fn begin(&mut self, target: &Target, token: usize) -> io::Result<()> {
        let number = usize::try_from(self.counts.begun).map_err(io::Error::other)?;
        let unsent = self.attack.sends.bytes(number, &self.hello);
        let begun = dial(target.address).and_then(|stream| {
            self.poll.add(&stream, token)?;
            Ok(stream)
        });
        match begun {
            Ok(stream) => {
                self.counts.begun += 1;
                self.intruders[token] = Some(Intruder { stream, unsent, is_answered: false });
            }
            Err(_) => {
                self.counts.failed += 1;
                self.free.push(token);
            }
        }
        Ok(())
    }

    fn handle(&mut self, event: Ready) {
        let Some(place) = self.intruders.get_mut(event.token) else { return };
        let Some(intruder) = place else { return };
        let mut first = None;
        let is_open = intruder.go_on(event, &mut first);
        let leaves = self.attack.leaves && intruder.is_answered;
        if let Some(answer) = first {
            *self.counts.answers.entry(answer).or_default() += 1;
        }
        if !is_open || leaves {
            self.counts.closed += u64::from(!is_open);
            *place = None;
            self.free.push(event.token);
        }
    }
}

impl Intruder {
    /// Sends and receives; false once the broker has closed it. `first` gets the first answer.
    fn go_on(&mut self, event: Ready, first: &mut Option<String>) -> bool {
        if event.writable && !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return false,
            }
        }
        if !event.readable {
            return true;
        }
        let mut chunk = [0; 4096];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return false,
                Ok(read) if !self.is_answered => {
                    self.is_answered = true;
                    *first = Some(in_words(&chunk[..read]));
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
    }
}

/// What an answer is, by its first bytes.
fn in_words(answer: &[u8]) -> String {
    match *answer {
        [0x20, 2, _, code, ..] => format!("CONNACK {code}"),
        [0x15, 3, _, 0, 2, _, alert, ..] => format!("TLS alert {alert}"),
        [0x16, 3, ..] => "ServerHello".to_owned(),
        [b'H', b'T', b'T', b'P', ..] => "HTTP".to_owned(),
        _ => "something else".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_beyond_the_first_ones_come_at_the_rate() {
        let all = super::super::kinds::all();
        let half_open = all.iter().find(|attack| attack.name == "half-open").unwrap();
        let mut pace = Pace::of(&Attack { at_once: 4, ..half_open.clone() });
        let mut begin = |time| {
            pace.pass(time);
            let mut begun = 0;
            while pace.is_due() {
                pace.begun();
                begun += 1;
            }
            begun
        };
        // The first ones at 2000 a second.
        assert_eq!(begin(Duration::from_millis(1)), 2);
        assert_eq!(begin(Duration::from_millis(1)), 2);
        // Of the rest of a connection nothing is lost.
        let second: Vec<usize> = (0..400).map(|_| begin(Duration::from_micros(2500))).collect();
        assert!(second.iter().all(|&begun| begun == 2 || begun == 3));
        assert!((999..=1000).contains(&second.iter().sum::<usize>()));
        // Connections that were not needed for a long time are not made up for.
        assert_eq!(begin(Duration::from_secs(60)), 50);
    }

    #[test]
    fn answers_are_told_apart() {
        assert_eq!(in_words(b"\x20\x02\x00\x05"), "CONNACK 5");
        assert_eq!(in_words(b"\x15\x03\x03\x00\x02\x02\x28"), "TLS alert 40");
        assert_eq!(in_words(b"\x16\x03\x03\x00\x7a\x02"), "ServerHello");
        assert_eq!(in_words(b"HTTP/1.1 400"), "HTTP");
        assert_eq!(in_words(b"\x20"), "something else");
    }
}
