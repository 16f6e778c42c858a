//! Plays a flow against a server and holds what comes against the model.

use std::collections::{BTreeMap, HashMap};

use super::{Copy, Flow, Message, Party, live_copies, replayed_copies};
use crate::client::Client;
use crate::codec::{Publish, Received, Subscribe, Value, Version, find, prop};
use crate::failure::{Failure, Step, expect, expect_eq};
use crate::target::Server;

/// Seconds that a message may have been on its way.
const SLACK: u32 = 20;

/// A party with its connection.
struct Actor {
    client: Client,
    /// Topic Aliases of the server on this connection.
    aliases: HashMap<u16, String>,
    /// Topic Aliases of its own, as far as it has used them.
    own_aliases: HashMap<u16, &'static str>,
    own: String,
}

/// Everything that was published, so that what comes can be held against it.
type Said<'a> = BTreeMap<&'a str, &'a Message>;

pub(crate) fn play(server: &Server, flow: &Flow) -> Step {
    let mut stage = Actor::enter(server, &flow.late, "stage", false)?;
    for message in &flow.before {
        say(&mut stage, message)?;
    }
    let before: Said<'_> = flow.before.iter().map(|m| (m.topic, m)).collect();
    let mut actors = Vec::new();
    for (i, party) in flow.parties.iter().enumerate() {
        let mut actor = Actor::enter(server, party, &format!("a{i}"), true)?;
        actor.subscribe(party)?;
        let came = actor.until_marker(&mut stage, "begin")?;
        replayed(flow, &before, party, &came).map_err(|e| e.within(format!("party {i}")))?;
        actors.push(actor);
    }
    for (actor, party) in actors.iter_mut().zip(&flow.parties) {
        if party.comes_back_as.is_some() {
            actor.leave()?;
        }
    }
    for message in &flow.live {
        say(&mut actors[message.from], message)?;
    }
    let mut came = Vec::new();
    for (i, (actor, party)) in actors.iter_mut().zip(&flow.parties).enumerate() {
        if let Some(version) = party.comes_back_as {
            actor.come_back(server, party, version, &format!("a{i}"))?;
        }
        came.push(actor.until_marker(&mut stage, "end")?);
    }
    for (i, party) in flow.parties.iter().enumerate() {
        plain(flow, party, i, &came[i]).map_err(|e| e.within(format!("party {i}")))?;
    }
    shared(flow, &came)?;
    let mut late = Actor::enter(server, &flow.late, "late", true)?;
    late.subscribe(&flow.late)?;
    let came = late.until_marker(&mut stage, "late")?;
    replayed(flow, &flow.retained(), &flow.late, &came).map_err(|e| e.within("the late party"))?;
    clear(server, flow, &mut stage)
}

/// Leaves nothing behind for the next flow.
fn clear(server: &Server, flow: &Flow, stage: &mut Actor) -> Step {
    for topic in flow.before.iter().chain(&flow.live).filter(|m| m.retain).map(|m| m.topic) {
        stage.client.publish(Publish::new(topic, "").qos(1).retain())?;
    }
    for (i, party) in flow.parties.iter().enumerate() {
        server.client(party.version, &format!("a{i}")).connect()?.disconnect()?;
    }
    Ok(())
}

fn say(actor: &mut Actor, message: &Message) -> Step {
    let mut publish = Publish::new(message.topic, &message.payload).qos(message.qos);
    publish.retain = message.retain;
    if actor.client.version() == Version::V5 {
        publish.props.extend(message.expiry.map(prop::message_expiry));
        if message.user {
            publish.props.push(prop::user("said", message.topic));
        }
        let maximum = match find(&actor.client.connack.props, 0x22) {
            Some(Value::Two(n)) => *n,
            _ => 0,
        };
        if let Some(alias) = message.alias.filter(|alias| *alias <= maximum) {
            publish.props.push(prop::topic_alias(alias));
            let before = actor.own_aliases.insert(alias, message.topic);
            if before == Some(message.topic) {
                publish.topic.clear();
            }
        }
    }
    let code = actor.client.publish(publish)?;
    expect([0x00, 0x10].contains(&code), "Reason Code 0x00 or 0x10", code)?;
    if message.qos == 0 {
        actor.client.ping()?; // now it has been handled
    }
    Ok(())
}

impl Actor {
    fn enter(server: &Server, party: &Party, id: &str, takes_part: bool) -> Step<Actor> {
        let mut dialling = server.client(party.version, id);
        if party.comes_back_as.is_some() {
            dialling = dialling.persistent();
        }
        if party.version == Version::V5 && party.alias_maximum > 0 {
            dialling = dialling.prop(prop::topic_alias_maximum(party.alias_maximum));
        }
        let own = format!("own/{id}");
        let client = dialling.connect()?;
        let mut actor = Actor { client, aliases: HashMap::new(), own_aliases: HashMap::new(), own };
        if takes_part {
            actor.client.subscribe(&actor.own, 1)?;
        }
        Ok(actor)
    }

    fn subscribe(&mut self, party: &Party) -> Step {
        for s in &party.subscriptions {
            let filter = match s.share {
                Some(share) => format!("$share/{share}/{}", s.filter),
                None => s.filter.to_owned(),
            };
            let mut options = s.qos | s.handling << 4;
            options |= u8::from(s.no_local) << 2 | u8::from(s.retain_as_published) << 3;
            let mut subscribe = Subscribe::to(&filter, options);
            subscribe.props.extend(s.id.map(prop::subscription_id));
            self.client.subscribe_with(subscribe)?;
        }
        Ok(())
    }

    fn leave(&mut self) -> Step {
        self.client.send(&[0xE0, 0])?;
        self.client.leave()
    }

    fn come_back(&mut self, server: &Server, party: &Party, version: Version, id: &str) -> Step {
        let mut dialling = server.client(version, id).persistent();
        if version == Version::V5 && party.alias_maximum > 0 {
            dialling = dialling.prop(prop::topic_alias_maximum(party.alias_maximum));
        }
        self.client = dialling.connect()?;
        self.aliases.clear();
        // 3.1 has no such flag.
        let present = version == Version::V31 || self.client.connack.session_present;
        expect(present, "Session Present", &self.client.connack)
    }

    /// All that came before a marker on a topic of its own.
    fn until_marker(&mut self, stage: &mut Actor, text: &str) -> Step<Vec<Received>> {
        stage.client.publish(Publish::new(&self.own, text).qos(1))?;
        let mut came = Vec::new();
        loop {
            let mut message = self.client.message()?;
            if let Some(Value::Two(alias)) = message.prop(0x23) {
                let alias = *alias;
                if message.topic.is_empty() {
                    let known = self.aliases.get(&alias).cloned();
                    let unknown = || Failure::new("a Topic Alias that was set", format!("{alias}"));
                    message.topic = known.ok_or_else(unknown)?;
                } else {
                    self.aliases.insert(alias, message.topic.clone());
                }
            }
            if message.topic == self.own {
                expect_eq("marker", &message.text(), &text)?;
                return Ok(came);
            }
            expect_eq("DUP", &message.dup, &false)?;
            came.push(message);
        }
    }
}

/// The copies of one message among what came.
fn copies_of<'a>(message: &Message, came: &'a [Received]) -> Vec<&'a Received> {
    let same = |m: &&Received| m.topic == message.topic && m.text() == message.payload;
    came.iter().filter(same).collect()
}

/// Whether these copies are the expected ones, in any order.
fn agree(came: &[&Received], expected: &[Copy]) -> bool {
    let mut left = came.to_vec();
    for copy in expected {
        let found = left.iter().position(|m| {
            m.qos == copy.qos
                && copy.retain.is_none_or(|retain| retain == m.retain)
                && m.subscription_ids() == copy.ids
        });
        match found {
            Some(i) => drop(left.remove(i)),
            None if copy.optional => {}
            None => return false,
        }
    }
    left.is_empty()
}

/// What a message brings with it besides its payload.
fn unaltered(message: &Message, from: Version, to: Version, came: &[&Received]) -> Step {
    let both = from == Version::V5 && to == Version::V5;
    for copy in came {
        let wanted = if both && message.user { vec![("said", message.topic)] } else { Vec::new() };
        expect_eq("User Properties", &copy.user(), &wanted)?;
        let expiry = message.expiry.filter(|_| both);
        let good = match (expiry, copy.prop(0x02)) {
            (None, None) => true,
            (Some(secs), Some(Value::Four(left))) => (secs - SLACK..=secs).contains(left),
            _ => false,
        };
        expect(good, &format!("Message Expiry Interval of {expiry:?}"), copy)?;
    }
    Ok(())
}

fn replayed(flow: &Flow, retained: &Said<'_>, party: &Party, came: &[Received]) -> Step {
    let mut explained = 0;
    for message in retained.values() {
        let copies = copies_of(message, came);
        let expected = replayed_copies(message, party);
        expect(agree(&copies, &expected), &format!("{message:?} as {expected:?}"), &copies)?;
        unaltered(message, flow.speaker(message), party.version, &copies)?;
        explained += copies.len();
    }
    expect_eq("retained messages", &came.len(), &explained)
}

fn plain(flow: &Flow, party: &Party, number: usize, came: &[Received]) -> Step {
    if party.subscriptions.iter().any(|s| s.share.is_some()) {
        return Ok(());
    }
    let mut explained = 0;
    for message in &flow.live {
        let copies = copies_of(message, came);
        let expected = live_copies(message, party, number);
        let good = expected.iter().any(|expected| agree(&copies, expected));
        expect(good, &format!("{message:?} as one of {expected:?}"), &copies)?;
        let to = party.comes_back_as.unwrap_or(party.version);
        unaltered(message, flow.speaker(message), to, &copies)?;
        explained += copies.len();
    }
    expect_eq("messages", &came.len(), &explained)?;
    in_order(flow, came)
}

/// MQTT-4.6.0-6: per topic and QoS, what was said first comes first.
fn in_order(flow: &Flow, came: &[Received]) -> Step {
    let mut last: BTreeMap<(&str, u8, u8), usize> = BTreeMap::new();
    for message in came {
        let position = flow.live.iter().position(|m| {
            m.topic == message.topic && m.payload.as_bytes() == message.payload.as_slice()
        });
        let Some(position) = position else { continue };
        let key = (flow.live[position].topic, flow.live[position].qos, message.qos);
        let before = last.insert(key, position).unwrap_or(0);
        expect(before <= position, "the order in which it was said", (before, message))?;
    }
    Ok(())
}

/// Of each shared subscription exactly one member gets the message, as it has subscribed (section 4.8.2).
fn shared(flow: &Flow, came: &[Vec<Received>]) -> Step {
    let mut groups: BTreeMap<(&str, &str), Vec<usize>> = BTreeMap::new();
    for (i, party) in flow.parties.iter().enumerate() {
        for s in &party.subscriptions {
            if let Some(share) = s.share {
                groups.entry((share, s.filter)).or_default().push(i);
            }
        }
    }
    for (group, members) in groups {
        for message in &flow.live {
            let mut copies = Vec::new();
            for &member in &members {
                let party = &flow.parties[member];
                let expected = live_copies(message, party, member);
                let got = copies_of(message, &came[member]);
                let good = got.is_empty() || expected.iter().any(|one| agree(&got, one));
                expect(good, &format!("{message:?} to party {member} as {expected:?}"), &got)?;
                let from = flow.speaker(message);
                unaltered(message, from, party.version, &got)?;
                copies.extend(got);
            }
            let matched = flow.parties[members[0]].subscriptions[0].matches(message.topic);
            let wanted = usize::from(matched);
            expect(copies.len() == wanted, &format!("{message:?} once to {group:?}"), &copies)?;
        }
    }
    Ok(())
}
