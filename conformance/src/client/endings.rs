//! How a Network Connection ends, by whose doing.

use std::time::Duration;

use super::{Client, Next, seen};
use crate::codec::{Kind, Packet, Version, one_of, packet};
use crate::failure::Step;

impl Client {
    /// DISCONNECT with code 0, and the end of the connection.
    ///
    /// # Errors
    /// A connection that cannot be ended.
    #[track_caller]
    pub fn disconnect(mut self) -> Step {
        self.send(&packet(0xE0, &[]))?;
        self.leave()
    }

    /// DISCONNECT (5.0) with a code and raw property bytes, and the end of the connection.
    ///
    /// # Errors
    /// A connection that cannot be ended.
    #[track_caller]
    pub fn disconnect_with(mut self, code: u8, props: &[u8]) -> Step {
        let mut body = vec![code, u8::try_from(props.len()).unwrap_or(0)];
        body.extend_from_slice(props);
        self.send(&packet(0xE0, &body))?;
        self.leave()
    }

    /// The end after DISCONNECT. The Server SHOULD close (section 3.14.4), the Client MUST (MQTT-3.14.4-1 in
    /// 3.1.1, -2 in 5.0): so where the one does not, the other does.
    ///
    /// # Errors
    /// A connection that cannot be ended, or a packet other than PUBLISH before its end.
    #[track_caller]
    pub fn leave(&mut self) -> Step {
        if self.closed_within(self.deadline / 8)? {
            return Ok(());
        }
        self.finish()?;
        self.expect_closed()
    }

    /// Whether the server closes in this time; messages under way are passed over.
    ///
    /// # Errors
    /// Any other packet.
    #[track_caller]
    pub fn closed_within(&mut self, within: Duration) -> Step<bool> {
        let wanted = "the end of the stream";
        loop {
            match self.next_within(wanted, within)? {
                Next::End => return Ok(true),
                Next::Packet(Packet::Publish(_)) => {}
                Next::Packet(other) => return Err(self.fail(wanted, other.to_string())),
                Next::Nothing => return Ok(false),
            }
        }
    }

    /// Expects the server to close; messages under way are passed over.
    ///
    /// # Errors
    /// Any other packet, or an open connection at the deadline.
    #[track_caller]
    pub fn expect_closed(&mut self) -> Step {
        loop {
            match self.next_packet("the end of the stream")? {
                None => return Ok(()),
                Some(Packet::Publish(_)) => {}
                other => {
                    return Err(self.fail("the end of the stream", seen(other.as_ref())));
                }
            }
        }
    }

    /// Expects the end of the stream and nothing before it, as after DISCONNECT (MQTT-3.14.4-1).
    ///
    /// # Errors
    /// Any packet, or an open connection at the deadline.
    #[track_caller]
    pub fn expect_end(&mut self) -> Step {
        match self.next_packet("the end of the stream")? {
            None => Ok(()),
            other => Err(self.fail("the end of the stream", seen(other.as_ref()))),
        }
    }

    /// Everything until the server closes.
    ///
    /// # Errors
    /// An open connection at the deadline.
    #[track_caller]
    pub fn until_the_end(&mut self) -> Step<Vec<Packet>> {
        let mut seen = Vec::new();
        while let Some(packet) = self.next_packet("the end of the stream")? {
            seen.push(packet);
        }
        Ok(seen)
    }

    /// Asks for PINGRESP and returns what came before it, PUBLISH aside; a server may also end the
    /// connection, where it cannot answer otherwise.
    ///
    /// # Errors
    /// Neither in time.
    #[track_caller]
    pub fn answers(&mut self) -> Step<Vec<Packet>> {
        // A stream that has ended already does not take it; then its end is what comes.
        let _ = self.send(&packet(0xC0, &[]));
        let mut seen = Vec::new();
        loop {
            match self.next_packet("PINGRESP or the end of the stream")? {
                None | Some(Packet::Pingresp) => return Ok(seen),
                Some(Packet::Publish(_)) => {}
                Some(packet) => seen.push(packet),
            }
        }
    }

    /// Expects PUBREC for `id`, and returns its Reason Code; or the end of the connection for a fault, as
    /// [`expect_fault`](Client::expect_fault) does.
    ///
    /// # Errors
    /// Neither.
    #[track_caller]
    pub fn refusal_or_fault(&mut self, id: u16, codes: &[u8]) -> Step<Option<u8>> {
        let wanted = format!("PUBREC id {id} with a failure, or DISCONNECT {}", one_of(codes));
        match self.next_packet(&wanted)? {
            Some(Packet::Ack { kind: Kind::Pubrec, id: came, code, .. }) if came == id => {
                Ok(Some(code))
            }
            Some(Packet::Disconnect { code, .. }) if codes.contains(&code) => {
                self.expect_end().map(|()| None)
            }
            None if !self.can.server_disconnect => Ok(None),
            other => Err(self.fail(wanted, seen(other.as_ref()))),
        }
    }

    /// Expects the server to end the connection for a fault: in 5.0 by DISCONNECT with one of these codes
    /// (a bare close passes where the target says so), in 3.x by closing.
    ///
    /// # Errors
    /// Another packet or code, or an open connection at the deadline.
    #[track_caller]
    pub fn expect_fault(&mut self, codes: &[u8]) -> Step {
        if self.version < Version::V5 {
            return self.expect_closed();
        }
        let wanted = format!("DISCONNECT {} and the end of the stream", one_of(codes));
        loop {
            match self.next_packet(&wanted)? {
                Some(Packet::Disconnect { code, .. }) if codes.contains(&code) => {
                    return self.expect_end();
                }
                Some(Packet::Publish(_)) => {}
                None if !self.can.server_disconnect => return Ok(()),
                other => return Err(self.fail(wanted, seen(other.as_ref()))),
            }
        }
    }
}
