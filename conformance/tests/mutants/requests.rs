//! Mutants that get wrong what a client asks for: its connection, its Session, its subscriptions, its Will.

use hrotti_conformance::codec::{Property, Value, prop};

use super::link::Way::{ToBroker, ToClient};
use super::packet::{Raw, number};
use super::tamper::{
    Mutant, announce, change, connack_props, connect_flags, connect_props, lose, misname, mutant,
    publish, subscribe,
};

pub(crate) fn all() -> Vec<Mutant> {
    [
        subacks(),
        filters(),
        options(),
        connacks(),
        takeovers(),
        sessions(),
        wills(),
        limits(),
        faults(),
        strictness(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn subacks() -> Vec<Mutant> {
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
    ]
}

fn filters() -> Vec<Mutant> {
    vec![
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
        mutant(
            "wildcards are granted and match themselves alone",
            &["subscribe::wildcards_work_or_are_refused", "subscribe::wildcards_match"],
            |l, w, p| {
                subscribe(l, w, p, |filter, _| *filter = filter.replace(['+', '#'], "itself"));
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
        mutant("bridges are clients as others", &["connect::bridges_get_no_echo"], |l, w, p| {
            change(l, w, p, (ToBroker, 1), |p| {
                let level = 2 + usize::from(p.body[1]);
                p.body[level] &= 0x7F;
            });
        }),
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

fn connacks() -> Vec<Mutant> {
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
                connack_props(l, w, p, |props| props.retain(|p| p.0 != 0x12));
            },
        ),
    ]
}

fn takeovers() -> Vec<Mutant> {
    vec![
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
            "Maximum QoS 1 is announced, and 2 is taken",
            &["connect::announced_or_supported"],
            |l, w, p| announce(l, w, p, Property(0x24, Value::Byte(1))),
        ),
        mutant(
            "Retain Available 0 is announced, and what is retained is taken",
            &["connect::announced_or_supported"],
            |l, w, p| announce(l, w, p, Property(0x25, Value::Byte(0))),
        ),
        mutant(
            "another Receive Maximum than the one in CONNACK",
            &["flow::receive_maximum_of_the_server"],
            |l, w, p| {
                connack_props(l, w, p, |props| {
                    if let Some(n) = number(props, 0x21) {
                        *n = Value::Two(2000);
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

/// What a server is to let pass.
fn strictness() -> Vec<Mutant> {
    vec![
        mutant(
            "No matching subscribers is a fault in PUBACK",
            &["publish::no_matching_subscribers_is_a_success"],
            |l, w, p| {
                change(l, w, p, (ToBroker, 4), |p| {
                    p.last()
                        .into_iter()
                        .filter(|code| **code == 0x10)
                        .for_each(|code| *code = 0x92);
                });
            },
        ),
        mutant(
            "unused bits of 3.1 are faults",
            &["connect::bits_that_31_does_not_use"],
            |l, w, mut p| {
                if w == ToBroker && p.kind() == 12 && p.first & 0x0F != 0 {
                    p.first = 0xF1;
                }
                l.send(w, &p);
            },
        ),
    ]
}
