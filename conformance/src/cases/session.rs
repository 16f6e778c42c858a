//! Sections 4.1 and 4.4: Session State, and delivery resumed.

use super::protocol_time;
use crate::codec::{ALL, Kind, Publish, Version, packet, prop, pubrel};
use crate::failure::{Step, expect, expect_eq};
use crate::target::Server;

pub(crate) fn persistent_session_queues(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let dialling = server.client(version, "s").persistent();
        let mut sub = dialling.connect()?;
        sub.subscribe("t", 2)?;
        sub.disconnect()?;
        let mut publisher = server.client(version, "p").connect()?;
        publisher.publish(Publish::new("t", "one").qos(1))?;
        publisher.publish(Publish::new("t", "two").qos(2))?;
        let mut sub = dialling.connect()?;
        for payload in ["one", "two"] {
            expect_eq("DUP", &sub.expect_publish("t", payload)?.dup, &false)?;
        }
        sub.expect_nothing_before(&mut publisher, "t", 1)?;
        server.client(version, "s").connect()?; // Clean Start leaves nothing for the next version
    }
    Ok(())
}

pub(crate) fn clean_session_is_discarded(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let mut sub = server.client(version, "s").connect()?;
        sub.subscribe("t", 1)?;
        sub.disconnect()?;
        let mut publisher = server.client(version, "p").connect()?;
        publisher.publish(Publish::new("t", "lost").qos(1))?;
        let mut sub = server.client(version, "s").connect()?;
        sub.subscribe("t", 1)?;
        sub.expect_nothing_before(&mut publisher, "t", 1)?;
    }
    Ok(())
}

/// Receives without acknowledging, breaks off, and expects the same again with DUP.
fn resends(server: &Server, qos: u8, count: u16) -> Step {
    for version in server.spoken(ALL) {
        let dialling = server.client(version, "s").persistent();
        let mut sub = dialling.connect()?;
        sub.subscribe("t", qos)?;
        let mut publisher = server.client(version, "p").connect()?;
        let mut first = Vec::new();
        for i in 0..count {
            publisher.publish(Publish::new("t", i.to_string()).qos(qos))?;
            first.push(sub.receive()?);
        }
        sub.cut();
        let mut sub = dialling.connect()?;
        for sent in &first {
            let again = sub.receive()?;
            expect_eq("DUP", &again.dup, &true)?;
            expect_eq("Packet Identifier", &again.id, &sent.id)?;
            expect_eq("payload", &again.text(), &sent.text())?;
            if qos == 1 {
                sub.ack(Kind::Puback, again.id)?;
            }
        }
        if qos == 1 {
            sub.expect_nothing_before(&mut publisher, "t", 1)?;
        }
        drop(sub);
        server.client(version, "s").connect()?;
    }
    Ok(())
}

pub(crate) fn unacknowledged_qos_1_is_resent_with_dup(server: &Server) -> Step {
    resends(server, 1, 1)
}

pub(crate) fn resent_in_order(server: &Server) -> Step {
    resends(server, 1, server.can().maximum_inflight.min(15))
}

pub(crate) fn unacknowledged_qos_2_is_resent_with_dup(server: &Server) -> Step {
    resends(server, 2, server.can().maximum_inflight.min(5))
}

pub(crate) fn pubrel_is_resent(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let dialling = server.client(version, "s").persistent();
        let mut sub = dialling.connect()?;
        sub.subscribe("t", 2)?;
        let mut publisher = server.client(version, "p").connect()?;
        publisher.publish(Publish::new("t", "x").qos(2))?;
        let message = sub.receive()?;
        sub.ack(Kind::Pubrec, message.id)?;
        sub.expect_ack(Kind::Pubrel, message.id)?;
        sub.cut();
        let mut sub = dialling.connect()?;
        sub.expect_ack(Kind::Pubrel, message.id)?;
        sub.ack(Kind::Pubcomp, message.id)?;
        sub.expect_nothing_before(&mut publisher, "t", 2)?;
        drop(sub);
        server.client(version, "s").connect()?;
    }
    Ok(())
}

pub(crate) fn incoming_qos_2_survives_reconnect(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let mut sub = server.client(version, "s").connect()?;
        sub.subscribe("t", 2)?;
        let dialling = server.client(version, "p").persistent();
        let mut publisher = dialling.connect()?;
        let publish = Publish::new("t", "once").qos(2).id(5);
        publisher.send_publish(publish.clone())?;
        publisher.expect_ack(Kind::Pubrec, 5)?;
        publisher.cut();
        let mut publisher = dialling.connect()?;
        publisher.send_publish(publish.dup())?;
        publisher.expect_ack(Kind::Pubrec, 5)?;
        publisher.send(&pubrel(5))?;
        publisher.expect_ack(Kind::Pubcomp, 5)?;
        sub.expect_publish("t", "once")?;
        sub.expect_nothing_before(&mut publisher, "t", 2)?;
        drop(publisher);
        server.client(version, "p").connect()?;
    }
    Ok(())
}

pub(crate) fn expiry_zero_ends_with_the_connection(server: &Server) -> Step {
    // Absent is 0 too (section 3.1.2.11.2).
    server.v5("s").clean_start(false).connect()?.disconnect()?;
    let client = server.v5("s").clean_start(false).prop(prop::session_expiry(0)).connect()?;
    expect_eq("Session Present", &client.connack.session_present, &false)?;
    client.disconnect()?;
    let client = server.v5("s").clean_start(false).connect()?;
    expect_eq("Session Present", &client.connack.session_present, &false)
}

pub(crate) fn expiry_runs_out(server: &Server) -> Step {
    let dialling = server.v5("s").clean_start(false).prop(prop::session_expiry(1));
    dialling.connect()?.disconnect()?;
    let client = dialling.connect()?;
    expect_eq("Session Present at once", &client.connack.session_present, &true)?;
    client.disconnect()?;
    protocol_time(2600);
    expect_eq("Session Present later", &dialling.connect()?.connack.session_present, &false)
}

pub(crate) fn expiry_is_changed_by_disconnect(server: &Server) -> Step {
    // From an hour to nothing, and from a second to an hour.
    let hour = server.v5("a").persistent();
    hour.connect()?.disconnect_with(0, &[0x11, 0, 0, 0, 0])?;
    expect_eq("Session Present", &hour.connect()?.connack.session_present, &false)?;
    let second = server.v5("b").clean_start(false).prop(prop::session_expiry(1));
    second.connect()?.disconnect_with(0, &[0x11, 0, 0, 0x0E, 0x10])?;
    protocol_time(2600);
    expect_eq("Session Present", &second.connect()?.connack.session_present, &true)
}

pub(crate) fn expiry_cannot_rise_from_zero(server: &Server) -> Step {
    let mut client = server.v5("a").connect()?;
    client.send(&packet(0xE0, &[0, 5, 0x11, 0, 0, 0, 9]))?;
    client.expect_fault(&[0x82])?;
    let again = server.v5("a").clean_start(false).connect()?;
    expect_eq("Session Present", &again.connack.session_present, &false)
}

pub(crate) fn resumed_by_another_version(server: &Server) -> Step {
    let mut publisher = server.helper(Version::V311, "p").connect()?;
    for (i, from) in server.spoken(ALL).into_iter().enumerate() {
        for to in server.spoken([Version::V311, Version::V5]) {
            let id = format!("s{i}{}", to as u8);
            let mut sub = server.client(from, &id).persistent().connect()?;
            sub.subscribe("t", 1)?;
            sub.disconnect()?;
            publisher.publish(Publish::new("t", "kept").qos(1))?;
            let mut sub = server.client(to, &id).persistent().connect()?;
            expect_eq("Session Present", &sub.connack.session_present, &true)?;
            sub.expect_publish("t", "kept")?;
            drop(sub);
            server.client(to, &id).connect()?;
        }
    }
    Ok(())
}

pub(crate) fn sent_qos_2_does_not_expire(server: &Server) -> Step {
    let dialling = server.v5("s").persistent();
    let mut sub = dialling.connect()?;
    sub.subscribe("t", 2)?;
    let mut publisher = server.v5("p").connect()?;
    publisher.publish(Publish::new("t", "sent").qos(2).prop(prop::message_expiry(1)))?;
    let sent = sub.receive()?;
    sub.cut();
    protocol_time(2300);
    let mut sub = dialling.connect()?;
    let again = sub.expect_publish("t", "sent")?; // with its four packets
    expect_eq("Packet Identifier", &again.id, &sent.id)?;
    drop(sub);
    server.v5("s").connect().map(drop)
}

pub(crate) fn refused_by_the_client_is_not_resent(server: &Server) -> Step {
    for (qos, kind) in [(1, 0x40), (2, 0x50)] {
        let dialling = server.v5("s").persistent().prop(prop::receive_maximum(1));
        let mut sub = dialling.connect()?;
        sub.subscribe("t", qos)?;
        let mut publisher = server.v5("p").connect()?;
        publisher.publish(Publish::new("t", "refused").qos(qos))?;
        publisher.publish(Publish::new("t", "next").qos(qos))?;
        let message = sub.receive()?;
        expect_eq("payload", &message.text(), &"refused")?;
        let [high, low] = message.id.to_be_bytes();
        sub.send(&packet(kind, &[high, low, 0x80]))?;
        // No PUBREL for it; and its place in the quota is free.
        sub.expect_publish("t", "next")?;
        sub.disconnect()?;
        dialling.connect()?.expect_quiet()?;
        server.v5("s").connect()?.disconnect()?;
    }
    Ok(())
}

/// Whatever the expiry: subscriptions and open messages stay while the connection does. And nothing is
/// sent again meanwhile, which 5.0 forbids (MQTT-4.4.0-1) and 3.1.1 does not.
pub(crate) fn lasts_as_long_as_the_connection(server: &Server) -> Step {
    let mut publisher = server.helper(Version::V5, "p").connect()?;
    let mut subs = Vec::new();
    for version in server.spoken(ALL) {
        let dialling = server.client(version, &format!("a{version}"));
        let mut diallings = vec![dialling.clone()];
        if version == Version::V5 {
            diallings.push(server.v5("b").prop(prop::session_expiry(1)));
        }
        for dialling in diallings {
            let mut sub = dialling.connect()?;
            sub.subscribe("t", 2)?;
            subs.push((sub, Vec::new()));
        }
    }
    for qos in [1, 2] {
        publisher.publish(Publish::new("t", "early").qos(qos))?;
        for (sub, open) in &mut subs {
            open.push(sub.receive()?);
        }
    }
    protocol_time(2300);
    publisher.publish(Publish::new("t", "late").qos(1))?;
    for (sub, open) in &mut subs {
        let mut next = sub.message()?;
        while next.dup && sub.version() < Version::V5 {
            next = sub.message()?;
        }
        expect(next.text() == "late" && !next.dup, "the later message alone", &next)?;
        for message in open {
            sub.complete(message)?;
        }
        sub.ping()?;
    }
    Ok(())
}

/// Neither what was under way on the last connection nor its Receive Maximum counts on the next.
pub(crate) fn send_quota_begins_anew(server: &Server) -> Step {
    let most = server.can().maximum_inflight.min(3);
    let mut publisher = server.helper(Version::V311, "p").connect()?;
    for (id, [before, after]) in [("less", [most, 1]), ("more", [1, most])] {
        let dialling = server.v5(id).persistent();
        let with = |maximum| dialling.clone().prop(prop::receive_maximum(maximum)).connect();
        let mut sub = with(before)?;
        sub.subscribe("t", 1)?;
        for i in 0..5 {
            publisher.publish(Publish::new("t", i.to_string()).qos(1))?;
        }
        for _ in 0..before {
            sub.receive()?;
        }
        sub.expect_quiet()?;
        sub.cut();
        let mut sub = with(after)?;
        let first = (0..after).map(|_| sub.receive()).collect::<Step<Vec<_>>>()?;
        sub.expect_quiet()?;
        for (i, message) in (0..).zip(&first) {
            expect_eq("payload", &message.text(), &i.to_string())?;
            sub.complete(message)?;
        }
        for i in after..5 {
            sub.expect_publish("t", &i.to_string())?;
        }
        drop(sub);
        server.v5(id).connect()?;
    }
    Ok(())
}

/// One message is in flight and one waits when the next connection takes only smaller packets.
pub(crate) fn too_large_for_the_next_connection(server: &Server) -> Step {
    let mut publisher = server.helper(Version::V311, "p").connect()?;
    let dialling = server.v5("s").persistent();
    let mut sub = dialling.connect()?;
    sub.subscribe("t", 1)?;
    let large = "x".repeat(200);
    publisher.publish(Publish::new("t", &large).qos(1))?;
    sub.receive()?;
    sub.cut();
    publisher.publish(Publish::new("t", &large).qos(1))?;
    let mut sub = dialling.clone().prop(prop::maximum_packet_size(100)).connect()?;
    sub.expect_nothing_before(&mut publisher, "t", 1)?;
    drop(sub);
    server.v5("s").connect().map(drop)
}
