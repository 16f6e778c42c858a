//! The one list of cases.

use std::fmt;

use crate::failure::{Step, skip};
use crate::target::{Server, Target};

/// One case: a question to a broker with a yes or a failure.
#[derive(Clone, Copy)]
pub struct Case {
    /// The chapter: a module of cases.
    pub chapter: &'static str,
    /// What the case checks, as a Rust name.
    pub name: &'static str,
    /// Statements of MQTT 3.1.1, without `MQTT-`.
    pub v311: &'static str,
    /// Statements of MQTT 5.0, without `MQTT-`.
    pub v5: &'static str,
    run: fn(&Server) -> Step,
}

impl Case {
    /// Runs the case against a target, under names that no other run uses.
    ///
    /// # Errors
    /// The [`Failure`](crate::Failure) that says what did not hold, or why the case was skipped.
    pub fn run(&self, target: &dyn Target) -> Step {
        self.run_on(&Server::new(target))
    }

    #[cfg(test)]
    pub(crate) fn of(chapter: &'static str, name: &'static str, run: fn(&Server) -> Step) -> Case {
        Case { chapter, name, v311: "", v5: "", run }
    }

    pub(crate) fn run_on(&self, server: &Server) -> Step {
        (self.run)(server)?;
        if server.was_dialled() {
            return Ok(());
        }
        let left_out = server.versions().1.names().join(" or ");
        Err(skip(format!("needs MQTT {left_out}, which is left out")))
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::{}", self.chapter, self.name)?;
        for (standard, ids) in [("3.1.1", self.v311), ("5.0", self.v5)] {
            for id in ids.split_whitespace() {
                write!(f, " [{standard} MQTT-{id}]")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Writes one `#[test]` for each registered case, over the given [`Fixture`](crate::Fixture).
#[macro_export]
macro_rules! tests {
    ($fixture:ty) => {
        type ConformanceFixture = $fixture;
        $crate::for_each_case! { $crate::each_as_test }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! each_as_test {
    ($($chapter:ident { $($case:ident: $v311:literal, $v5:literal;)* })*) => {
        $(mod $chapter {
            $(#[test]
            fn $case() {
                $crate::run::<super::ConformanceFixture>(stringify!($chapter), stringify!($case));
            })*
        })*
    };
}

macro_rules! as_list {
    ($($chapter:ident { $($case:ident: $v311:literal, $v5:literal;)* })*) => {
        /// Every registered case.
        #[must_use]
        pub fn cases() -> Vec<Case> {
            vec![$($(Case {
                chapter: stringify!($chapter),
                name: stringify!($case),
                v311: $v311,
                v5: $v5,
                run: crate::cases::$chapter::$case,
            },)*)*]
        }
    };
}

/// Hands the register to another macro: chapter, case, statements of 3.1.1, statements of 5.0.
#[macro_export]
macro_rules! for_each_case {
    ($($then:tt)*) => { $($then)*! {
        connect {
            connack_comes_first: "3.2.0-1 3.1.4-4", "3.2.0-1 3.1.4-5 3.2.2-1";
            clean_start_has_no_session: "3.2.2-1 3.1.2-6 3.1.4-3", "3.2.2-2 3.1.2-4 3.1.4-4";
            no_session_to_resume: "3.2.2-3", "3.1.2-6 3.2.2-3";
            session_present_after_reconnect: "3.2.2-2 3.1.2-4 3.1.4-3", "3.2.2-3 3.1.2-5 3.1.4-4";
            second_connect_is_a_fault: "3.1.0-2", "3.1.0-2 4.13.2-1";
            first_packet_must_be_connect: "3.1.0-1", "3.1.0-1";
            other_protocols_end_at_their_first_bytes: "3.1.0-1", "3.1.0-1";
            bits_that_31_does_not_use: "", "";
            bridges_get_no_echo: "", "";
            unknown_level_is_refused: "3.1.2-2 3.2.2-5", "3.1.2-2 3.2.2-7";
            wrong_protocol_name_is_refused: "3.1.2-1", "3.1.2-1";
            reserved_flag_must_be_zero: "3.1.2-3 3.1.4-1 3.2.2-6", "3.1.2-3 3.1.4-1";
            empty_client_id_in_31_is_refused: "", "";
            empty_client_id_in_311_needs_clean: "3.1.3-6 3.1.3-8 3.1.3-7 3.1.3-9", "";
            empty_client_id_in_5_is_assigned: "", "3.1.3-6 3.1.3-7 3.2.2-16";
            client_id_of_23_characters: "3.1.3-5", "3.1.3-5";
            credentials_are_read_past: "3.1.2-19 3.1.2-21", "3.1.2-17 3.1.2-19";
            packets_behind_connect_are_handled: "3.1.4-4", "3.1.4-5";
            keep_alive_of_zero_is_accepted: "", "";
            takeover_ends_the_older: "3.1.4-2", "3.1.4-3";
            takeover_across_versions: "3.1.4-2", "3.1.4-3";
            unknown_authentication_method: "", "4.12.0-1 4.12.0-4 3.1.4-2 3.2.2-7 4.13.2-1";
            connack_comes_once: "", "3.2.0-2";
            fields_are_read_in_order: "3.1.3-1", "3.1.3-1";
            sessions_belong_to_their_client_ids: "3.1.3-2", "3.1.3-2";
            no_response_information_unasked: "", "3.1.2-28";
            no_authentication_unasked: "", "4.12.0-6";
            auth_without_a_method_is_a_fault: "", "4.12.0-7 4.12.1-2";
            announced_or_supported: "",
                "3.2.2-9 3.2.2-10 3.2.2-11 3.2.2-12 3.2.2-13 3.2.2-14";
        }
        refused {
            will_bits_without_will_flag: "3.1.2-11 3.1.2-13 3.1.2-15 3.1.4-1",
                "3.1.2-11 3.1.2-13 3.1.4-1";
            will_qos_3: "3.1.2-14", "3.1.2-12";
            fields_missing_that_flags_announce: "3.1.2-9 3.1.2-19 3.1.2-21 3.1.3-3",
                "3.1.2-9 3.1.2-17 3.1.2-19 3.1.3-3";
            fields_present_that_flags_deny: "3.1.2-11 3.1.2-18 3.1.2-20", "3.1.2-16 3.1.2-18";
            password_without_user_name: "3.1.2-22", "";
            strings_must_be_utf_8: "1.5.3-1 3.1.3-4 3.1.3-10 3.1.3-11",
                "1.5.4-1 3.1.3-4 3.1.3-8 3.1.3-11 3.1.3-12";
            strings_must_not_have_nul: "1.5.3-2", "1.5.4-2";
            session_present_is_0: "3.2.2-4 3.2.2-5", "3.2.2-6 3.2.2-7";
            nothing_behind_it_is_processed: "3.1.4-5", "3.1.4-6 3.14.0-1";
            will_topic_must_be_a_topic_name: "4.7.1-1 4.7.3-1", "4.7.0-1 4.7.3-1";
            no_disconnect_before_connack: "", "3.14.0-1 3.2.0-1";
        }
        publish {
            qos_0_delivery: "4.3.1-1 3.3.1-2 2.3.1-5 3.3.4-1", "4.3.1-1 3.3.1-2 2.2.1-2 3.3.4-1";
            qos_1_delivery: "4.3.2-1 4.3.2-2 2.3.1-6 3.3.4-1", "4.3.2-2 4.3.2-4 2.2.1-5 3.3.4-1";
            qos_2_delivery: "4.3.3-1 4.3.3-2 2.3.1-6 3.3.4-1",
                "4.3.3-2 4.3.3-4 4.3.3-8 4.3.3-11 2.2.1-5 3.3.4-1";
            delivered_at_the_lower_qos: "3.8.4-6", "3.8.4-8";
            qos_2_resent_is_delivered_once: "4.3.3-2", "4.3.3-10";
            qos_2_id_is_free_after_pubcomp: "4.3.3-2 2.3.1-3", "4.3.3-12";
            pubrel_of_unknown_id_is_completed: "", "4.3.3-11";
            dup_is_not_propagated: "3.3.1-3", "3.3.1-3";
            order_is_kept_per_qos: "4.6.0-5 4.6.0-6", "4.6.0-5 4.6.0-6";
            empty_payload_is_delivered: "3.3.2-3", "3.3.2-3";
            versions_mix_on_one_topic: "3.3.4-1 3.8.4-6", "3.3.4-1 3.8.4-8 3.3.2-17";
            properties_arrive_unaltered_and_in_order: "",
                "3.3.2-4 3.3.2-15 3.3.2-16 3.3.2-17 3.3.2-18 3.3.2-20 3.1.3-10";
            nobody_subscribed_is_acknowledged: "4.3.2-2 4.3.3-2", "4.3.2-4 4.3.3-8";
            sys_topics_belong_to_the_server: "3.3.5-2", "";
            qos_1_id_is_new_after_puback: "4.3.2-2", "4.3.2-5";
            identifiers_in_use_are_not_given_again: "2.3.1-4 4.3.2-1 4.3.3-1",
                "2.2.1-4 4.3.2-1 4.3.3-1";
            refused_qos_2_frees_its_id: "", "4.3.3-9";
            no_matching_subscribers_is_a_success: "", "3.4.2-1 3.5.2-1";
            qos_2_is_completed_after_expiry: "", "4.3.3-13 4.3.3-10";
            pubrel_follows_the_order_of_pubrec: "4.6.0-6", "4.3.3-4";
            everyone_who_matches_gets_it: "4.5.0-1", "4.5.0-1";
        }
        session {
            persistent_session_queues: "3.1.2-5 3.1.2-4 4.1.0-1", "3.1.2-5 3.1.2-23";
            clean_session_is_discarded: "3.1.2-6", "3.1.2-4 4.1.0-2";
            unacknowledged_qos_1_is_resent_with_dup: "4.4.0-1 3.3.1-1 2.3.1-4 4.3.2-1",
                "4.4.0-1 3.3.1-1 4.3.2-3";
            resent_in_order: "4.6.0-1 4.6.0-6 4.4.0-1", "4.4.0-1 4.6.0-5 4.6.0-6";
            unacknowledged_qos_2_is_resent_with_dup: "4.4.0-1 3.3.1-1 4.3.3-1",
                "4.4.0-1 3.3.1-1 4.3.3-3";
            pubrel_is_resent: "4.4.0-1 4.3.3-1", "4.4.0-1 4.3.3-5 4.3.3-6";
            incoming_qos_2_survives_reconnect: "4.3.3-2 4.1.0-1", "4.3.3-10 3.1.2-23";
            expiry_zero_ends_with_the_connection: "", "4.1.0-2";
            expiry_runs_out: "", "4.1.0-2 3.1.2-23";
            expiry_is_changed_by_disconnect: "", "3.1.2-23 4.1.0-2";
            expiry_cannot_rise_from_zero: "", "4.13.1-1";
            resumed_by_another_version: "3.1.2-4", "3.1.2-5";
            sent_qos_2_does_not_expire: "", "4.3.3-7";
            refused_by_the_client_is_not_resent: "", "4.4.0-2";
            lasts_as_long_as_the_connection: "4.1.0-2", "4.1.0-1 4.4.0-1";
            send_quota_begins_anew: "", "4.9.0-1 3.3.4-9 4.4.0-1";
            too_large_for_the_next_connection: "", "3.1.2-24 3.1.2-25";
        }
        subscribe {
            suback_answers_each_filter_in_order: "3.8.4-1 3.8.4-2 3.8.4-5 3.9.3-1 2.3.1-7 3.8.4-4",
                "3.8.4-1 3.8.4-2 3.8.4-5 3.8.4-6 3.8.4-7 3.9.3-1 2.2.1-6";
            wildcards_match: "4.7.1-2 4.7.1-3 3.3.2-3", "4.7.1-1 4.7.1-2 3.3.2-3";
            no_normalization: "4.7.3-4", "4.7.3-4";
            wildcards_pass_over_dollar_topics: "4.7.2-1", "4.7.2-1";
            dollar_filters_match_dollar_topics: "4.7.2-1", "4.7.2-1";
            same_filter_replaces: "3.8.4-3", "3.8.4-3";
            overlapping_uses_the_highest_qos: "3.3.5-1", "3.3.4-2";
            unsubscribe_stops_delivery: "3.10.4-1 3.10.4-2 3.10.4-4 2.3.1-7",
                "3.10.4-1 3.10.4-2 3.10.4-4 2.2.1-6";
            unsubscribe_of_nothing_is_answered: "3.10.4-5", "3.10.4-5 3.11.3-2";
            identifiers_come_back: "", "3.3.4-3 3.3.4-4 3.3.4-5";
            identifier_belongs_to_its_subscription: "", "3.3.4-3 3.8.4-3";
            no_local_withholds_ones_own: "", "3.8.3-3";
            no_local_is_about_the_client_alone: "", "3.8.3-3";
            very_many_filters_hold_up_nobody: "", "";
            wildcards_work_or_are_refused: "3.8.3-2", "";
            wildcard_misplaced_is_refused: "4.7.1-2 4.7.1-3 4.7.3-1", "4.7.1-1 4.7.1-2 4.7.3-1";
            several_filters_are_a_sequence: "3.8.4-4 3.8.4-3", "3.8.4-5 3.8.4-3";
            a_refused_filter_stands_alone: "3.8.4-4 3.8.4-5 3.9.3-2", "3.8.4-5 3.8.4-7 3.9.3-2";
            several_are_unsubscribed_at_once: "3.10.4-6", "3.10.4-6 3.11.3-1";
            unsubscribe_completes_what_was_started: "3.10.4-3", "3.10.4-3";
            replacing_loses_nothing: "3.8.4-3", "3.8.4-4";
        }
        retained {
            sent_to_a_new_subscription: "3.3.1-5 3.3.1-6 3.3.1-8", "3.3.1-5 3.3.1-9 3.8.4-4";
            replaced_by_a_newer: "3.3.1-5", "3.3.1-5";
            cleared_by_an_empty_payload: "3.3.1-10 3.3.1-11", "3.3.1-6 3.3.1-7";
            not_stored_without_retain: "3.3.1-12", "3.3.1-8";
            flag_is_cleared_for_live_subscribers: "3.3.1-9", "3.3.1-12";
            retain_as_published: "", "3.3.1-13";
            handling_1_only_for_new_subscriptions: "", "3.3.1-10";
            handling_2_never: "", "3.3.1-11";
            sent_again_for_the_same_filter: "3.8.4-3", "3.8.4-4 3.3.1-9";
            survives_its_publisher: "3.1.2-7", "3.3.1-5";
            more_than_the_queue_holds: "3.3.1-6", "3.3.1-9";
            the_rest_comes_after_a_break: "", "3.3.1-9 4.1.0-1";
            expires: "", "3.3.2-5";
            identifier_of_its_subscription: "", "3.3.4-3";
            qos_0_takes_the_place: "3.3.1-7", "3.3.1-5";
        }
        will {
            sent_when_the_connection_breaks: "3.1.2-8", "3.1.2-7 3.1.2-8";
            discarded_by_disconnect: "3.14.4-3 3.1.2-10", "3.14.4-3 3.1.2-10";
            sent_by_disconnect_with_will: "", "3.1.2-8";
            sent_on_a_protocol_fault: "3.1.2-8 4.8.0-1", "3.1.2-8 4.13.1-1";
            sent_on_keep_alive_timeout: "3.1.2-24 3.1.2-8", "3.1.2-22 3.1.2-8";
            sent_on_takeover: "3.1.2-8 3.1.4-2", "3.1.2-8 3.1.4-3";
            retained_will: "3.1.2-17", "3.1.2-15";
            every_qos: "3.1.2-14", "3.1.2-12";
            delayed: "", "3.1.2-8";
            delay_is_cancelled_by_reconnect: "", "3.1.3-9";
            delay_ends_with_the_session: "", "3.1.2-8";
            takeover_heeds_the_delay: "", "3.1.2-8 3.1.3-9";
            properties_are_sent: "", "3.1.3-10 3.1.2-9";
            unretained_will: "3.1.2-16", "3.1.2-14";
            none_without_will_flag: "3.1.2-12", "";
            published_once: "3.1.2-10", "3.1.2-10";
        }
        flow {
            ping_is_answered: "3.12.4-1", "3.12.4-1";
            keep_alive_runs_out: "3.1.2-24", "3.1.2-22 3.2.2-22";
            any_packet_keeps_alive: "3.1.2-24", "3.1.2-22";
            receive_maximum_of_the_client: "", "3.3.4-9 4.9.0-1 4.9.0-2";
            receive_maximum_counts_qos_2_until_pubcomp: "", "3.3.4-9 4.9.0-2";
            quota_holds_back_no_other_packet: "", "3.3.4-10 4.9.0-3";
            receive_maximum_of_the_server: "", "3.3.4-7";
            maximum_packet_size_of_the_client: "", "3.1.2-24 3.1.2-25";
            maximum_packet_size_of_the_server: "", "3.2.2-15 4.13.1-1";
            prompt_reader_loses_nothing_at_qos_0: "", "";
            prompt_reader_loses_nothing_at_qos_1: "", "";
            prompt_reader_loses_nothing_at_qos_2: "", "";
            message_expiry_counts_down: "", "3.3.2-6";
            message_expires_in_the_queue: "", "3.3.2-5";
        }
        alias {
            stands_for_a_topic: "", "3.3.2-12";
            is_moved_to_another_topic: "", "3.3.2-12";
            unknown_is_a_fault: "", "4.13.1-1";
            zero_is_a_fault: "", "3.3.2-8";
            above_the_maximum_is_a_fault: "", "3.2.2-17 3.2.2-18 3.3.2-9";
            does_not_outlive_the_connection: "", "3.3.2-7";
            none_without_permission: "", "3.1.2-27";
            within_the_clients_maximum: "", "3.1.2-26 3.3.2-11";
            discarded_message_sets_none: "", "3.1.2-24 3.3.2-12";
            resent_by_the_next_connections_aliases: "", "3.3.2-7 3.1.2-26 3.1.2-27";
        }
        shared {
            each_message_goes_to_one: "", "";
            qos_of_the_subscription_holds: "", "4.8.2-3";
            group_and_plain_each_get_one: "", "";
            no_retained_messages: "", "";
            no_local_is_a_fault: "", "3.8.3-4";
            malformed_names_are_refused: "", "4.8.2-1 4.8.2-2";
            unsubscribed_member_gets_nothing: "", "3.10.4-1 3.10.4-2";
            away_member_is_passed_over: "", "4.4.0-1";
            qos_2_is_completed_at_the_member: "", "4.8.2-4";
            qos_2_ends_with_the_members_session: "", "4.8.2-5";
            refused_by_a_member_goes_to_nobody_else: "", "4.8.2-6";
            identifiers_of_group_and_plain: "", "3.3.4-3 3.3.4-4 3.3.4-5";
        }
        answers {
            every_packet_is_well_formed: "2.2.2-1 2.3.1-5 2.3.1-6 2.3.1-7",
                "1.5.5-1 2.1.3-1 2.2.1-2 2.2.1-5 2.2.1-6 2.2.2-1 3.2.2-1";
            reason_codes_are_of_their_tables: "3.9.3-2",
                "3.2.2-8 3.4.2-1 3.5.2-1 3.6.2-1 3.7.2-1 3.9.3-2 3.11.3-2 3.14.2-1 3.14.2-2";
            connack_fits_the_client: "", "3.2.2-19 3.2.2-20";
            puback_fits_the_client: "", "3.4.2-2 3.4.2-3";
            pubrec_fits_the_client: "", "3.5.2-2 3.5.2-3";
            pubrel_fits_the_client: "", "3.6.2-2 3.6.2-3";
            pubcomp_fits_the_client: "", "3.7.2-2 3.7.2-3";
            suback_fits_the_client: "", "3.9.2-1 3.9.2-2";
            unsuback_fits_the_client: "", "3.11.2-1 3.11.2-2";
            disconnect_fits_the_client: "", "3.14.2-3 3.14.2-4 3.14.4-1 3.14.4-2";
            connack_that_does_not_fit_is_not_sent: "", "3.1.2-24";
            suback_that_does_not_fit_is_not_sent: "", "3.1.2-24";
            problem_information_is_withheld: "", "3.1.2-29";
        }
        malformed {
            reserved_flags: "2.2.2-1 2.2.2-2 3.8.1-1 3.10.1-1 3.6.1-1 3.14.1-1",
                "2.1.3-1 3.8.1-1 3.10.1-1 3.6.1-1 3.14.1-1 3.15.1-1 4.13.1-1";
            qos_3: "3.3.1-4", "3.3.1-4";
            packet_id_zero: "2.3.1-1", "2.2.1-3";
            topic_with_wildcard: "3.3.2-2 4.7.1-1", "3.3.2-2 4.7.0-1";
            topic_with_bad_utf_8: "1.5.3-1 3.3.2-1", "1.5.4-1 3.3.2-1";
            topic_with_nul: "1.5.3-2 4.7.3-2", "1.5.4-2 4.7.3-2";
            remaining_length_of_five_bytes: "4.8.0-1", "1.5.5-1";
            length_not_minimal_is_read_or_refused: "", "1.5.5-1";
            subscribe_without_filter: "3.8.3-3", "3.8.3-2";
            unsubscribe_without_filter: "3.10.3-2", "3.10.3-2";
            subscription_options_reserved: "3.8.3-4", "3.8.3-5";
            property_twice: "", "4.13.1-1";
            property_not_allowed: "", "4.13.1-1";
            subscription_identifier_from_a_client: "", "3.3.4-6";
            subscription_identifier_zero: "", "4.13.1-1";
            response_topic_with_wildcard: "", "3.3.2-14";
            server_packets_from_a_client: "4.8.0-1", "4.13.1-1";
            truncated_connects: "3.1.4-1 3.1.3-3", "3.1.4-1 3.1.3-3";
            others_are_undisturbed: "4.8.0-1", "4.13.1-1";
        }
        stream {
            split_at_every_byte: "7.1.1-1", "4.2-1";
            split_in_two_at_every_border: "7.1.1-1", "4.2-1";
            many_packets_in_one_write: "7.1.1-1", "4.2-1";
            a_packet_and_a_half_in_one_write: "7.1.1-1", "4.2-1";
            nothing_is_lost_before_disconnect: "7.1.1-1", "4.2-1";
            every_size_arrives_whole: "7.1.1-1", "4.2-1";
            large_payload_arrives_whole: "7.1.1-1", "4.2-1";
            answers_wait_for_a_late_reader: "3.12.4-1", "3.12.4-1";
            close_implies_flush: "7.1.1-1 3.2.2-5", "4.2-1 3.2.2-7";
            close_follows_disconnect: "", "";
            unread_input_hides_no_last_packet: "3.2.0-1 3.2.2-5", "3.2.0-1 3.2.2-7";
            reset_ends_one_connection: "3.1.2-8", "3.1.2-8";
            end_in_one_direction: "7.1.1-1 3.1.2-8", "4.2-1 3.1.2-8";
            hung_set_up_holds_up_nobody: "", "";
            many_connections: "", "";
        }
        flows {
            live: "", "";
            retained: "", "";
            away: "", "";
            shared: "", "";
        }
        promises {
            full_queue_drops_the_newest_alone: "", "";
            stop_listener_disconnects_its_clients: "", "";
            stop_listener_disconnects_no_others: "", "";
            listeners_share_one_topic_tree: "", "";
            sessions_and_takeovers_cross_listeners: "", "";
            ws_path_is_exact: "", "";
        }
        strings {
            byte_order_mark_is_kept: "1.5.3-3", "1.5.4-3";
            empty_topic_name_is_a_fault: "4.7.3-1", "4.7.3-1";
            the_longest_topic_arrives: "4.7.3-3", "4.7.3-3";
            subscribed_filter_must_be_utf_8: "3.8.3-1 1.5.3-1", "3.8.3-1 1.5.4-1";
            unsubscribed_filter_must_be_utf_8: "3.10.3-1 1.5.3-1", "3.10.3-1 1.5.4-1";
            filter_must_not_have_nul: "4.7.3-2 1.5.3-2", "4.7.3-2 1.5.4-2";
            string_cut_short_is_a_fault: "3.10.3-1 3.3.2-1 4.8.0-1", "3.3.2-1 4.13.1-1";
            response_topic_must_be_utf_8: "", "3.3.2-13";
            content_type_must_be_utf_8: "", "3.3.2-19";
            pair_must_be_utf_8: "", "1.5.7-1";
        }
        ws {
            text_frames_end_the_connection: "6.0.0-1", "6.0.0-1";
            the_subprotocol_is_mqtt: "6.0.0-4", "6.0.0-4";
            header_lists_may_be_split: "", "";
            packets_are_not_aligned_with_frames: "6.0.0-2", "6.0.0-2";
        }
        rumqttc {
            every_qos_and_version: "4.3.1-1 4.3.2-1 4.3.3-1 7.0.0-2", "4.3.1-1 4.3.2-4 4.3.3-4";
            a_hundred_messages_at_qos_2: "4.3.3-1 4.3.3-2", "4.3.3-4 4.3.3-11";
            retained: "3.3.1-6", "3.3.1-9";
            persistent_session: "3.1.2-5 3.2.2-2", "3.1.2-23 3.2.2-3";
            will: "3.1.2-8", "3.1.2-8";
            unsubscribed: "3.10.4-2", "3.10.4-2";
            user_properties: "", "3.3.2-17 3.3.2-18";
            takeover: "3.1.4-2", "3.1.4-3";
        }
    } };
}

for_each_case! { as_list }
