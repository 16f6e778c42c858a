//! What the program around the broker knows and does: configuration, listeners, bans.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{Answer, Problem};
use super::desk::Desk;
use super::input;
use super::operator::OperatorError;
use super::route::Asked;
use crate::access::{Ban, BanTarget, Bans};
use crate::calendar;
use crate::config::Setting;
use crate::network::Network;

/// The longest ban: 100 years of 365 days.
const BAN_SECS_MAX: u64 = 100 * 365 * 86_400;

impl From<OperatorError> for Problem {
    fn from(error: OperatorError) -> Problem {
        match error {
            OperatorError::Unsupported(text) => {
                Problem::new(409, format!("the program that runs this broker {text}"))
            }
            OperatorError::Unknown(text) => Problem::not_found(text),
            OperatorError::Refused(text) => Problem::new(409, text),
            OperatorError::Invalid(errors) => {
                let text = "the configuration has errors, and the old one stays in force; correct it and reload again";
                Problem::errors(422, text, errors)
            }
        }
    }
}

#[allow(clippy::unused_async, reason = "all routes are answered in one way")]
pub(super) async fn settings(asked: Asked) -> Result<Answer, Problem> {
    let settings = asked.desk.operator()?.settings();
    let shown = |Setting { key, value, default }: &Setting| json!({ "key": key, "value": value, "default": default });
    Ok(Answer::json(&json!({ "settings": settings.iter().map(shown).collect::<Vec<_>>() })))
}

pub(super) async fn reload(asked: Asked) -> Result<Answer, Problem> {
    let dry_run = asked.query.flag("dryRun").unwrap_or(false);
    let changes = asked.desk.operator()?.reload(dry_run).await?;
    Ok(Answer::json(&json!({ "changes": changes })))
}

#[allow(clippy::unused_async, reason = "all routes are answered in one way")]
pub(super) async fn listeners(asked: Asked) -> Result<Answer, Problem> {
    Ok(Answer::json(&all_listeners(&asked.desk).into()))
}

/// The listeners of the configuration in its order, and those that only the broker knows.
fn all_listeners(desk: &Desk) -> Vec<Value> {
    let configured =
        desk.operator.as_ref().map(|operator| operator.listeners()).unwrap_or_default();
    let running = desk.broker.listeners();
    let stopped = configured.iter().filter(|one| !running.iter().any(|l| l.name == one.name));
    let stopped = stopped.map(|one| {
        json!({ "name": one.name, "url": one.url, "endpoints": [], "state": "stopped", "connections": 0 })
    });
    let url =
        |name: &str| configured.iter().find(|one| one.name == name).map(|one| one.url.as_str());
    let running = running.iter().map(|listener| {
        json!({
            "name": listener.name,
            "url": url(&listener.name).unwrap_or(&listener.endpoint),
            "endpoints": listener.endpoints,
            "state": "running",
            "connections": listener.connections,
        })
    });
    let mut all: Vec<Value> = running.chain(stopped).collect();
    let place =
        |value: &Value| configured.iter().position(|one| value["name"] == one.name.as_str());
    all.sort_by_key(|value| place(value).unwrap_or(usize::MAX));
    all
}

pub(super) async fn start_listener(asked: Asked) -> Result<Answer, Problem> {
    asked.desk.operator()?.start_listener(asked.segment(0)).await?;
    one_listener(&asked)
}

pub(super) async fn stop_listener(asked: Asked) -> Result<Answer, Problem> {
    asked.desk.operator()?.stop_listener(asked.segment(0)).await?;
    one_listener(&asked)
}

fn one_listener(asked: &Asked) -> Result<Answer, Problem> {
    let name = asked.segment(0);
    let all = all_listeners(&asked.desk);
    let one = all.into_iter().find(|listener| listener["name"] == name);
    one.map(|listener| Answer::json(&listener)).ok_or_else(|| {
        Problem::not_found(format!("there is no listener {name:?}; see /api/v1/listeners"))
    })
}

/// The list of bans.
fn bans(desk: &Desk) -> Result<Arc<Bans>, Problem> {
    let bans = desk.operator.as_ref().and_then(|operator| operator.bans());
    bans.ok_or_else(|| {
        Problem::new(409, "access.bansFile: there is no list of bans; write {\"bans\": []} to a file that the program can write, and add \
                           \"bansFile\" with its path under access")
    })
}

#[allow(clippy::unused_async, reason = "all routes are answered in one way")]
pub(super) async fn banned(asked: Asked) -> Result<Answer, Problem> {
    let all = bans(&asked.desk)?.list();
    let page = asked.page();
    let items = all.iter().skip(page.offset()).take(page.limit()).map(shown);
    Ok(Answer::json(&json!({
        "data": items.collect::<Vec<_>>(),
        "page": page.page,
        "limit": page.limit,
        "count": all.len(),
    })))
}

/// A ban: the part of the target that there is, who, why and when.
fn shown(ban: &Ban) -> Value {
    let (mut client, mut user, mut at) = (None, None, None);
    match &ban.target {
        BanTarget::Client(id) => client = Some(id.as_str()),
        BanTarget::User(name) => user = Some(name.as_str()),
        BanTarget::Address(network) => at = Some(network),
        BanTarget::ClientOfUser { client_id, user: name } => {
            (client, user) = (Some(client_id.as_str()), Some(name.as_str()));
        }
        BanTarget::ClientAt { client_id, network } => {
            (client, at) = (Some(client_id.as_str()), Some(network));
        }
    }
    json!({
        "clientId": client,
        "userName": user,
        "address": at.map(ToString::to_string),
        "by": ban.by,
        "reason": ban.reason,
        "from": calendar::write(ban.from),
        "until": ban.until.map(calendar::write),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct NewBan {
    client_id: Option<String>,
    user_name: Option<String>,
    address: Option<String>,
    #[serde(default)]
    reason: String,
    seconds: Option<u64>,
}

pub(super) async fn ban(asked: Asked) -> Result<Answer, Problem> {
    let new: NewBan = input::json(&asked.body)?;
    let bans = bans(&asked.desk)?;
    let target = target(new.client_id, new.user_name, new.address.as_deref())?;
    let ban = Ban::new(target).with_by("the admin listener").with_reason(&new.reason);
    let ban = match new.seconds {
        None => ban,
        Some(seconds) if (1..=BAN_SECS_MAX).contains(&seconds) => {
            ban.lasting(Duration::from_secs(seconds))
        }
        Some(seconds) => {
            let text = format!(
                "seconds is {seconds}; write 1 to {BAN_SECS_MAX}, or leave it out for a ban without an end"
            );
            return Err(Problem::bad_request(text));
        }
    };
    let answer = Answer::json(&shown(&ban)).with_status(201);
    bans.add(ban).map_err(|full| {
        Problem::new(409, format!("{full}; remove a ban, or raise limits.bansMax"))
    })?;
    changed(&asked.desk).await?;
    Ok(answer)
}

/// What a ban is about.
fn target(
    client_id: Option<String>,
    user_name: Option<String>,
    address: Option<&str>,
) -> Result<BanTarget, Problem> {
    for (key, text) in [("clientId", &client_id), ("userName", &user_name)] {
        if text.as_ref().is_some_and(String::is_empty) {
            return Err(Problem::bad_request(format!(
                "{key} is empty; name what the ban is about"
            )));
        }
    }
    let network = address.map(network).transpose()?;
    Ok(match (client_id, user_name, network) {
        (Some(id), None, None) => BanTarget::Client(id),
        (None, Some(name), None) => BanTarget::User(name),
        (None, None, Some(network)) => BanTarget::Address(network),
        (Some(client_id), Some(user), None) => BanTarget::ClientOfUser { client_id, user },
        (Some(client_id), None, Some(network)) => BanTarget::ClientAt { client_id, network },
        _ => {
            let text = "a ban is about clientId, userName or address, or clientId with one of the others; write one of \
                        these";
            return Err(Problem::bad_request(text));
        }
    })
}

pub(super) async fn unban(asked: Asked) -> Result<Answer, Problem> {
    let (kind, who) = (asked.segment(0), asked.segment(1));
    if !matches!(kind, "clientId" | "userName" | "address") {
        let text = format!("{kind:?} is no kind of ban; write clientId, userName or address");
        return Err(Problem::bad_request(text));
    }
    let part = |name| if kind == name { Some(who) } else { asked.query.text(name) };
    let owned = |name| part(name).map(str::to_owned);
    let target = target(owned("clientId"), owned("userName"), part("address"))?;
    if bans(&asked.desk)?.remove(&target).is_none() {
        return Err(Problem::not_found(format!("there is no ban of {who:?}; see /api/v1/banned")));
    }
    changed(&asked.desk).await?;
    Ok(Answer::nothing(204))
}

/// Puts the list in force for Clients that are connected, and has it kept.
async fn changed(desk: &Desk) -> Result<(), Problem> {
    desk.broker.policy_changed();
    Ok(desk.operator()?.keep_bans().await?)
}

fn network(text: &str) -> Result<Network, Problem> {
    text.parse::<Network>().map_err(|error| {
        Problem::bad_request(format!(
            "address: {error}; write for example 192.0.2.1 or 192.0.2.0/24"
        ))
    })
}
