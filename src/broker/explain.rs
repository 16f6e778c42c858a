//! Questions to a running broker: why a message does or does not reach a Session, and which rule decides.

use super::Broker;
use crate::access::{Action, Decision};
use crate::explanation::Explanation;
use crate::message::Message;

impl Broker {
    /// Why a message with this Topic Name would reach the Session of this Client Identifier now, or would not: no
    /// subscription matches (and which almost does), No Local, the rule that denies it, a Client that is not
    /// connected, a full queue, a message that is too large, another member of a shared subscription. For the past,
    /// the counts of the Session's [`Ledger`](crate::Ledger) are part of the answer; nothing is recorded for single
    /// messages.
    ///
    /// The QoS, the size and the publisher of the message are not known: findings that depend on them say so.
    /// [`Broker::explain_message`] knows more. The call takes time in proportion to the Session's subscriptions, under
    /// the Session's lock, and blocks no other Session.
    ///
    /// ```
    /// use futures_lite::future::block_on;
    /// use hrotti::{Broker, Cause, Difference, QoS, SubscriptionOptions, TopicFilter};
    ///
    /// # block_on(async {
    /// let broker = Broker::new(100);
    /// let client = broker.client("hall-panel")?;
    /// client.subscribe(&TopicFilter::new("hall/lamp")?, SubscriptionOptions::with_qos(QoS::AtMostOnce)).await?;
    ///
    /// assert!(broker.explain_delivery("hall-panel", "hall/lamp").would_arrive());
    ///
    /// let explanation = broker.explain_delivery("hall-panel", "Hall/Lamp");
    /// assert!(!explanation.would_arrive());
    /// let Cause::NoSubscription { nearest: Some((filter, difference)) } = &explanation.findings[0].cause else {
    ///     unreachable!()
    /// };
    /// assert_eq!((filter.as_str(), difference), ("hall/lamp", &Difference::Case));
    /// println!("{explanation}");
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn explain_delivery(&self, client_id: &str, topic: &str) -> Explanation {
        self.engine().explain(client_id, topic, None)
    }

    /// As [`Broker::explain_delivery`] for this message, whose QoS, size and Message Expiry Interval are known.
    ///
    /// ```
    /// use hrotti::{Broker, Cause, Message};
    ///
    /// let broker = Broker::new(100);
    /// let explanation = broker.explain_message("nobody", &Message::new("hall/lamp", "on")?);
    /// assert_eq!(explanation.findings[0].cause, Cause::NoSession { nearest: None });
    /// # Ok::<(), hrotti::TopicError>(())
    /// ```
    #[must_use]
    pub fn explain_message(&self, client_id: &str, message: &Message) -> Explanation {
        self.engine().explain(client_id, message.topic(), Some(message))
    }

    /// What the access rules say about an action of the Client of this Session, and the rule that decides. The topic is
    /// a Topic Name; for [`Action::Subscribe`] and [`Action::Unsubscribe`] a Topic Filter, without `$share/NAME/`.
    /// Nothing is counted or logged. `None` without such a Session.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use futures_lite::future::block_on;
    /// use hrotti::Broker;
    /// use hrotti::access::{Action, Chain, Decision, Identity, Rule};
    ///
    /// let broker = Broker::builder().policy(Arc::new(Chain::new(Vec::new()))).build();
    /// let client = broker.client_as("clock", Identity::new(Rule::named("a plug-in")))?;
    /// let decision = broker.explain_access("clock", Action::Publish, "time");
    /// assert_eq!(decision, Some(Decision::NoAnswer));
    /// # drop(client);
    /// # Ok::<(), hrotti::ClientError>(())
    /// ```
    #[must_use]
    pub fn explain_access(&self, client_id: &str, action: Action, topic: &str) -> Option<Decision> {
        self.engine().explain_access(client_id, action, topic)
    }
}
