//! The answers of a server, for people. Texts from Clients are escaped: a terminal obeys control characters.

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde_json::Value;

/// A table without lines: a header, and columns as wide as they need.
fn table(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    if !header.is_empty() {
        table.set_header(header.to_vec());
    }
    for row in rows {
        table.add_row(row);
    }
    table.trim_fmt()
}

/// A text with its control characters escaped. Quotation marks stay: texts of the server have them.
fn escaped(text: &str) -> String {
    let of = |part: &str| part.escape_debug().to_string();
    text.split_inclusive(['"', '\'']).fold(String::new(), |shown, part| {
        match part.strip_suffix(['"', '\'']) {
            Some(before) => shown + &of(before) + &part[before.len()..],
            None => shown + &of(part),
        }
    })
}

/// A value in a cell.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => escaped(text),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        other => other.to_string(),
    }
}

fn cells(row: &Value, keys: &[&str]) -> Vec<String> {
    keys.iter().map(|key| cell(row.pointer(key).unwrap_or(&Value::Null))).collect()
}

/// The rows of a list or of a page, and the line about further pages.
fn listed(answer: &Value, header: &[&str], keys: &[&str]) -> String {
    let rows = answer["data"].as_array().or(answer.as_array()).map_or(&[][..], Vec::as_slice);
    let text = table(header, rows.iter().map(|row| cells(row, keys)));
    let shown = rows.len() as u64;
    match answer["count"].as_u64() {
        Some(count) if count > shown => {
            format!("{text}\n{shown} of {count}; page {}", answer["page"])
        }
        _ => text,
    }
}

/// Names and values, one a line.
fn pairs(pairs: &[(&str, String)]) -> String {
    table(&[], pairs.iter().map(|(name, value)| vec![(*name).to_owned(), value.clone()]))
}

pub(super) fn status(status: &Value) -> String {
    let at = |path: &str| cell(status.pointer(path).unwrap_or(&Value::Null));
    let rate = |path: &str, unit: &str| {
        let number = status.pointer(path).and_then(Value::as_f64).unwrap_or_default();
        format!("{number:.1} {unit}")
    };
    let figures = pairs(&[
        ("version", at("/version")),
        ("state", at("/state")),
        ("started", format!("{} ({} s ago)", at("/startedAt"), at("/uptimeSecs"))),
        ("listeners", at("/listeners")),
        ("connections", at("/connections")),
        ("sessions", at("/sessions")),
        ("slow sessions", at("/slow")),
        ("subscriptions", at("/subscriptions")),
        (
            "retained",
            format!("{} messages, {} bytes", at("/retained/messages"), at("/retained/bytes")),
        ),
        ("memory", format!("{} bytes", at("/memoryBytes"))),
        ("received", rate("/rates/publishesReceived", "messages/s")),
        ("sent", rate("/rates/publishesSent", "messages/s")),
    ]);
    format!("{figures}\n\n{}", balance(&status["ledger"]))
}

/// offered = delivered + …; messages that were handed over are shown where there are some.
fn balance(ledger: &Value) -> String {
    let at = |path: &str| cell(ledger.pointer(path).unwrap_or(&Value::Null));
    let handed_over = match ledger["handedOver"].as_u64() {
        None | Some(0) => String::new(),
        Some(messages) => format!(" + handed over {messages}"),
    };
    format!(
        "offered {} = delivered {} + waiting {} + inflight {} + expired {} + dropped {} + filtered {}{handed_over}",
        at("/offered"),
        at("/delivered"),
        at("/waiting"),
        at("/inflight"),
        at("/expired"),
        at("/dropped/total"),
        at("/filtered/total")
    )
}

pub(super) fn ledger(ledger: &Value) -> String {
    let reasons = ["dropped", "filtered"].into_iter().flat_map(|kind| {
        let reasons = ledger[kind]["byReason"].as_object().into_iter().flatten();
        reasons.map(move |(reason, count)| vec![format!("{kind}: {reason}"), cell(count)])
    });
    format!("{}\n\n{}", balance(ledger), table(&[], reasons))
}

pub(super) fn clients(page: &Value) -> String {
    let header = [
        "CLIENT",
        "USER",
        "CONNECTED",
        "ADDRESS",
        "LISTENER",
        "VERSION",
        "WAITING",
        "INFLIGHT",
        "SLOW",
    ];
    let keys = [
        "/clientId",
        "/userName",
        "/connected",
        "/address",
        "/listener",
        "/version",
        "/waiting",
        "/inflight",
        "/slow",
    ];
    listed(page, &header, &keys)
}

/// All that is known of one Client, nested values by their path.
pub(super) fn client(client: &Value) -> String {
    let mut rows = Vec::new();
    flatten("", client, &mut rows);
    table(&[], rows.into_iter())
}

fn flatten(path: &str, value: &Value, rows: &mut Vec<Vec<String>>) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                flatten(&path, value, rows);
            }
        }
        other => rows.push(vec![path.to_owned(), cell(other)]),
    }
}

pub(super) fn subscriptions(page: &Value) -> String {
    listed(page, &["CLIENT", "FILTER", "SHARE", "QOS"], &["/clientId", "/filter", "/share", "/qos"])
}

pub(super) fn retained(page: &Value) -> String {
    let header = ["TOPIC", "QOS", "BYTES", "PAYLOAD", "EXPIRES IN S"];
    listed(page, &header, &["/topic", "/qos", "/payloadBytes", "/payload", "/expiresInSecs"])
}

pub(super) fn listeners(list: &Value) -> String {
    listed(
        list,
        &["LISTENER", "URL", "STATE", "CONNECTIONS"],
        &["/name", "/url", "/state", "/connections"],
    )
}

pub(super) fn limits(list: &Value) -> String {
    let mut sorted = list.as_array().cloned().unwrap_or_default();
    let share = |row: &Value| row["share"].as_f64().unwrap_or(-1.0);
    sorted.sort_by(|a, b| share(b).total_cmp(&share(a)));
    let rows = sorted.iter().map(|row| {
        let share =
            row["share"].as_f64().map_or("-".to_owned(), |share| format!("{:.0} %", share * 100.0));
        let mut cells = cells(row, &["/name", "/used", "/value", "/unit", "/refused"]);
        cells.insert(1, share);
        cells
    });
    table(&["LIMIT", "REACHED", "USED", "VALUE", "UNIT", "REFUSED"], rows)
}

pub(super) fn tailed(kind: &str, data: &Value) -> String {
    if kind != "message" {
        return format!(
            "-- {} messages were lost: they came faster than they were read",
            data["messages"]
        );
    }
    let payload = match data["payload"].as_str() {
        Some(text) => escaped(text),
        None => format!("base64 {}", cell(&data["payloadBase64"])),
    };
    let retained = if data["retain"] == true { " retained" } else { "" };
    format!(
        "{} {} (QoS {}{retained}) {payload}",
        cell(&data["at"]),
        cell(&data["topic"]),
        data["qos"]
    )
}

pub(super) fn event(kind: &str, data: &Value) -> String {
    let mut rows = Vec::new();
    flatten("", data, &mut rows);
    let told = rows.iter().filter(|row| row[0] != "at" && row[0] != "kind" && row[1] != "-");
    let told: Vec<String> = told.map(|row| format!("{}={}", row[0], row[1])).collect();
    let kind = data["kind"].as_str().unwrap_or(kind);
    format!("{} {kind} {}", cell(&data["at"]), told.join(" "))
}

pub(super) fn published(done: &Value) -> String {
    match done["matched"].as_u64() {
        Some(0) | None => "published; no subscription matched".to_owned(),
        Some(matched) => format!("published to {matched} Sessions"),
    }
}

pub(super) fn explained(answer: &Value) -> String {
    let findings = answer["findings"].as_array().into_iter().flatten();
    let lines = findings.map(|finding| format!("  {}", cell(finding)));
    std::iter::once(cell(&answer["answer"])).chain(lines).collect::<Vec<_>>().join("\n")
}

pub(super) fn bans(page: &Value) -> String {
    let header = ["CLIENT", "USER", "ADDRESS", "BY", "REASON", "UNTIL"];
    listed(page, &header, &["/clientId", "/userName", "/address", "/by", "/reason", "/until"])
}

pub(super) fn changes(done: &Value) -> String {
    let changes: Vec<String> = done["changes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    if changes.is_empty() { "nothing changed".to_owned() } else { changes.join("\n") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_balance_shows_what_was_handed_over_where_there_is_something() {
        let books = |handed_over: u64| {
            json!({
                "offered": 9, "delivered": 1, "waiting": 2, "inflight": 0, "expired": 0,
                "dropped": { "total": 1 }, "filtered": { "total": 0 }, "handedOver": handed_over,
            })
        };
        let line =
            "offered 9 = delivered 1 + waiting 2 + inflight 0 + expired 0 + dropped 1 + filtered 0";
        assert_eq!(balance(&books(0)), line);
        assert_eq!(balance(&books(5)), format!("{line} + handed over 5"));
    }
}
