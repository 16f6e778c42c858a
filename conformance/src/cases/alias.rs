//! Topic aliases: section 3.3.2.3.4.

use crate::client::Client;
use crate::codec::{ALL, Publish, Received, Value, Version, find, prop};
use crate::failure::{Step, expect, expect_eq, skip};
use crate::target::Server;

/// Connects, if the server takes aliases at all.
fn connect(server: &Server, id: &str) -> Step<(Client, u16)> {
    let client = server.v5(id).connect()?;
    match find(&client.connack.props, 0x22) {
        Some(Value::Two(n)) if *n > 0 => {
            let n = *n;
            Ok((client, n))
        }
        // Absent is 0: then the Client may use none (section 3.2.2.3.8).
        _ => Err(skip("the server takes no topic aliases")),
    }
}

fn aliased(topic: &str, payload: &str, alias: u16) -> Publish {
    Publish::new(topic, payload).qos(1).prop(prop::topic_alias(alias))
}

pub(crate) fn stands_for_a_topic(server: &Server) -> Step {
    let (mut publisher, maximum) = connect(server, "p")?;
    for version in server.spoken(ALL) {
        let mut sub = server.client(version, "s").connect()?;
        sub.subscribe("t/#", 1)?;
        for alias in [1, maximum] {
            let topic = format!("t/{alias}");
            publisher.publish(aliased(&topic, "set", alias))?;
            publisher.publish(aliased("", "used", alias))?;
            let first = sub.expect_publish(&topic, "set")?;
            expect_eq("Topic Alias is not passed on", &first.prop(0x23), &None)?;
            sub.expect_publish(&topic, "used")?;
        }
    }
    Ok(())
}

pub(crate) fn is_moved_to_another_topic(server: &Server) -> Step {
    let (mut publisher, _) = connect(server, "p")?;
    let mut sub = server.v5("s").connect()?;
    sub.subscribe("t/#", 1)?;
    for topic in ["t/a", "t/b"] {
        publisher.publish(aliased(topic, "set", 1))?;
        publisher.publish(aliased("", "used", 1))?;
        sub.expect_publish(topic, "set")?;
        sub.expect_publish(topic, "used")?;
    }
    Ok(())
}

pub(crate) fn unknown_is_a_fault(server: &Server) -> Step {
    let (mut client, _) = connect(server, "p")?;
    client.send_publish(aliased("", "x", 1))?;
    // The standard speaks of a Protocol Error, and has a code of its own for aliases.
    client.expect_fault(&[0x82, 0x94])
}

pub(crate) fn zero_is_a_fault(server: &Server) -> Step {
    let (mut client, _) = connect(server, "p")?;
    client.send_publish(aliased("t", "x", 0))?;
    // 0x94 is for an alias above the maximum; 0 may be seen as that, or as a Protocol Error.
    client.expect_fault(&[0x81, 0x82, 0x94])
}

pub(crate) fn above_the_maximum_is_a_fault(server: &Server) -> Step {
    let mut client = server.v5("p").connect()?;
    let maximum = match find(&client.connack.props, 0x22) {
        Some(Value::Two(n)) => *n,
        _ => 0, // absent: no alias at all (MQTT-3.2.2-18)
    };
    let Some(above) = maximum.checked_add(1) else {
        return Err(skip("the server takes every alias that there is"));
    };
    client.send_publish(aliased("t", "x", above))?;
    client.expect_fault(&[0x94])
}

pub(crate) fn does_not_outlive_the_connection(server: &Server) -> Step {
    let dialling = server.v5("p").persistent();
    let mut client = dialling.connect()?;
    if find(&client.connack.props, 0x22).is_none_or(|n| *n == Value::Two(0)) {
        return Err(skip("the server takes no topic aliases"));
    }
    client.publish(aliased("t", "x", 1))?;
    client.disconnect()?;
    let mut client = dialling.connect()?;
    client.send_publish(aliased("", "x", 1))?;
    client.expect_fault(&[0x82, 0x94])?;
    server.v5("p").connect().map(drop)
}

pub(crate) fn none_without_permission(server: &Server) -> Step {
    let mut publisher = server.helper(Version::V311, "p").connect()?;
    let mut sub = server.v5("s").connect()?;
    sub.subscribe("t", 1)?;
    for _ in 0..5 {
        publisher.publish(Publish::new("t", "x").qos(1))?;
        let message = sub.expect_publish("t", "x")?;
        expect_eq("Topic Alias", &message.prop(0x23), &None)?;
    }
    Ok(())
}

/// The topic of a message, by the aliases that came on this connection.
fn topic_of(message: &Received, known: &mut [String; 2]) -> Step<String> {
    let Some(Value::Two(alias)) = message.prop(0x23) else { return Ok(message.topic.clone()) };
    expect((1..=2).contains(alias), "an alias of 1 or 2", alias)?;
    let slot = &mut known[usize::from(*alias) - 1];
    if !message.topic.is_empty() {
        slot.clone_from(&message.topic);
    }
    Ok(slot.clone())
}

pub(crate) fn within_the_clients_maximum(server: &Server) -> Step {
    let mut publisher = server.helper(Version::V311, "p").connect()?;
    let mut sub = server.v5("s").prop(prop::topic_alias_maximum(2)).connect()?;
    sub.subscribe("t/#", 1)?;
    let mut known = [const { String::new() }; 2];
    let mut used = false;
    for round in 0..4 {
        for i in 0..4 {
            let topic = format!("t/{i}");
            publisher.publish(Publish::new(&topic, round.to_string()).qos(1))?;
            let message = sub.message()?;
            used |= message.topic.is_empty();
            expect_eq("topic", &topic_of(&message, &mut known)?, &topic)?;
        }
    }
    expect(used || !server.can().outgoing_aliases, "an alias instead of a topic", used)
}

/// What the Client never got taught it no alias.
pub(crate) fn discarded_message_sets_none(server: &Server) -> Step {
    let mut publisher = server.helper(Version::V311, "p").connect()?;
    let dialling = server.v5("s").prop(prop::topic_alias_maximum(2));
    let mut sub = dialling.prop(prop::maximum_packet_size(100)).connect()?;
    sub.subscribe("t", 1)?;
    let mut known = [const { String::new() }; 2];
    for payload in ["x".repeat(200), "small".to_owned(), "again".to_owned()] {
        publisher.publish(Publish::new("t", &payload).qos(1))?;
        if payload.len() < 100 {
            let message = sub.message()?;
            expect_eq("topic", &topic_of(&message, &mut known)?, &"t".to_owned())?;
            expect_eq("payload", &message.text(), &payload)?;
        }
    }
    Ok(())
}

/// Sent with an alias on one connection, a message has a topic that the next one can read.
pub(crate) fn resent_by_the_next_connections_aliases(server: &Server) -> Step {
    let most = server.can().maximum_inflight.min(3);
    let mut publisher = server.helper(Version::V311, "p").connect()?;
    let dialling = server.v5("s").persistent();
    let mut sub = dialling.clone().prop(prop::topic_alias_maximum(2)).connect()?;
    sub.subscribe("t", 1)?;
    for _ in 0..most {
        publisher.publish(Publish::new("t", "x").qos(1))?;
        sub.receive()?;
    }
    sub.cut();
    for maximum in [2, 0] {
        let mut sub = dialling.clone().prop(prop::topic_alias_maximum(maximum)).connect()?;
        let mut known = [const { String::new() }; 2];
        for _ in 0..most {
            let message = sub.receive()?;
            expect(message.prop(0x23).is_none() || maximum > 0, "no alias", &message)?;
            expect_eq("topic", &topic_of(&message, &mut known)?, &"t".to_owned())?;
        }
        sub.cut();
    }
    server.v5("s").connect().map(drop)
}
