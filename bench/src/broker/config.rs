//! The configuration of each broker: as fair as its documentation allows, printed with the result.
//!
//! No logging, no files, every limit on queues and messages under way as high as it goes: what is
//! measured is the work, and nobody loses by a default that is meant for a small machine.

use serde_json::json;

use super::Kind;

/// Where a broker listens that cannot choose its ports itself; `0` lets one choose that can.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ports {
    pub(crate) tcp: String,
    pub(crate) ws: String,
    /// For a broker that serves MQTT 5 at a port of its own.
    pub(crate) v5: String,
}

impl Ports {
    /// For a broker that chooses by itself.
    pub(crate) fn any() -> Self {
        Self::named("0", "0", "0")
    }

    /// What the published configuration shows.
    pub(crate) fn placeholders() -> Self {
        Self::named("PORT", "WS_PORT", "V5_PORT")
    }

    pub(crate) fn named(tcp: &str, ws: &str, v5: &str) -> Self {
        Self { tcp: tcp.to_owned(), ws: ws.to_owned(), v5: v5.to_owned() }
    }
}

/// The text of the configuration file; empty where there is none.
pub(super) fn text(kind: Kind, workers: Option<u32>, ports: &Ports) -> String {
    match kind {
        Kind::Hrotti => hrotti(workers),
        Kind::Mosquitto => mosquitto(ports),
        Kind::Rumqttd => rumqttd(ports),
        Kind::Aedes => aedes(),
        Kind::Null => String::new(),
    }
}

fn hrotti(workers: Option<u32>) -> String {
    let mut all = json!({
        "maxQueueDepth": 100_000,
        "listeners": {
            "tcp": { "url": "tcp://127.0.0.1:0" },
            "ws": { "url": "ws://127.0.0.1:0" },
        },
    });
    if let Some(workers) = workers {
        all["workers"] = workers.into();
    }
    format!("{all:#}\n")
}

/// 0 is "no limit" in each line; two of them are its defaults and stand here to be seen.
fn mosquitto(ports: &Ports) -> String {
    let Ports { tcp, ws, .. } = ports;
    format!(
        "allow_anonymous true\n\
         persistence false\n\
         log_dest none\n\
         log_type none\n\
         connection_messages false\n\
         sys_interval 0\n\
         set_tcp_nodelay true\n\
         max_queued_messages 0\n\
         max_queued_bytes 0\n\
         max_inflight_messages 0\n\
         max_inflight_bytes 0\n\
         listener {tcp} 127.0.0.1\n\
         listener {ws} 127.0.0.1\n\
         protocol websockets\n"
    )
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

    fn parsed(kind: Kind, workers: Option<u32>) -> serde_json::Value {
        serde_json::from_str(&text(kind, workers, &Ports::any())).unwrap()
    }

    #[test]
    fn hrotti_has_two_listeners_and_a_deep_queue() {
        let json = parsed(Kind::Hrotti, None);
        assert_eq!(json["maxQueueDepth"], 100_000);
        assert_eq!(json["listeners"]["tcp"]["url"], "tcp://127.0.0.1:0");
        assert_eq!(json["listeners"]["ws"]["url"], "ws://127.0.0.1:0");
        assert!(json.get("workers").is_none(), "the default is measured unless asked otherwise");
        assert_eq!(parsed(Kind::Hrotti, Some(2))["workers"], 2);
    }

    #[test]
    fn mosquitto_is_quiet_and_without_limits() {
        let text = text(Kind::Mosquitto, None, &Ports::named("47", "48", "49"));
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
        let text = text(Kind::Rumqttd, None, &Ports::named("47", "48", "49"));
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
        let json = parsed(Kind::Aedes, None);
        assert_eq!(json["tcp"], "127.0.0.1:0");
        assert_eq!(json["ws"], "127.0.0.1:0");
        assert_eq!(json["aedes"]["maxInflightInbound"], 0);
    }

    #[test]
    fn no_configuration_names_another_host() {
        for kind in [Kind::Hrotti, Kind::Mosquitto, Kind::Rumqttd, Kind::Aedes, Kind::Null] {
            let text = text(kind, Some(2), &Ports::placeholders());
            assert!(!text.contains("0.0.0.0") && !text.contains("localhost"), "{text}");
        }
    }
}
