//! Application Messages as JSON, cut where they are long.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::message::Message;

/// The longest payload that is shown as text, in bytes: in a list, and in a stream of messages. They bound an answer.
pub(super) const LISTED_BYTES_MAX: usize = 4 * 1024;
pub(super) const PASSING_BYTES_MAX: usize = 64 * 1024;
/// So many bytes at the beginning of a payload are shown in base64.
const BYTES_SHOWN: usize = 1_024;

/// Topic Name, payload and flags. The payload is text if it is UTF-8 and at most so long.
pub(super) fn shown(message: &Message, text_bytes_max: usize) -> Value {
    let payload = message.payload();
    let text = std::str::from_utf8(payload).ok().filter(|text| text.len() <= text_bytes_max);
    let beginning = &payload[..payload.len().min(BYTES_SHOWN)];
    json!({
        "topic": message.topic(),
        "qos": message.qos() as u8,
        "retain": message.retain(),
        "payloadBytes": payload.len(),
        "payload": text,
        "payloadBase64": STANDARD.encode(beginning),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(payload: &[u8]) -> Value {
        shown(&Message::new("a/b", payload).expect("a Topic Name"), PASSING_BYTES_MAX)
    }

    #[test]
    fn a_payload_is_text_where_it_is_text_and_short() {
        assert_eq!(of("é".as_bytes())["payload"], "é");
        assert_eq!(of(b"\xff")["payload"], Value::Null);
        assert_eq!(of(b"\xff")["payloadBase64"], "/w==");
        let long = of(&vec![b'x'; PASSING_BYTES_MAX + 1]);
        assert_eq!((&long["payload"], &long["payloadBytes"]), (&Value::Null, &json!(65_537)));
        let shown = long["payloadBase64"].as_str().expect("text");
        assert_eq!(STANDARD.decode(shown).expect("base64").len(), BYTES_SHOWN);
    }
}
