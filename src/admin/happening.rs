//! Events of the broker as JSON.

use serde_json::{Value, json};

use crate::calendar;
use crate::events::{ClientOrigin, Event, Happening};

/// An event: when, what kind, and what belongs to the kind.
pub(super) fn told(event: &Event) -> Value {
    let mut told = what(&event.what);
    told["at"] = calendar::write(event.at).into();
    told
}

fn what(happening: &Happening) -> Value {
    match happening {
        Happening::Connected { client, clean_start, session_present, keep_alive_secs } => of(
            client,
            json!({
                "kind": "connected",
                "cleanStart": clean_start,
                "sessionPresent": session_present,
                "keepAliveSecs": keep_alive_secs,
            }),
        ),
        Happening::Refused { client, code, why } => {
            of(client, json!({ "kind": "refused", "code": code.to_string(), "why": why }))
        }
        Happening::Disconnected { client, cause } => {
            of(client, json!({ "kind": "disconnected", "why": cause.to_string() }))
        }
        Happening::Subscribed { client_id, filter, qos } => {
            json!({ "kind": "subscribed", "clientId": &**client_id, "filter": filter, "qos": *qos as u8 })
        }
        Happening::Unsubscribed { client_id, filter } => {
            json!({ "kind": "unsubscribed", "clientId": &**client_id, "filter": filter })
        }
        Happening::Denied { client_id, action, topic, rule } => json!({
            "kind": "denied",
            "clientId": &**client_id,
            "action": action,
            "topic": topic,
            "rule": rule.to_string(),
        }),
        Happening::Slow { client_id, waiting, depth } => {
            json!({ "kind": "slow", "clientId": &**client_id, "waiting": waiting, "depth": depth })
        }
        Happening::NoLongerSlow { client_id } => {
            json!({ "kind": "noLongerSlow", "clientId": &**client_id })
        }
        Happening::Dropped { client_id, reason, messages } => json!({
            "kind": "dropped",
            "clientId": &**client_id,
            "reason": reason.to_string(),
            "messages": messages,
        }),
        Happening::ListenerAdded { name, endpoints } => {
            json!({ "kind": "listenerAdded", "name": name, "endpoints": endpoints })
        }
        Happening::ListenerStopped { name } => json!({ "kind": "listenerStopped", "name": name }),
        Happening::Reloaded { changes } => json!({ "kind": "reloaded", "changes": changes }),
        Happening::ReloadFailed { errors } => json!({ "kind": "reloadFailed", "errors": errors }),
    }
}

/// Adds what is known of the Client.
fn of(client: &ClientOrigin, mut told: Value) -> Value {
    told["clientId"] = (*client.client_id).into();
    told["userName"] = client.user_name.as_deref().into();
    told["address"] = client.address.map(|address| address.to_string()).into();
    told["listener"] = (*client.listener).into();
    told["version"] = client.version.map(|version| version.to_string()).into();
    told
}
