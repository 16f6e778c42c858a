//! The same through a client that others wrote: rumqttc, 3.1.1 and 5.0.

use crate::codec::Version::{self, V5, V311};
use crate::codec::Will;
use crate::failure::{Failure, Step, expect, expect_eq};
use crate::target::Server;

const PAIRS: [(Version, Version); 4] = [(V311, V311), (V311, V5), (V5, V311), (V5, V5)];

pub(crate) fn every_qos_and_version(server: &Server) -> Step {
    for (i, (from, to)) in server.spoken_pairs(PAIRS).into_iter().enumerate() {
        let mut sub = server.rumqttc(to, &format!("s{i}")).connect()?;
        let mut publisher = server.rumqttc(from, &format!("p{i}")).connect()?;
        for qos in 0..=2 {
            let topic = format!("t{i}/{qos}");
            sub.subscribe(&topic, 2)?;
            publisher.publish(&topic, "hello", qos, false)?;
            let message = sub.expect(&topic, "hello")?;
            expect_eq("QoS", &message.qos, &qos)?;
            expect(!message.dup && !message.retain, "DUP 0, RETAIN 0", &message)?;
        }
    }
    Ok(())
}

pub(crate) fn a_hundred_messages_at_qos_2(server: &Server) -> Step {
    for (i, (from, to)) in server.spoken_pairs(PAIRS).into_iter().enumerate() {
        let mut sub = server.rumqttc(to, &format!("s{i}")).connect()?;
        let mut publisher = server.rumqttc(from, &format!("p{i}")).connect()?;
        let topic = format!("t{i}");
        sub.subscribe(&topic, 2)?;
        for n in 0..100 {
            publisher.publish(&topic, &n.to_string(), 2, false)?;
            sub.expect(&topic, &n.to_string())?;
        }
    }
    Ok(())
}

pub(crate) fn retained(server: &Server) -> Step {
    for (i, (from, to)) in server.spoken_pairs(PAIRS).into_iter().enumerate() {
        let topic = format!("t{i}");
        let mut publisher = server.rumqttc(from, &format!("p{i}")).connect()?;
        publisher.publish(&topic, "kept", 1, true)?;
        let mut sub = server.rumqttc(to, &format!("s{i}")).connect()?;
        sub.subscribe(&topic, 1)?;
        expect_eq("RETAIN", &sub.expect(&topic, "kept")?.retain, &true)?;
        publisher.publish(&topic, "", 1, true)?;
        expect_eq("RETAIN", &sub.expect(&topic, "")?.retain, &false)?;
    }
    Ok(())
}

pub(crate) fn persistent_session(server: &Server) -> Step {
    for (i, (from, to)) in server.spoken_pairs(PAIRS).into_iter().enumerate() {
        let topic = format!("t{i}");
        let options = server.rumqttc(to, &format!("s{i}")).persistent();
        let mut sub = options.connect()?;
        sub.subscribe(&topic, 1)?;
        sub.disconnect();
        let mut publisher = server.rumqttc(from, &format!("p{i}")).connect()?;
        publisher.publish(&topic, "one", 1, false)?;
        publisher.publish(&topic, "two", 1, false)?;
        let mut sub = options.connect()?;
        expect_eq("Session Present", &sub.session_present, &true)?;
        sub.expect(&topic, "one")?;
        sub.expect(&topic, "two")?;
        sub.disconnect();
        server.client(to, &format!("s{i}")).connect()?;
    }
    Ok(())
}

pub(crate) fn will(server: &Server) -> Step {
    for (i, (from, to)) in server.spoken_pairs(PAIRS).into_iter().enumerate() {
        let topic = format!("t{i}");
        let mut sub = server.rumqttc(to, &format!("s{i}")).connect()?;
        sub.subscribe(&topic, 1)?;
        let dying = server.rumqttc(from, &format!("d{i}"));
        let dying = dying.will(Will::new(&topic, "gone").qos(1)).connect()?;
        drop(dying); // without DISCONNECT
        sub.expect(&topic, "gone")?;
    }
    Ok(())
}

pub(crate) fn unsubscribed(server: &Server) -> Step {
    for (i, version) in server.spoken([V311, V5]).into_iter().enumerate() {
        let (gone, kept) = (format!("gone{i}"), format!("kept{i}"));
        let mut sub = server.rumqttc(version, &format!("s{i}")).connect()?;
        sub.subscribe(&gone, 1)?;
        sub.subscribe(&kept, 1)?;
        sub.unsubscribe(&gone)?;
        let mut publisher = server.rumqttc(version, &format!("p{i}")).connect()?;
        publisher.publish(&gone, "x", 1, false)?;
        publisher.publish(&kept, "y", 1, false)?;
        sub.expect(&kept, "y")?;
    }
    Ok(())
}

pub(crate) fn user_properties(server: &Server) -> Step {
    let mut sub = server.rumqttc(V5, "s").connect()?;
    let mut publisher = server.rumqttc(V5, "p").connect()?;
    sub.subscribe("t", 1)?;
    let pairs = [("b", "1"), ("a", "2"), ("b", "3")];
    publisher.publish_with("t", "x", 1, false, &pairs)?;
    let message = sub.expect("t", "x")?;
    let came: Vec<(&str, &str)> =
        message.user.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    expect_eq("User Properties", &came, &pairs.to_vec())
}

pub(crate) fn takeover(server: &Server) -> Step {
    for (i, version) in server.spoken([V311, V5]).into_iter().enumerate() {
        let options = server.rumqttc(version, &format!("a{i}"));
        let mut older = options.connect()?;
        let mut newer = options.connect()?;
        if older.message().is_ok() {
            return Err(Failure::new("the older connection ends", "a message"));
        }
        newer.subscribe("t", 0)?;
    }
    Ok(())
}
