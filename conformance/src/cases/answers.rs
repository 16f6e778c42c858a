//! Answers as such: that every packet of the server is well formed, its Reason Codes, and what it leaves
//! out for a client that takes only small packets or wants no reasons.
//!
//! The raw client holds each packet against the tables of the standard (`codec/legal.rs`) and against the
//! Maximum Packet Size that it named in CONNECT; these cases bring the packets about.

use crate::client::Client;
use crate::codec::{ALL, Kind, Packet, Publish, Subscribe, Version, packet, prop, pubrel, text};
use crate::failure::{Step, expect, expect_eq};
use crate::target::Server;

/// Every packet that a server sends in the course of things.
pub(crate) fn every_packet_is_well_formed(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let mut client = server.client(version, "a").connect()?;
        client.subscribe("t/+", 2)?;
        for qos in 0..=2 {
            // The first two bytes of the payload would be an identifier, if QoS 0 had one.
            client.publish(Publish::new("t/x", "\0\x01payload").qos(qos))?;
            client.expect_publish("t/x", "\0\x01payload")?;
        }
        client.ping()?;
        client.unsubscribe("t/+")?;
        client.send(&packet(0xF6, &[]))?;
        client.expect_fault(&[0x81, 0x82])?;
    }
    Ok(())
}

/// A filter that no server can grant.
fn subscribe_in_vain(version: Version, id: u8) -> Vec<u8> {
    let mut body = vec![0, id];
    body.extend(if version == Version::V5 { vec![0] } else { vec![] });
    body.extend(text("a/#/b"));
    body.push(0);
    packet(0x82, &body)
}

/// What makes a server say more than success: each on a connection of its own, which it may cost.
const PROVOCATIONS: [fn(&mut Client) -> Step; 8] = [
    |client| client.send_publish(Publish::new("nobody", "x").qos(1)).map(drop),
    |client| client.send_publish(Publish::new("$SYS/x", "x").qos(1)).map(drop),
    |client| client.send_publish(Publish::new("$SYS/x", "x").qos(2)).map(drop),
    |client| client.ack(Kind::Pubrec, 4711),
    |client| client.send(&pubrel(4711)),
    |client| client.send(&subscribe_in_vain(client.version(), 9)),
    |client| {
        let never = client.full("never");
        client.send(&crate::codec::unsubscribe(client.version(), 8, &[&never]))
    },
    |client| client.send(&packet(0xF6, &[])),
];

pub(crate) fn reason_codes_are_of_their_tables(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        for provoke in PROVOCATIONS {
            let mut client = server.client(version, "a").connect()?;
            provoke(&mut client)?;
            client.answers()?;
        }
    }
    if server.spoken([Version::V5]).is_empty() {
        return Ok(());
    }
    // Refusals of CONNECT.
    let method = prop::auth_method("X-NO-SUCH-METHOD");
    server.v5("a").prop(method).send()?.expect_refusal(&[0x87, 0x8C])?;
    let mut bytes = server.v5("a").bytes();
    bytes[9] |= 1;
    let mut client = server.v5("a").open()?;
    client.send(&bytes)?;
    client.expect_refusal(&[0x81, 0x82])
}

/// Provokes an answer and returns those of the kind in question; the client refuses any packet of more
/// than 40 bytes, which is room for CONNACK and for every answer without a text.
fn small(server: &Server, provoke: fn(&mut Client) -> Step) -> Step<Vec<Packet>> {
    let mut client = server.v5("a").prop(prop::maximum_packet_size(40)).connect()?;
    provoke(&mut client)?;
    client.answers()
}

fn acks(seen: &[Packet], kind: Kind) -> bool {
    seen.iter().any(|p| matches!(p, Packet::Ack { kind: k, .. } if *k == kind))
}

pub(crate) fn puback_fits_the_client(server: &Server) -> Step {
    for provoke in &PROVOCATIONS[0..2] {
        let seen = small(server, *provoke)?;
        expect(acks(&seen, Kind::Puback), "PUBACK", &seen)?;
    }
    Ok(())
}

pub(crate) fn pubrec_fits_the_client(server: &Server) -> Step {
    let seen = small(server, PROVOCATIONS[2])?;
    expect(acks(&seen, Kind::Pubrec), "PUBREC", &seen)
}

pub(crate) fn pubrel_fits_the_client(server: &Server) -> Step {
    // To PUBREC with an identifier that is not in use some answer by PUBREL 0x92, some not at all.
    small(server, PROVOCATIONS[3])?;
    let mut publisher = server.v5("p").connect()?;
    let mut sub = server.v5("a").prop(prop::maximum_packet_size(40)).connect()?;
    sub.subscribe("t", 2)?;
    publisher.publish(Publish::new("t", "x").qos(2))?;
    sub.expect_publish("t", "x").map(drop) // with PUBREL in between
}

pub(crate) fn pubcomp_fits_the_client(server: &Server) -> Step {
    let seen = small(server, PROVOCATIONS[4])?;
    expect(acks(&seen, Kind::Pubcomp), "PUBCOMP", &seen)
}

pub(crate) fn suback_fits_the_client(server: &Server) -> Step {
    // The server may refuse the filter by DISCONNECT instead, which is to fit as well.
    small(server, PROVOCATIONS[5])?;
    let mut client = server.v5("a").prop(prop::maximum_packet_size(40)).connect()?;
    client.subscribe("t", 1)
}

pub(crate) fn unsuback_fits_the_client(server: &Server) -> Step {
    let seen = small(server, PROVOCATIONS[6])?;
    let answered = seen.iter().any(|p| matches!(p, Packet::Unsuback { .. }));
    expect(answered, "UNSUBACK", &seen)
}

pub(crate) fn disconnect_fits_the_client(server: &Server) -> Step {
    // 20 bytes hold the CONNACK of some servers, 40 that of most, and neither a text of any length.
    for size in [20, 30, 40] {
        let mut client = server.v5("a").prop(prop::maximum_packet_size(size)).send()?;
        client.send(&packet(0xF6, &[]))?;
        let seen = client.answers()?;
        if let Some(Packet::Connack { code: 0, .. }) = seen.first() {
            let told = matches!(seen.get(1), Some(Packet::Disconnect { code: 0x81 | 0x82, .. }));
            expect(told || !server.can().server_disconnect, "DISCONNECT", &seen)?;
        }
    }
    Ok(())
}

pub(crate) fn connack_fits_the_client(server: &Server) -> Step {
    let method = prop::auth_method("X-NO-SUCH-METHOD");
    // Where even the code alone does not fit, the connection ends without CONNACK.
    for size in [1, 5, 10, 20, 40] {
        let limit = prop::maximum_packet_size(size);
        let refused = server.v5("a").prop(limit).prop(method.clone());
        refused.send()?.expect_refusal(&[0x87, 0x8C, 0x95])?;
    }
    Ok(())
}

/// A server that must say more than fits can only end the connection.
pub(crate) fn connack_that_does_not_fit_is_not_sent(server: &Server) -> Step {
    for id in ["a", ""] {
        for size in [1, 5, 10, 20, 30] {
            let dialling = server.v5(id).prop(prop::maximum_packet_size(size));
            let mut client = dialling.send()?;
            let seen = client.answers()?; // each of them within `size`
            let others = seen.iter().any(|p| !matches!(p, Packet::Connack { .. }));
            expect(!others, "CONNACK, PINGRESP, or the end", &seen)?;
        }
    }
    Ok(())
}

pub(crate) fn suback_that_does_not_fit_is_not_sent(server: &Server) -> Step {
    let mut client = server.v5("a").prop(prop::maximum_packet_size(40)).connect()?;
    let mut subscribe = Subscribe::default();
    for i in 0..60 {
        subscribe = subscribe.and(&client.full(&format!("t/{i}")), 0);
    }
    client.send(&subscribe.encode(Version::V5, 1))?;
    let seen = client.answers()?; // 60 codes do not fit into 40 bytes
    let answered = seen.iter().any(|p| matches!(p, Packet::Suback { .. }));
    expect(!answered, "no SUBACK", &seen)
}

pub(crate) fn problem_information_is_withheld(server: &Server) -> Step {
    for provoke in PROVOCATIONS {
        let mut client = server.v5("a").prop(prop::request_problem_info(0)).connect()?;
        provoke(&mut client)?;
        for packet in client.answers()? {
            let props = match &packet {
                Packet::Ack { props, .. }
                | Packet::Suback { props, .. }
                | Packet::Unsuback { props, .. }
                | Packet::Auth { props, .. } => props.clone(),
                _ => Vec::new(), // CONNACK and DISCONNECT may
            };
            expect_eq("properties", &props, &Vec::new())?;
        }
    }
    Ok(())
}
