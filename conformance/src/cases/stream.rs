//! What a transport owes to the protocol: an ordered, lossless stream in both directions (section 4.2),
//! whatever the borders of writes, frames and packets.

use super::not_welcome;
use crate::client::Client;
use crate::codec::{ALL, Kind, Publish, Version, Will, packet, pubrel};
use crate::failure::{Failure, Step, expect, skip};
use crate::target::Server;

/// Bytes in which a hole, a swap or a repetition shows.
fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|i| (i % 251 + i / 251 % 97).to_le_bytes()[0]).collect()
}

pub(crate) fn split_at_every_byte(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let dialling = server.client(version, &format!("a{}", version as u8));
        let mut client = dialling.open()?;
        for byte in dialling.bytes() {
            client.send(&[byte])?;
        }
        client.expect_connack(&[0])?;
        client.subscribe("t", 1)?;
        let publish = Publish::new(&client.full("t"), "split").qos(1).id(77);
        for byte in publish.encode(version) {
            client.send(&[byte])?;
        }
        client.expect_ack(Kind::Puback, 77)?;
        client.expect_publish("t", "split")?;
    }
    Ok(())
}

/// A whole conversation, cut once, everywhere: in the middle of each packet and between two.
pub(crate) fn split_in_two_at_every_border(server: &Server) -> Step {
    let mut sub = server.helper(Version::V5, "s").connect()?;
    sub.subscribe("t", 2)?;
    for version in server.spoken(ALL) {
        let dialling = server.client(version, "p");
        let connect = dialling.bytes();
        let topic = sub.full("t");
        let mut bytes = connect.clone();
        bytes.extend(Publish::new(&topic, "one").qos(1).id(77).encode(version));
        bytes.extend(Publish::new(&topic, "two").qos(2).id(78).encode(version));
        bytes.extend(pubrel(78));
        for cut in 1..bytes.len() {
            let mut client = dialling.open()?;
            client.send(&bytes[..cut])?;
            let connected = cut >= connect.len();
            if connected {
                client.expect_connack(&[0])?; // so the rest certainly comes by itself
            }
            client.send(&bytes[cut..])?;
            if !connected {
                client.expect_connack(&[0])?;
            }
            client.expect_ack(Kind::Puback, 77)?;
            client.expect_ack(Kind::Pubrec, 78)?;
            client.expect_ack(Kind::Pubcomp, 78)?;
            sub.expect_publish("t", "one").map_err(|e| e.within(format!("cut at {cut}")))?;
            sub.expect_publish("t", "two").map_err(|e| e.within(format!("cut at {cut}")))?;
            client.disconnect()?;
        }
    }
    Ok(())
}

pub(crate) fn many_packets_in_one_write(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let mut sub = server.client(version, "s").connect()?;
        let mut publisher = server.client(version, "p").connect()?;
        sub.subscribe("t", 0)?;
        let mut bytes = Vec::new();
        for i in 0..40 {
            bytes.extend(Publish::new(&publisher.full("t"), i.to_string()).encode(version));
        }
        publisher.send(&bytes)?;
        for i in 0..40 {
            sub.expect_publish("t", &i.to_string())?;
        }
    }
    Ok(())
}

pub(crate) fn a_packet_and_a_half_in_one_write(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let dialling = server.client(version, "a");
        let mut client = dialling.open()?;
        let mut bytes = dialling.bytes();
        for id in 1..=20 {
            let publish = Publish::new(&client.full("t"), pattern(300)).qos(1).id(id);
            let publish = publish.encode(version);
            let half = publish.len() / 2;
            bytes.extend(&publish[..half]);
            client.send(&bytes)?; // what was left of the last, and half of this one
            if id == 1 {
                client.expect_connack(&[0])?;
            } else {
                client.expect_ack(Kind::Puback, id - 1)?;
            }
            bytes = publish[half..].to_vec();
        }
        client.send(&bytes)?;
        client.expect_ack(Kind::Puback, 20)?;
        client.disconnect()?;
    }
    Ok(())
}

/// A device that wakes up, says all it has, and sleeps again.
pub(crate) fn nothing_is_lost_before_disconnect(server: &Server) -> Step {
    let mut sub = server.helper(Version::V5, "s").connect()?;
    sub.subscribe("t", 1)?;
    for version in server.spoken(ALL) {
        let dialling = server.client(version, "a");
        let mut client = dialling.open()?;
        let mut bytes = dialling.bytes();
        for i in 0..50 {
            bytes.extend(Publish::new(&sub.full("t"), i.to_string()).encode(version));
        }
        bytes.extend(packet(0xE0, &[]));
        client.send(&bytes)?;
        drop(client);
        for i in 0..50 {
            sub.expect_publish("t", &i.to_string())?;
        }
    }
    Ok(())
}

/// Around the sizes where lengths take another byte, frames another form and buffers another turn.
pub(crate) fn every_size_arrives_whole(server: &Server) -> Step {
    let near = |at: usize| at - 12..at + 4;
    let versions = server.spoken(ALL);
    let sizes = [126, 128, 4096, 16_384, 65_536].into_iter().flat_map(near);
    let connected = versions.iter().map(|&version| {
        let mut client = server.client(version, &format!("a{}", version as u8)).connect()?;
        client.subscribe(&format!("t/{version}"), 1)?;
        Ok(client)
    });
    let mut clients = connected.collect::<Step<Vec<Client>>>()?;
    let many = clients.len();
    for (i, size) in (0..4).chain(sizes).enumerate() {
        let client = &mut clients[i % many];
        let topic = format!("t/{}", client.version());
        client.publish(Publish::new(&topic, pattern(size)).qos(1))?;
        let came = client.message()?.payload;
        expect(came == pattern(size), "every byte in its place", format!("another {size}"))?;
    }
    Ok(())
}

pub(crate) fn large_payload_arrives_whole(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let mut sub = server.client(version, "s").connect()?;
        let mut publisher = server.client(version, "p").connect()?;
        sub.subscribe("t", 1)?;
        for size in [200_000, 1_000_000] {
            let payload = pattern(size);
            publisher.publish(Publish::new("t", &payload).qos(1))?;
            expect(sub.message()?.payload == payload, "every byte in its place", size)?;
        }
    }
    Ok(())
}

/// Far more questions than answers were read between: nothing of them may be lost.
pub(crate) fn answers_wait_for_a_late_reader(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let mut client = server.client(version, "a").connect()?;
        client.send(&packet(0xC0, &[]).repeat(5000))?;
        for _ in 0..5000 {
            client.expect_pingresp()?;
        }
        client.disconnect()?;
    }
    Ok(())
}

/// What was written before the end arrives before the end.
pub(crate) fn close_implies_flush(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let (dialling, codes) = not_welcome(server, version)?;
        for _ in 0..20 {
            dialling.expect_refused(codes)?;
        }
    }
    if server.spoken([Version::V5]).is_empty() {
        return Ok(());
    }
    let mut client = server.v5("a").connect()?;
    let mut bytes = packet(0xC0, &[]).repeat(2000);
    bytes.extend(packet(0xF6, &[])); // no packet of any kind
    client.send(&bytes)?;
    if server.can().server_disconnect {
        for _ in 0..2000 {
            client.expect_pingresp()?;
        }
        return client.expect_fault(&[0x81, 0x82]);
    }
    while client.expect_pingresp().is_ok() {}
    Ok(())
}

/// The Server SHOULD close after DISCONNECT (section 3.14.4); where it leaves that to the Client, there is nothing
/// to test.
pub(crate) fn close_follows_disconnect(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let mut client = server.client(version, "a").connect()?;
        client.send(&packet(0xE0, &[]))?;
        if !client.closed_within(server.deadline())? {
            return Err(skip("the server leaves it to the client to close"));
        }
    }
    Ok(())
}

/// A server that closes with input unread makes TCP reset the connection, and the last packet is lost.
pub(crate) fn unread_input_hides_no_last_packet(server: &Server) -> Step {
    for version in server.spoken(ALL).repeat(4) {
        let (dialling, codes) = not_welcome(server, version)?;
        let mut client = dialling.open()?;
        let mut bytes = dialling.bytes();
        bytes.extend(packet(0xC0, &[]).repeat(16_000));
        client.send(&bytes)?;
        if server.can().server_disconnect {
            client.expect_connack(codes)?;
            client.expect_closed()?;
        } else {
            client.expect_refusal(codes)?;
        }
    }
    Ok(())
}

pub(crate) fn reset_ends_one_connection(server: &Server) -> Step {
    let mut sub = server.helper(Version::V5, "s").connect()?;
    sub.subscribe("t", 1)?;
    let mut other = server.helper(Version::V311, "o").connect()?;
    for version in server.spoken(ALL) {
        let will = Will::new("t", "will").qos(1);
        let mut client = server.client(version, "a").will(will).connect()?;
        client.send(&packet(0xC0, &[]).repeat(2000))?;
        // A socket that goes with unread answers in it resets the connection.
        drop(client);
        sub.expect_publish("t", "will")?;
        other.publish(Publish::new("t", "other").qos(1))?;
        sub.expect_publish("t", "other")?;
    }
    Ok(())
}

/// All that came before the end counts (MQTT-4.2-1), and the server ends its direction too. The answers come
/// as well where a stream can be ended in one direction alone; a WebSocket cannot, there a peer may answer the
/// Close frame with nothing but its own (RFC 6455, section 5.5.1).
pub(crate) fn end_in_one_direction(server: &Server) -> Step {
    let mut sub = server.helper(Version::V5, "s").connect()?;
    sub.subscribe("t", 1)?;
    for version in server.spoken(ALL) {
        let dialling = server.client(version, "a").will(Will::new("t", "will").qos(1));
        let mut client = dialling.open()?;
        let mut bytes = dialling.bytes();
        let last = Publish::new(&sub.full("t"), "last").qos(1).id(7).encode(version);
        if server.can_be_half_closed() {
            bytes.extend(last);
            client.send(&bytes)?;
            client.finish()?;
            client.expect_connack(&[0])?;
            client.expect_ack(Kind::Puback, 7)?;
            client.expect_closed()?;
        } else {
            client.send(&bytes)?;
            client.expect_connack(&[0])?;
            client.send(&last)?;
            client.finish()?;
            client.until_the_end()?;
        }
        sub.expect_publish("t", "last")?;
        sub.expect_publish("t", "will")?;
    }
    Ok(())
}

pub(crate) fn hung_set_up_holds_up_nobody(server: &Server) -> Step {
    let knock = || server.knock().map_err(|e| Failure::new("the server accepts", e.to_string()));
    let mut hung = Vec::new();
    for i in 0..30 {
        let mut socket = knock()?;
        // Nothing at all, the beginning of a request, the beginning of a packet.
        let beginning: &[u8] = [b"".as_slice(), b"GET / HTTP/1.1\r\n", b"\x10"][i % 3];
        std::io::Write::write_all(&mut socket, beginning)
            .map_err(|e| Failure::new("the stream takes bytes", e.to_string()))?;
        hung.push(socket);
    }
    for version in server.spoken(ALL) {
        let mut client = server.client(version, "a").connect()?;
        client.subscribe("t", 1)?;
        client.publish(Publish::new("t", "x").qos(1))?;
        client.expect_publish("t", "x")?;
    }
    drop(hung);
    Ok(())
}

pub(crate) fn many_connections(server: &Server) -> Step {
    let mut clients = Vec::new();
    let versions = server.spoken(ALL);
    for i in 0..100 {
        let version = versions[i % versions.len()];
        let mut client = server.client(version, &format!("a{i}")).connect()?;
        client.subscribe(&format!("t/{i}"), 1)?;
        clients.push(client);
    }
    let mut publisher = server.helper(Version::V5, "p").connect()?;
    for round in 0..2 {
        for i in 0..clients.len() {
            let payload = format!("{round} {i}");
            publisher.publish(Publish::new(&format!("t/{i}"), payload).qos(1))?;
        }
        for (i, client) in clients.iter_mut().enumerate() {
            client.expect_publish(&format!("t/{i}"), &format!("{round} {i}"))?;
        }
    }
    clients.iter_mut().try_for_each(Client::expect_quiet)
}
