//! What a broker has said that it lacks: a case that needs it is skipped where it would use it.

use crate::capabilities::Capabilities;
use crate::codec::{Connect, Property, Publish, Subscribe, Value, Version};
use crate::failure::{Step, skip};

const DOLLAR: &str = "topics for clients that begin with `$`";

/// What is left of `can` after the server's CONNACK (section 3.2.2.3).
pub(super) fn narrowed(mut can: Capabilities, connack: &[Property]) -> Capabilities {
    for property in connack {
        match *property {
            Property(0x24, Value::Byte(n)) => can.maximum_qos = can.maximum_qos.min(n),
            Property(0x25, Value::Byte(0)) => can.retained_messages = false,
            Property(0x27, Value::Four(n)) => {
                can.maximum_packet_size = can.maximum_packet_size.min(n);
            }
            Property(0x28, Value::Byte(0)) => can.wildcard_subscriptions = false,
            Property(0x29, Value::Byte(0)) => can.subscription_identifiers = false,
            Property(0x2A, Value::Byte(0)) => can.shared_subscriptions = false,
            _ => {}
        }
    }
    can
}

#[track_caller]
fn needs(met: bool, what: &str) -> Step {
    if met { Ok(()) } else { Err(skip(format!("needs {what}"))) }
}

/// Skips the case that has no use for a refusal of this message.
#[track_caller]
pub(crate) fn message(can: &Capabilities, qos: u8, retain: bool) -> Step {
    needs(qos <= can.maximum_qos, &format!("QoS {qos}"))?;
    needs(!retain || can.retained_messages, "retained messages")
}

#[track_caller]
pub(super) fn connect(can: &Capabilities, connect: &Connect) -> Step {
    if let Some(will) = &connect.will {
        message(can, will.qos, will.retain)?;
    }
    let taken = match connect.version {
        Version::V31 => false,
        Version::V311 => connect.clean,
        Version::V5 => true,
    };
    needs(!connect.client_id.is_empty() || !taken || can.empty_client_ids, "empty Client Ids")?;
    let credentials = connect.user.is_some() || connect.password.is_some();
    needs(!credentials || can.any_credentials, "any credentials to be accepted")?;
    needs(connect.clean || can.persistent_sessions, "Sessions that outlive their connection")
}

#[track_caller]
pub(super) fn publish(can: &Capabilities, publish: &Publish, bytes: usize) -> Step {
    message(can, publish.qos, publish.retain)?;
    needs(!publish.topic.starts_with('$') || can.dollar_topics, DOLLAR)?;
    let size = usize::try_from(can.maximum_packet_size).unwrap_or(usize::MAX);
    needs(bytes <= size, &format!("packets of {bytes} bytes"))
}

#[track_caller]
pub(super) fn subscribe(can: &Capabilities, subscribe: &Subscribe) -> Step {
    for (filter, _) in &subscribe.filters {
        let shared = filter.starts_with("$share/");
        needs(!shared || can.shared_subscriptions, "shared subscriptions")?;
        needs(shared || !filter.starts_with('$') || can.dollar_topics, DOLLAR)?;
        let wildcard = filter.split('/').any(|level| level == "+" || level == "#");
        needs(!wildcard || can.wildcard_subscriptions, "wildcard subscriptions")?;
    }
    let identified = subscribe.props.iter().any(|p| p.0 == 0x0B);
    needs(!identified || can.subscription_identifiers, "Subscription Identifiers")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Will, prop};

    fn lacking(change: impl FnOnce(&mut Capabilities)) -> Capabilities {
        let mut can = Capabilities::all();
        change(&mut can);
        can
    }

    fn reason(step: Step) -> String {
        step.unwrap_err().skipped().expect("a skip").to_owned()
    }

    #[test]
    fn a_server_that_has_all_skips_nothing() {
        let can = Capabilities::all();
        let will = Will::new("w", "x").qos(2).retain();
        let mut hello = Connect::new(Version::V5, "");
        (hello.will, hello.user, hello.clean) = (Some(will), Some("u".into()), false);
        connect(&can, &hello).unwrap();
        publish(&can, &Publish::new("$a/b", "x").qos(2).retain(), 1 << 28).unwrap();
        let every = Subscribe::to("$share/g/+/#", 2).prop(prop::subscription_id(1));
        subscribe(&can, &every).unwrap();
    }

    #[test]
    fn each_lack_is_named() {
        let retained = Publish::new("t", "x").retain();
        let can = lacking(|c| c.retained_messages = false);
        assert_eq!(reason(publish(&can, &retained, 9)), "needs retained messages");
        let can = lacking(|c| c.maximum_qos = 1);
        assert_eq!(reason(publish(&can, &Publish::new("t", "x").qos(2), 9)), "needs QoS 2");
        let can = lacking(|c| c.maximum_packet_size = 200);
        assert!(publish(&can, &Publish::new("t", "x"), 200).is_ok());
        let large = reason(publish(&can, &Publish::new("t", "x"), 201));
        assert_eq!(large, "needs packets of 201 bytes");
        let can = lacking(|c| c.shared_subscriptions = false);
        let shared = reason(subscribe(&can, &Subscribe::to("$share/g/t", 1)));
        assert_eq!(shared, "needs shared subscriptions");
        let can = lacking(|c| c.wildcard_subscriptions = false);
        let wild = reason(subscribe(&can, &Subscribe::to("a", 0).and("b/+", 0)));
        assert_eq!(wild, "needs wildcard subscriptions");
        let can = lacking(|c| c.persistent_sessions = false);
        let mut hello = Connect::new(Version::V311, "a");
        hello.clean = false;
        assert!(reason(connect(&can, &hello)).contains("outlive"));
    }

    #[test]
    fn an_empty_client_id_is_refused_everywhere_where_the_standard_says_so() {
        let can = lacking(|c| c.empty_client_ids = false);
        assert!(connect(&can, &Connect::new(Version::V31, "")).is_ok());
        assert!(connect(&can, &Connect::new(Version::V311, "")).is_err());
        let mut kept = Connect::new(Version::V311, "");
        kept.clean = false;
        assert!(connect(&can, &kept).is_ok());
    }

    #[test]
    fn connack_takes_away_and_never_adds() {
        let said = [
            Property(0x24, Value::Byte(1)),
            Property(0x25, Value::Byte(0)),
            Property(0x27, Value::Four(500)),
            Property(0x28, Value::Byte(1)),
            Property(0x29, Value::Byte(0)),
            Property(0x2A, Value::Byte(0)),
        ];
        let can = narrowed(Capabilities::all(), &said);
        assert_eq!((can.maximum_qos, can.maximum_packet_size), (1, 500));
        assert!(!can.retained_messages && !can.subscription_identifiers);
        assert!(!can.shared_subscriptions && can.wildcard_subscriptions);
        let none = lacking(|c| c.wildcard_subscriptions = false);
        assert!(!narrowed(none, &said).wildcard_subscriptions);
    }
}
