//! Keep alive, Receive Maximum, Maximum Packet Size, the queue, message expiry.

use std::ops::Range;
use std::time::Instant;

use super::protocol_time;
use crate::client::Client;
use crate::codec::{ALL, Kind, Publish, Subscribe, Value, Version, find, prop, varint};
use crate::failure::{Step, expect, expect_eq, skip};
use crate::target::Server;

pub(crate) fn ping_is_answered(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let mut client = server.client(version, "a").connect()?;
        for _ in 0..3 {
            client.ping()?;
        }
    }
    Ok(())
}

pub(crate) fn keep_alive_runs_out(server: &Server) -> Step {
    let begin = Instant::now();
    let mut clients = Vec::new();
    for version in server.spoken(ALL) {
        let id = format!("a{}", version as u8);
        clients.push(server.client(version, &id).keep_alive(1).connect()?);
    }
    for client in &mut clients {
        client.expect_fault(&[0x8D])?;
    }
    // Never before the time that the client was promised.
    expect(begin.elapsed().as_millis() >= 1000, "a second or more", begin.elapsed())
}

/// Twice the time that silence would have: PUBLISH will do, it need not be PINGREQ.
pub(crate) fn any_packet_keeps_alive(server: &Server) -> Step {
    let mut clients = Vec::new();
    for version in server.spoken(ALL) {
        let id = format!("a{}", version as u8);
        clients.push(server.client(version, &id).keep_alive(1).connect()?);
    }
    for qos in [0, 1, 2, 0, 1, 2] {
        protocol_time(400);
        for client in &mut clients {
            client.publish(Publish::new("t", "x").qos(qos))?;
        }
    }
    clients.iter_mut().try_for_each(Client::ping)
}

pub(crate) fn receive_maximum_of_the_client(server: &Server) -> Step {
    let mut publisher = server.helper(Version::V311, "p").connect()?;
    let mut sub = server.v5("s").prop(prop::receive_maximum(2)).connect()?;
    sub.subscribe("t", 1)?;
    for i in 0..6 {
        publisher.publish(Publish::new("t", i.to_string()).qos(1))?;
    }
    let mut open = vec![sub.receive()?, sub.receive()?];
    for i in 2..6 {
        sub.expect_quiet()?;
        let oldest = open.remove(0);
        sub.ack(Kind::Puback, oldest.id)?;
        let next = sub.receive()?;
        expect_eq("payload", &next.text(), &format!("{i}"))?;
        open.push(next);
    }
    Ok(())
}

pub(crate) fn receive_maximum_counts_qos_2_until_pubcomp(server: &Server) -> Step {
    let mut publisher = server.helper(Version::V311, "p").connect()?;
    let mut sub = server.v5("s").prop(prop::receive_maximum(1)).connect()?;
    sub.subscribe("t", 2)?;
    for payload in ["one", "two"] {
        publisher.publish(Publish::new("t", payload).qos(2))?;
    }
    let first = sub.receive()?;
    sub.ack(Kind::Pubrec, first.id)?;
    sub.expect_ack(Kind::Pubrel, first.id)?;
    sub.expect_quiet()?;
    sub.ack(Kind::Pubcomp, first.id)?;
    sub.expect_publish("t", "two").map(drop)
}

pub(crate) fn quota_holds_back_no_other_packet(server: &Server) -> Step {
    let mut publisher = server.v5("p").connect()?;
    let mut sub = server.v5("s").prop(prop::receive_maximum(1)).connect()?;
    sub.subscribe("t", 1)?;
    for payload in ["one", "two"] {
        publisher.publish(Publish::new("t", payload).qos(1))?;
    }
    let first = sub.receive()?;
    sub.ping()?;
    sub.subscribe("u", 0)?;
    sub.unsubscribe("u")?;
    sub.publish(Publish::new("elsewhere", "x").qos(2))?;
    sub.ack(Kind::Puback, first.id)?;
    sub.expect_publish("t", "two").map(drop)
}

/// MQTT-3.3.4-7 binds the Client. What the Server does about its breach, section 3.3.4 says without MUST: it
/// uses DISCONNECT 0x93. One that refuses the packet instead, by PUBREC 0x97 (Quota exceeded), has kept its
/// Receive Maximum as well; both pass, and nobody receives the message with either.
pub(crate) fn receive_maximum_of_the_server(server: &Server) -> Step {
    let mut client = server.v5("p").connect()?;
    let limit = match find(&client.connack.props, 0x21) {
        Some(Value::Two(n)) => *n,
        // 65 535: there is no identifier left to exceed it with.
        _ => return Err(skip("the server's Receive Maximum is 65 535")),
    };
    let mut sub = server.v5("s").connect()?;
    sub.subscribe_with(Subscribe::to("over", 2).and("end", 2))?;
    // QoS 2 without PUBREL stays open.
    let mut bytes = Vec::new();
    for id in 1..=limit {
        bytes.extend(Publish::new(&client.full("t"), "").qos(2).id(id).encode(Version::V5));
    }
    let over = limit.saturating_add(1);
    bytes.extend(Publish::new(&client.full("over"), "x").qos(2).id(over).encode(Version::V5));
    client.send(&bytes)?;
    for id in 1..=limit {
        client.expect_ack(Kind::Pubrec, id)?;
    }
    if let Some(code) = client.refusal_or_fault(over, &[0x93])? {
        expect_eq("PUBREC", &code, &0x97)?;
    }
    sub.expect_nothing_before(&mut server.v5("q").connect()?, "end", 2)
}

pub(crate) fn maximum_packet_size_of_the_client(server: &Server) -> Step {
    for qos in 0..=2 {
        let mut publisher = server.helper(Version::V311, "p").connect()?;
        let mut sub = server.v5("s").prop(prop::maximum_packet_size(100)).connect()?;
        let mut other = server.v5("o").connect()?;
        sub.subscribe("t", qos)?;
        other.subscribe("t", qos)?;
        // Fixed header, Topic Name, Packet Identifier and Property Length.
        let fits = 100 - (2 + 2 + sub.full("t").len() + if qos > 0 { 2 } else { 0 } + 1);
        let large = "x".repeat(fits + 1);
        publisher.publish(Publish::new("t", &large).qos(qos))?;
        other.expect_publish("t", &large)?;
        let largest = "x".repeat(fits);
        publisher.publish(Publish::new("t", &largest).qos(qos))?;
        sub.expect_publish("t", &largest)?;
        other.expect_publish("t", &largest)?;
    }
    Ok(())
}

pub(crate) fn maximum_packet_size_of_the_server(server: &Server) -> Step {
    let mut client = server.v5("p").connect()?;
    let limit = match find(&client.connack.props, 0x27) {
        Some(Value::Four(n)) => *n,
        _ => return Err(skip("the server has no Maximum Packet Size")),
    };
    // The head of a packet that claims to be one byte too large.
    let mut head = vec![0x30];
    head.extend(varint(limit));
    client.send(&head)?;
    client.expect_fault(&[0x95])
}

/// How many messages a publisher may have under way: 256, or what the server says.
fn window(publisher: &Client) -> u16 {
    match find(&publisher.connack.props, 0x21) {
        Some(Value::Two(n)) => (*n).min(256),
        _ => 256,
    }
}

/// Publishes all of these in one write, and completes the acknowledgements.
fn burst(publisher: &mut Client, qos: u8, ids: Range<u16>) -> Step {
    let mut bytes = Vec::new();
    for id in ids.clone() {
        let publish = Publish::new(&publisher.full("t"), format!("{id:064}")).qos(qos).id(id);
        bytes.extend(publish.encode(publisher.version()));
    }
    publisher.send(&bytes)?;
    if qos == 1 {
        ids.clone().try_for_each(|id| publisher.expect_ack(Kind::Puback, id).map(drop))?;
    }
    if qos == 2 {
        for id in ids.clone() {
            publisher.expect_ack(Kind::Pubrec, id)?;
            publisher.ack(Kind::Pubrel, id)?;
        }
        ids.clone().try_for_each(|id| publisher.expect_ack(Kind::Pubcomp, id).map(drop))?;
    }
    Ok(())
}

/// 256 outstanding messages of 64 bytes, and a subscriber that reads promptly.
fn nothing_is_lost(server: &Server, qos: u8) -> Step {
    for version in server.spoken(ALL) {
        let mut sub = server.client(version, "s").connect()?;
        sub.subscribe("t", qos)?;
        let mut publisher = server.client(version, "p").connect()?;
        let window = window(&publisher);
        for from in (1..=256).step_by(window.into()) {
            burst(&mut publisher, qos, from..(from + window).min(257))?;
        }
        for i in 0..256 {
            sub.expect_publish("t", &format!("{:064}", i + 1))?;
        }
        publisher.cut();
        let mut publisher = server.client(version, "q").connect()?;
        sub.expect_nothing_before(&mut publisher, "t", qos)?;
    }
    Ok(())
}

pub(crate) fn prompt_reader_loses_nothing_at_qos_0(server: &Server) -> Step {
    nothing_is_lost(server, 0)
}

pub(crate) fn prompt_reader_loses_nothing_at_qos_1(server: &Server) -> Step {
    nothing_is_lost(server, 1)
}

pub(crate) fn prompt_reader_loses_nothing_at_qos_2(server: &Server) -> Step {
    nothing_is_lost(server, 2)
}

pub(crate) fn message_expiry_counts_down(server: &Server) -> Step {
    let mut publisher = server.v5("p").connect()?;
    let dialling = server.v5("s").persistent();
    let mut sub = dialling.connect()?;
    sub.subscribe("t", 1)?;
    publisher.publish(Publish::new("t", "now").qos(1).prop(prop::message_expiry(60)))?;
    let left = sub.expect_publish("t", "now")?;
    let fresh = matches!(left.prop(0x02), Some(Value::Four(58..=60)));
    expect(fresh, "Message Expiry Interval 58 to 60", left.prop(0x02))?;
    sub.disconnect()?;
    publisher.publish(Publish::new("t", "later").qos(1).prop(prop::message_expiry(60)))?;
    protocol_time(2100);
    let mut sub = dialling.connect()?;
    let left = sub.expect_publish("t", "later")?;
    let counted = matches!(left.prop(0x02), Some(Value::Four(55..=58)));
    expect(counted, "Message Expiry Interval 55 to 58", left.prop(0x02))?;
    drop(sub);
    server.v5("s").connect().map(drop)
}

pub(crate) fn message_expires_in_the_queue(server: &Server) -> Step {
    let mut publisher = server.v5("p").connect()?;
    // The subscriber's version does not matter: older ones do not learn of the expiry.
    let versions = server.spoken(ALL).into_iter();
    let diallings: Vec<_> =
        versions.map(|v| server.client(v, &format!("s{}", v as u8)).persistent()).collect();
    for dialling in &diallings {
        let mut sub = dialling.connect()?;
        sub.subscribe_with(Subscribe::to("t", 2))?;
        sub.disconnect()?;
    }
    for qos in [1, 2] {
        let short = Publish::new("t", "short").qos(qos).prop(prop::message_expiry(1));
        publisher.publish(short)?;
    }
    publisher.publish(Publish::new("t", "unlimited").qos(1))?;
    protocol_time(2600);
    for dialling in &diallings {
        let mut sub = dialling.connect()?;
        let message = sub.expect_publish("t", "unlimited")?;
        expect_eq("Message Expiry Interval", &message.prop(0x02), &None)?;
    }
    for version in server.spoken(ALL) {
        server.client(version, &format!("s{}", version as u8)).connect()?.disconnect()?;
    }
    Ok(())
}
