//! Sections 3.3 and 4.3: PUBLISH and the delivery protocols.

use crate::codec::{ALL, Kind, Publish, Subscribe, Value, Version, Will, prop, pubrel};
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
        publisher.send_publish(publish.dup())?;
        publisher.expect_ack(Kind::Pubrec, 9)?;
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
