//! Retained messages, and messages that the Server publishes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::json;

use super::answer::{Answer, Problem};
use super::input;
use super::message::{LISTED_BYTES_MAX, shown};
use super::pages::{listed, request};
use super::route::Asked;
use super::stream::refused;
use crate::broker::RetainedQuery;
use crate::calendar;
use crate::message::Message;
use crate::packet::QoS;
use crate::topic::TopicFilter;

pub(super) async fn retained(asked: Asked) -> Result<Answer, Problem> {
    let mut query = RetainedQuery::new(filter(asked.query.text("filter").unwrap_or("#"))?);
    query.page = request(asked.page())?;
    let page = asked.desk.broker.find_retained(&query).await;
    Ok(listed(&page, |info| {
        let mut message = shown(&info.message, LISTED_BYTES_MAX);
        message["publishedAt"] = calendar::write(info.published_at).into();
        message["expiresInSecs"] = info.expires_in_secs.into();
        message
    }))
}

pub(super) async fn clear(asked: Asked) -> Result<Answer, Problem> {
    let filter = filter(asked.query.text("filter").unwrap_or_default())?;
    let cleared = asked.desk.broker.clear_retained(&filter).await;
    Ok(Answer::json(&json!({ "cleared": cleared })))
}

/// A Topic Filter that is not of a shared subscription.
fn filter(text: &str) -> Result<TopicFilter, Problem> {
    let read = TopicFilter::new(text).map_err(|error| error.to_string());
    let read = read.and_then(|filter| match filter.is_shared() {
        true => Err("a shared subscription has no retained messages".to_owned()),
        false => Ok(filter),
    });
    read.map_err(|error| {
        Problem::bad_request(format!(
            "filter is {text:?}, which is no Topic Filter: {error}; write for example %23"
        ))
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Draft {
    topic: String,
    payload: Option<String>,
    payload_base64: Option<String>,
    #[serde(default)]
    qos: u8,
    #[serde(default)]
    retain: bool,
    expiry_secs: Option<u32>,
    content_type: Option<String>,
    response_topic: Option<String>,
    correlation_data_base64: Option<String>,
    #[serde(default)]
    user_properties: Vec<(String, String)>,
}

pub(super) async fn publish(asked: Asked) -> Result<Answer, Problem> {
    let message = input::json::<Draft>(&asked.body)?.into_message()?;
    let published = asked.desk.broker.publish(message).await.map_err(|error| refused(&error))?;
    let answer = Answer::json(&json!({ "matched": published.matched }));
    Ok(if published.matched == 0 { answer.with_status(202) } else { answer })
}

impl Draft {
    fn into_message(self) -> Result<Message, Problem> {
        let payload = match (self.payload, self.payload_base64) {
            (Some(text), None) => text.into_bytes(),
            (None, Some(text)) => bytes("payloadBase64", &text)?,
            (None, None) => Vec::new(),
            (Some(_), Some(_)) => {
                let text = "payload and payloadBase64 are given; take one of them out";
                return Err(Problem::bad_request(text));
            }
        };
        let message = Message::new(&self.topic, payload).map_err(|error| {
            Problem::bad_request(format!(
                "topic is {:?}, which is no Topic Name: {error}",
                self.topic
            ))
        })?;
        let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
        let qos = qos
            .get(usize::from(self.qos))
            .ok_or_else(|| Problem::bad_request(format!("qos is {}; write 0, 1 or 2", self.qos)))?;
        let mut message = message.with_qos(*qos).with_retain(self.retain);
        if let Some(secs) = self.expiry_secs {
            message = message.with_expiry_secs(secs);
        }
        let property = |key: &str, error: &dyn std::fmt::Display| {
            Problem::bad_request(format!("{key}: {error}; correct it, or leave it out"))
        };
        if let Some(text) = self.content_type {
            message = message.with_content_type(&text).map_err(|e| property("contentType", &e))?;
        }
        if let Some(text) = self.response_topic {
            message =
                message.with_response_topic(&text).map_err(|e| property("responseTopic", &e))?;
        }
        if let Some(text) = self.correlation_data_base64 {
            let key = "correlationDataBase64";
            message = message
                .with_correlation_data(&bytes(key, &text)?)
                .map_err(|e| property(key, &e))?;
        }
        for (name, value) in &self.user_properties {
            message = message
                .with_user_property(name, value)
                .map_err(|e| property("userProperties", &e))?;
        }
        Ok(message)
    }
}

fn bytes(key: &str, text: &str) -> Result<Vec<u8>, Problem> {
    let problem = |error| {
        Problem::bad_request(format!(
            "{key}: this is no base64: {error}; encode the bytes by RFC 4648"
        ))
    };
    STANDARD.decode(text).map_err(problem)
}
