//! Sections 3.3 and 4.3: PUBLISH and the delivery protocols.

use std::collections::BTreeSet;

use super::protocol_time;
use crate::codec::{ALL, Kind, Publish, Subscribe, Value, Version, Will, packet, prop, pubrel};
use crate::failure::{Step, expect, expect_eq};
use crate::target::Server;

fn delivers(server: &Server, qos: u8) -> Step {
    for from in server.spoken(ALL) {
        for to in server.spoken(ALL) {
            let mut sub = server.client(to, "s").connect()?;
            let mut publisher = server.client(from, "p").connect()?;
            sub.subscribe("a/b", 2)?;
            let payload = format!("{from:?} to {to:?}");
            publisher.publish(Publish::new("a/b", &payload).qos(qos))?;
            let message = sub.expect_publish("a/b", &payload)?;
            expect_eq("QoS", &message.qos, &qos)?;
            expect(!message.dup && !message.retain, "DUP 0 and RETAIN 0", &message)?;
            sub.expect_quiet()?;
        }
    }
    Ok(())
}

pub(crate) fn qos_0_delivery(server: &Server) -> Step {
    delivers(server, 0)
}

pub(crate) fn qos_1_delivery(server: &Server) -> Step {
    delivers(server, 1)
}

pub(crate) fn qos_2_delivery(server: &Server) -> Step {
    delivers(server, 2)
}

pub(crate) fn delivered_at_the_lower_qos(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let mut sub = server.client(version, "s").connect()?;
        let mut publisher = server.client(version, "p").connect()?;
        for granted in 0..=2 {
            let topic = format!("t{granted}");
            sub.subscribe(&topic, granted)?;
            for sent in 0..=2 {
                publisher.publish(Publish::new(&topic, "x").qos(sent))?;
                let message = sub.expect_publish(&topic, "x")?;
                expect_eq("QoS", &message.qos, &granted.min(sent))?;
            }
        }
    }
    Ok(())
}

pub(crate) fn qos_2_resent_is_delivered_once(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let mut sub = server.client(version, "s").connect()?;
        let mut publisher = server.client(version, "p").connect()?;
        sub.subscribe("t", 2)?;
        let publish = Publish::new("t", "once").qos(2).id(9);
        publisher.send_publish(publish.clone())?;
        publisher.expect_ack(Kind::Pubrec, 9)?;
        for _ in 0..3 {
            publisher.send_publish(publish.clone().dup())?;
            publisher.expect_ack(Kind::Pubrec, 9)?;
        }
        publisher.send(&pubrel(9))?;
        publisher.expect_ack(Kind::Pubcomp, 9)?;
        sub.expect_publish("t", "once")?;
        sub.expect_nothing_before(&mut publisher, "t", 2)?;
    }
    Ok(())
}

pub(crate) fn qos_2_id_is_free_after_pubcomp(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let mut sub = server.client(version, "s").connect()?;
        let mut publisher = server.client(version, "p").connect()?;
        sub.subscribe("t", 2)?;
        for payload in ["first", "second"] {
            publisher.publish(Publish::new("t", payload).qos(2).id(9))?;
            sub.expect_publish("t", payload)?;
        }
    }
    Ok(())
}

pub(crate) fn pubrel_of_unknown_id_is_completed(server: &Server) -> Step {
    let mut client = server.v5("a").connect()?;
    client.send(&pubrel(4242))?;
    let code = client.expect_ack(Kind::Pubcomp, 4242)?;
    // 0x92 says that the identifier is not known; plain success is as good to a sender that resends.
    expect([0x00, 0x92].contains(&code), "PUBCOMP 0x00 or 0x92", code)
}

pub(crate) fn dup_is_not_propagated(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let mut sub = server.client(version, "s").connect()?;
        let mut publisher = server.client(version, "p").connect()?;
        sub.subscribe("t", 2)?;
        for qos in [1, 2] {
            publisher.publish(Publish::new("t", "x").qos(qos).dup())?;
            expect_eq("DUP", &sub.expect_publish("t", "x")?.dup, &false)?;
        }
    }
    Ok(())
}

pub(crate) fn order_is_kept_per_qos(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        for qos in 0..=2 {
            let mut sub = server.client(version, "s").connect()?;
            let mut publisher = server.client(version, "p").connect()?;
            sub.subscribe("t", qos)?;
            for i in 0..30 {
                publisher.publish(Publish::new("t", i.to_string()).qos(qos))?;
            }
            for i in 0..30 {
                sub.expect_publish("t", &i.to_string())?;
            }
        }
    }
    Ok(())
}

pub(crate) fn empty_payload_is_delivered(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let mut sub = server.client(version, "s").connect()?;
        let mut publisher = server.client(version, "p").connect()?;
        sub.subscribe("a/+", 1)?;
        publisher.publish(Publish::new("a/b", "").qos(1))?;
        sub.expect_publish("a/b", "")?;
    }
    Ok(())
}

pub(crate) fn versions_mix_on_one_topic(server: &Server) -> Step {
    let mut subs = Vec::new();
    for version in server.spoken(ALL) {
        let mut sub = server.client(version, &format!("s{}", version as u8)).connect()?;
        sub.subscribe("t", 2)?;
        subs.push(sub);
    }
    for from in server.spoken(ALL) {
        let mut publisher = server.client(from, "p").connect()?;
        for qos in 0..=2 {
            let mut publish = Publish::new("t", "x").qos(qos);
            if from == Version::V5 {
                publish = publish.prop(prop::user("k", "v"));
            }
            publisher.publish(publish)?;
            for sub in &mut subs {
                let message = sub.expect_publish("t", "x")?;
                let both = from == Version::V5 && sub.version() == Version::V5;
                let kept: Vec<(&str, &str)> = if both { vec![("k", "v")] } else { vec![] };
                expect_eq("User Properties", &message.user(), &kept)?;
                expect_eq("QoS", &message.qos, &qos)?;
            }
        }
    }
    Ok(())
}

pub(crate) fn properties_arrive_unaltered_and_in_order(server: &Server) -> Step {
    let mut sub = server.v5("s").connect()?;
    sub.subscribe("t", 2)?;
    let mut publisher = server.v5("p").connect()?;
    let pairs = [("b", "1"), ("a", "2"), ("b", "1"), ("", ""), ("é", "ü")];
    for qos in 0..=2 {
        let mut publish = Publish::new("t", "x")
            .qos(qos)
            .prop(prop::payload_format(1))
            .prop(prop::content_type("text/plain"))
            .prop(prop::response_topic("answers/here"))
            .prop(prop::correlation_data(&[0, 1, 255]));
        for (name, value) in pairs {
            publish = publish.prop(prop::user(name, value));
        }
        publisher.publish(publish)?;
        let message = sub.expect_publish("t", "x")?;
        expect_eq("User Properties", &message.user(), &pairs.to_vec())?;
        expect_eq("Payload Format", &message.prop(0x01), &Some(&Value::Byte(1)))?;
        let text = |t: &str| Value::Text(t.into());
        expect_eq("Content Type", &message.prop(0x03), &Some(&text("text/plain")))?;
        expect_eq("Response Topic", &message.prop(0x08), &Some(&text("answers/here")))?;
        let data = Value::Binary(vec![0, 1, 255]);
        expect_eq("Correlation Data", &message.prop(0x09), &Some(&data))?;
    }
    // The same holds for a Will.
    let mut will = Will::new("t", "will");
    for (name, value) in pairs {
        will = will.prop(prop::user(name, value));
    }
    server.v5("w").will(will).connect()?.cut();
    expect_eq("User Properties", &sub.expect_publish("t", "will")?.user(), &pairs.to_vec())
}

pub(crate) fn nobody_subscribed_is_acknowledged(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let mut publisher = server.client(version, "p").connect()?;
        for qos in [1, 2] {
            let code = publisher.publish(Publish::new("nobody", "x").qos(qos))?;
            expect([0x00, 0x10].contains(&code), "0x00 or 0x10", code)?;
        }
        publisher.ping()?;
    }
    Ok(())
}

pub(crate) fn sys_topics_belong_to_the_server(server: &Server) -> Step {
    let mut sub = server.helper(Version::V5, "s").connect()?;
    sub.suback(Subscribe::to("$SYS/x", 1).and("t", 1))?;
    for version in server.spoken(ALL) {
        let mut publisher = server.client(version, &format!("p{}", version as u8)).connect()?;
        publisher.publish(Publish::new("$SYS/x", "spoof").qos(1))?;
        publisher.publish(Publish::new("t", "after").qos(1))?;
        sub.expect_publish("t", "after")?;
    }
    Ok(())
}

pub(crate) fn qos_1_id_is_new_after_puback(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let mut sub = server.client(version, "s").connect()?;
        let mut publisher = server.client(version, "p").connect()?;
        sub.subscribe("t", 1)?;
        let publish = Publish::new("t", "x").qos(1).id(9);
        // With DUP too: the server cannot know an older one by it.
        for again in [publish.clone(), publish.clone(), publish.dup()] {
            publisher.publish(again)?;
            sub.expect_publish("t", "x")?;
        }
        sub.expect_nothing_before(&mut publisher, "t", 1)?;
    }
    Ok(())
}

pub(crate) fn identifiers_in_use_are_not_given_again(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let mut sub = server.client(version, "s").connect()?;
        let mut publisher = server.client(version, "p").connect()?;
        sub.subscribe("t", 2)?;
        let mut open = BTreeSet::new();
        for i in 0..20 {
            publisher.publish(Publish::new("t", "x").qos(1 + i % 2))?;
            let message = sub.receive()?;
            expect(open.insert(message.id), "an identifier that is free", &message)?;
            if i % 4 == 0 {
                open.remove(&message.id);
                sub.complete(&message)?;
            }
        }
    }
    Ok(())
}

/// `$SYS` belongs to the server. One that takes the message all the same has nothing to free.
pub(crate) fn refused_qos_2_frees_its_id(server: &Server) -> Step {
    let mut sub = server.v5("s").connect()?;
    sub.subscribe("t", 2)?;
    let mut publisher = server.v5("p").connect()?;
    publisher.publish(Publish::new("$SYS/x", "x").qos(2).id(9))?;
    publisher.publish(Publish::new("t", "new").qos(2).id(9))?;
    sub.expect_publish("t", "new").map(drop)
}

/// Meant for servers, and in the tables of both packets: a client may pass on what another server told it.
pub(crate) fn no_matching_subscribers_is_a_success(server: &Server) -> Step {
    let mut sub = server.v5("s").connect()?;
    sub.subscribe("t", 2)?;
    let mut publisher = server.v5("p").connect()?;
    for qos in [1, 2] {
        publisher.publish(Publish::new("t", "x").qos(qos))?;
        let id = sub.receive()?.id.to_be_bytes();
        sub.send(&packet(if qos == 1 { 0x40 } else { 0x50 }, &[id[0], id[1], 0x10]))?;
        if qos == 2 {
            let id = u16::from_be_bytes(id);
            expect_eq("PUBREL", &sub.expect_ack(Kind::Pubrel, id)?, &0)?;
            sub.ack(Kind::Pubcomp, id)?;
        }
        sub.expect_quiet()?;
    }
    Ok(())
}

pub(crate) fn qos_2_is_completed_after_expiry(server: &Server) -> Step {
    let away = server.v5("s").persistent();
    let mut sub = away.connect()?;
    sub.subscribe("t", 2)?;
    sub.disconnect()?;
    let mut publisher = server.v5("p").connect()?;
    let short = Publish::new("t", "short").qos(2).id(9).prop(prop::message_expiry(1));
    publisher.send_publish(short.clone())?;
    publisher.expect_ack(Kind::Pubrec, 9)?;
    protocol_time(2300);
    publisher.send_publish(short.dup())?;
    let code = publisher.expect_ack(Kind::Pubrec, 9)?;
    expect([0x00, 0x10].contains(&code), "PUBREC 0x00 or 0x10", code)?;
    publisher.send(&pubrel(9))?;
    expect_eq("PUBCOMP", &publisher.expect_ack(Kind::Pubcomp, 9)?, &0)?;
    away.connect()?.expect_quiet()?;
    server.v5("s").connect().map(drop)
}

/// The server as sender of QoS 2: 3.1.1 holds it to the rules of clients (its MQTT-4.6.0-6).
pub(crate) fn pubrel_follows_the_order_of_pubrec(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let mut sub = server.client(version, "s").connect()?;
        let mut publisher = server.client(version, "p").connect()?;
        sub.subscribe("t", 2)?;
        let mut ids = Vec::new();
        for _ in 0..4 {
            publisher.publish(Publish::new("t", "x").qos(2))?;
            ids.push(sub.receive()?.id);
        }
        ids.swap(0, 2);
        let pubrecs: Vec<u8> = ids.iter().flat_map(|id| packet(0x50, &id.to_be_bytes())).collect();
        sub.send(&pubrecs)?;
        for id in &ids {
            sub.expect_ack(Kind::Pubrel, *id)?;
        }
        for id in ids {
            sub.ack(Kind::Pubcomp, id)?;
        }
        sub.ping()?;
    }
    Ok(())
}

pub(crate) fn everyone_who_matches_gets_it(server: &Server) -> Step {
    let dialling = |version: Version, away: bool| {
        let id = format!("s{}{away}", version as u8);
        let dialling = server.client(version, &id);
        if away { dialling.persistent() } else { dialling }
    };
    let mut live = Vec::new();
    for version in server.spoken(ALL) {
        for (away, filter) in [(false, "a/b"), (true, "a/+")] {
            let mut sub = dialling(version, away).connect()?;
            sub.subscribe(filter, 2)?;
            if away {
                sub.disconnect()?;
            } else {
                live.push(sub);
            }
        }
    }
    for from in server.spoken(ALL) {
        let mut publisher = server.client(from, "p").connect()?;
        for qos in [1, 2] {
            publisher.publish(Publish::new("a/b", format!("{from:?} {qos}")).qos(qos))?;
        }
    }
    for version in server.spoken(ALL) {
        live.push(dialling(version, true).connect()?);
    }
    for sub in &mut live {
        for from in server.spoken(ALL) {
            for qos in [1, 2] {
                sub.expect_publish("a/b", &format!("{from:?} {qos}"))?;
            }
        }
        sub.expect_quiet()?;
    }
    drop(live);
    server.spoken(ALL).into_iter().try_for_each(|version| {
        let id = format!("s{}true", version as u8);
        server.client(version, &id).connect().map(drop)
    })
}
