//! A broker hands its state over to another one, which goes on with it.

use std::fmt;
use std::time::Duration;

use futures_io::{AsyncRead, AsyncWrite};

use super::Broker;
use crate::engine::timers::Order;
use crate::snapshot::{StateError, StateSummary};
use crate::time::Timestamp;

/// How often a broker that is about to stand still is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// A broker that stands still, because its state goes to another one: no Client is connected, nobody is accepted, no
/// message is published, and no time passes for Sessions and Wills. New peers wait in the operating system.
///
/// [`HandOver::finish`] ends the broker for good. Dropping the value without that lets the broker go on as before, as if
/// all its Clients had lost their Network Connections; dropped messages there are none.
///
/// ```
/// use std::time::Duration;
///
/// use futures_lite::future::block_on;
/// use hrotti::{Broker, Message};
///
/// block_on(async {
///     let (old, new) = (Broker::new(100), Broker::new(100));
///     let message = Message::new("lamp/state", "on")?.with_retain(true);
///     old.client("host-program")?.publish(message).await?;
///
///     let hand_over = old.begin_hand_over(Duration::from_secs(5)).await?;
///     let mut state = Vec::new(); // or a pipe to another process
///     let written = hand_over.export_state(&mut state).await?;
///     let read = new.import_state(state.as_slice()).await?;
///     hand_over.finish().await;
///
///     assert_eq!((read, read.retained), (written, 1));
///     assert_eq!(new.counters().retained_messages, 1);
///     Ok::<(), Box<dyn std::error::Error>>(())
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub struct HandOver {
    broker: Broker,
    finished: bool,
}

/// Why [`Broker::begin_hand_over`] failed. The broker goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandOverError {
    /// The broker has been stopped.
    Stopped,
    /// A hand-over is under way.
    UnderWay,
    /// A client in process is publishing, and its call is not polled.
    Busy,
}

impl fmt::Display for HandOverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HandOverError::Stopped => "the broker has been stopped",
            HandOverError::UnderWay => "a hand-over is under way",
            HandOverError::Busy => "a client in process does not finish to publish",
        })
    }
}

impl std::error::Error for HandOverError {}

impl Broker {
    /// Has the broker stand still, to hand its state over. Listeners keep their addresses and accept nobody. Wills without
    /// a delay are published. Network Connections are drained as by [`Broker::stop_within`]: nothing more is read, waiting
    /// messages and acknowledgements are sent, MQTT 5 Clients get DISCONNECT with 0x8B, and what is unsent after `within`
    /// waits in the Sessions. Sessions that end with their Network Connection end.
    ///
    /// Calls of clients in process fail with [`ClientError::HandingOver`](crate::ClientError) until the hand-over ends.
    /// Their own Sessions are not handed over; none of them must be dropped meanwhile.
    ///
    /// # Errors
    /// [`HandOverError`]; the broker goes on.
    ///
    /// # Cancel safety
    /// Dropping the future lets the broker go on. Clients that were disconnected by then have to connect again.
    pub async fn begin_hand_over(&self, within: Duration) -> Result<HandOver, HandOverError> {
        let engine = self.engine();
        if engine.is_stopping() {
            return Err(HandOverError::Stopped);
        }
        if !engine.standstill.begin() {
            return Err(HandOverError::UnderWay);
        }
        let hand_over = HandOver { broker: self.clone(), finished: false };
        let listeners = self.listening().present();
        listeners.iter().for_each(|listener| listener.pause());
        engine.publish_wills_before_close();
        let order = |order| listeners.iter().for_each(|listener| listener.order(order));
        order(Order::ShuttingDown);
        if !self.wait_until(engine.now().plus(within), || engine.nobody_is_connected()).await {
            order(Order::Abort);
            self.wait_until(Timestamp::NEVER, || engine.nobody_is_connected()).await;
        }
        engine.standstill.stand_still();
        let deadline = engine.now().plus(within.max(LOOK * 100));
        match self.wait_until(deadline, || engine.standstill.is_at_rest()).await {
            true => Ok(hand_over),
            false => Err(HandOverError::Busy),
        }
    }

    /// Whether `done` became true before the deadline.
    async fn wait_until(&self, deadline: Timestamp, done: impl Fn() -> bool) -> bool {
        let engine = self.engine();
        while !done() {
            if engine.now() >= deadline {
                return false;
            }
            engine.host.sleep(LOOK).await;
        }
        true
    }

    /// Takes the Sessions and the retained messages that [`HandOver::export_state`] has written. Meant for a broker that
    /// does not accept yet. Messages count as offered here, and wait or are in flight as they were. Bounds that are lower
    /// here than they were there keep no Session, subscription or waiting message out, and refuse new ones; retained
    /// messages beyond the bounds are refused and counted.
    ///
    /// Expiry goes on by the clock on the wall. A Session belongs to its user and mount point as before; until its Client
    /// is back, the access rules of this broker decide whether its Will may be published.
    ///
    /// # Errors
    /// [`StateError`]: the reader fails, the bytes are not valid, or a Session with the same Client Identifier exists.
    /// Sessions that were read before stay; drop the broker, unless part of the state is better than nothing.
    ///
    /// # Cancel safety
    /// A dropped call leaves what was read before.
    pub async fn import_state(
        &self,
        mut reader: impl AsyncRead + Unpin,
    ) -> Result<StateSummary, StateError> {
        self.engine().import(&mut reader).await
    }
}

impl HandOver {
    /// Writes the state: Sessions of Clients on the network with subscriptions, waiting messages, messages in flight and
    /// delayed Wills, and retained messages, without those below `$SYS`, which tell of this broker. Nothing changes in the broker, so the state can be written again if a writer
    /// fails. The bytes are a format of this crate's own with a version; [`Broker::import_state`] reads them. At most about
    /// 64 KiB and one message are held beside the state itself.
    ///
    /// # Errors
    /// [`StateError::Io`] if the writer fails.
    ///
    /// # Cancel safety
    /// A dropped call leaves a part of the state in the writer, and changes nothing in the broker.
    pub async fn export_state(
        &self,
        mut writer: impl AsyncWrite + Unpin,
    ) -> Result<StateSummary, StateError> {
        self.broker.engine().export(&mut writer).await
    }

    /// Ends the broker, because another one has its state: no Will is published here, the messages of the Sessions count as
    /// [`Ledger::handed_over`](crate::Ledger::handed_over), and the files of Unix sockets stay. Returns when the last bytes
    /// of connections are sent, at the latest after [`Limits::stop_timeout`](crate::Limits::stop_timeout).
    ///
    /// # Cancel safety
    /// A dropped call may leave Sessions in the broker, which go on.
    pub async fn finish(mut self) {
        let engine = self.broker.engine().clone();
        engine.hand_over_sessions().await;
        self.finished = true;
        for listener in self.broker.listening().present() {
            listener.leave_files();
        }
        // Time passes again: the last bytes of connections have a deadline.
        engine.standstill.go_on();
        self.broker.stop().await;
    }
}

impl Drop for HandOver {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        self.broker.engine().standstill.go_on();
        self.broker.listening().present().iter().for_each(|listener| listener.go_on());
    }
}

impl fmt::Debug for HandOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandOver").finish_non_exhaustive()
    }
}
