//! Acts of an operator: disconnecting Clients, ending Sessions, and publishing as the Server.

use super::pages::Turns;
use crate::broker::Broker;
use crate::broker::client::{ClientError, Published, Underway};
use crate::engine::errand::Errand;
use crate::message::Message;
use crate::packet::ReasonCode;

/// The publisher of messages of the Server. No Session has the empty Client Identifier, so No Local excludes nobody.
const SERVER: &str = "";

/// The codes of a DISCONNECT that a Server may send (section 3.14.2.1).
const DISCONNECT_CODES: [ReasonCode; 26] = [
    ReasonCode::UNSPECIFIED_ERROR,
    ReasonCode::MALFORMED_PACKET,
    ReasonCode::PROTOCOL_ERROR,
    ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR,
    ReasonCode::NOT_AUTHORIZED,
    ReasonCode::SERVER_BUSY,
    ReasonCode::SERVER_SHUTTING_DOWN,
    ReasonCode::KEEP_ALIVE_TIMEOUT,
    ReasonCode::SESSION_TAKEN_OVER,
    ReasonCode::TOPIC_FILTER_INVALID,
    ReasonCode::TOPIC_NAME_INVALID,
    ReasonCode::RECEIVE_MAXIMUM_EXCEEDED,
    ReasonCode::TOPIC_ALIAS_INVALID,
    ReasonCode::PACKET_TOO_LARGE,
    ReasonCode::MESSAGE_RATE_TOO_HIGH,
    ReasonCode::QUOTA_EXCEEDED,
    ReasonCode::ADMINISTRATIVE_ACTION,
    ReasonCode::PAYLOAD_FORMAT_INVALID,
    ReasonCode::RETAIN_NOT_SUPPORTED,
    ReasonCode::QOS_NOT_SUPPORTED,
    ReasonCode::USE_ANOTHER_SERVER,
    ReasonCode::SERVER_MOVED,
    ReasonCode::SHARED_SUBSCRIPTIONS_NOT_SUPPORTED,
    ReasonCode::CONNECTION_RATE_EXCEEDED,
    ReasonCode::MAXIMUM_CONNECT_TIME,
    ReasonCode::SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED,
];

impl Broker {
    /// Disconnects the Client with this Client Identifier, and returns whether it was connected. An MQTT 5 Client is told
    /// the Reason Code, [`ReasonCode::ADMINISTRATIVE_ACTION`] (0x98) as a rule; a code that a Server may not send in
    /// DISCONNECT (section 3.14.2.1) is replaced by it. The Will is published, and the Session stays until it expires, as
    /// after a lost Network Connection. The Client may connect again: [`Bans`](crate::access::Bans) keep it away.
    ///
    /// The call gives the order and does not wait; the Network Connection closes in its next turn. For an in-process
    /// [`Client`](crate::Client) its calls fail by 0x98 from now on, and its stream ends.
    ///
    /// ```
    /// use hrotti::{Broker, ReasonCode};
    ///
    /// let broker = Broker::new(100);
    /// let client = broker.client("lamp")?;
    /// assert!(broker.disconnect("lamp", ReasonCode::ADMINISTRATIVE_ACTION));
    /// assert!(!broker.disconnect("nobody", ReasonCode::ADMINISTRATIVE_ACTION));
    /// # drop(client);
    /// # Ok::<(), hrotti::ClientError>(())
    /// ```
    pub fn disconnect(&self, client_id: &str, reason: ReasonCode) -> bool {
        let allowed = DISCONNECT_CODES.contains(&reason);
        let reason = if allowed { reason } else { ReasonCode::ADMINISTRATIVE_ACTION };
        self.engine().disconnect(client_id, reason)
    }

    /// Ends the Session of this Client Identifier, whether its Client is connected or away, and returns whether there was
    /// one. A connected Client is disconnected (MQTT 5: 0x98). The Will is published; messages that waited count as
    /// [`DropReason::SessionEnded`](crate::DropReason::SessionEnded), and those of shared subscriptions go to other
    /// members. A large number of subscriptions is removed in later turns, and matches nothing any more meanwhile. A broker that
    /// [hands its state over](crate::HandOver) ends none.
    ///
    /// ```
    /// use hrotti::Broker;
    ///
    /// let broker = Broker::new(100);
    /// let client = broker.client("lamp")?;
    /// assert!(broker.end_session("lamp"));
    /// assert!(broker.session("lamp").is_none());
    /// assert!(!broker.end_session("lamp"));
    /// # drop(client);
    /// # Ok::<(), hrotti::ClientError>(())
    /// ```
    pub fn end_session(&self, client_id: &str) -> bool {
        let engine = self.engine();
        let _at_work = engine.standstill.begin_work();
        !engine.standstill.is_still() && engine.end_session_of(client_id)
    }

    /// Publishes a message of the Server itself, without a client, and returns when it is routed. No access rule is asked,
    /// and Topic Names that are reserved for the Server are open. RETAIN and Message Expiry Interval have their usual
    /// meaning, and the message is in the [`Ledger`](crate::Ledger) as every other. It never waits for a subscriber.
    ///
    /// ```
    /// use futures_lite::future::block_on;
    /// use hrotti::{Broker, Message};
    ///
    /// # block_on(async {
    /// let broker = Broker::new(100);
    /// let published = broker.publish(Message::new("hall/lamp", "on")?.with_retain(true)).await?;
    /// assert_eq!(published.matched, 0);
    /// assert_eq!(broker.counters().retained_messages, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`ClientError::Stopped`] after the broker was stopped; [`ClientError::HandingOver`] while it stands still;
    /// [`ClientError::Refused`] by 0x90 for a Topic Name beyond
    /// [`Limits::topic_levels_max`](crate::Limits::topic_levels_max) or
    /// [`Limits::topic_bytes_max`](crate::Limits::topic_bytes_max).
    ///
    /// # Cancel safety
    /// The first poll begins the routing. If the future is dropped, the broker finishes it.
    pub async fn publish(&self, message: Message) -> Result<Published, ClientError> {
        let engine = self.engine();
        let _at_work = engine.standstill.begin_work();
        if engine.is_stopping() {
            return Err(ClientError::Stopped);
        }
        if engine.standstill.is_still() {
            return Err(ClientError::HandingOver);
        }
        let checked = engine.check_topic_name(message.topic(), &engine.limits());
        checked.map_err(|fault| ClientError::Refused(fault.reason()))?;
        let errand = Errand::new(engine, SERVER.into());
        let errand = errand.publish_as_server(engine, message, engine.now());
        let mut underway = Underway::new(engine, errand);
        let mut turns = Turns::begin();
        loop {
            if let Some(published) = underway.advance(&mut turns.budget) {
                return Ok(published);
            }
            turns.pause().await;
        }
    }
}
