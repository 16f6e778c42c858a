//! Shared Subscriptions: section 4.8.2.

use crate::client::{Client, Dialling};
use crate::codec::{Kind, Publish, Received, Subscribe, Version, packet, prop, text};
use crate::failure::{Step, expect, expect_eq};
use crate::target::Server;

fn member(server: &Server, id: &str, qos: u8) -> Step<Client> {
    let mut client = server.v5(id).connect()?;
    client.subscribe("$share/group/t", qos)?;
    Ok(client)
}

/// Sends a marker to one client on a topic of its own and collects what came before it.
fn drain(client: &mut Client, publisher: &mut Client, own: &str) -> Step<Vec<String>> {
    client.subscribe(own, 1)?;
    publisher.publish(Publish::new(own, "marker").qos(1))?;
    let mut seen = Vec::new();
    loop {
        let message = client.message()?;
        if message.topic == own {
            return Ok(seen);
        }
        seen.push(message.text());
    }
}

pub(crate) fn each_message_goes_to_one(server: &Server) -> Step {
    let mut a = member(server, "a", 1)?;
    let mut b = member(server, "b", 1)?;
    let mut publisher = server.helper(Version::V311, "p").connect()?;
    for i in 10..30 {
        publisher.publish(Publish::new("t", i.to_string()).qos(1))?;
    }
    let mut all = drain(&mut a, &mut publisher, "own/a")?;
    all.extend(drain(&mut b, &mut publisher, "own/b")?);
    all.sort();
    let wanted: Vec<String> = (10..30).map(|i| i.to_string()).collect();
    expect_eq("messages of both members", &all, &wanted)
}

pub(crate) fn qos_of_the_subscription_holds(server: &Server) -> Step {
    let mut publisher = server.v5("p").connect()?;
    for granted in 0..=2 {
        let mut client = member(server, "a", granted)?;
        for sent in 0..=2 {
            publisher.publish(Publish::new("t", "x").qos(sent))?;
            expect_eq("QoS", &client.expect_publish("t", "x")?.qos, &granted.min(sent))?;
        }
    }
    Ok(())
}

pub(crate) fn group_and_plain_each_get_one(server: &Server) -> Step {
    let mut one = member(server, "a", 1)?;
    let mut other = server.v5("b").connect()?;
    other.subscribe("$share/other/t", 1)?;
    let mut plain = server.helper(Version::V311, "c").connect()?;
    plain.subscribe("t", 1)?;
    let mut publisher = server.v5("p").connect()?;
    publisher.publish(Publish::new("t", "x").qos(1))?;
    for client in [&mut one, &mut other, &mut plain] {
        client.expect_publish("t", "x")?;
        client.expect_quiet()?;
    }
    Ok(())
}

pub(crate) fn no_retained_messages(server: &Server) -> Step {
    let mut publisher = server.v5("p").connect()?;
    publisher.publish(Publish::new("t", "kept").qos(1).retain())?;
    let mut client = member(server, "a", 1)?;
    client.expect_nothing_before(&mut publisher, "t", 1)?;
    publisher.publish(Publish::new("t", "").qos(1).retain()).map(drop)
}

pub(crate) fn no_local_is_a_fault(server: &Server) -> Step {
    let mut client = server.v5("a").connect()?;
    let filter = client.full("$share/group/t");
    client.send(&Subscribe::to(&filter, 1).no_local().encode(Version::V5, 1))?;
    client.expect_fault(&[0x82])
}

pub(crate) fn malformed_names_are_refused(server: &Server) -> Step {
    for filter in ["$share//t", "$share/a+/t", "$share/a#/t", "$share/a", "$share/a/"] {
        let mut client = server.v5("a").connect()?;
        let mut body = vec![0, 9, 0];
        body.extend(text(filter));
        body.push(1);
        client.send(&packet(0x82, &body))?;
        client.expect_filter_refused()?;
    }
    Ok(())
}

pub(crate) fn unsubscribed_member_gets_nothing(server: &Server) -> Step {
    let mut a = member(server, "a", 1)?;
    let mut b = member(server, "b", 1)?;
    expect_eq("UNSUBACK", &a.unsubscribe("$share/group/t")?, &vec![0])?;
    let mut publisher = server.v5("p").connect()?;
    for _ in 0..4 {
        publisher.publish(Publish::new("t", "x").qos(1))?;
        b.expect_publish("t", "x")?;
    }
    expect(drain(&mut a, &mut publisher, "own/a")?.is_empty(), "nothing", "messages")
}

pub(crate) fn away_member_is_passed_over(server: &Server) -> Step {
    let away = server.v5("a").persistent();
    let mut a = away.connect()?;
    a.subscribe("$share/group/t", 1)?;
    let mut b = member(server, "b", 1)?;
    let mut publisher = server.v5("p").connect()?;
    // One message may be under way to `a`; it comes again when `a` does (MQTT-4.8.2-4).
    for _ in 0..2 {
        publisher.publish(Publish::new("t", "early").qos(1))?;
    }
    let seen = drain(&mut b, &mut publisher, "own/b")?.len();
    for _ in seen..2 {
        expect_eq("payload", &a.receive()?.text(), &"early")?;
    }
    a.disconnect()?;
    let mut a = away.connect()?;
    for _ in seen..2 {
        let again = a.receive()?;
        expect_eq("payload", &again.text(), &"early")?;
        a.ack(Kind::Puback, again.id)?;
    }
    a.disconnect()?;
    for _ in 0..4 {
        publisher.publish(Publish::new("t", "later").qos(1))?;
        if server.can().away_members_passed_over {
            b.expect_publish("t", "later")?;
        }
    }
    if !server.can().away_members_passed_over {
        let mut a = away.connect()?;
        let seen = drain(&mut a, &mut publisher, "own/a")?.len()
            + drain(&mut b, &mut publisher, "own/b")?.len();
        expect_eq("messages of both members", &seen, &4)?;
    }
    server.v5("a").connect().map(drop)
}

/// A QoS 2 message under way to one member, while another has joined.
fn under_way(server: &Server, first: &Dialling<'_>) -> Step<(Client, Received, Client, Client)> {
    let mut a = first.connect()?;
    a.subscribe("$share/group/t", 2)?;
    let mut publisher = server.v5("p").connect()?;
    publisher.publish(Publish::new("t", "x").qos(2))?;
    let sent = a.receive()?;
    let b = member(server, "b", 2)?;
    Ok((a, sent, b, publisher))
}

pub(crate) fn qos_2_is_completed_at_the_member(server: &Server) -> Step {
    let dialling = server.v5("a").persistent();
    let (a, sent, mut b, mut publisher) = under_way(server, &dialling)?;
    a.cut();
    let mut a = dialling.connect()?;
    let again = a.expect_publish("t", "x")?;
    expect_eq("Packet Identifier", &again.id, &sent.id)?;
    expect(drain(&mut b, &mut publisher, "own/b")?.is_empty(), "nothing", "messages")?;
    drop(a);
    server.v5("a").connect().map(drop)
}

pub(crate) fn qos_2_ends_with_the_members_session(server: &Server) -> Step {
    let dialling = server.v5("a"); // whose Session ends with the connection
    let (a, _, mut b, mut publisher) = under_way(server, &dialling)?;
    a.cut();
    let mut a = dialling.connect()?; // the server is done with the older one
    a.expect_quiet()?;
    expect(drain(&mut b, &mut publisher, "own/b")?.is_empty(), "nothing", "messages")
}

pub(crate) fn refused_by_a_member_goes_to_nobody_else(server: &Server) -> Step {
    for (qos, kind) in [(1, 0x40), (2, 0x50)] {
        let mut a = member(server, "a", qos)?;
        let mut publisher = server.v5("p").connect()?;
        publisher.publish(Publish::new("t", "x").qos(qos))?;
        let sent = a.receive()?;
        let mut b = member(server, "b", qos)?;
        let [high, low] = sent.id.to_be_bytes();
        a.send(&packet(kind, &[high, low, 0x80]))?;
        a.expect_quiet()?;
        a.disconnect()?;
        expect(drain(&mut b, &mut publisher, "own/b")?.is_empty(), "nothing", "messages")?;
    }
    Ok(())
}

pub(crate) fn identifiers_of_group_and_plain(server: &Server) -> Step {
    let mut publisher = server.helper(Version::V311, "p").connect()?;
    let mut client = server.v5("a").connect()?;
    client.subscribe_with(Subscribe::to("$share/group/t", 1).prop(prop::subscription_id(1)))?;
    client.subscribe_with(Subscribe::to("t", 1).prop(prop::subscription_id(2)))?;
    client.subscribe("own", 1)?;
    publisher.publish(Publish::new("t", "x").qos(1))?;
    publisher.publish(Publish::new("own", "marker").qos(1))?;
    // In one copy or in two.
    let mut ids = Vec::new();
    let mut next = client.message()?;
    while next.topic == "t" {
        ids.extend(next.subscription_ids());
        next = client.message()?;
    }
    ids.sort_unstable();
    expect_eq("ids", &ids, &vec![1, 2])
}
