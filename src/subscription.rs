//! Subscriptions, and how several subscriptions of one Session that match a message become one delivery.

use std::num::NonZeroU32;
use std::sync::Arc;

use crate::packet::{QoS, SubscriptionOptions};

/// A subscription as it is kept beside its Topic Filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subscription {
    pub(crate) options: SubscriptionOptions,
    /// Subscription Identifier (section 3.8.2.1.2).
    pub(crate) id: Option<NonZeroU32>,
}

/// The identity by which a message refers to its shared subscription (section 4.8.2), as long as that has members.
#[derive(Debug, Default)]
pub(crate) struct ShareGroup;

/// The merged options of all subscriptions of one Session that match a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The highest QoS of the matching subscriptions (MQTT-3.3.4-2, in 3.1.1 MQTT-3.3.5-1).
    pub(crate) qos: QoS,
    /// Whether any of them has Retain As Published (MQTT-3.3.1-13).
    pub(crate) retain_as_published: bool,
    /// Their Subscription Identifiers (MQTT-3.3.4-4).
    pub(crate) ids: Option<Arc<[u32]>>,
}

impl Wanted {
    /// Merges the subscriptions of one Session. `None` if there are none.
    pub(crate) fn merge(subscriptions: &[Subscription]) -> Option<Wanted> {
        let qos = subscriptions.iter().map(|subscription| subscription.options.qos).max()?;
        let ids: Vec<u32> = subscriptions
            .iter()
            .filter_map(|subscription| subscription.id)
            .map(NonZeroU32::get)
            .collect();
        Some(Wanted {
            qos,
            retain_as_published: subscriptions.iter().any(|s| s.options.retain_as_published),
            ids: (!ids.is_empty()).then(|| ids.into()),
        })
    }

    /// The QoS at which a message published at `published` is sent (MQTT-3.8.4-8).
    pub(crate) fn delivery_qos(&self, published: QoS) -> QoS {
        self.qos.min(published)
    }

    /// The RETAIN flag of a message that an established subscription matched (MQTT-3.3.1-12, -13).
    pub(crate) fn delivery_retain(&self, published: bool) -> bool {
        self.retain_as_published && published
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn subscription(qos: QoS, retain_as_published: bool, id: u32) -> Subscription {
        let options = SubscriptionOptions { qos, retain_as_published, ..Default::default() };
        Subscription { options, id: NonZeroU32::new(id) }
    }

    #[test]
    fn overlapping_subscriptions_merge_mqtt_3_3_4_2_and_4() {
        let merged = Wanted::merge(&[
            subscription(QoS::AtMostOnce, true, 7),
            subscription(QoS::ExactlyOnce, false, 0),
            subscription(QoS::AtLeastOnce, false, 9),
        ])
        .unwrap();
        assert_eq!(merged.qos, QoS::ExactlyOnce);
        assert_eq!(merged.ids.as_deref(), Some(&[7, 9][..]));
        assert_eq!(merged.delivery_qos(QoS::AtLeastOnce), QoS::AtLeastOnce);
        assert!(merged.delivery_retain(true) && !merged.delivery_retain(false));
    }

    #[test]
    fn nothing_merges_to_nothing() {
        assert_eq!(Wanted::merge(&[]), None);
    }

    #[test]
    fn retain_is_cleared_unless_asked_for_mqtt_3_3_1_12() {
        let wanted = Wanted::merge(&[subscription(QoS::AtMostOnce, false, 0)]).unwrap();
        assert!(!wanted.delivery_retain(true));
    }
}
