//! Bans as JSON: an object with the list `bans`.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{Ban, BanTarget, Bans, Entry};
use crate::access::file_error::Problems;
use crate::access::{FileErrors, Rule};
use crate::calendar;

/// The whole file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    bans: Vec<WrittenBan>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WrittenBan {
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    by: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
}

const TIME: &str = "write a time in UTC, for example \"2026-11-28T19:00:00Z\"";

impl WrittenBan {
    fn ban(&self) -> Result<Ban, String> {
        let from = match &self.from {
            None => SystemTime::UNIX_EPOCH,
            Some(text) => {
                calendar::parse(text).ok_or_else(|| format!("from: {text:?} is no time; {TIME}"))?
            }
        };
        let until = match &self.until {
            None => None,
            Some(text) => {
                let at = calendar::parse(text);
                Some(at.ok_or_else(|| format!("until: {text:?} is no time; {TIME}"))?)
            }
        };
        if until.is_some_and(|until| until <= from) {
            return Err("until: the ban ends before it begins; write a later time".to_owned());
        }
        let (by, reason) = (self.by.clone(), self.reason.clone());
        Ok(Ban { target: self.target()?, by, reason, from, until })
    }

    fn target(&self) -> Result<BanTarget, String> {
        let target = match (&self.client, &self.user, &self.address) {
            (Some(id), None, None) => BanTarget::Client(id.clone()),
            (None, Some(name), None) => BanTarget::User(name.clone()),
            (None, None, Some(network)) => {
                let network = network.parse().map_err(|error| format!("address: {error}"))?;
                BanTarget::Address(network)
            }
            (Some(client_id), Some(user), None) => {
                BanTarget::ClientOfUser { client_id: client_id.clone(), user: user.clone() }
            }
            (Some(client_id), None, Some(network)) => {
                let network = network.parse().map_err(|error| format!("address: {error}"))?;
                BanTarget::ClientAt { client_id: client_id.clone(), network }
            }
            (None, None, None) => {
                return Err("nobody is banned; write one of client, user and address".to_owned());
            }
            _ => {
                let remedy = "write a ban for each; only a client may stand with one of them";
                return Err(format!("it is about a user and an address; {remedy}"));
            }
        };
        if [&self.client, &self.user].into_iter().flatten().any(String::is_empty) {
            let remedy = "write a Client Identifier or a user name";
            return Err(format!("an empty text is nobody's; {remedy}"));
        }
        Ok(target)
    }

    fn of(ban: &Ban) -> WrittenBan {
        let mut written = WrittenBan {
            by: ban.by.clone(),
            reason: ban.reason.clone(),
            from: (ban.from > SystemTime::UNIX_EPOCH).then(|| calendar::write(ban.from)),
            until: ban.until.map(calendar::write),
            ..WrittenBan::default()
        };
        match &ban.target {
            BanTarget::Client(id) => written.client = Some(id.clone()),
            BanTarget::User(name) => written.user = Some(name.clone()),
            BanTarget::Address(network) => written.address = Some(network.to_string()),
            BanTarget::ClientOfUser { client_id, user } => {
                written.client = Some(client_id.clone());
                written.user = Some(user.clone());
            }
            BanTarget::ClientAt { client_id, network } => {
                written.client = Some(client_id.clone());
                written.address = Some(network.to_string());
            }
        }
        written
    }
}

impl Bans {
    /// Reads bans from JSON: `{"bans": [BAN, …]}`. A ban has one of `client`, `user` and `address` (an address or a
    /// network), or `client` with one of the others for the Client Identifier of that user or address alone, and may have `by`, `reason`, `from` and `until` (in UTC, `2026-11-28T19:00:00Z`). Without `from` it
    /// holds already, without `until` it has no end.
    ///
    /// ```
    /// use hrotti::access::Bans;
    ///
    /// let text = r#"{"bans": [{"address": "192.0.2.0/24", "until": "2037-01-01T00:00:00Z"}]}"#;
    /// assert_eq!(Bans::parse(text, "bans.json", 1_000)?.list().len(), 1);
    /// assert!(Bans::parse("", "bans.json", 1_000).is_err(), "no JSON");
    /// # Ok::<(), hrotti::access::FileErrors>(())
    /// ```
    ///
    /// # Errors
    /// The text is no such JSON, a ban is not valid or stands there twice, or there are more than `max`. No ban of it
    /// is kept then.
    pub fn parse(text: &str, source: &str, max: usize) -> Result<Bans, FileErrors> {
        let mut problems = Problems::new(source);
        let written: Written = match serde_json::from_str(text) {
            Ok(written) => written,
            Err(error) => {
                let line = u32::try_from(error.line()).unwrap_or(u32::MAX);
                problems
                    .add(line, format!("{error}; write {{\"bans\": [{{\"client\": \"ID\"}}]}}"));
                Written { bans: Vec::new() }
            }
        };
        let bans = Bans { source: problems.source().clone(), ..Bans::new(max) };
        if written.bans.len() > max {
            let count = written.bans.len();
            problems.add(0, format!("it has {count} bans; raise limits.bansMax, which is {max}"));
        } else {
            bans.take_all(&written.bans, &mut problems);
        }
        problems.or(bans)
    }

    fn take_all(&self, written: &[WrittenBan], problems: &mut Problems) {
        let mut kept = crate::sync::write(&self.kept);
        for (index, written) in written.iter().enumerate() {
            match written.ban() {
                Err(problem) => problems.add(0, format!("bans[{index}]: {problem}")),
                Ok(ban) if kept.has(&ban.target) => {
                    problems
                        .add(0, format!("bans[{index}]: {ban} is banned twice; remove one ban"));
                }
                Ok(ban) => {
                    let text = format!("bans[{index}]: {ban}");
                    let rule = Rule::line(self.source.clone(), 0, &text);
                    kept.put(Entry { ban, rule, automatic: false });
                }
            }
        }
    }

    /// The bans that have not ended, as [`Bans::parse`] reads them, in lines. Times are rounded down to the second.
    #[must_use]
    pub fn to_json(&self) -> String {
        let bans = self.list().iter().map(WrittenBan::of).collect();
        // Fails for maps whose keys are no text, and there are none.
        serde_json::to_string_pretty(&Written { bans }).unwrap_or_default() + "\n"
    }
}
