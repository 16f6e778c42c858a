//! The mutants: what each does wrong, and which cases must notice.

use hrotti_conformance::codec::{Property, Publish, Value, prop};

use super::link::{Flaw, Link, Tamper, Way};
use super::packet::{Raw, number};
use Way::{ToBroker, ToClient};

/// A broken broker.
pub(crate) struct Mutant {
    pub(crate) name: &'static str,
    /// `chapter::name` of the cases that must fail.
    pub(crate) caught_by: &'static [&'static str],
    pub(crate) tamper: Tamper,
    pub(crate) flaw: Flaw,
}

fn mutant(name: &'static str, caught_by: &'static [&'static str], tamper: Tamper) -> Mutant {
    Mutant { name, caught_by, tamper, flaw: Flaw::None }
}

fn flawed(name: &'static str, caught_by: &'static [&'static str], flaw: Flaw) -> Mutant {
    Mutant { name, caught_by, tamper: pass, flaw }
}

/// No mutation.
#[allow(clippy::needless_pass_by_value)] // it is a `Tamper`
pub(crate) fn pass(link: &mut Link, way: Way, packet: Raw) {
    link.send(way, &packet);
}

pub(crate) fn all() -> Vec<Mutant> {
    [
        acknowledgements(),
        publish_flags(),
        deliveries(),
        properties(),
        subscriptions(),
        options(),
        connects(),
        sessions(),
        wills(),
        limits(),
        faults(),
        streams(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Loses packets of one type on their way to the client.
fn lose(link: &mut Link, way: Way, packet: &Raw, kind: u8) {
    if way != ToClient || packet.kind() != kind {
        link.send(way, packet);
    }
}

/// Another Packet Identifier in packets of one type on their way to the client.
fn misname(link: &mut Link, way: Way, mut packet: Raw, kind: u8) {
    if way == ToClient && packet.kind() == kind {
        packet.set_id(packet.id() + 1);
    }
    link.send(way, &packet);
}

/// Changes each PUBLISH that goes this way.
#[allow(clippy::needless_pass_by_value)] // as all that a `Tamper` hands its packet to
fn publish(link: &mut Link, way: Way, going: Way, packet: Raw, edit: impl FnOnce(&mut Publish)) {
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
fn change(
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
fn subscribe(link: &mut Link, way: Way, packet: Raw, edit: impl FnMut(&mut String, &mut u8)) {
    let v5 = link.v5();
    change(link, way, packet, (ToBroker, 8), |p| p.edit_filters(v5, edit));
}

/// Changes the Connect Flags.
fn connect_flags(link: &mut Link, way: Way, packet: Raw, edit: impl FnOnce(&mut u8)) {
    change(link, way, packet, (ToBroker, 1), |p| {
        if let Some(flags) = p.flags() {
            edit(flags);
        }
    });
}

/// Changes the properties of CONNECT.
fn connect_props(link: &mut Link, way: Way, packet: Raw, edit: impl FnOnce(&mut Vec<Property>)) {
    change(link, way, packet, (ToBroker, 1), |p| p.connect_props(edit));
}

fn acknowledgements() -> Vec<Mutant> {
    vec![
        mutant("PUBACK is lost", &["publish::qos_1_delivery"], |l, w, p| lose(l, w, &p, 4)),
        mutant("PUBREC is lost", &["publish::qos_2_delivery"], |l, w, p| lose(l, w, &p, 5)),
        mutant("PUBREL is lost", &["publish::qos_2_delivery"], |l, w, p| lose(l, w, &p, 6)),
        mutant("PUBCOMP is lost", &["publish::qos_2_delivery"], |l, w, p| lose(l, w, &p, 7)),
        mutant("PUBACK for another", &["publish::qos_1_delivery"], |l, w, p| misname(l, w, p, 4)),
        mutant("PUBREC for another", &["publish::qos_2_delivery"], |l, w, p| misname(l, w, p, 5)),
        mutant("PUBREL for another", &["publish::qos_2_delivery"], |l, w, p| misname(l, w, p, 6)),
        mutant(
            "PUBCOMP for another",
            &["publish::qos_2_delivery", "publish::pubrel_of_unknown_id_is_completed"],
            |l, w, p| misname(l, w, p, 7),
        ),
        mutant(
            "PUBACK with a failure",
            &["publish::nobody_subscribed_is_acknowledged"],
            |l, w, p| {
                let v5 = l.v5();
                change(l, w, p, (ToClient, 4), |p| {
                    if v5 {
                        p.body = vec![p.body[0], p.body[1], 0x80];
                    }
                });
            },
        ),
        mutant("PINGREQ is swallowed", &["flow::ping_is_answered"], |l, w, p| {
            lose(l, w, &p, 13);
        }),
    ]
}

fn publish_flags() -> Vec<Mutant> {
    vec![
        mutant("DUP on a first delivery", &["publish::dup_is_not_propagated"], |l, w, p| {
            publish(l, w, ToClient, p, |m| m.dup = m.qos > 0);
        }),
        mutant(
            "no DUP on a second delivery",
            &[
                "session::unacknowledged_qos_1_is_resent_with_dup",
                "session::unacknowledged_qos_2_is_resent_with_dup",
            ],
            |l, w, p| publish(l, w, ToClient, p, |m| m.dup = false),
        ),
        mutant(
            "RETAIN is always 0",
            &["retained::sent_to_a_new_subscription", "flows::retained"],
            |l, w, p| publish(l, w, ToClient, p, |m| m.retain = false),
        ),
        mutant(
            "RETAIN is always 1",
            &["retained::flag_is_cleared_for_live_subscribers", "flows::live"],
            |l, w, p| publish(l, w, ToClient, p, |m| m.retain = true),
        ),
        mutant(
            "nothing is retained",
            &["retained::replaced_by_a_newer", "flows::retained"],
            |l, w, p| {
                publish(l, w, ToBroker, p, |m| m.retain = false);
            },
        ),
        mutant("everything is retained", &["retained::not_stored_without_retain"], |l, w, p| {
            publish(l, w, ToBroker, p, |m| m.retain = true);
        }),
        mutant(
            "an empty retained message clears nothing",
            &["retained::cleared_by_an_empty_payload", "flows::retained"],
            |l, w, p| {
                publish(l, w, ToBroker, p, |m| {
                    if m.retain && m.payload.is_empty() {
                        m.payload = b" ".to_vec();
                    }
                });
            },
        ),
        mutant(
            "QoS falls to 0",
            &["publish::qos_1_delivery", "publish::qos_2_delivery", "flows::live"],
            |l, w, p| publish(l, w, ToClient, p, |m| m.qos = 0),
        ),
        mutant(
            "QoS of the publisher, whatever was granted",
            &[
                "publish::delivered_at_the_lower_qos",
                "shared::qos_of_the_subscription_holds",
                "flows::live",
            ],
            |l, w, mut p| {
                if w == ToBroker && p.kind() == 8 {
                    let granted = p.last().map_or(0, |options| *options & 3);
                    l.count = usize::from(granted);
                    let v5 = l.v5();
                    p.edit_filters(v5, |_, options| *options |= 2);
                    p.edit_filters(v5, |_, options| *options &= !1);
                }
                let granted = l.count.to_le_bytes()[0];
                change(l, w, p, (ToClient, 9), |p| p.last().into_iter().for_each(|c| *c = granted));
            },
        ),
    ]
}

fn deliveries() -> Vec<Mutant> {
    vec![
        mutant(
            "delivered twice",
            &["publish::qos_0_delivery", "publish::qos_1_delivery", "flows::live", "flows::shared"],
            |l, w, p| {
                if w == ToClient && p.kind() == 3 {
                    l.send(w, &p);
                }
                l.send(w, &p);
            },
        ),
        mutant(
            "one of a hundred is lost",
            &["flow::prompt_reader_loses_nothing_at_qos_0"],
            |l, w, p| {
                l.count += usize::from(w == ToClient && p.kind() == 3);
                if l.count % 100 != 99 {
                    l.send(w, &p);
                }
            },
        ),
        mutant(
            "two at a time change places",
            &["publish::order_is_kept_per_qos", "session::resent_in_order"],
            |l, w, p| {
                if w != ToClient || p.kind() != 3 {
                    return l.send(w, &p);
                }
                match l.held.take() {
                    None => l.held = Some(p),
                    Some(earlier) => {
                        l.send(w, &p);
                        l.send(w, &earlier);
                    }
                }
            },
        ),
        mutant(
            "QoS 2 sent again is delivered again",
            &[
                "publish::qos_2_resent_is_delivered_once",
                "session::incoming_qos_2_survives_reconnect",
            ],
            |l, w, mut p| {
                if w == ToClient && p.kind() == 5 && p.id() > 1000 {
                    p.set_id(p.id() - 1000);
                }
                publish(l, w, ToBroker, p, |m| {
                    if m.qos == 2 && m.dup {
                        m.id += 1000;
                    }
                });
            },
        ),
        mutant("PUBREL is not sent again", &["session::pubrel_is_resent"], |l, w, p| {
            if !(w == ToClient && p.kind() == 6 && l.resumed) {
                l.send(w, &p);
            }
        }),
        mutant(
            "sent again with another Packet Identifier",
            &["session::unacknowledged_qos_1_is_resent_with_dup"],
            |l, w, p| publish(l, w, ToClient, p, |m| m.id += if m.dup { 1000 } else { 0 }),
        ),
        mutant("a long payload is cut", &["stream::large_payload_arrives_whole"], |l, w, p| {
            publish(l, w, ToClient, p, |m| m.payload.truncate(65_536));
        }),
        mutant(
            "an empty payload becomes a blank",
            &["publish::empty_payload_is_delivered"],
            |l, w, p| {
                publish(l, w, ToClient, p, |m| {
                    if m.payload.is_empty() {
                        m.payload.push(b' ');
                    }
                });
            },
        ),
        mutant(
            "a Topic Alias outlives its connection",
            &["alias::does_not_outlive_the_connection"],
            |l, w, p| {
                if w == ToBroker
                    && l.v5()
                    && let Some(mut m) = p.publish(true)
                {
                    if !m.topic.is_empty() {
                        l.count = 1;
                        l.shared().push(p.clone());
                    } else if l.count == 0 {
                        let set = l.shared().last().and_then(|set| set.publish(true));
                        m.topic = set.map(|set| set.topic).unwrap_or_default();
                        return l.send(w, &Raw::from_publish(&m, true));
                    }
                }
                l.send(w, &p);
            },
        ),
    ]
}

fn properties() -> Vec<Mutant> {
    vec![
        mutant(
            "no Subscription Identifiers",
            &["subscribe::identifiers_come_back", "flows::live"],
            |l, w, p| publish(l, w, ToClient, p, |m| m.props.retain(|p| p.0 != 0x0B)),
        ),
        mutant(
            "one Subscription Identifier of several",
            &["subscribe::identifiers_come_back"],
            |l, w, p| {
                publish(l, w, ToClient, p, |m| {
                    let last = m.props.iter().rposition(|p| p.0 == 0x0B);
                    let mut i = 0;
                    m.props.retain(|p| {
                        i += 1;
                        p.0 != 0x0B || Some(i - 1) == last
                    });
                });
            },
        ),
        mutant(
            "no User Properties",
            &["publish::properties_arrive_unaltered_and_in_order", "flows::live"],
            |l, w, p| publish(l, w, ToClient, p, |m| m.props.retain(|p| p.0 != 0x26)),
        ),
        mutant(
            "User Properties in another order",
            &["publish::properties_arrive_unaltered_and_in_order", "rumqttc::user_properties"],
            |l, w, p| publish(l, w, ToClient, p, |m| m.props.reverse()),
        ),
        mutant(
            "no Correlation Data",
            &["publish::properties_arrive_unaltered_and_in_order"],
            |l, w, p| publish(l, w, ToClient, p, |m| m.props.retain(|p| p.0 != 0x09)),
        ),
        mutant(
            "Message Expiry is not counted down",
            &["flow::message_expiry_counts_down", "retained::expires", "flows::live"],
            |l, w, p| {
                publish(l, w, ToClient, p, |m| {
                    if let Some(secs) = number(&mut m.props, 0x02) {
                        *secs = Value::Four(60);
                    }
                });
            },
        ),
        mutant(
            "nothing ever expires",
            &["flow::message_expires_in_the_queue", "retained::expires", "flows::live"],
            |l, w, p| publish(l, w, ToBroker, p, |m| m.props.retain(|p| p.0 != 0x02)),
        ),
        mutant(
            "Topic Aliases above the maximum",
            &["alias::within_the_clients_maximum", "alias::none_without_permission"],
            |l, w, p| {
                connect_props(l, w, p, |props| {
                    props.retain(|p| p.0 != 0x22);
                    props.push(prop::topic_alias_maximum(10));
                });
            },
        ),
        mutant(
            "the publisher's Topic Alias is passed on",
            &["alias::stands_for_a_topic"],
            |l, w, p| {
                let v5 = l.v5();
                publish(l, w, ToClient, p, |m| {
                    if v5 && !m.props.iter().any(|p| p.0 == 0x23) {
                        m.props.push(prop::topic_alias(1));
                    }
                });
            },
        ),
    ]
}

fn subscriptions() -> Vec<Mutant> {
    vec![
        mutant(
            "SUBACK for another",
            &["subscribe::suback_answers_each_filter_in_order"],
            |l, w, p| misname(l, w, p, 9),
        ),
        mutant(
            "SUBACK in another order",
            &["subscribe::suback_answers_each_filter_in_order"],
            |l, w, p| {
                let head = if l.v5() { 3 } else { 2 };
                change(l, w, p, (ToClient, 9), |p| p.body[head..].reverse());
            },
        ),
        mutant(
            "SUBACK grants QoS 2 alone",
            &["subscribe::suback_answers_each_filter_in_order"],
            |l, w, p| change(l, w, p, (ToClient, 9), |p| p.last().into_iter().for_each(|c| *c = 2)),
        ),
        mutant("UNSUBACK for another", &["subscribe::unsubscribe_stops_delivery"], |l, w, p| {
            misname(l, w, p, 11);
        }),
        mutant(
            "UNSUBACK is always 0",
            &["subscribe::unsubscribe_of_nothing_is_answered"],
            |l, w, p| {
                change(l, w, p, (ToClient, 11), |p| p.last().into_iter().for_each(|c| *c = 0));
            },
        ),
        mutant(
            "UNSUBSCRIBE does nothing",
            &["subscribe::unsubscribe_stops_delivery", "rumqttc::unsubscribed"],
            |l, w, mut p| {
                let v5 = l.v5();
                if v5 && w == ToClient && p.kind() == 11 {
                    p.last().into_iter().for_each(|code| *code = 0);
                }
                change(l, w, p, (ToBroker, 10), |p| p.spoil_filters(v5));
            },
        ),
        mutant(
            "a single-level wildcard matches many levels",
            &["subscribe::wildcards_match", "flows::live"],
            |l, w, p| {
                subscribe(l, w, p, |filter, _| {
                    if filter.ends_with("/+") {
                        filter.pop();
                        filter.push('#');
                    }
                });
            },
        ),
        mutant("case is folded", &["subscribe::no_normalization"], |l, w, mut p| {
            if w == ToBroker && p.kind() == 8 {
                let v5 = l.v5();
                p.edit_filters(v5, |filter, _| *filter = filter.to_lowercase());
            }
            publish(l, w, ToBroker, p, |m| m.topic = m.topic.to_lowercase());
        }),
        mutant(
            "a shared subscription is a plain one",
            &["shared::each_message_goes_to_one", "shared::no_retained_messages", "flows::shared"],
            |l, w, p| {
                subscribe(l, w, p, |filter, _| {
                    if filter.starts_with("$share/") {
                        *filter = filter.splitn(3, '/').last().unwrap_or_default().to_owned();
                    }
                });
            },
        ),
    ]
}

fn options() -> Vec<Mutant> {
    vec![
        mutant(
            "No Local is ignored",
            &["subscribe::no_local_withholds_ones_own", "flows::live"],
            |l, w, p| {
                let v5 = l.v5();
                subscribe(l, w, p, |_, options| *options &= if v5 { !4 } else { !0 });
            },
        ),
        mutant(
            "No Local for all",
            &["subscribe::no_local_is_about_the_client_alone", "flows::live"],
            |l, w, p| {
                let v5 = l.v5();
                subscribe(l, w, p, |filter, options| {
                    *options |= if v5 && !filter.starts_with("$share") { 4 } else { 0 };
                });
            },
        ),
        mutant(
            "Retain As Published is ignored",
            &["retained::retain_as_published", "flows::live"],
            |l, w, p| {
                let v5 = l.v5();
                subscribe(l, w, p, |_, options| *options &= if v5 { !8 } else { !0 });
            },
        ),
        mutant(
            "Retain Handling is always 0",
            &[
                "retained::handling_2_never",
                "retained::handling_1_only_for_new_subscriptions",
                "flows::retained",
            ],
            |l, w, p| {
                let v5 = l.v5();
                subscribe(l, w, p, |_, options| *options &= if v5 { !0x30 } else { !0 });
            },
        ),
        mutant(
            "Retain Handling 0 is taken for 1",
            &["retained::sent_again_for_the_same_filter"],
            |l, w, p| {
                let v5 = l.v5();
                subscribe(l, w, p, |_, options| {
                    *options |= if v5 && *options & 0x30 == 0 { 0x10 } else { 0 };
                });
            },
        ),
        mutant(
            "Retain Handling is always 2",
            &["retained::sent_to_a_new_subscription", "flows::retained"],
            |l, w, p| {
                let v5 = l.v5();
                subscribe(l, w, p, |_, options| {
                    *options = if v5 { *options & !0x30 | 0x20 } else { *options };
                });
            },
        ),
    ]
}

fn connects() -> Vec<Mutant> {
    vec![
        mutant(
            "Session Present is always 1",
            &["connect::clean_start_has_no_session"],
            |l, w, p| {
                change(l, w, p, (ToClient, 2), |p| p.body[0] = u8::from(p.body[1] == 0));
            },
        ),
        mutant(
            "Session Present is always 0",
            &["connect::session_present_after_reconnect", "rumqttc::persistent_session"],
            |l, w, p| change(l, w, p, (ToClient, 2), |p| p.body[0] = 0),
        ),
        mutant(
            "Session Present with a refusal",
            &["connect::empty_client_id_in_31_is_refused"],
            |l, w, p| {
                change(l, w, p, (ToClient, 2), |p| p.body[0] = u8::from(p.body[1] != 0));
            },
        ),
        mutant(
            "CONNACK refuses with another code",
            &[
                "connect::empty_client_id_in_31_is_refused",
                "connect::unknown_authentication_method",
            ],
            |l, w, p| {
                change(l, w, p, (ToClient, 2), |p| {
                    p.body[1] = if p.body[1] == 0 { 0 } else { 5 };
                });
            },
        ),
        mutant("CONNACK is the second packet", &["connect::connack_comes_first"], |l, w, p| {
            if w == ToClient && p.kind() == 2 {
                l.send(w, &Raw::new(0xD0, Vec::new()));
            }
            l.send(w, &p);
        }),
        mutant("CONNACK is lost", &["connect::connack_comes_first"], |l, w, p| lose(l, w, &p, 2)),
        mutant(
            "no Assigned Client Identifier",
            &["connect::empty_client_id_in_5_is_assigned"],
            |l, w, p| {
                let v5 = l.v5();
                change(l, w, p, (ToClient, 2), |p| {
                    if v5 {
                        p.connack_props(|props| props.retain(|p| p.0 != 0x12));
                    }
                });
            },
        ),
        mutant(
            "an Authentication Method is overlooked",
            &["connect::unknown_authentication_method"],
            |l, w, p| connect_props(l, w, p, |props| props.retain(|p| p.0 != 0x15)),
        ),
        mutant(
            "a second CONNECT is overlooked",
            &["connect::second_connect_is_a_fault"],
            |l, w, p| {
                l.count += usize::from(p.kind() == 1);
                if p.kind() != 1 || l.count == 1 {
                    l.send(w, &p);
                }
            },
        ),
        mutant("a takeover without a word", &["connect::takeover_ends_the_older"], |l, w, p| {
            lose(l, w, &p, 14);
        }),
        mutant(
            "a takeover for another reason",
            &["connect::takeover_ends_the_older"],
            |l, w, p| {
                change(l, w, p, (ToClient, 14), |p| p.body[0] = 0x80);
            },
        ),
    ]
}

fn sessions() -> Vec<Mutant> {
    vec![
        mutant(
            "Clean Start is ignored",
            &["session::clean_session_is_discarded", "connect::clean_start_has_no_session"],
            |l, w, p| connect_flags(l, w, p, |flags| *flags &= !2),
        ),
        mutant(
            "every start is clean",
            &[
                "session::persistent_session_queues",
                "connect::session_present_after_reconnect",
                "flows::away",
            ],
            |l, w, p| connect_flags(l, w, p, |flags| *flags |= 2),
        ),
        mutant("a Session never expires", &["session::expiry_runs_out"], |l, w, p| {
            connect_props(l, w, p, |props| {
                if let Some(secs) = number(props, 0x11) {
                    *secs = Value::Four(u32::MAX);
                }
            });
        }),
        mutant(
            "a Session outlives a connection that named no expiry",
            &["session::expiry_zero_ends_with_the_connection"],
            |l, w, p| {
                connect_props(l, w, p, |props| {
                    props.retain(|p| p.0 != 0x11);
                    props.push(prop::session_expiry(60));
                });
            },
        ),
        mutant(
            "Session Expiry is ignored",
            &["session::persistent_session_queues", "flows::away"],
            |l, w, p| connect_props(l, w, p, |props| props.retain(|p| p.0 != 0x11)),
        ),
        mutant(
            "Session Expiry in DISCONNECT is ignored",
            &["session::expiry_is_changed_by_disconnect"],
            |l, w, p| {
                change(l, w, p, (ToBroker, 14), |p| p.body.clear());
            },
        ),
    ]
}

fn wills() -> Vec<Mutant> {
    vec![
        mutant(
            "no Will when the connection breaks",
            &[
                "will::sent_when_the_connection_breaks",
                "stream::reset_ends_one_connection",
                "stream::end_in_one_direction",
            ],
            |l, w, p| {
                if w == ToBroker && p.is_end() {
                    l.send(w, &Raw::new(0xE0, Vec::new()));
                }
                l.send(w, &p);
            },
        ),
        mutant("a Will in spite of DISCONNECT", &["will::discarded_by_disconnect"], |l, w, p| {
            let fault = Raw::new(0xF6, Vec::new());
            l.send(w, if w == ToBroker && p.kind() == 14 { &fault } else { &p });
        }),
        mutant(
            "no Will with DISCONNECT 0x04",
            &["will::sent_by_disconnect_with_will"],
            |l, w, p| change(l, w, p, (ToBroker, 14), |p| p.body.clear()),
        ),
        mutant("Will Retain is ignored", &["will::retained_will"], |l, w, p| {
            connect_flags(l, w, p, |flags| *flags &= !0x20);
        }),
        mutant("Will QoS is ignored", &["will::every_qos"], |l, w, p| {
            connect_flags(l, w, p, |flags| *flags &= !0x18);
        }),
        mutant("Will Delay is ignored", &["will::delayed"], |l, w, p| {
            change(l, w, p, (ToBroker, 1), |p| p.will_props(|props| props.retain(|p| p.0 != 0x18)));
        }),
        mutant(
            "a Will without its properties",
            &["will::properties_are_sent", "publish::properties_arrive_unaltered_and_in_order"],
            |l, w, p| change(l, w, p, (ToBroker, 1), |p| p.will_props(Vec::clear)),
        ),
    ]
}

fn limits() -> Vec<Mutant> {
    vec![
        mutant("Keep Alive is ignored", &["flow::keep_alive_runs_out"], |l, w, p| {
            change(l, w, p, (ToBroker, 1), Raw::no_keep_alive);
        }),
        mutant(
            "Receive Maximum is ignored",
            &[
                "flow::receive_maximum_of_the_client",
                "flow::receive_maximum_counts_qos_2_until_pubcomp",
            ],
            |l, w, p| connect_props(l, w, p, |props| props.retain(|p| p.0 != 0x21)),
        ),
        mutant(
            "Maximum Packet Size is ignored",
            &["flow::maximum_packet_size_of_the_client"],
            |l, w, p| connect_props(l, w, p, |props| props.retain(|p| p.0 != 0x27)),
        ),
        mutant(
            "another Receive Maximum than the one in CONNACK",
            &["flow::receive_maximum_of_the_server"],
            |l, w, p| {
                let v5 = l.v5();
                change(l, w, p, (ToClient, 2), |p| {
                    if v5 {
                        p.connack_props(|props| {
                            if let Some(n) = number(props, 0x21) {
                                *n = Value::Two(2000);
                            }
                        });
                    }
                });
            },
        ),
    ]
}

fn faults() -> Vec<Mutant> {
    vec![
        mutant("reserved flags are overlooked", &["malformed::reserved_flags"], |l, w, mut p| {
            if w == ToBroker && matches!(p.kind(), 6 | 8 | 10) {
                p.first = p.first & 0xF0 | 2;
            }
            l.send(w, &p);
        }),
        mutant("QoS 3 is taken for 2", &["malformed::qos_3"], |l, w, mut p| {
            if w == ToBroker && p.kind() == 3 && p.qos() == 3 {
                p.first &= !2;
            }
            l.send(w, &p);
        }),
        mutant(
            "Packet Identifier 0 is taken for 1",
            &["malformed::packet_id_zero"],
            |l, w, mut p| {
                if w == ToBroker && p.kind() == 8 && p.id() == 0 {
                    p.set_id(1);
                }
                l.send(w, &p);
            },
        ),
        mutant(
            "packets that only servers send are overlooked",
            &["malformed::server_packets_from_a_client"],
            |l, w, p| {
                if w == ToClient || !matches!(p.kind(), 2 | 9 | 11 | 13) {
                    l.send(w, &p);
                }
            },
        ),
        mutant(
            "wildcards are allowed in Topic Names",
            &["malformed::topic_with_wildcard"],
            |l, w, p| {
                publish(l, w, ToBroker, p, |m| m.topic = m.topic.replace(['+', '#'], "x"));
            },
        ),
        mutant(
            "another reason for a Protocol Error",
            &["connect::second_connect_is_a_fault", "malformed::property_twice"],
            |l, w, p| change(l, w, p, (ToClient, 14), |p| p.body[0] = 0x83),
        ),
        mutant(
            "an unknown level is taken for the latest",
            &["connect::unknown_level_is_refused"],
            |l, w, p| {
                change(l, w, p, (ToBroker, 1), |p| {
                    if p.level() > 5 {
                        p.body[6] = 5;
                    }
                });
            },
        ),
    ]
}

/// Transports that are none.
fn streams() -> Vec<Mutant> {
    vec![
        flawed(
            "close drops what was not flushed",
            &["stream::close_implies_flush"],
            Flaw::CloseDropsUnsent,
        ),
        flawed(
            "close is not told to the peer",
            &["stream::close_implies_flush"],
            Flaw::CloseIsNotTold,
        ),
        flawed("the peer's end is not seen", &["stream::end_in_one_direction"], Flaw::EndIsNotSeen),
        flawed(
            "a read loses a byte",
            &["stream::large_payload_arrives_whole", "stream::every_size_arrives_whole"],
            Flaw::ReadsOneByteLess,
        ),
        flawed(
            "a large write loses a byte",
            &["stream::large_payload_arrives_whole", "stream::every_size_arrives_whole"],
            Flaw::LargeWriteLosesBytes,
        ),
        flawed(
            "accept waits for the peer",
            &["stream::hung_set_up_holds_up_nobody"],
            Flaw::AcceptWaitsForThePeer,
        ),
        flawed(
            "one packet for each read",
            &["stream::many_packets_in_one_write", "stream::split_in_two_at_every_border"],
            Flaw::OnePacketForEachRead,
        ),
    ]
}
