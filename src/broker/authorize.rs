//! The one place where access is decided. CONNECT, PUBLISH, SUBSCRIBE and every delivery ask here, on
//! whatever way they come: live, retained, queued, Will, shared or resumed.
//!
//! The first release has no authentication: credentials are accepted unread and everything is allowed that
//! the protocol allows. What Clients may not publish to is decided here already.

/// What somebody wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access<'a> {
    Connect,
    /// To this Topic Name.
    Publish(&'a str),
    /// To this Topic Filter.
    Subscribe(&'a str),
    /// A message with this Topic Name is to be sent to the Client. In bytes, which cost nothing to get.
    Receive(&'a [u8]),
}

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    Allow,
    /// The Topic Name belongs to the Server: `$SYS` and everything below, and what would look like a
    /// shared subscription.
    Reserved,
}

/// Decides. `in_process` is the program that runs the broker.
pub(crate) fn authorize(access: Access<'_>, in_process: bool) -> Decision {
    match access {
        Access::Publish(topic) if !in_process && is_for_the_server(topic) => Decision::Reserved,
        Access::Connect | Access::Publish(_) | Access::Subscribe(_) | Access::Receive(_) => {
            Decision::Allow
        }
    }
}

fn is_for_the_server(topic: &str) -> bool {
    topic.starts_with('$')
        && ["$SYS", "$share"].iter().any(|root| {
            topic.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_do_not_write_where_the_server_does_pitfall_7() {
        for topic in ["$SYS", "$SYS/", "$SYS/broker/uptime", "$share", "$share/g/t"] {
            assert_eq!(authorize(Access::Publish(topic), false), Decision::Reserved, "{topic}");
            assert_eq!(authorize(Access::Publish(topic), true), Decision::Allow, "{topic}");
        }
        for topic in ["$SYSTEM", "$sys/a", "a/$SYS", "$shared/a", "$other"] {
            assert_eq!(authorize(Access::Publish(topic), false), Decision::Allow, "{topic}");
        }
    }

    #[test]
    fn reading_what_the_server_writes_is_allowed() {
        assert_eq!(authorize(Access::Subscribe("$SYS/#"), false), Decision::Allow);
        assert_eq!(authorize(Access::Receive(b"$SYS/a"), false), Decision::Allow);
        assert_eq!(authorize(Access::Connect, false), Decision::Allow);
    }
}
