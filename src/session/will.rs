//! The Will Message and its delay.

use crate::message::Message;
use crate::time::Timestamp;

/// The Will of a CONNECT (section 3.1.2.5).
#[derive(Debug, Clone)]
pub(crate) struct Will {
    pub(crate) message: Message,
    /// Will Delay Interval in seconds; 0 in 3.1 and 3.1.1.
    pub(crate) delay_secs: u32,
}

/// The state of a Session's Will.
#[derive(Debug, Default)]
pub(crate) enum WillState {
    /// No Will, or it was published or discarded (MQTT-3.1.2-10).
    #[default]
    None,
    /// The Network Connection lives.
    Armed(Will),
    /// The Network Connection was closed and the delay runs (MQTT-3.1.2-8).
    Delayed { message: Message, due: Timestamp },
}

impl WillState {
    /// Stores the Will of a CONNECT, or none.
    pub(crate) fn arm(&mut self, will: Option<Will>) {
        *self = will.map_or(WillState::None, WillState::Armed);
    }

    /// Discards the Will after DISCONNECT with 0x00, or any DISCONNECT in 3.1.1 (MQTT-3.14.4-3).
    pub(crate) fn discard(&mut self) {
        *self = WillState::None;
    }

    /// The Network Connection was closed in any other way. Returns the message if it is to be published
    /// now: without a delay, or because the Session ends with its Network Connection.
    pub(crate) fn connection_lost(
        &mut self,
        now: Timestamp,
        session_ends: bool,
    ) -> Option<Message> {
        match std::mem::take(self) {
            WillState::Armed(will) if session_ends || will.delay_secs == 0 => Some(will.message),
            WillState::Armed(will) => {
                let due = now.plus_secs(will.delay_secs);
                *self = WillState::Delayed { message: will.message, due };
                None
            }
            other => {
                *self = other;
                None
            }
        }
    }

    /// Settles the Will when a new Network Connection resumes the Session: with a delay it is never sent
    /// (MQTT-3.1.3-9), without a delay it is published, because the old Network Connection ends.
    pub(crate) fn resumed(&mut self) -> Option<Message> {
        match std::mem::take(self) {
            WillState::Armed(will) if will.delay_secs == 0 => Some(will.message),
            _ => None,
        }
    }

    /// The Session ends: a Will that is still there is published now (MQTT-3.1.2-8).
    pub(crate) fn session_ended(&mut self) -> Option<Message> {
        match std::mem::take(self) {
            WillState::None => None,
            WillState::Armed(will) => Some(will.message),
            WillState::Delayed { message, .. } => Some(message),
        }
    }

    /// The message that would be published.
    pub(crate) fn message(&self) -> Option<&Message> {
        match self {
            WillState::None => None,
            WillState::Armed(will) => Some(&will.message),
            WillState::Delayed { message, .. } => Some(message),
        }
    }

    /// When the delay is over; [`Timestamp::NEVER`] if none runs.
    pub(crate) fn due(&self) -> Timestamp {
        match self {
            WillState::Delayed { due, .. } => *due,
            _ => Timestamp::NEVER,
        }
    }

    /// The message whose delay is over.
    pub(crate) fn take_due(&mut self, now: Timestamp) -> Option<Message> {
        if self.due() > now {
            return None;
        }
        self.session_ended()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn armed(delay_secs: u32) -> WillState {
        WillState::Armed(Will { message: Message::new("will", "gone").unwrap(), delay_secs })
    }

    #[test]
    fn without_a_delay_it_is_published_at_once_mqtt_3_1_2_8() {
        let mut will = armed(0);
        assert!(will.connection_lost(Timestamp(0), false).is_some());
        assert!(will.session_ended().is_none(), "MQTT-3.1.2-10: published once");
    }

    #[test]
    fn a_delay_runs_while_the_session_lives() {
        let mut will = armed(2);
        assert!(will.connection_lost(Timestamp(1_000), false).is_none());
        assert_eq!(will.due(), Timestamp(3_000));
        assert!(will.take_due(Timestamp(2_999)).is_none());
        assert!(will.take_due(Timestamp(3_000)).is_some());
        assert!(will.take_due(Timestamp(9_000)).is_none());
    }

    #[test]
    fn the_end_of_the_session_cuts_the_delay_short() {
        assert!(armed(2).connection_lost(Timestamp(0), true).is_some());
        let mut delayed = armed(2);
        assert!(delayed.connection_lost(Timestamp(0), false).is_none());
        assert!(delayed.session_ended().is_some());
    }

    #[test]
    fn resuming_silences_a_delayed_will_mqtt_3_1_3_9() {
        let mut delayed = armed(2);
        assert!(delayed.connection_lost(Timestamp(0), false).is_none());
        assert!(delayed.resumed().is_none());
        assert!(armed(2).resumed().is_none());
        assert!(armed(0).resumed().is_some());
    }

    #[test]
    fn a_normal_disconnect_discards_it_mqtt_3_14_4_3() {
        let mut will = armed(0);
        will.discard();
        assert!(will.connection_lost(Timestamp(0), true).is_none());
    }
}
