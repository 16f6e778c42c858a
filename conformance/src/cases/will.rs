//! Will Messages: sections 3.1.2.5, 3.1.3.2 and 3.14.4.

use super::protocol_time;
use crate::client::Client;
use crate::codec::{ALL, Publish, Value, Version::V5, Will, packet, prop};
use crate::failure::{Step, expect_eq};
use crate::target::Server;

fn watcher(server: &Server) -> Step<Client> {
    let mut sub = server.helper(V5, "watch").connect()?;
    sub.subscribe("w/#", 2)?;
    Ok(sub)
}

fn will(topic: &str) -> Will {
    Will::new(topic, "will").qos(1)
}

pub(crate) fn sent_when_the_connection_breaks(server: &Server) -> Step {
    let mut sub = watcher(server)?;
    for version in server.spoken(ALL) {
        server.client(version, "a").will(will("w/a")).connect()?.cut();
        sub.expect_publish("w/a", "will")?;
    }
    let mut publisher = server.helper(V5, "p").connect()?;
    sub.expect_nothing_before(&mut publisher, "w/a", 1)
}

pub(crate) fn discarded_by_disconnect(server: &Server) -> Step {
    let mut sub = watcher(server)?;
    for version in server.spoken(ALL) {
        server.client(version, "a").will(will("w/a")).connect()?.disconnect()?;
        let mut publisher = server.helper(V5, "p").connect()?;
        sub.expect_nothing_before(&mut publisher, "w/a", 1)?;
    }
    Ok(())
}

pub(crate) fn sent_by_disconnect_with_will(server: &Server) -> Step {
    let mut sub = watcher(server)?;
    server.v5("a").will(will("w/a")).connect()?.disconnect_with(0x04, &[])?;
    sub.expect_publish("w/a", "will").map(drop)
}

pub(crate) fn sent_on_a_protocol_fault(server: &Server) -> Step {
    let mut sub = watcher(server)?;
    for version in server.spoken(ALL) {
        let mut client = server.client(version, "a").will(will("w/a")).connect()?;
        client.send(&packet(0xF6, &[]))?;
        client.expect_fault(&[0x81, 0x82])?;
        sub.expect_publish("w/a", "will")?;
    }
    Ok(())
}

pub(crate) fn sent_on_keep_alive_timeout(server: &Server) -> Step {
    let mut sub = watcher(server)?;
    let mut clients = Vec::new();
    for version in server.spoken(ALL) {
        let id = format!("a{}", version as u8);
        let dialling = server.client(version, &id).keep_alive(1).will(will("w/a"));
        clients.push(dialling.connect()?);
    }
    for _ in server.spoken(ALL) {
        sub.expect_publish("w/a", "will")?;
    }
    Ok(())
}

pub(crate) fn sent_on_takeover(server: &Server) -> Step {
    let mut sub = watcher(server)?;
    for version in server.spoken(ALL) {
        let mut older = server.client(version, "a").will(will("w/a")).connect()?;
        let newer = server.client(version, "a").connect()?;
        older.expect_fault(&[0x8E])?;
        sub.expect_publish("w/a", "will")?;
        newer.disconnect()?;
    }
    Ok(())
}

pub(crate) fn retained_will(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let mut live = watcher(server)?;
        server.client(version, "a").will(will("w/r").retain()).connect()?.cut();
        expect_eq("RETAIN", &live.expect_publish("w/r", "will")?.retain, &false)?;
        let mut later = server.client(version, "later").connect()?;
        later.subscribe("w/r", 1)?;
        expect_eq("RETAIN", &later.expect_publish("w/r", "will")?.retain, &true)?;
        later.publish(Publish::new("w/r", "").qos(1).retain())?;
    }
    Ok(())
}

pub(crate) fn every_qos(server: &Server) -> Step {
    let mut sub = watcher(server)?;
    for version in server.spoken(ALL) {
        for qos in 0..=2 {
            server.client(version, "a").will(Will::new("w/q", "x").qos(qos)).connect()?.cut();
            expect_eq("QoS", &sub.expect_publish("w/q", "x")?.qos, &qos)?;
        }
    }
    Ok(())
}

pub(crate) fn delayed(server: &Server) -> Step {
    let mut sub = watcher(server)?;
    let late = will("w/late").prop(prop::will_delay(1));
    let client = server.v5("a").persistent().will(late).connect()?;
    client.cut();
    let mut publisher = server.helper(V5, "p").connect()?;
    sub.expect_nothing_before(&mut publisher, "w/x", 1)?;
    sub.expect_publish("w/late", "will")?;
    server.v5("a").connect().map(drop)
}

pub(crate) fn delay_is_cancelled_by_reconnect(server: &Server) -> Step {
    let mut sub = watcher(server)?;
    let dialling = server.v5("a").persistent();
    dialling.clone().will(will("w/a").prop(prop::will_delay(1))).connect()?.cut();
    let client = dialling.connect()?;
    protocol_time(2400);
    let mut publisher = server.helper(V5, "p").connect()?;
    sub.expect_nothing_before(&mut publisher, "w/a", 1)?;
    drop(client);
    server.v5("a").connect().map(drop)
}

pub(crate) fn delay_ends_with_the_session(server: &Server) -> Step {
    let mut sub = watcher(server)?;
    // The Session ends with the connection, an hour before the delay would.
    server.v5("a").will(will("w/a").prop(prop::will_delay(3600))).connect()?.cut();
    sub.expect_publish("w/a", "will")?;
    // And here because a Clean Start ends it.
    let dialling = server.v5("b").persistent();
    dialling.will(will("w/b").prop(prop::will_delay(3600))).connect()?.cut();
    server.v5("b").connect()?;
    sub.expect_publish("w/b", "will").map(drop)
}

/// A takeover ends the delay only where it ends the Session, too.
pub(crate) fn takeover_heeds_the_delay(server: &Server) -> Step {
    let mut sub = watcher(server)?;
    let late = |topic| will(topic).prop(prop::will_delay(3600));
    let mut older = server.v5("a").will(late("w/a")).connect()?;
    let newer = server.v5("a").clean_start(false).connect()?;
    older.expect_fault(&[0x8E])?;
    sub.expect_publish("w/a", "will")?;
    newer.disconnect()?;

    let dialling = server.v5("b").persistent();
    let mut older = dialling.clone().will(late("w/b")).connect()?;
    let newer = dialling.connect()?;
    older.expect_fault(&[0x8E])?;
    let mut publisher = server.helper(V5, "p").connect()?;
    sub.expect_nothing_before(&mut publisher, "w/b", 1)?;
    drop(newer);
    server.v5("b").connect().map(drop)
}

pub(crate) fn properties_are_sent(server: &Server) -> Step {
    let mut sub = watcher(server)?;
    let will = will("w/a")
        .prop(prop::payload_format(1))
        .prop(prop::content_type("text/plain"))
        .prop(prop::message_expiry(60))
        .prop(prop::user("b", "1"))
        .prop(prop::user("a", "2"));
    server.v5("a").will(will).connect()?.cut();
    let message = sub.expect_publish("w/a", "will")?;
    expect_eq("User Properties", &message.user(), &vec![("b", "1"), ("a", "2")])?;
    expect_eq("Payload Format", &message.prop(0x01), &Some(&Value::Byte(1)))?;
    let text = Value::Text("text/plain".into());
    expect_eq("Content Type", &message.prop(0x03), &Some(&text))?;
    expect_eq("Will Delay stays with the server", &message.prop(0x18), &None)
}

pub(crate) fn unretained_will(server: &Server) -> Step {
    let mut live = watcher(server)?;
    let mut publisher = server.helper(V5, "p").connect()?;
    for version in server.spoken(ALL) {
        server.client(version, "a").will(will("w/r")).connect()?.cut();
        expect_eq("RETAIN", &live.expect_publish("w/r", "will")?.retain, &false)?;
        let mut later = server.client(version, "later").connect()?;
        later.subscribe("w/r", 1)?;
        later.expect_nothing_before(&mut publisher, "w/r", 1)?;
        live.expect_publish("w/r", "marker")?;
    }
    Ok(())
}

pub(crate) fn none_without_will_flag(server: &Server) -> Step {
    let mut sub = watcher(server)?;
    let mut publisher = server.helper(V5, "p").connect()?;
    for version in server.spoken(ALL) {
        // The Will of an earlier connection is no Will of this one.
        let dialling = server.client(version, "a").persistent();
        dialling.clone().will(will("w/a")).connect()?.disconnect()?;
        dialling.connect()?.cut();
        // A new connection shows that the server is done with the old one.
        server.client(version, "a").connect()?.disconnect()?;
        sub.expect_nothing_before(&mut publisher, "w/a", 1)?;
    }
    Ok(())
}

pub(crate) fn published_once(server: &Server) -> Step {
    let mut sub = watcher(server)?;
    let mut publisher = server.helper(V5, "p").connect()?;
    for version in server.spoken(ALL) {
        let dialling = server.client(version, "a").persistent();
        dialling.clone().will(will("w/a")).connect()?.cut();
        sub.expect_publish("w/a", "will")?;
        // Neither the next connection nor the end of the Session brings it again.
        dialling.connect()?.cut();
        server.client(version, "a").connect()?.disconnect()?;
        sub.expect_nothing_before(&mut publisher, "w/a", 1)?;
    }
    Ok(())
}
