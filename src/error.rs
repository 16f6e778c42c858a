//! Faults that end a Network Connection, and the one map from a fault to the Reason Code for the Client.

use std::fmt;

use crate::reason_code::ReasonCode;

/// Why the Server ends a Network Connection. The text names the statement of the standard that was broken; it goes
/// into the log and the Reason String.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The bytes are no packet of the standard (section 4.13.1).
    Malformed(&'static str),
    /// A well-formed packet that is not allowed here (section 4.13.1).
    Protocol(&'static str),
    /// The Client exceeded a limit, or its request is not granted; the code names the reason.
    Refused(ReasonCode, &'static str),
    /// The Server ends the Network Connection of its own accord; the code names the reason.
    Server(ReasonCode, &'static str),
}

impl Fault {
    /// The one map from a fault to a Reason Code of MQTT 5.
    pub(crate) const fn reason(self) -> ReasonCode {
        match self {
            Fault::Malformed(_) => ReasonCode::MALFORMED_PACKET,
            Fault::Protocol(_) => ReasonCode::PROTOCOL_ERROR,
            Fault::Refused(reason, _) | Fault::Server(reason, _) => reason,
        }
    }

    /// The description of the fault, which begins with a statement id or a section if there is one.
    pub(crate) const fn detail(self) -> &'static str {
        match self {
            Fault::Malformed(text)
            | Fault::Protocol(text)
            | Fault::Refused(_, text)
            | Fault::Server(_, text) => text,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason(), self.detail())
    }
}

impl std::error::Error for Fault {}
