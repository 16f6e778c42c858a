//! The configuration of each broker: as fair as its documentation allows, printed with the result.
//!
//! No logging, no files, every limit on queues and messages under way as high as it goes: what is
//! measured is the work, and nobody loses by a default that is meant for a small machine.

use serde_json::json;

use super::{Kind, Variant};
use crate::load::Setting;

/// Where a broker listens that cannot choose its ports itself; `0` lets one choose that can.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ports {
    pub(super) tcp: String,
    pub(super) ws: String,
    /// For a broker that serves MQTT 5 at a port of its own.
    pub(super) v5: String,
    pub(super) tls: String,
    pub(super) wss: String,
}

/// What is chosen anew by each start: ports and the paths of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Places {
    pub(super) ports: Ports,
    pub(super) certificate: String,
    pub(super) key: String,
    pub(super) passwords: String,
    pub(super) rules: String,
    pub(super) bans: String,
}

impl Ports {
    /// For a broker that chooses by itself.
    pub(super) fn any() -> Self {
        Self::named(["0"; 5])
    }

    /// In the order of the fields.
    pub(super) fn named(ports: [&str; 5]) -> Self {
        let [tcp, ws, v5, tls, wss] = ports.map(str::to_owned);
        Self { tcp, ws, v5, tls, wss }
    }
}

impl Places {
    /// What the published configuration shows.
    pub(super) fn placeholders() -> Self {
        let ports = Ports::named(["PORT", "WS_PORT", "V5_PORT", "TLS_PORT", "WSS_PORT"]);
        Self::named(ports, ["CERTIFICATE", "KEY", "PASSWORDS", "RULES", "BANS"])
    }

    /// Paths in the order of the fields.
    pub(super) fn named(ports: Ports, paths: [&str; 5]) -> Self {
        let [certificate, key, passwords, rules, bans] = paths.map(str::to_owned);
        Self { ports, certificate, key, passwords, rules, bans }
    }
}

/// The text of the configuration file; empty where there is none.
pub(super) fn text(kind: Kind, setting: Setting, variant: Variant, places: &Places) -> String {
    match kind {
        Kind::Hrotti => hrotti(setting, variant, places),
        Kind::Mosquitto => mosquitto(setting, places),
        Kind::Rumqttd => rumqttd(&places.ports),
        Kind::Aedes => aedes(),
        Kind::Null => String::new(),
    }
}

fn hrotti(setting: Setting, variant: Variant, places: &Places) -> String {
    let tls = json!({ "certificate": places.certificate, "key": places.key });
    let tcp = json!({ "url": "tcp://127.0.0.1:0" });
    let mqtts = json!({ "url": "mqtts://127.0.0.1:0", "tls": tls });
    let listeners = match setting {
        Setting::Open => json!({ "tcp": tcp, "ws": { "url": "ws://127.0.0.1:0" } }),
        Setting::Tls => {
            json!({ "tls": mqtts, "wss": { "url": "wss://127.0.0.1:0", "tls": tls } })
        }
        Setting::Passwords | Setting::Rules => json!({ "tcp": tcp }),
        Setting::Guarded => json!({ "tcp": tcp, "tls": mqtts }),
    };
    // Peers publish nothing below `$SYS` either.
    let interval = if variant.observed { 10 } else { 0 };
    let mut all = json!({
        "maxQueueDepth": 100_000,
        "listeners": listeners,
        "sysIntervalSecs": interval,
    });
    if variant.observed {
        all["admin"] = json!({ "url": "http://127.0.0.1:0" });
    }
    if setting.has_users() {
        all["access"] = json!({ "passwordFile": places.passwords });
    }
    if setting == Setting::Rules {
        all["access"]["aclFile"] = places.rules.as_str().into();
    }
    if setting == Setting::Guarded {
        all["access"]["bansFile"] = places.bans.as_str().into();
    }
    if let Some(workers) = variant.workers {
        all["workers"] = workers.into();
    }
    format!("{all:#}\n")
}

/// 0 is "no limit" in each line; two of them are its defaults and stand here to be seen.
fn mosquitto(setting: Setting, places: &Places) -> String {
    let Ports { tcp, ws, tls, wss, .. } = &places.ports;
    let mut text = format!("allow_anonymous {}\n", !setting.has_users());
    text.push_str(
        "persistence false\n\
         log_dest none\n\
         log_type none\n\
         connection_messages false\n\
         sys_interval 0\n\
         set_tcp_nodelay true\n\
         max_queued_messages 0\n\
         max_queued_bytes 0\n\
         max_inflight_messages 0\n\
         max_inflight_bytes 0\n",
    );
    if setting.has_users() {
        text.push_str(&format!("password_file {}\n", places.passwords));
    }
    if setting == Setting::Rules {
        text.push_str(&format!("acl_file {}\n", places.rules));
    }
    let plain = |port: &str| format!("listener {port} 127.0.0.1\n");
    let secure = |port: &str, protocol: &str| {
        let Places { certificate, key, .. } = places;
        format!("{}{protocol}certfile {certificate}\nkeyfile {key}\n", plain(port))
    };
    let web = "protocol websockets\n";
    let listeners = match setting {
        Setting::Open => plain(tcp) + &plain(ws) + web,
        Setting::Tls => secure(tls, "") + &secure(wss, web),
        Setting::Passwords | Setting::Rules => plain(tcp),
        Setting::Guarded => plain(tcp) + &secure(tls, ""),
    };
    text + &listeners
}

/// Its own example with higher limits, without console and metrics. It never gives back what it
/// keeps of each topic, so that is bounded well above what can be outstanding: 4 times 8 MiB.
fn rumqttd(ports: &Ports) -> String {
    let listener = |kind: &str, port: &str| {
        format!(
            "\n[{kind}.1]\n\
             name = \"{kind}\"\n\
             listen = \"127.0.0.1:{port}\"\n\
             next_connection_delay_ms = 0\n\
             [{kind}.1.connections]\n\
             connection_timeout_ms = 60000\n\
             max_payload_size = 2097152\n\
             max_inflight_count = 500\n\
             dynamic_filters = true\n"
        )
    };
    let router = "id = 0\n\n\
         [router]\n\
         id = 0\n\
         max_connections = 100000\n\
         max_outgoing_packet_count = 1000\n\
         max_segment_size = 8388608\n\
         max_segment_count = 4\n";
    let listeners =
        [listener("v4", &ports.tcp), listener("v5", &ports.v5), listener("ws", &ports.ws)];
    router.to_owned() + &listeners.concat()
}

/// What `bench/peers/aedes/server.mjs` reads; `aedes` are the options of `Aedes.createBroker`.
fn aedes() -> String {
    let all = json!({
        "tcp": "127.0.0.1:0",
        "ws": "127.0.0.1:0",
        "aedes": {
            "concurrency": 100_000,
            "queueLimit": 100_000,
            "maxInflightInbound": 0,
            "heartbeatInterval": 500_000_000,
        },
    });
    format!("{all:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Places {
        Places::named(
            Ports::named(["47", "48", "49", "50", "51"]),
            ["c.pem", "k.pem", "p", "r", "b"],
        )
    }

    fn plain() -> Variant {
        Variant::default()
    }

    fn parsed(kind: Kind, variant: Variant) -> serde_json::Value {
        serde_json::from_str(&text(kind, Setting::Open, variant, &places())).unwrap()
    }

    #[test]
    fn an_observed_hrotti_differs_by_observation_alone() {
        let (json, observed) = (plain(), Variant { observed: true, ..plain() });
        let (mut json, mut observed) = (parsed(Kind::Hrotti, json), parsed(Kind::Hrotti, observed));
        assert_eq!((&json["sysIntervalSecs"], &json["admin"]), (&json!(0), &json!(null)));
        assert_eq!(observed["sysIntervalSecs"], 10);
        assert_eq!(observed["admin"], json!({ "url": "http://127.0.0.1:0" }));
        for json in [&mut json, &mut observed] {
            for key in ["sysIntervalSecs", "admin"] {
                json.as_object_mut().unwrap().remove(key);
            }
        }
        assert_eq!(json, observed);
    }

    #[test]
    fn hrotti_has_two_listeners_and_a_deep_queue() {
        let json = parsed(Kind::Hrotti, plain());
        assert_eq!(json["maxQueueDepth"], 100_000);
        assert_eq!(json["listeners"]["tcp"]["url"], "tcp://127.0.0.1:0");
        assert_eq!(json["listeners"]["ws"]["url"], "ws://127.0.0.1:0");
        assert!(json.get("workers").is_none(), "the default is measured unless asked otherwise");
        let two = Variant { workers: Some(2), ..plain() };
        assert_eq!(parsed(Kind::Hrotti, two)["workers"], 2);
    }

    #[test]
    fn mosquitto_is_quiet_and_without_limits() {
        let text = text(Kind::Mosquitto, Setting::Open, plain(), &places());
        let lines: Vec<_> = text.lines().collect();
        for line in [
            "allow_anonymous true",
            "persistence false",
            "log_dest none",
            "set_tcp_nodelay true",
            "max_queued_messages 0",
            "max_queued_bytes 0",
            "max_inflight_messages 0",
            "max_inflight_bytes 0",
        ] {
            assert!(lines.contains(&line), "{line}");
        }
        // `protocol` belongs to the listener before it.
        assert!(
            text.ends_with("listener 47 127.0.0.1\nlistener 48 127.0.0.1\nprotocol websockets\n")
        );
    }

    #[test]
    fn rumqttd_has_a_listener_of_each_sort_and_no_console() {
        let text = text(Kind::Rumqttd, Setting::Open, plain(), &places());
        for part in [
            "[v4.1]\nname = \"v4\"\nlisten = \"127.0.0.1:47\"\n",
            "[ws.1]\nname = \"ws\"\nlisten = \"127.0.0.1:48\"\n",
            "[v5.1]\nname = \"v5\"\nlisten = \"127.0.0.1:49\"\n",
            "[v5.1.connections]\nconnection_timeout_ms = 60000\nmax_payload_size = 2097152\n",
        ] {
            assert!(text.contains(part), "{part}\nis not in\n{text}");
        }
        assert!(!text.contains("console") && !text.contains("prometheus"));
    }

    #[test]
    fn aedes_lets_its_queues_grow() {
        let json = parsed(Kind::Aedes, plain());
        assert_eq!(json["tcp"], "127.0.0.1:0");
        assert_eq!(json["ws"], "127.0.0.1:0");
        assert_eq!(json["aedes"]["maxInflightInbound"], 0);
    }

    #[test]
    fn no_configuration_names_another_host() {
        let every = Variant { workers: Some(2), observed: true };
        for (kind, setting) in
            Kind::ALL.into_iter().flat_map(|kind| Setting::ALL.map(|setting| (kind, setting)))
        {
            let text = text(kind, setting, every, &Places::placeholders());
            assert!(!text.contains("0.0.0.0") && !text.contains("localhost"), "{text}");
        }
    }

    #[test]
    fn both_have_the_same_listeners_and_files_in_each_setting() {
        for (setting, urls, lines, access) in [
            (
                Setting::Tls,
                json!({
                    "tls": {
                        "url": "mqtts://127.0.0.1:0",
                        "tls": { "certificate": "c.pem", "key": "k.pem" },
                    },
                    "wss": {
                        "url": "wss://127.0.0.1:0",
                        "tls": { "certificate": "c.pem", "key": "k.pem" },
                    },
                }),
                "listener 50 127.0.0.1\ncertfile c.pem\nkeyfile k.pem\n\
                 listener 51 127.0.0.1\nprotocol websockets\ncertfile c.pem\nkeyfile k.pem\n",
                serde_json::Value::Null,
            ),
            (
                Setting::Passwords,
                json!({ "tcp": { "url": "tcp://127.0.0.1:0" } }),
                "password_file p\nlistener 47 127.0.0.1\n",
                json!({ "passwordFile": "p" }),
            ),
            (
                Setting::Rules,
                json!({ "tcp": { "url": "tcp://127.0.0.1:0" } }),
                "password_file p\nacl_file r\nlistener 47 127.0.0.1\n",
                json!({ "passwordFile": "p", "aclFile": "r" }),
            ),
            (
                Setting::Guarded,
                json!({
                    "tcp": { "url": "tcp://127.0.0.1:0" },
                    "tls": {
                        "url": "mqtts://127.0.0.1:0",
                        "tls": { "certificate": "c.pem", "key": "k.pem" },
                    },
                }),
                "listener 47 127.0.0.1\nlistener 50 127.0.0.1\ncertfile c.pem\nkeyfile k.pem\n",
                json!({ "passwordFile": "p", "bansFile": "b" }),
            ),
        ] {
            let ours = text(Kind::Hrotti, setting, plain(), &places());
            let ours: serde_json::Value = serde_json::from_str(&ours).unwrap();
            assert_eq!(ours["listeners"], urls, "{setting:?}");
            assert_eq!(ours.get("access").cloned().unwrap_or_default(), access, "{setting:?}");
            let theirs = text(Kind::Mosquitto, setting, plain(), &places());
            assert!(theirs.ends_with(lines), "{setting:?}: {theirs}");
            let anonymous = format!("allow_anonymous {}\n", !setting.has_users());
            assert!(theirs.starts_with(&anonymous), "{setting:?}: {theirs}");
        }
    }
}
