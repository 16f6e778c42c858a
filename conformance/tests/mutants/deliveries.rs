//! Mutants that get PUBLISH and its acknowledgements wrong.

use hrotti_conformance::codec::{Value, prop};

use super::link::Way::{ToBroker, ToClient};
use super::packet::{Raw, number};
use super::tamper::{Mutant, change, connect_props, lose, misname, mutant, publish};

pub(crate) fn all() -> Vec<Mutant> {
    [
        acknowledgements(),
        publish_flags(),
        deliveries(),
        repetitions(),
        contents(),
        properties(),
        expiry_and_aliases(),
    ]
    .into_iter()
    .flatten()
    .collect()
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
    ]
}

fn repetitions() -> Vec<Mutant> {
    vec![
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
    ]
}

fn contents() -> Vec<Mutant> {
    vec![
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
    ]
}

fn expiry_and_aliases() -> Vec<Mutant> {
    vec![
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
