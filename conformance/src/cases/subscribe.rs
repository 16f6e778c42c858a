//! Sections 3.8 to 3.11 and 4.7: SUBSCRIBE, UNSUBSCRIBE, Topic Names and Topic Filters.

use std::thread;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::codec::{
    ALL, Kind, Packet, Publish, Subscribe, Version, packet, prop, text, unsubscribe,
};
use crate::failure::{Failure, Step, expect, expect_eq};
use crate::target::Server;

pub(crate) fn suback_answers_each_filter_in_order(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let mut client = server.client(version, "a").connect()?;
        let filters = Subscribe::to("a", 2).and("b/#", 0).and("+/c", 1).and("a", 1);
        expect_eq("codes", &client.suback(filters)?, &vec![2, 0, 1, 1])?;
    }
    Ok(())
}

pub(crate) fn wildcards_match(server: &Server) -> Step {
    let table = [
        ("a/b", "a/b", true),
        ("a/b", "a/bc", false),
        ("a/#", "a", true),
        ("a/#", "a/b/c", true),
        ("a/#", "ab", false),
        ("a/+", "a/b", true),
        ("a/+", "a", false),
        ("a/+", "a/", true),
        ("a/+", "a/b/c", false),
        ("+/+", "/b", true),
        ("a/+/c", "a/b/c", true),
        ("a/+/c", "a//c", true),
        ("a/+/#", "a", false),
        ("a/+/#", "a/b", true),
        ("#", "a/b", true),
    ];
    for version in server.spoken(ALL) {
        let mut publisher = server.client(version, "p").connect()?;
        for (i, (filter, topic, matches)) in table.into_iter().enumerate() {
            // Every row has its own branch, so that "#" and "+" see no other row.
            let row = format!("{}r{i}", version as u8);
            let mut sub = server.client(version, "s").connect()?;
            let filter = format!("{row}/{filter}");
            sub.subscribe_with(Subscribe::to(&filter, 1).and(&format!("{row}marker"), 1))?;
            publisher.publish(Publish::new(&format!("{row}/{topic}"), "x").qos(1))?;
            if matches {
                sub.expect_publish(&format!("{row}/{topic}"), "x")?;
            }
            let marker = format!("{row}marker");
            sub.expect_nothing_before(&mut publisher, &marker, 1)?;
        }
    }
    Ok(())
}

/// A Server without wildcards rejects filters that have them. 3.1.1 does not announce it, so whatever is granted
/// has to match.
pub(crate) fn wildcards_work_or_are_refused(server: &Server) -> Step {
    for version in server.spoken([Version::V311, Version::V5]) {
        let mut publisher = server.client(version, "p").connect()?;
        for filter in ["a/+", "a/#", "+/b"] {
            let mut sub = server.client(version, "s").connect()?;
            let full = sub.full(filter);
            let id = sub.fresh_id();
            sub.send(&Subscribe::to(&full, 1).and(&sub.full("m"), 1).encode(version, id))?;
            let Packet::Suback { codes, .. } = sub.control("SUBACK")? else {
                return Err(Failure::new("SUBACK", "another packet"));
            };
            publisher.publish(Publish::new("a/b", filter).qos(1))?;
            match codes.first() {
                Some(0..=2) => sub.expect_publish("a/b", filter).map(drop)?,
                Some(0x80 | 0xA2) => sub.expect_nothing_before(&mut publisher, "m", 1)?,
                other => return Err(Failure::new("a QoS, or a failure", format!("{other:02x?}"))),
            }
        }
    }
    Ok(())
}

pub(crate) fn no_normalization(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let mut publisher = server.client(version, "p").connect()?;
        let mut sub = server.client(version, "s").connect()?;
        sub.subscribe_with(Subscribe::to("A/\u{e9}", 1).and("m", 1))?;
        for other in ["a/\u{e9}", "A/e\u{301}", "A//\u{e9}", "A/\u{e9}/", "A/\u{e9} "] {
            publisher.publish(Publish::new(other, "x").qos(1))?;
        }
        sub.expect_nothing_before(&mut publisher, "m", 1)?;
        publisher.publish(Publish::new("A/\u{e9}", "x").qos(1))?;
        sub.expect_publish("A/\u{e9}", "x")?;
    }
    Ok(())
}

pub(crate) fn wildcards_pass_over_dollar_topics(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let mut publisher = server.client(version, "p").connect()?;
        let mut sub = server.client(version, "s").connect()?;
        let third = format!("+/{}/x", server.prefix());
        sub.subscribe_everywhere(&["#", "+/#", &third], 1)?;
        publisher.publish(Publish::new("$hidden/x", "x").qos(1))?;
        publisher.publish(Publish::new("seen", "x").qos(1))?;
        sub.expect_publish("seen", "x")?;
    }
    Ok(())
}

pub(crate) fn dollar_filters_match_dollar_topics(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let mut publisher = server.client(version, "p").connect()?;
        let mut sub = server.client(version, "s").connect()?;
        sub.subscribe("$mine/#", 1)?;
        publisher.publish(Publish::new("$mine/x", "x").qos(1))?;
        sub.expect_publish("$mine/x", "x")?;
    }
    Ok(())
}

pub(crate) fn same_filter_replaces(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let mut publisher = server.client(version, "p").connect()?;
        let mut sub = server.client(version, "s").connect()?;
        sub.subscribe("t", 2)?;
        sub.subscribe("t", 0)?;
        publisher.publish(Publish::new("t", "x").qos(2))?;
        expect_eq("QoS", &sub.expect_publish("t", "x")?.qos, &0)?;
        sub.expect_nothing_before(&mut publisher, "t", 0)?;
    }
    Ok(())
}

/// One copy at the highest QoS, or one for each subscription: MQTT-3.3.5-1 (3.1.1) and MQTT-3.3.4-2 (5.0) allow
/// both. MQTT 3.1 does not say which subscription lends its QoS to the one copy.
pub(crate) fn overlapping_uses_the_highest_qos(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let mut publisher = server.client(version, "p").connect()?;
        let mut sub = server.client(version, "s").connect()?;
        sub.subscribe_with(Subscribe::to("a/#", 2).and("a/+", 1).and("m", 2))?;
        publisher.publish(Publish::new("a/b", "x").qos(2))?;
        let first = sub.expect_publish("a/b", "x")?;
        publisher.publish(Publish::new("m", "marker").qos(2))?;
        let mut levels = vec![first.qos];
        let mut next = sub.message()?;
        while next.topic == "a/b" {
            levels.push(next.qos);
            next = sub.message()?;
        }
        levels.sort_unstable();
        let silent = version == Version::V31 && levels == [1];
        if levels != [1, 2] && !silent {
            expect_eq("QoS of the copies", &levels, &vec![2])?;
        }
    }
    Ok(())
}

pub(crate) fn unsubscribe_stops_delivery(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let mut publisher = server.client(version, "p").connect()?;
        let mut sub = server.client(version, "s").connect()?;
        sub.subscribe_with(Subscribe::to("a/+", 1).and("m", 1))?;
        // Filters are compared as characters: this one only matches the same topics.
        sub.unsubscribe("a/#")?;
        publisher.publish(Publish::new("a/b", "still").qos(1))?;
        sub.expect_publish("a/b", "still")?;
        let codes = sub.unsubscribe("a/+")?;
        let wanted = if version == Version::V5 { vec![0] } else { vec![] };
        expect_eq("UNSUBACK", &codes, &wanted)?;
        publisher.publish(Publish::new("a/b", "gone").qos(1))?;
        sub.expect_nothing_before(&mut publisher, "m", 1)?;
    }
    Ok(())
}

pub(crate) fn unsubscribe_of_nothing_is_answered(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let mut client = server.client(version, "s").connect()?;
        let codes = client.unsubscribe("never/subscribed")?;
        let wanted = if version == Version::V5 { vec![0x11] } else { vec![] };
        expect_eq("UNSUBACK", &codes, &wanted)?;
    }
    Ok(())
}

pub(crate) fn identifiers_come_back(server: &Server) -> Step {
    let mut publisher = server.helper(Version::V311, "p").connect()?;
    let mut sub = server.v5("s").connect()?;
    sub.subscribe_with(Subscribe::to("a/#", 1).prop(prop::subscription_id(7)))?;
    sub.subscribe_with(Subscribe::to("a/+", 1).prop(prop::subscription_id(268_435_455)))?;
    sub.subscribe("a/b", 1)?;
    publisher.publish(Publish::new("a/b/c", "one").qos(1))?;
    expect_eq("ids", &sub.expect_publish("a/b/c", "one")?.subscription_ids(), &vec![7])?;
    publisher.publish(Publish::new("a/b", "two").qos(1))?;
    publisher.publish(Publish::new("a/m/m", "marker").qos(1))?;
    // In one copy or in several.
    let mut ids = Vec::new();
    let mut next = sub.message()?;
    while next.topic == "a/b" {
        ids.extend(next.subscription_ids());
        next = sub.message()?;
    }
    ids.sort_unstable();
    expect_eq("ids", &ids, &vec![7, 268_435_455])
}

/// It is the identifier of one Client, and of the newest SUBSCRIBE.
pub(crate) fn identifier_belongs_to_its_subscription(server: &Server) -> Step {
    let mut publisher = server.helper(Version::V311, "p").connect()?;
    let (mut sub, mut other) = (server.v5("s").connect()?, server.v5("o").connect()?);
    other.subscribe_with(Subscribe::to("t", 1).prop(prop::subscription_id(9)))?;
    for ids in [vec![1], vec![2], vec![]] {
        let with = |subscribe: Subscribe, id: &u32| subscribe.prop(prop::subscription_id(*id));
        sub.subscribe_with(ids.iter().fold(Subscribe::to("t", 1), with))?;
        publisher.publish(Publish::new("t", "x").qos(1))?;
        expect_eq("ids", &sub.expect_publish("t", "x")?.subscription_ids(), &ids)?;
        expect_eq("ids", &other.expect_publish("t", "x")?.subscription_ids(), &vec![9])?;
    }
    Ok(())
}

pub(crate) fn no_local_withholds_ones_own(server: &Server) -> Step {
    let mut client = server.v5("s").connect()?;
    client.subscribe_with(Subscribe::to("t", 1).no_local())?;
    client.publish(Publish::new("t", "own").qos(1))?;
    client.expect_quiet()?;
    let mut other = server.v5("p").connect()?;
    other.publish(Publish::new("t", "other").qos(1))?;
    client.expect_publish("t", "other")?;
    Ok(())
}

pub(crate) fn no_local_is_about_the_client_alone(server: &Server) -> Step {
    // Without No Local one's own messages come; and it is kept while the Session is away.
    let dialling = server.v5("s").persistent();
    let mut client = dialling.connect()?;
    client.subscribe("plain", 1)?;
    client.subscribe_with(Subscribe::to("t", 1).no_local())?;
    client.publish(Publish::new("plain", "own").qos(1))?;
    client.expect_publish("plain", "own")?;
    client.disconnect()?;
    let mut client = dialling.connect()?;
    client.publish(Publish::new("t", "own").qos(1))?;
    client.publish(Publish::new("plain", "after").qos(1))?;
    client.expect_publish("plain", "after")?;
    drop(client);
    server.v5("s").connect().map(drop)
}

/// Whatever becomes of the packets, granted, refused or the end, others are answered meanwhile: several, so that
/// one of them shares its thread with the client that asks, where the server has some. More than any client
/// needs, and little enough for cases that run beside this one.
pub(crate) fn very_many_filters_hold_up_nobody(server: &Server) -> Step {
    const BYTES: usize = 1_000_000;
    let within = server.deadline() / 4;
    if let Some(version) = server.spoken([Version::V311, Version::V5]).pop() {
        let mut client = server.client(version, "a").connect()?;
        let others = (0..4).map(|n| server.helper(version, &format!("b{n}")).connect());
        let mut others = others.collect::<Step<Vec<Client>>>()?;
        let size = usize::try_from(client.maximum_packet_size()).unwrap_or(usize::MAX);
        let filter = client.full("t");
        let filters =
            vec![filter.as_str(); BYTES.min(size.saturating_sub(16)) / (filter.len() + 3)];
        let mut subscribe = Subscribe::default();
        for filter in &filters {
            subscribe = subscribe.and(filter, 0);
        }
        for bytes in [subscribe.encode(version, 1), unsubscribe(version, 2, &filters)] {
            let slowest = while_pinging(&mut others, || {
                // Too much for the server: it may have closed.
                client.send(&bytes).and_then(|()| client.answers()).is_ok()
            })?;
            expect(slowest < within, &format!("PINGRESP within {within:?}"), slowest)?;
        }
    }
    Ok(())
}

/// Pings as long as `busy` runs; the longest time that an answer took.
fn while_pinging(clients: &mut [Client], busy: impl FnOnce() -> bool + Send) -> Step<Duration> {
    thread::scope(|scope| {
        let running = scope.spawn(busy);
        let mut slowest = Duration::ZERO;
        while !running.is_finished() {
            for client in &mut *clients {
                let sent = Instant::now();
                client.ping()?;
                slowest = slowest.max(sent.elapsed());
            }
        }
        Ok(slowest)
    })
}

pub(crate) fn wildcard_misplaced_is_refused(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        for filter in ["a/#/b", "a/b#", "a/b+", "a/+b/c", ""] {
            let mut client = server.client(version, "s").connect()?;
            let mut body = vec![0, 9];
            if version == Version::V5 {
                body.push(0);
            }
            body.extend(text(filter));
            body.push(0);
            client.send(&packet(0x82, &body))?;
            client.expect_filter_refused()?;
        }
    }
    Ok(())
}

pub(crate) fn several_filters_are_a_sequence(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let mut publisher = server.client(version, "p").connect()?;
        let mut sub = server.client(version, "s").connect()?;
        let codes = sub.suback(Subscribe::to("t", 2).and("u", 1).and("t", 0))?;
        expect_eq("codes", &codes, &vec![2, 1, 0])?;
        // The later of the two holds, and there is one subscription to `t`.
        publisher.publish(Publish::new("t", "x").qos(2))?;
        expect_eq("QoS", &sub.expect_publish("t", "x")?.qos, &0)?;
        publisher.publish(Publish::new("u", "y").qos(2))?;
        expect_eq("QoS", &sub.expect_publish("u", "y")?.qos, &1)?;
        sub.expect_nothing_before(&mut publisher, "t", 0)?;
    }
    Ok(())
}

/// One filter in vain leaves the others as they would be alone. 3.1 has no code for a failure.
pub(crate) fn a_refused_filter_stands_alone(server: &Server) -> Step {
    let mut publisher = server.helper(Version::V5, "p").connect()?;
    for version in server.spoken([Version::V311, Version::V5]) {
        let mut sub = server.client(version, "s").connect()?;
        let id = sub.fresh_id();
        let filters = [sub.full("t"), "$share/name".to_owned(), sub.full("u")];
        let mut subscribe = Subscribe::default();
        for filter in &filters {
            subscribe = subscribe.and(filter, 1);
        }
        sub.send(&subscribe.encode(version, id))?;
        let seen = sub.answers()?;
        // To a server without shared subscriptions it is a filter like others; and it may be a fault.
        let Some(Packet::Suback { id: came, codes, .. }) = seen.first() else { continue };
        expect_eq("Packet Identifier", came, &id)?;
        expect_eq("codes", &[codes.first(), codes.last()], &[Some(&1), Some(&1)])?;
        expect_eq("number of codes", &codes.len(), &3)?;
        for topic in ["t", "u"] {
            publisher.publish(Publish::new(topic, "x").qos(1))?;
            sub.expect_publish(topic, "x")?;
        }
    }
    Ok(())
}

pub(crate) fn several_are_unsubscribed_at_once(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let mut publisher = server.client(version, "p").connect()?;
        let mut sub = server.client(version, "s").connect()?;
        sub.subscribe_with(Subscribe::to("a", 1).and("b/#", 1).and("m", 1))?;
        let codes = sub.unsubscribe_all(&["never", "a", "b/#"])?;
        let wanted = if version == Version::V5 { vec![0x11, 0, 0] } else { vec![] };
        expect_eq("UNSUBACK", &codes, &wanted)?;
        for topic in ["a", "b/c"] {
            publisher.publish(Publish::new(topic, "gone").qos(1))?;
        }
        sub.expect_nothing_before(&mut publisher, "m", 1)?;
    }
    Ok(())
}

pub(crate) fn unsubscribe_completes_what_was_started(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let mut publisher = server.client(version, "p").connect()?;
        let dialling = server.client(version, "s").persistent();
        let mut sub = dialling.connect()?;
        sub.subscribe("t", 2)?;
        publisher.publish(Publish::new("t", "two").qos(2))?;
        publisher.publish(Publish::new("t", "one").qos(1))?;
        let (two, one) = (sub.receive()?, sub.receive()?);
        sub.unsubscribe("t")?;
        sub.ack(Kind::Pubrec, two.id)?;
        sub.expect_ack(Kind::Pubrel, two.id)?;
        sub.cut();
        // What is open comes again, subscription or not.
        let mut sub = dialling.connect()?;
        sub.expect_ack(Kind::Pubrel, two.id)?;
        sub.ack(Kind::Pubcomp, two.id)?;
        let again = sub.expect_publish("t", "one")?;
        expect_eq("DUP and identifier", &(again.dup, again.id), &(true, one.id))?;
        drop(sub);
        server.client(version, "s").connect()?.disconnect()?;
    }
    Ok(())
}

pub(crate) fn replacing_loses_nothing(server: &Server) -> Step {
    for version in server.spoken(ALL) {
        let mut publisher = server.client(version, "p").connect()?;
        let mut sub = server.client(version, "s").connect()?;
        sub.subscribe("t", 1)?;
        for i in 0..30 {
            // Under way while the subscription is replaced.
            publisher.send_publish(Publish::new("t", i.to_string()).qos(1))?;
            sub.subscribe("t", 1 + i % 2)?;
        }
        for i in 0..30 {
            sub.expect_publish("t", &i.to_string())?;
        }
    }
    Ok(())
}
