//! Section 3.1 and 3.2: CONNECT and CONNACK.

use std::io;

use crate::codec::{
    ALL, Packet, Publish, Subscribe, Value,
    Version::{V5, V31, V311},
    Will, find, hex, packet, prop, text,
};
use crate::failure::{Failure, Step, expect, expect_eq, skip};
use crate::target::Server;

pub(crate) fn connack_comes_first(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let client = server.client(version, &format!("a{}", version as u8)).connect()?;
        client.disconnect()?;
    }
    Ok(())
}

pub(crate) fn clean_start_has_no_session(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let id = format!("a{}", version as u8);
        server.client(version, &id).persistent().connect()?.disconnect()?;
        let client = server.client(version, &id).connect()?;
        expect_eq("Session Present", &client.connack.session_present, &false)?;
    }
    Ok(())
}

pub(crate) fn no_session_to_resume(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let client =
            server.client(version, &format!("a{}", version as u8)).persistent().connect()?;
        expect_eq("Session Present", &client.connack.session_present, &false)?;
    }
    Ok(())
}

pub(crate) fn session_present_after_reconnect(server: &Server) -> Step {
    for version in server.spoken([V311, V5]) {
        let id = format!("a{}", version as u8);
        server.client(version, &id).persistent().connect()?.disconnect()?;
        let client = server.client(version, &id).persistent().connect()?;
        expect_eq("Session Present", &client.connack.session_present, &true)?;
    }
    Ok(())
}

pub(crate) fn second_connect_is_a_fault(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let dialling = server.client(version, &format!("a{}", version as u8));
        let mut client = dialling.connect()?;
        client.send(&dialling.bytes())?;
        client.expect_fault(&[0x82])?;
    }
    Ok(())
}

pub(crate) fn first_packet_must_be_connect(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        for first in [
            packet(0xC0, &[]),
            Publish::new("a", "x").encode(version),
            packet(0x82, &[0, 1, 0, 1, b'a', 0]),
            packet(0xE0, &[]),
        ] {
            let mut client = server.client(version, "a").open()?;
            client.send(&first)?;
            client.expect_closed()?;
        }
    }
    Ok(())
}

/// What cannot become a CONNECT ends the connection; nobody waits for the rest of it.
pub(crate) fn other_protocols_end_at_their_first_bytes(server: &Server) -> Step {
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..],
        b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 1883\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xFC\x03\x03",
        b"\x50",
        b"\x30\x7F",
    ] {
        let ended = || -> io::Result<()> {
            let mut wire = server.dial()?;
            wire.send(bytes)?;
            while !wire.receive(server.deadline())?.is_empty() {}
            Ok(())
        };
        ended().map_err(|e| {
            Failure::new("the end of the stream", format!("{e} after {}", hex(bytes)))
        })?;
    }
    Ok(())
}

/// MQTT 3.1 does not use the last Connect Flag nor the flags of these packets, which later versions reserve.
pub(crate) fn bits_that_31_does_not_use(server: &Server) -> Step {
    let dialling = server.v31("a");
    let mut bytes = dialling.bytes();
    bytes[11] |= 1;
    let mut client = dialling.open()?;
    client.send(&bytes)?;
    client.expect_connack(&[0])?;
    client.ping()?;
    bytes[0] |= 0x0B;
    let mut client = dialling.open()?;
    client.send(&bytes)?;
    client.expect_connack(&[0])?;
    client.send(&packet(0xCB, &[]))?;
    client.expect_pingresp()
}

/// Bit 7 of the level says that a client of 3.1 or 3.1.1 is a bridge: it gets what No Local and Retain As
/// Published get in 5.0.
pub(crate) fn bridges_get_no_echo(server: &Server) -> Step {
    if !server.can().bridge_levels {
        return Err(skip("needs levels for bridges"));
    }
    for (version, level) in [(V31, 10), (V311, 8)] {
        for version in server.spoken([version]) {
            let dialling = server.client(version, &format!("b{level}"));
            let mut bytes = dialling.bytes();
            bytes[level] |= 0x80;
            let mut bridge = dialling.open()?;
            bridge.send(&bytes)?;
            bridge.expect_connack(&[0])?;
            bridge.subscribe("t", 1)?;
            bridge.publish(Publish::new("t", "own").qos(1))?;
            bridge.expect_quiet()?;
            let mut other = server.helper(version, "p").connect()?;
            other.publish(Publish::new("t", "live").qos(1))?;
            expect_eq("RETAIN", &bridge.expect_publish("t", "live")?.retain, &false)?;
            other.publish(Publish::new("t", "kept").qos(1).retain())?;
            expect_eq("RETAIN", &bridge.expect_publish("t", "kept")?.retain, &true)?;
            other.publish(Publish::new("t", "").qos(1).retain())?;
        }
    }
    Ok(())
}

pub(crate) fn unknown_level_is_refused(server: &Server) -> Step {
    for (version, level) in [(V311, 2), (V5, 6)] {
        for version in server.spoken([version]) {
            let mut bytes = server.client(version, "a").bytes();
            bytes[8] = level;
            let mut client = server.client(version, "a").open()?;
            client.send(&bytes)?;
            if version == V5 {
                // A Server of 5.0 may leave CONNACK out.
                client.expect_refusal(&[0x01, 0x84])?;
                continue;
            }
            client.expect_connack(&[0x01, 0x84])?;
            client.expect_closed()?;
        }
    }
    Ok(())
}

pub(crate) fn wrong_protocol_name_is_refused(server: &Server) -> Step {
    for version in server.spoken([V311, V5]) {
        let mut bytes = server.client(version, "a").bytes();
        bytes[7] = b'X';
        let mut client = server.client(version, "a").open()?;
        client.send(&bytes)?;
        client.expect_refusal(&[0x01, 0x84])?;
    }
    Ok(())
}

pub(crate) fn reserved_flag_must_be_zero(server: &Server) -> Step {
    for version in server.spoken([V311, V5]) {
        let mut bytes = server.client(version, "a").bytes();
        bytes[9] |= 1;
        let mut client = server.client(version, "a").open()?;
        client.send(&bytes)?;
        client.expect_refusal(if version == V5 { &[0x81, 0x82] } else { &[] })?;
    }
    Ok(())
}

pub(crate) fn empty_client_id_in_31_is_refused(server: &Server) -> Step {
    server.v31("").expect_refused(&[0x02])
}

pub(crate) fn empty_client_id_in_311_needs_clean(server: &Server) -> Step {
    let mut first = server.v311("").connect()?;
    let mut second = server.v311("").connect()?;
    // Each has an identifier of its own: neither takes the other's place.
    first.ping()?;
    second.ping()?;
    server.v311("").clean_start(false).expect_refused(&[0x02])
}

pub(crate) fn empty_client_id_in_5_is_assigned(server: &Server) -> Step {
    let mut seen = Vec::new();
    for clean in [true, false] {
        let mut client = server.v5("").clean_start(clean).send()?;
        // A Server may refuse an identifier (MQTT-3.1.3-8): one may see none that could be resumed.
        client.expect_connack(if clean { &[0] } else { &[0, 0x85] })?;
        if client.connack.code != 0 {
            client.expect_closed()?;
            continue;
        }
        let id = find(&client.connack.props, 0x12).cloned();
        expect(matches!(&id, Some(Value::Text(t)) if !t.is_empty()), "an Assigned Client Id", &id)?;
        expect(!seen.contains(&id), "a unique Assigned Client Identifier", &id)?;
        seen.push(id);
    }
    let named = server.v5("named").connect()?;
    expect_eq("Assigned Client Identifier", &find(&named.connack.props, 0x12), &None)
}

pub(crate) fn client_id_of_23_characters(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let fill = 23 - server.prefix().len().min(22);
        let id: String = "zZ09".chars().cycle().take(fill).collect();
        server.client(version, &id).connect()?.disconnect()?;
    }
    Ok(())
}

pub(crate) fn credentials_are_read_past(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let id = format!("a{}", version as u8);
        let mut client = server.client(version, &id).credentials(Some("u"), Some("p")).connect()?;
        client.ping()?;
        server.client(version, &id).credentials(Some("u"), None).connect()?.ping()?;
    }
    // Only 5.0 knows a password without a user name: refused::password_without_user_name.
    for version in server.spoken([V5]) {
        server.client(version, "only").credentials(None, Some("p")).connect()?.ping()?;
    }
    Ok(())
}

pub(crate) fn packets_behind_connect_are_handled(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let dialling = server.client(version, &format!("a{}", version as u8));
        let mut client = dialling.open()?;
        let mut bytes = dialling.bytes();
        bytes.extend(packet(0xC0, &[]));
        client.send(&bytes)?;
        client.expect_connack(&[0])?;
        client.ping()?;
    }
    Ok(())
}

pub(crate) fn keep_alive_of_zero_is_accepted(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let dialling = server.client(version, &format!("a{}", version as u8));
        dialling.keep_alive(0).connect()?.ping()?;
    }
    Ok(())
}

pub(crate) fn takeover_ends_the_older(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let dialling = server.client(version, &format!("a{}", version as u8));
        let mut older = dialling.connect()?;
        let mut newer = dialling.connect()?;
        older.expect_fault(&[0x8E])?;
        newer.ping()?;
    }
    Ok(())
}

pub(crate) fn takeover_across_versions(server: &Server) -> Step {
    for (i, (old, new)) in
        server.spoken_pairs([(V31, V311), (V311, V5), (V5, V31)]).into_iter().enumerate()
    {
        let id = format!("a{i}");
        let mut older = server.client(old, &id).connect()?;
        let mut newer = server.client(new, &id).connect()?;
        older.expect_fault(&[0x8E])?;
        newer.ping()?;
    }
    Ok(())
}

pub(crate) fn unknown_authentication_method(server: &Server) -> Step {
    let method = prop::auth_method("X-NO-SUCH-METHOD");
    // A Server may leave CONNACK out, or say 0x87.
    server.v5("a").prop(method).send()?.expect_refusal(&[0x8C, 0x87])
}

pub(crate) fn fields_are_read_in_order(server: &Server) -> Step {
    let mut watch = server.helper(V5, "watch").connect()?;
    watch.subscribe("w/+", 1)?;
    for version in server.spoken(ALL) {
        let id = format!("a{}", version as u8);
        // Payload and password are binary: no UTF-8 is asked of them.
        let mut will = Will::new("w/topic", "");
        will.payload = vec![0, 0xFF, 0xC0];
        let dialling = server.client(version, &id).persistent().will(will.qos(1));
        let dialling = dialling.credentials(Some("w/user"), Some("password"));
        dialling.connect()?.cut();
        let message = watch.message()?;
        expect_eq("Will Topic", &message.topic, &"w/topic")?;
        expect_eq("Will Message", &message.payload, &vec![0, 0xFF, 0xC0])?;
        let again = server.client(version, &id).persistent().connect()?;
        // 3.1 cannot say Session Present.
        expect_eq("Session Present", &again.connack.session_present, &(version > V31))?;
        drop(again);
        server.client(version, &id).connect()?.disconnect()?;
    }
    Ok(())
}

pub(crate) fn sessions_belong_to_their_client_ids(server: &Server) -> Step {
    let mut publisher = server.helper(V5, "p").connect()?;
    for version in server.spoken(ALL) {
        // Alike but for case, and one the beginning of the other.
        let ids = ["same", "Same", "same1"];
        for id in ids {
            let mut client = server.client(version, id).persistent().connect()?;
            client.subscribe(&format!("t/{id}"), 1)?;
            client.disconnect()?;
        }
        for id in ids {
            publisher.publish(Publish::new(&format!("t/{id}"), id).qos(1))?;
        }
        for id in ids {
            let mut client = server.client(version, id).persistent().connect()?;
            client.expect_publish(&format!("t/{id}"), id)?;
            client.expect_quiet()?;
            drop(client);
            server.client(version, id).connect()?.disconnect()?;
        }
    }
    Ok(())
}

pub(crate) fn no_response_information_unasked(server: &Server) -> Step {
    let asked_not_to = server.v5("a").prop(prop::request_response_info(0));
    for dialling in [server.v5("a"), asked_not_to] {
        let client = dialling.connect()?;
        expect_eq("Response Information", &find(&client.connack.props, 0x1A), &None)?;
    }
    Ok(())
}

pub(crate) fn no_authentication_unasked(server: &Server) -> Step {
    let mut client = server.v5("a").connect()?; // whose first packet is CONNACK, not AUTH
    expect_eq("Authentication Method", &find(&client.connack.props, 0x15), &None)?;
    expect_eq("Authentication Data", &find(&client.connack.props, 0x16), &None)?;
    client.ping()
}

/// Neither to continue nor to begin anew: without a method in CONNECT, no authentication can succeed.
pub(crate) fn auth_without_a_method_is_a_fault(server: &Server) -> Step {
    for code in [0x18, 0x19] {
        let mut client = server.v5("a").connect()?;
        let mut method = vec![0x15];
        method.extend(text("X-NO-SUCH-METHOD"));
        let mut body = vec![code, 19];
        body.extend(method);
        client.send(&packet(0xF0, &body))?;
        client.expect_fault(&[0x82, 0x87, 0x8C])?;
    }
    Ok(())
}

/// What CONNACK does not rule out, works; and what it rules out is refused.
pub(crate) fn announced_or_supported(server: &Server) -> Step {
    let mut client = server.v5("a").connect()?;
    let byte = |client: &crate::client::Client, id, otherwise| match find(&client.connack.props, id)
    {
        Some(Value::Byte(n)) => *n,
        _ => otherwise,
    };
    let (maximum_qos, retain) = (byte(&client, 0x24, 2), byte(&client, 0x25, 1));
    let filters = Subscribe::to("t/0", 0).and("t/1", 1).and("t/2", 2);
    let granted = client.suback(filters)?;
    expect(granted.iter().all(|code| *code <= 2), "every QoS is subscribed with", &granted)?;
    for qos in 0..=maximum_qos {
        client.publish(Publish::new(&format!("t/{qos}"), "x").qos(qos))?;
        client.expect_publish(&format!("t/{qos}"), "x")?;
    }
    if maximum_qos < 2 {
        // MQTT-3.2.2-11 binds the Client; its breach is a Protocol Error.
        let above = Publish::new("t/2", "x").qos(maximum_qos + 1).id(9);
        client.send(&above.encode(V5))?;
        client.expect_fault(&[0x9B])?;
    }
    if retain == 0 {
        // MQTT-3.2.2-14 binds the Client; its breach is a Protocol Error, the Reason Code a SHOULD.
        let mut client = server.v5("r").connect()?;
        client.send(&Publish::new("t/0", "x").retain().encode(V5))?;
        client.expect_fault(&[0x9A, 0x82])?;
    }
    wills_keep_to_what_was_announced(server, maximum_qos, retain == 1)
}

fn wills_keep_to_what_was_announced(server: &Server, maximum_qos: u8, retain: bool) -> Step {
    let will = |qos| Will::new("w", "x").qos(qos);
    for qos in 0..=2 {
        let dialling = server.v5("w").will(will(qos));
        if qos <= maximum_qos {
            dialling.connect()?.disconnect()?;
        } else {
            dialling.send()?.expect_refusal(&[0x9B])?;
        }
    }
    let dialling = server.v5("w").will(will(0).retain());
    if retain { dialling.connect()?.disconnect() } else { dialling.send()?.expect_refusal(&[0x9A]) }
}

pub(crate) fn connack_comes_once(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let dialling = server.client(version, &format!("a{}", version as u8));
        let mut client = dialling.connect()?;
        client.subscribe("t", 1)?;
        client.publish(Publish::new("t", "x").qos(1))?;
        client.expect_publish("t", "x")?;
        client.send(&dialling.bytes())?;
        let seen = client.answers()?;
        let second = seen.iter().any(|p| matches!(p, Packet::Connack { .. }));
        expect(!second, "no second CONNACK", &seen)?;
    }
    Ok(())
}
