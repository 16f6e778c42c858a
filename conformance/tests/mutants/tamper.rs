//! What a mutant is, and the ways to tamper with packets.

use hrotti_conformance::codec::{Property, Publish};

use super::link::{Flaw, Link, Tamper, Way};
use super::packet::Raw;
use Way::{ToBroker, ToClient};

/// A broken broker.
pub(crate) struct Mutant {
    pub(crate) name: &'static str,
    /// `chapter::name` of the cases that must fail.
    pub(crate) caught_by: &'static [&'static str],
    pub(crate) tamper: Tamper,
    pub(crate) flaw: Flaw,
}

pub(crate) fn mutant(
    name: &'static str,
    caught_by: &'static [&'static str],
    tamper: Tamper,
) -> Mutant {
    Mutant { name, caught_by, tamper, flaw: Flaw::None }
}

pub(crate) fn flawed(name: &'static str, caught_by: &'static [&'static str], flaw: Flaw) -> Mutant {
    Mutant { name, caught_by, tamper: pass, flaw }
}

/// No mutation.
#[allow(clippy::needless_pass_by_value)] // it is a `Tamper`
pub(crate) fn pass(link: &mut Link, way: Way, packet: Raw) {
    link.send(way, &packet);
}

/// Loses packets of one type on their way to the client.
pub(crate) fn lose(link: &mut Link, way: Way, packet: &Raw, kind: u8) {
    if way != ToClient || packet.kind() != kind {
        link.send(way, packet);
    }
}

/// Another Packet Identifier in packets of one type on their way to the client.
pub(crate) fn misname(link: &mut Link, way: Way, mut packet: Raw, kind: u8) {
    if way == ToClient && packet.kind() == kind {
        packet.set_id(packet.id() + 1);
    }
    link.send(way, &packet);
}

/// Changes each PUBLISH that goes this way.
#[allow(clippy::needless_pass_by_value)] // as all that a `Tamper` hands its packet to
pub(crate) fn publish(
    link: &mut Link,
    way: Way,
    going: Way,
    packet: Raw,
    edit: impl FnOnce(&mut Publish),
) {
    let v5 = link.v5();
    match packet.publish(v5) {
        Some(mut publish) if way == going => {
            edit(&mut publish);
            link.send(way, &Raw::from_publish(&publish, v5));
        }
        _ => link.send(way, &packet),
    }
}

/// Changes each packet of one type that goes this way.
pub(crate) fn change(
    link: &mut Link,
    way: Way,
    mut packet: Raw,
    (going, kind): (Way, u8),
    edit: impl FnOnce(&mut Raw),
) {
    if way == going && packet.kind() == kind {
        edit(&mut packet);
    }
    link.send(way, &packet);
}

/// Changes filters and options of each SUBSCRIBE.
pub(crate) fn subscribe(
    link: &mut Link,
    way: Way,
    packet: Raw,
    edit: impl FnMut(&mut String, &mut u8),
) {
    let v5 = link.v5();
    change(link, way, packet, (ToBroker, 8), |p| p.edit_filters(v5, edit));
}

/// Changes the Connect Flags.
pub(crate) fn connect_flags(link: &mut Link, way: Way, packet: Raw, edit: impl FnOnce(&mut u8)) {
    change(link, way, packet, (ToBroker, 1), |p| {
        if let Some(flags) = p.flags() {
            edit(flags);
        }
    });
}

/// Changes the properties of CONNECT.
pub(crate) fn connect_props(
    link: &mut Link,
    way: Way,
    packet: Raw,
    edit: impl FnOnce(&mut Vec<Property>),
) {
    change(link, way, packet, (ToBroker, 1), |p| p.connect_props(edit));
}

/// Changes the properties of CONNACK, where it has any.
pub(crate) fn connack_props(
    link: &mut Link,
    way: Way,
    packet: Raw,
    edit: impl FnOnce(&mut Vec<Property>),
) {
    let v5 = link.v5();
    change(link, way, packet, (ToClient, 2), |p| {
        if v5 {
            p.connack_props(edit);
        }
    });
}

/// Adds what the broker knows nothing of to CONNACK.
pub(crate) fn announce(link: &mut Link, way: Way, packet: Raw, property: Property) {
    connack_props(link, way, packet, |props| props.push(property));
}
