//! Rates: what a Client may send in a second, and how often an address may connect in one. Pure.

use std::net::IpAddr;
use std::sync::Mutex;

use ahash::RandomState;
use hashbrown::HashMap;

use crate::limits::Limits;
use crate::network::Network;
use crate::sync::lock;
use crate::time::Timestamp;

/// The fractions of a token that a bucket counts.
const PARTS: u64 = 1_000;

/// The most addresses that are counted in a second.
const ADDRESSES_MAX: usize = 65_536;

/// The first bits of an IPv6 address that one customer of a provider has.
const CUSTOMER_BITS: u8 = 64;

/// A bucket of tokens, which fills in one second and holds those of one second. It begins full.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// Tokens a second, which is tokens in a thousandth for each millisecond. 0: no limit.
    rate: u64,
    /// In thousandths. Below 0: more was taken than was there.
    level: i64,
    filled_at: Timestamp,
}

impl Bucket {
    fn new(rate: u64, now: Timestamp) -> Bucket {
        let mut bucket = Bucket { rate, level: 0, filled_at: now };
        bucket.level = bucket.full();
        bucket
    }

    fn full(&self) -> i64 {
        i64::try_from(self.rate.saturating_mul(PARTS)).unwrap_or(i64::MAX)
    }

    fn fill(&mut self, now: Timestamp) {
        let millis = now.0.saturating_sub(self.filled_at.0);
        self.filled_at = self.filled_at.max(now);
        let more = i64::try_from(self.rate.saturating_mul(millis)).unwrap_or(i64::MAX);
        self.level = self.level.saturating_add(more).min(self.full());
    }

    fn take(&mut self, tokens: u64) {
        let parts = i64::try_from(tokens.saturating_mul(PARTS)).unwrap_or(i64::MAX);
        if self.rate > 0 {
            self.level = self.level.saturating_sub(parts);
        }
    }

    /// Whole tokens.
    fn tokens(&self) -> usize {
        if self.rate == 0 {
            return usize::MAX;
        }
        usize::try_from(self.level / PARTS.cast_signed()).unwrap_or(0)
    }

    /// When there is a token, if nothing more is taken.
    fn ready_at(&self) -> Timestamp {
        let missing = PARTS.cast_signed().saturating_sub(self.level);
        if self.rate == 0 || missing <= 0 {
            return self.filled_at;
        }
        Timestamp(self.filled_at.0.saturating_add(missing.unsigned_abs().div_ceil(self.rate)))
    }
}

/// What one Client may send in a second.
#[derive(Debug)]
pub(super) struct ClientRates {
    messages: Bucket,
    bytes: Bucket,
    /// Nothing is read before.
    until: Option<Timestamp>,
}

impl ClientRates {
    /// `None` without a limit, so that it costs nothing.
    pub(super) fn new(limits: &Limits, now: Timestamp) -> Option<Box<ClientRates>> {
        let messages = u64::from(limits.client_messages_per_sec_max);
        let bytes = u64::try_from(limits.client_bytes_per_sec_max).unwrap_or(u64::MAX);
        let until = None;
        (messages > 0 || bytes > 0).then(|| {
            let (messages, bytes) = (Bucket::new(messages, now), Bucket::new(bytes, now));
            Box::new(ClientRates { messages, bytes, until })
        })
    }

    /// Looks whether the Client may be read from.
    pub(super) fn look(&mut self, now: Timestamp) -> Reading {
        self.messages.fill(now);
        self.bytes.fill(now);
        let at = self.messages.ready_at().max(self.bytes.ready_at());
        match (self.until, at > now) {
            (None, false) => Reading::Goes,
            (None, true) => {
                self.until = Some(at);
                Reading::Stops
            }
            (Some(_), true) => {
                self.until = Some(at);
                Reading::Waits
            }
            (Some(_), false) => {
                self.until = None;
                Reading::GoesOn
            }
        }
    }

    /// The bytes that may be read now.
    pub(super) fn room(&self) -> usize {
        self.bytes.tokens()
    }

    /// Counts bytes that were read.
    pub(super) fn read(&mut self, bytes: usize) {
        self.bytes.take(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    /// Counts a PUBLISH. Returns whether it may be taken now.
    pub(super) fn takes_message(&mut self) -> bool {
        let takes = self.messages.tokens() > 0;
        if takes {
            self.messages.take(1);
        }
        takes
    }

    /// Until when nothing is read.
    pub(super) fn until(&self) -> Option<Timestamp> {
        self.until
    }
}

/// Whether a Client is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    Goes,
    /// It stops now.
    Stops,
    Waits,
    /// It goes on after it had stopped.
    GoesOn,
}

/// How often each address connects.
#[derive(Debug)]
pub(super) struct AddressRates {
    rate: u64,
    seen: Mutex<Seen>,
}

/// The addresses of about one second: one that is silent for so long is as good as new.
#[derive(Debug)]
struct Seen {
    buckets: HashMap<Network, Bucket, RandomState>,
    swept_at: Timestamp,
}

/// How long a bucket takes to fill, in milliseconds.
const FILLS_MILLIS: u64 = 1_000;

impl AddressRates {
    /// `None` without a limit.
    pub(super) fn new(limits: &Limits, hasher: &RandomState) -> Option<AddressRates> {
        let rate = u64::from(limits.address_connects_per_sec_max);
        let buckets = HashMap::with_hasher(hasher.clone());
        let seen = Mutex::new(Seen { buckets, swept_at: Timestamp(0) });
        (rate > 0).then_some(AddressRates { rate, seen })
    }

    /// Connections of an address in a second.
    pub(super) fn rate(&self) -> u64 {
        self.rate
    }

    /// Counts a connection. Returns whether its address may connect now.
    pub(super) fn admits(&self, address: IpAddr, now: Timestamp) -> bool {
        let key = customer(address);
        let mut seen = lock(&self.seen);
        let Seen { buckets, swept_at } = &mut *seen;
        if buckets.len() >= ADDRESSES_MAX && !buckets.contains_key(&key) {
            // At most once in a second, whatever comes.
            if now.0 >= swept_at.0 + FILLS_MILLIS {
                *swept_at = now;
                buckets.retain(|_, bucket| now.0 < bucket.filled_at.0 + FILLS_MILLIS);
            }
            if buckets.len() >= ADDRESSES_MAX {
                return true;
            }
        }
        let bucket = buckets.entry(key).or_insert_with(|| Bucket::new(self.rate, now));
        bucket.fill(now);
        let admits = bucket.tokens() > 0;
        if admits {
            bucket.take(1);
        }
        admits
    }
}

/// The addresses that one customer of a provider has.
fn customer(address: IpAddr) -> Network {
    match address.to_canonical() {
        address @ IpAddr::V4(_) => address.into(),
        address @ IpAddr::V6(_) => Network::new(address, CUSTOMER_BITS),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits(messages: u32, bytes: usize, connects: u32) -> Limits {
        Limits {
            client_messages_per_sec_max: messages,
            client_bytes_per_sec_max: bytes,
            address_connects_per_sec_max: connects,
            ..Limits::default()
        }
    }

    fn addresses(connects: u32) -> AddressRates {
        AddressRates::new(&limits(0, 0, connects), &RandomState::new()).expect("a limit")
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn without_a_limit_there_is_no_state() {
        assert!(ClientRates::new(&Limits::default(), Timestamp(0)).is_none());
        assert!(AddressRates::new(&Limits::default(), &RandomState::new()).is_none());
    }

    #[test]
    fn the_messages_of_one_second_are_taken_at_once_and_then_one_by_one() {
        let mut rates = ClientRates::new(&limits(4, 0, 0), Timestamp(0)).expect("a limit");
        assert!((0..4).all(|_| rates.takes_message()) && !rates.takes_message());
        assert_eq!(rates.look(Timestamp(1)), Reading::Stops);
        assert_eq!(rates.until(), Some(Timestamp(250)));
        assert_eq!(rates.look(Timestamp(249)), Reading::Waits);
        assert_eq!(rates.look(Timestamp(250)), Reading::GoesOn);
        assert!(rates.takes_message() && !rates.takes_message());
        assert_eq!(rates.room(), usize::MAX, "bytes have no limit");
    }

    #[test]
    fn more_bytes_than_there_is_room_for_are_made_up_for() {
        let mut rates = ClientRates::new(&limits(0, 100, 0), Timestamp(0)).expect("a limit");
        assert_eq!((rates.look(Timestamp(0)), rates.room()), (Reading::Goes, 100));
        rates.read(300);
        assert_eq!(rates.look(Timestamp(0)), Reading::Stops);
        assert_eq!(rates.look(Timestamp(2_009)), Reading::Waits);
        assert_eq!((rates.look(Timestamp(2_010)), rates.room()), (Reading::GoesOn, 1));
        assert!(rates.takes_message(), "messages have no limit");
    }

    #[test]
    fn an_address_connects_so_often_and_others_are_not_concerned() {
        let rates = addresses(2);
        let admits = |text, at| rates.admits(address(text), Timestamp(at));
        assert!(admits("192.0.2.1", 0) && admits("192.0.2.1", 0) && !admits("192.0.2.1", 0));
        assert!(!admits("::ffff:192.0.2.1", 0), "the same address");
        assert!(admits("192.0.2.2", 0));
        assert!(!admits("192.0.2.1", 499) && admits("192.0.2.1", 500));
    }

    #[test]
    fn the_addresses_of_one_customer_are_one() {
        let rates = addresses(1);
        assert!(rates.admits(address("2001:db8::1"), Timestamp(0)));
        assert!(!rates.admits(address("2001:db8::ffff:1"), Timestamp(0)));
        assert!(rates.admits(address("2001:db8:0:1::1"), Timestamp(0)));
    }

    #[test]
    fn the_addresses_that_are_kept_are_bounded_pitfall_15() {
        let rates = addresses(1);
        let from = |number: u32| IpAddr::from(number.to_be_bytes());
        for number in 0..70_000 {
            assert!(rates.admits(from(number), Timestamp(0)));
        }
        assert_eq!(lock(&rates.seen).buckets.len(), ADDRESSES_MAX);
        assert!(!rates.admits(from(0), Timestamp(999)), "it is still known");
        assert!(rates.admits(from(70_000), Timestamp(1_999)));
        assert!(lock(&rates.seen).buckets.len() <= 2, "the silent ones are forgotten");
    }

    proptest! {
        /// In any time there are at most the tokens of that time and of one second, and none is lost.
        #[test]
        fn a_bucket_keeps_its_rate(
            rate in 1..5_000_u64,
            steps in prop::collection::vec((0..2_000_u64, 1..50_u64), 1..60),
        ) {
            let mut bucket = Bucket::new(rate, Timestamp(0));
            let (mut now, mut taken) = (0, 0);
            for (millis, wanted) in steps {
                now += millis;
                bucket.fill(Timestamp(now));
                for _ in 0..wanted {
                    if bucket.tokens() > 0 {
                        bucket.take(1);
                        taken += 1;
                    }
                }
                prop_assert!(taken * 1_000 <= rate * (now + 1_000));
            }
            let at = bucket.ready_at();
            bucket.fill(at);
            prop_assert!(bucket.tokens() > 0);
            prop_assert!(at.0 <= now + 1_000 / rate + 1, "a token comes as soon as the rate says");
        }

        #[test]
        fn no_number_overflows(rate: u64, taken: u64, now: u64, later: u64) {
            let mut bucket = Bucket::new(rate, Timestamp(now));
            bucket.take(taken);
            bucket.fill(Timestamp(later));
            let _ = (bucket.tokens(), bucket.ready_at());
        }
    }
}
