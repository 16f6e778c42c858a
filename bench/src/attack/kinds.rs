//! What an attacker does.

use std::io;

use crate::access;
use crate::codec::{self, User, Version};
use crate::target::Transport;
use crate::tls::{self, Client, Tls};

/// An attack: connections that all begin with the same sort of bytes.
#[derive(Debug, Clone)]
pub(super) struct Attack {
    pub(super) name: &'static str,
    /// What each connection does, in words.
    pub(super) does: &'static str,
    pub(super) over: Transport,
    /// Connections at once; for each that ends there is another.
    pub(super) at_once: usize,
    /// Connections begun a second, at most.
    pub(super) per_sec: f64,
    /// The same for the first `at_once` connections; `per_sec` holds for those after them.
    pub(super) first_per_sec: f64,
    pub(super) sends: Sends,
    /// The attacker closes a connection that was answered.
    pub(super) leaves: bool,
}

/// What a connection begins with; then it is silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sends {
    /// A ClientHello of TLS.
    Hello,
    /// Its first half.
    HalfAHello,
    /// What is neither TLS nor MQTT.
    Garbage,
    /// CONNECT of a user that is known, with a wrong password.
    Guess,
    /// CONNECT of a user that is not known.
    Stranger,
    /// CONNECT of a client that is banned, with a right password.
    Banned,
}

/// All attacks; the first is none, as a control.
pub(super) fn all() -> Vec<Attack> {
    let none = Attack {
        name: "none",
        does: "nothing: what differs here is noise",
        over: Transport::Tls,
        at_once: 0,
        per_sec: 0.0,
        first_per_sec: 0.0,
        sends: Sends::Hello,
        leaves: false,
    };
    let knock =
        Attack { at_once: 64, per_sec: 1000.0, first_per_sec: 1000.0, leaves: true, ..none };
    vec![
        none.clone(),
        Attack {
            name: "hung-handshakes",
            does: "sends a whole ClientHello to the TLS port and never another byte",
            at_once: 1000,
            per_sec: 1000.0,
            first_per_sec: 1000.0,
            ..none
        },
        Attack {
            name: "half-open",
            does: "sends half a ClientHello to the TLS port and never another byte",
            at_once: 10_000,
            per_sec: 1000.0,
            first_per_sec: 2000.0,
            sends: Sends::HalfAHello,
            ..none
        },
        Attack {
            name: "wrong-passwords",
            does: "guesses the password of a user, whose hash is argon2id where the broker reads it",
            over: Transport::Tcp,
            sends: Sends::Guess,
            ..knock
        },
        Attack {
            name: "strangers",
            does: "names a user that no file knows",
            over: Transport::Tcp,
            sends: Sends::Stranger,
            ..knock
        },
        Attack {
            name: "banned",
            does: "shows a right password and a Client Identifier that is banned, where bans are known",
            over: Transport::Tcp,
            sends: Sends::Banned,
            ..knock
        },
        Attack {
            name: "garbage",
            does: "sends to the TLS port what is no TLS: noise, HTTP, MQTT, records of noise",
            sends: Sends::Garbage,
            ..knock
        },
    ]
}

impl Attack {
    pub(super) fn about(&self) -> String {
        match self.at_once {
            0 => self.does.to_owned(),
            at_once if self.first_per_sec > self.per_sec => format!(
                "each of {at_once} connections at once, the first ones begun at {} a second, \
                 then at most {} new ones a second, {}",
                self.first_per_sec, self.per_sec, self.does
            ),
            at_once => format!(
                "each of {at_once} connections at once, at most {} new ones a second, {}",
                self.per_sec, self.does
            ),
        }
    }
}

impl Sends {
    /// The bytes of the connection with this number, of those that begin TLS with this ClientHello.
    pub(super) fn bytes(self, number: usize, hello: &[u8]) -> Vec<u8> {
        let connect_as = |id: &str, user: &User| {
            codec::connect_by(Version::V311, id, codec::KEEP_ALIVE_SECS, Some(user))
        };
        let connect = |user: &User| connect_as(&format!("attack-{number}"), user);
        match self {
            Self::Hello => hello.to_vec(),
            Self::HalfAHello => hello[..hello.len() / 2].to_vec(),
            Self::Guess => connect(&access::guess(number)),
            Self::Stranger => connect(&access::stranger(number)),
            Self::Banned => connect_as(&access::banned(number), &access::user(number)),
            Self::Garbage => match number % 4 {
                0 => noise(number, 600),
                1 => b"GET / HTTP/1.1\r\nHost: broker\r\n\r\n".to_vec(),
                2 => connect(&access::stranger(number)),
                // A whole record of the handshake, of 512 bytes.
                _ => [&b"\x16\x03\x01\x02\x00"[..], &noise(number, 512)].concat(),
            },
        }
    }
}

/// A ClientHello; that an attacker sends the same again and again helps nobody.
///
/// # Errors
///
/// When rustls makes none.
pub(super) fn hello() -> io::Result<Vec<u8>> {
    let client = Client::forgetful(tls::Version::V13)?;
    let mut hello = Vec::new();
    Tls::new(&client, "attacker.invalid")?.send(&[], &mut hello)?;
    Ok(hello)
}

/// Different for each seed, and the same each time.
fn noise(seed: usize, len: usize) -> Vec<u8> {
    let mut state = seed as u64 | 1 << 40;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[0]
    };
    (0..len).map(next).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_the_control_comes_first() {
        let attacks = all();
        assert_eq!((attacks[0].name, attacks[0].at_once), ("none", 0));
        for attack in &attacks {
            assert_eq!(attacks.iter().filter(|other| other.name == attack.name).count(), 1);
        }
    }

    #[test]
    fn each_attack_states_its_rate() {
        for attack in all().iter().filter(|attack| attack.at_once > 0) {
            assert!(
                attack.about().contains("at most 1000 new ones a second"),
                "{}",
                attack.about()
            );
        }
        let half_open = all().into_iter().find(|attack| attack.name == "half-open").unwrap();
        assert_eq!((half_open.at_once, half_open.first_per_sec), (10_000, 2000.0));
    }

    #[test]
    fn a_hello_is_a_record_and_half_of_it_is_not_whole() {
        let whole = Sends::Hello.bytes(0, &hello().unwrap());
        let length = usize::from(u16::from_be_bytes([whole[3], whole[4]]));
        assert_eq!((&whole[..2], whole.len()), (&b"\x16\x03"[..], 5 + length));
        let half = Sends::HalfAHello.bytes(0, &whole);
        assert!(half.len() > 5 && half.len() < whole.len());
    }

    #[test]
    fn garbage_is_of_several_sorts_and_the_same_each_time() {
        let garbage: Vec<_> = (0..8).map(|number| Sends::Garbage.bytes(number, &[])).collect();
        for (number, bytes) in garbage.iter().enumerate() {
            assert_eq!(&Sends::Garbage.bytes(number, &[]), bytes);
        }
        assert_ne!(garbage[0], garbage[4]);
        assert_ne!(garbage[0], garbage[1]);
    }
}
