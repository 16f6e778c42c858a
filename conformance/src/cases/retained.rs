//! Retained messages: sections 3.3.1.3 and 3.8.3.1.

use std::collections::BTreeSet;

use super::protocol_time;
use crate::client::Client;
use crate::codec::{ALL, Publish, Subscribe, Value, Version, prop};
use crate::failure::{Step, expect, expect_eq};
use crate::target::Server;

fn retain(publisher: &mut Client, topic: &str, payload: &str) -> Step {
    publisher.publish(Publish::new(topic, payload).qos(1).retain()).map(drop)
}

pub(crate) fn sent_to_a_new_subscription(server: &Server) -> Step {
    for from in server.spoken(ALL) {
        for qos in 0..=2 {
            let mut publisher = server.client(from, "p").connect()?;
            publisher.publish(Publish::new("r/x", "kept").qos(qos).retain())?;
            publisher.ping()?;
            for to in server.spoken(ALL) {
                let mut sub = server.client(to, "s").connect()?;
                sub.subscribe_with(Subscribe::to("r/#", 1).and("m", 1))?;
                let message = sub.expect_publish("r/x", "kept")?;
                expect_eq("RETAIN", &message.retain, &true)?;
                expect_eq("QoS", &message.qos, &qos.min(1))?;
                sub.expect_nothing_before(&mut publisher, "m", 1)?;
            }
            retain(&mut publisher, "r/x", "")?;
        }
    }
    Ok(())
}

pub(crate) fn replaced_by_a_newer(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let mut publisher = server.client(version, "p").connect()?;
        retain(&mut publisher, "t", "old")?;
        retain(&mut publisher, "t", "new")?;
        let mut sub = server.client(version, "s").connect()?;
        sub.subscribe("t", 1)?;
        sub.expect_publish("t", "new")?;
        sub.expect_nothing_before(&mut publisher, "t", 1)?;
        retain(&mut publisher, "t", "")?;
    }
    Ok(())
}

pub(crate) fn cleared_by_an_empty_payload(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let mut publisher = server.client(version, "p").connect()?;
        let mut live = server.client(version, "l").connect()?;
        retain(&mut publisher, "t", "x")?;
        live.subscribe("t", 1)?;
        live.expect_publish("t", "x")?;
        retain(&mut publisher, "t", "")?;
        expect_eq("RETAIN", &live.expect_publish("t", "")?.retain, &false)?;
        let mut sub = server.client(version, "s").connect()?;
        sub.subscribe("t", 1)?;
        sub.expect_nothing_before(&mut publisher, "t", 1)?;
    }
    Ok(())
}

pub(crate) fn not_stored_without_retain(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let mut publisher = server.client(version, "p").connect()?;
        retain(&mut publisher, "t", "kept")?;
        publisher.publish(Publish::new("t", "passing").qos(1))?;
        let mut sub = server.client(version, "s").connect()?;
        sub.subscribe("t", 1)?;
        sub.expect_publish("t", "kept")?;
        retain(&mut publisher, "t", "")?;
    }
    Ok(())
}

pub(crate) fn flag_is_cleared_for_live_subscribers(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let mut publisher = server.client(version, "p").connect()?;
        let mut sub = server.client(version, "s").connect()?;
        sub.subscribe("t", 1)?;
        retain(&mut publisher, "t", "x")?;
        expect_eq("RETAIN", &sub.expect_publish("t", "x")?.retain, &false)?;
        retain(&mut publisher, "t", "")?;
    }
    Ok(())
}

pub(crate) fn retain_as_published(server: &Server) -> Step {
    for from in server.spoken(ALL) {
        let mut publisher = server.client(from, "p").connect()?;
        let mut sub = server.v5("s").connect()?;
        sub.subscribe_with(Subscribe::to("t", 1).retain_as_published())?;
        retain(&mut publisher, "t", "x")?;
        expect_eq("RETAIN", &sub.expect_publish("t", "x")?.retain, &true)?;
        publisher.publish(Publish::new("t", "y").qos(1))?;
        expect_eq("RETAIN", &sub.expect_publish("t", "y")?.retain, &false)?;
        retain(&mut publisher, "t", "")?;
    }
    Ok(())
}

pub(crate) fn handling_1_only_for_new_subscriptions(server: &Server) -> Step {
    let mut publisher = server.v5("p").connect()?;
    retain(&mut publisher, "t", "x")?;
    let mut sub = server.v5("s").connect()?;
    sub.subscribe_with(Subscribe::to("t", 1).retain_handling(1))?;
    sub.expect_publish("t", "x")?;
    sub.subscribe_with(Subscribe::to("t", 1).retain_handling(1))?;
    sub.expect_nothing_before(&mut publisher, "t", 1)?;
    sub.unsubscribe("t")?;
    sub.subscribe_with(Subscribe::to("t", 1).retain_handling(1))?;
    sub.expect_publish("t", "x")?;
    retain(&mut publisher, "t", "")
}

pub(crate) fn handling_2_never(server: &Server) -> Step {
    let mut publisher = server.v5("p").connect()?;
    retain(&mut publisher, "t", "x")?;
    let mut sub = server.v5("s").connect()?;
    sub.subscribe_with(Subscribe::to("t", 1).retain_handling(2))?;
    sub.expect_nothing_before(&mut publisher, "t", 1)?;
    retain(&mut publisher, "t", "")
}

pub(crate) fn sent_again_for_the_same_filter(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let mut publisher = server.client(version, "p").connect()?;
        retain(&mut publisher, "t", "x")?;
        let mut sub = server.client(version, "s").connect()?;
        for _ in 0..2 {
            sub.subscribe("t", 1)?;
            expect_eq("RETAIN", &sub.expect_publish("t", "x")?.retain, &true)?;
        }
        retain(&mut publisher, "t", "")?;
    }
    Ok(())
}

pub(crate) fn survives_its_publisher(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let mut publisher = server.client(version, "p").connect()?;
        retain(&mut publisher, "t", "x")?;
        publisher.disconnect()?;
        let mut sub = server.client(version, "s").connect()?;
        sub.subscribe("t", 1)?;
        sub.expect_publish("t", "x")?;
        retain(&mut sub, "t", "")?;
    }
    Ok(())
}

pub(crate) fn more_than_the_queue_holds(server: &Server) -> Step {
    let mut publisher = server.helper(Version::V5, "p").connect()?;
    for i in 0..300 {
        retain(&mut publisher, &format!("r/{i}"), "x")?;
    }
    for version in server.spoken(ALL) {
        for qos in 0..=2 {
            let mut sub = server.client(version, "s").connect()?;
            sub.subscribe("r/#", qos)?;
            let mut topics = std::collections::BTreeSet::new();
            for _ in 0..300 {
                topics.insert(sub.message()?.topic);
            }
            expect_eq("retained messages", &topics.len(), &300)?;
        }
    }
    for i in 0..300 {
        retain(&mut publisher, &format!("r/{i}"), "")?;
    }
    Ok(())
}

pub(crate) fn expires(server: &Server) -> Step {
    let mut publisher = server.v5("p").connect()?;
    publisher
        .publish(Publish::new("r/1", "short").qos(1).retain().prop(prop::message_expiry(1)))?;
    publisher
        .publish(Publish::new("r/2", "long").qos(1).retain().prop(prop::message_expiry(60)))?;
    protocol_time(2600);
    let mut sub = server.v5("s").connect()?;
    sub.subscribe_with(Subscribe::to("r/#", 1).and("m", 1))?;
    let message = sub.expect_publish("r/2", "long")?;
    let left = message.prop(0x02);
    let counted = matches!(left, Some(Value::Four(55..=58)));
    expect(counted, "Message Expiry Interval 55 to 58", left)?;
    sub.expect_nothing_before(&mut publisher, "m", 1)?;
    retain(&mut publisher, "r/2", "")
}

pub(crate) fn identifier_of_its_subscription(server: &Server) -> Step {
    let mut publisher = server.helper(Version::V31, "p").connect()?;
    retain(&mut publisher, "t", "x")?;
    let mut sub = server.v5("s").connect()?;
    sub.subscribe_with(Subscribe::to("t", 1).prop(prop::subscription_id(9)))?;
    expect_eq("ids", &sub.expect_publish("t", "x")?.subscription_ids(), &vec![9])?;
    retain(&mut publisher, "t", "")
}

/// A server may drop a retained QoS 0 message at any time (MQTT-3.3.1-7 of 3.1.1); the older one is gone
/// all the same.
pub(crate) fn qos_0_takes_the_place(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let mut publisher = server.client(version, "p").connect()?;
        retain(&mut publisher, "t", "old")?;
        publisher.publish(Publish::new("t", "new").retain())?;
        publisher.ping()?;
        let mut sub = server.client(version, "s").connect()?;
        sub.subscribe_with(Subscribe::to("t", 1).and("m", 1))?;
        publisher.publish(Publish::new("m", "marker").qos(1))?;
        let first = sub.message()?;
        if first.text() != "marker" {
            expect_eq("payload", &first.text(), &"new")?;
            sub.expect_publish("m", "marker")?;
        }
        retain(&mut publisher, "t", "")?;
    }
    Ok(())
}

/// What a subscription asked for at QoS 1 waits in the Session, not in the connection.
pub(crate) fn the_rest_comes_after_a_break(server: &Server) -> Step {
    const MANY: usize = 30;
    let mut publisher = server.helper(Version::V311, "p").connect()?;
    let topics: Vec<String> = (0..MANY).map(|i| format!("r/{i}")).collect();
    for topic in &topics {
        retain(&mut publisher, topic, "kept")?;
    }
    let dialling = server.v5("s").persistent().prop(prop::receive_maximum(2));
    let mut sub = dialling.connect()?;
    sub.subscribe("r/+", 1)?;
    let mut came = BTreeSet::new();
    for _ in 0..4 {
        came.insert(sub.message()?.topic);
    }
    sub.cut();
    let mut sub = dialling.connect()?;
    while came.len() < MANY {
        came.insert(sub.message()?.topic);
    }
    for topic in &topics {
        retain(&mut publisher, topic, "")?;
    }
    drop(sub);
    server.v5("s").connect().map(drop)
}
