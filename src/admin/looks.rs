//! The last looks at single Clients, from which the next look at one tells its rates.

use std::collections::VecDeque;
use std::sync::Mutex;

use serde_json::{Value, json};

use crate::broker::SessionInfo;
use crate::sync::lock;
use crate::time::Timestamp;

/// Looks that are kept; the oldest is forgotten.
const LOOKS_MAX: usize = 64;
/// A look that is older tells nothing of the present.
const OLD_MILLIS: u64 = 60_000;
/// Looks that are closer to each other tell the same rates.
const CLOSE_MILLIS: u64 = 1_000;

/// The last looks, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Looks(Mutex<VecDeque<Look>>);

#[derive(Debug)]
struct Look {
    client_id: String,
    at: Timestamp,
    published: u64,
    delivered: u64,
    rates: Value,
}

impl Looks {
    /// The rates since the last look at this Client; null at the first look within a minute.
    #[allow(clippy::cast_precision_loss, reason = "a rate need not be exact")]
    pub(super) fn rates(&self, info: &SessionInfo, now: Timestamp) -> Value {
        let mut looks = lock(&self.0);
        let (published, delivered) = (info.publishes_received, info.ledger.delivered);
        let earlier = looks.iter().position(|look| look.client_id == info.client_id);
        let mut rates = Value::Null;
        if let Some(index) = earlier {
            let millis = now.0.saturating_sub(looks[index].at.0);
            if millis < CLOSE_MILLIS {
                return looks[index].rates.clone();
            }
            let Some(look) = looks.remove(index) else { return rates };
            // A Session of the same name that has begun anew counts from 0.
            if millis < OLD_MILLIS && published >= look.published && delivered >= look.delivered {
                let rate = |count: u64| count as f64 * 1_000.0 / millis as f64;
                rates = json!({
                    "publishesReceived": rate(published - look.published),
                    "messagesSent": rate(delivered - look.delivered),
                });
            }
        }
        if looks.len() >= LOOKS_MAX {
            looks.pop_front();
        }
        let (client_id, shown) = (info.client_id.clone(), rates.clone());
        looks.push_back(Look { client_id, at: now, published, delivered, rates: shown });
        rates
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::block_on;

    use super::*;
    use crate::{Broker, Message};

    #[test]
    fn the_second_look_tells_the_rates_and_few_looks_are_kept_pitfall_15() {
        let broker = Broker::new(10);
        let client = broker.client("c").expect("a free name");
        let looks = Looks::default();
        let info = || broker.session("c").expect("it lives").info;
        assert_eq!(looks.rates(&info(), Timestamp(0)), Value::Null);
        for _ in 0..8 {
            block_on(client.publish(Message::new("a", "").expect("a Topic Name")))
                .expect("it runs");
        }
        assert_eq!(looks.rates(&info(), Timestamp(500)), Value::Null, "too close");
        let rates = looks.rates(&info(), Timestamp(2_000));
        assert_eq!(rates, json!({ "publishesReceived": 4.0, "messagesSent": 0.0 }));
        assert_eq!(looks.rates(&info(), Timestamp(2_100)), rates);
        assert_eq!(looks.rates(&info(), Timestamp(90_000)), Value::Null, "the last look is old");
        for number in 0..200 {
            let mut other = info();
            other.client_id = number.to_string();
            looks.rates(&other, Timestamp(90_000));
        }
        assert_eq!(lock(&looks.0).len(), LOOKS_MAX);
    }
}
