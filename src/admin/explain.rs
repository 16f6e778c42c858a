//! Why a message does or does not reach a Client, and which rule decides.

use serde::Deserialize;
use serde_json::json;

use super::answer::{Answer, Problem};
use super::input;
use super::route::Asked;
use crate::access::{Action, Decision};
use crate::broker::Broker;

#[derive(Deserialize)]
#[serde(
    tag = "kind",
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
enum Question {
    Delivery { topic: String, client_id: String },
    Access { client_id: String, action: Asking, topic: String },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum Asking {
    Publish,
    Subscribe,
    Receive,
}

#[allow(clippy::unused_async, reason = "all routes are answered in one way")]
pub(super) async fn answer(asked: Asked) -> Result<Answer, Problem> {
    let broker = &asked.desk.broker;
    match input::json(&asked.body)? {
        Question::Delivery { topic, client_id } => {
            let explanation = broker.explain_delivery(&client_id, &topic);
            let text = explanation.to_string();
            let mut lines = text.lines();
            let answer = lines.next().unwrap_or_default();
            let findings: Vec<&str> = lines.map(|line| line.trim_start_matches("- ")).collect();
            let would_arrive = explanation.would_arrive();
            Ok(Answer::json(
                &json!({ "answer": answer, "findings": findings, "wouldArrive": would_arrive }),
            ))
        }
        Question::Access { client_id, action, topic } => {
            access(broker, &client_id, &action, &topic)
        }
    }
}

fn access(
    broker: &Broker,
    client_id: &str,
    action: &Asking,
    topic: &str,
) -> Result<Answer, Problem> {
    let action = match action {
        Asking::Publish => Action::Publish,
        Asking::Subscribe => Action::Subscribe,
        Asking::Receive => Action::Receive,
    };
    let decision = broker.explain_access(client_id, action, topic).ok_or_else(|| {
        Problem::not_found(format!("there is no Session of {client_id:?}; see /api/v1/clients"))
    })?;
    let may = if decision.is_allowed() { "may" } else { "may not" };
    let rule = match &decision {
        Decision::Allow(rule) | Decision::Deny(rule) => format!("the rule that decides: {rule}"),
        Decision::NoAnswer => {
            "no rule says anything about it, and what no rule allows is denied".to_owned()
        }
    };
    Ok(Answer::json(&json!({
        "answer": format!("{client_id:?} {may} {action} {topic:?}"),
        "findings": [rule],
        "wouldArrive": decision.is_allowed(),
    })))
}
