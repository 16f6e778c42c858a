//! `hrotti ctl`: a running server, seen and steered through its admin listener.
//!
//! Exit codes: 0 if the server did it, 1 if it did not or cannot be reached, 2 for a command line that is not valid.

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};
use structopt::StructOpt;
use structopt::clap::AppSettings;

mod http;
mod show;

use http::Server;

/// See and steer a running server through its admin listener.
///
/// Exit code 0: the server did it. 1: it did not, or cannot be reached; the standard error says why.
#[derive(Debug, PartialEq, StructOpt)]
#[structopt(settings = &[
    AppSettings::DisableVersion,
    AppSettings::VersionlessSubcommands,
    AppSettings::DeriveDisplayOrder,
    AppSettings::SubcommandRequiredElseHelp,
])]
pub(crate) struct Ctl {
    /// The admin listener of the server
    #[structopt(
        long,
        global = true,
        value_name = "URL",
        env = "HROTTI_ADMIN",
        default_value = "http://127.0.0.1:9884"
    )]
    url: String,

    /// Read the token of the admin listener from this file
    #[structopt(
        long,
        global = true,
        value_name = "FILE",
        env = "HROTTI_ADMIN_TOKEN_FILE",
        parse(from_os_str)
    )]
    token_file: Option<PathBuf>,

    /// Print what the server answers, in JSON
    #[structopt(long, global = true)]
    json: bool,

    #[structopt(subcommand)]
    command: Command,
}

/// What is asked of the server.
#[derive(Debug, PartialEq, StructOpt)]
enum Command {
    /// Show version, connections, rates and the books
    Status,
    /// Exit with 0 if all listeners accept, with 1 if not
    Ready,
    /// Show the outcomes of all messages, with the reasons
    Ledger,
    /// List Clients, or show one
    Clients(Clients),
    /// Disconnect a Client
    Disconnect {
        /// Its Client Identifier
        #[structopt(value_name = "ID", empty_values = false)]
        id: String,
    },
    /// List subscriptions, all or those that match a topic
    Subscriptions {
        /// Only those that match this Topic Name
        #[structopt(long, value_name = "TOPIC")]
        topic: Option<String>,
        #[structopt(flatten)]
        portion: Portion,
    },
    /// List retained messages, or clear them
    Retained {
        /// The Topic Filter
        #[structopt(value_name = "FILTER", default_value = "#")]
        filter: String,
        /// Remove them
        #[structopt(long)]
        clear: bool,
        #[structopt(flatten)]
        portion: Portion,
    },
    /// List listeners, or start or stop one
    Listeners {
        /// Start this listener, which was stopped
        #[structopt(long, value_name = "NAME", conflicts_with = "stop")]
        start: Option<String>,
        /// Stop this listener and disconnect its Clients
        #[structopt(long, value_name = "NAME")]
        stop: Option<String>,
    },
    /// List the limits, those that are nearest first
    Limits,
    /// Show messages as they pass, until an interrupt; retained ones first
    Tail {
        /// The Topic Filter
        #[structopt(value_name = "FILTER", default_value = "#")]
        filter: String,
    },
    /// Show what happens, until an interrupt: who connects, who leaves and why, what is dropped
    Events,
    /// Publish a message
    Publish(Publish),
    /// Say why a message does or does not reach a Client
    Why {
        /// The Client Identifier
        #[structopt(value_name = "ID", empty_values = false)]
        id: String,
        /// The Topic Name
        #[structopt(value_name = "TOPIC")]
        topic: String,
    },
    /// List bans, add one or end one
    Bans(Bans),
    /// Have the server read its configuration again, and show what changed
    Reload {
        /// Only show what would change
        #[structopt(long)]
        dry_run: bool,
    },
}

#[derive(Debug, PartialEq, StructOpt)]
struct Clients {
    /// Show this Client alone, with all that is known of it
    #[structopt(value_name = "ID", empty_values = false)]
    id: Option<String>,
    /// Only those with this text in Client Identifier, user name or address
    #[structopt(long, value_name = "TEXT", conflicts_with = "id")]
    search: Option<String>,
    /// Only those that are connected
    #[structopt(long)]
    connected: bool,
    /// Only slow consumers
    #[structopt(long)]
    slow: bool,
    /// The order: clientId, waiting, dropped or delivered
    #[structopt(long, value_name = "KEY", possible_values = &["clientId", "waiting", "dropped", "delivered"], hide_possible_values = true)]
    sort: Option<String>,
    #[structopt(flatten)]
    portion: Portion,
}

// The part of a list that is shown. A comment for users would take the place of that of the command.
#[derive(Debug, PartialEq, StructOpt)]
struct Portion {
    /// The page, counted from 1
    #[structopt(long, value_name = "N", default_value = "1")]
    page: u64,
    /// Items of a page, at most 1000
    #[structopt(long, value_name = "N", default_value = "50")]
    limit: u64,
}

impl Portion {
    fn query(&self) -> Vec<(&'static str, String)> {
        vec![("page", self.page.to_string()), ("limit", self.limit.to_string())]
    }
}

#[derive(Debug, PartialEq, StructOpt)]
struct Publish {
    /// The Topic Name
    #[structopt(value_name = "TOPIC")]
    topic: String,
    /// The payload
    #[structopt(value_name = "PAYLOAD", default_value = "")]
    payload: String,
    /// QoS
    #[structopt(long, value_name = "QOS", default_value = "0", possible_values = &["0", "1", "2"])]
    qos: String,
    /// Have it retained
    #[structopt(long)]
    retain: bool,
}

#[derive(Debug, PartialEq, StructOpt)]
struct Bans {
    /// Ban this Client Identifier
    #[structopt(long, value_name = "ID", group = "target", empty_values = false)]
    client: Option<String>,
    /// Ban this user name
    #[structopt(long, value_name = "NAME", group = "target", empty_values = false)]
    user: Option<String>,
    /// Ban this address or network
    #[structopt(long, value_name = "ADDRESS", group = "target", empty_values = false)]
    address: Option<String>,
    /// Why
    #[structopt(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// End the ban after so many seconds; without it, it has no end
    #[structopt(long, value_name = "SECONDS")]
    seconds: Option<u64>,
    /// End the ban of the Client, user or address that is named
    #[structopt(long, requires = "target")]
    end: bool,
    #[structopt(flatten)]
    portion: Portion,
}

impl Bans {
    /// The kind and the name of the target, if one is named.
    fn target(&self) -> Option<(&'static str, &str)> {
        let named =
            [("clientId", &self.client), ("userName", &self.user), ("address", &self.address)];
        named.into_iter().find_map(|(kind, who)| Some((kind, who.as_deref()?)))
    }
}

/// Runs the command.
pub(crate) fn run(ctl: &Ctl) -> ExitCode {
    let done = server(ctl).and_then(|server| carry_out(&server, ctl));
    match done {
        Ok(text) => {
            // A closed standard output is no error.
            let _ = writeln!(io::stdout().lock(), "{}", text.trim_end());
            ExitCode::SUCCESS
        }
        Err(problem) => {
            let _ = writeln!(io::stderr().lock(), "{}", problem.trim_end());
            ExitCode::FAILURE
        }
    }
}

fn server(ctl: &Ctl) -> Result<Server, String> {
    let token = ctl.token_file.as_ref().map(|path| {
        let text = fs::read_to_string(path);
        let text = text.map_err(|error| format!("{}: cannot be read: {error}", path.display()))?;
        let first = text.lines().next().unwrap_or_default().trim();
        if first.is_empty() {
            return Err(format!("{}: has no token on its first line", path.display()));
        }
        Ok(first.to_owned())
    });
    Server::new(&ctl.url, token.transpose()?)
}

/// The text to print.
fn carry_out(server: &Server, ctl: &Ctl) -> Result<String, String> {
    let answer = |value: Value, show: fn(&Value) -> String| {
        if ctl.json { format!("{value:#}") } else { show(&value) }
    };
    Ok(match &ctl.command {
        Command::Status => answer(server.get("status", &[])?, show::status),
        Command::Ready => server.text("/readyz")?,
        Command::Ledger => answer(server.get("status", &[])?["ledger"].take(), show::ledger),
        Command::Clients(wanted) => return clients(server, ctl, wanted),
        Command::Disconnect { id } => {
            server.delete(&["clients", id], &[])?;
            format!("disconnected {id:?}")
        }
        Command::Subscriptions { topic, portion } => {
            let mut query = portion.query();
            query.extend(topic.iter().map(|topic| ("topic", topic.clone())));
            answer(server.get("subscriptions", &query)?, show::subscriptions)
        }
        Command::Retained { filter, clear: false, portion } => {
            let mut query = portion.query();
            query.push(("filter", filter.clone()));
            answer(server.get("mqtt/retainer/messages", &query)?, show::retained)
        }
        Command::Retained { filter, clear: true, .. } => {
            let query = [("filter", filter.clone())];
            let cleared = server.delete(&["mqtt", "retainer", "messages"], &query)?;
            answer(cleared, |done| format!("cleared {} retained messages", done["cleared"]))
        }
        Command::Listeners { start, stop } => {
            for (name, what) in [(start, "start"), (stop, "stop")] {
                if let Some(name) = name {
                    server.post(&["listeners", name, what], &json!({}))?;
                }
            }
            answer(server.get("listeners", &[])?, show::listeners)
        }
        Command::Limits => answer(server.get("limits", &[])?, show::limits),
        Command::Tail { filter } => {
            let query = [("filter", filter.clone())];
            return server.follow("tail", &query, |kind, data| {
                if ctl.json { data.to_string() } else { show::tailed(kind, data) }
            });
        }
        Command::Events => {
            return server.follow("events", &[], |kind, data| {
                if ctl.json { data.to_string() } else { show::event(kind, data) }
            });
        }
        Command::Publish(message) => answer(publish(server, message)?, show::published),
        Command::Why { id, topic } => {
            let question = json!({ "kind": "delivery", "clientId": id, "topic": topic });
            answer(server.post(&["explain"], &question)?, show::explained)
        }
        Command::Bans(bans) => return ban(server, ctl, bans),
        Command::Reload { dry_run } => {
            let path = if *dry_run { "reload?dryRun=true" } else { "reload" };
            answer(server.post(&[path], &json!({}))?, show::changes)
        }
    })
}

fn clients(server: &Server, ctl: &Ctl, wanted: &Clients) -> Result<String, String> {
    if let Some(id) = &wanted.id {
        let client = server.get_at(&["clients", id])?;
        return Ok(if ctl.json { format!("{client:#}") } else { show::client(&client) });
    }
    let mut query = wanted.portion.query();
    let texts = [("search", &wanted.search), ("sort", &wanted.sort)];
    query.extend(texts.into_iter().filter_map(|(key, text)| Some((key, text.clone()?))));
    let flags = [("connected", wanted.connected), ("slow", wanted.slow)];
    query
        .extend(flags.into_iter().filter(|(_, set)| *set).map(|(key, _)| (key, "true".to_owned())));
    let page = server.get("clients", &query)?;
    Ok(if ctl.json { format!("{page:#}") } else { show::clients(&page) })
}

fn publish(server: &Server, message: &Publish) -> Result<Value, String> {
    let qos: u8 = message.qos.parse().unwrap_or_default();
    let body = json!({
        "topic": message.topic, "payload": message.payload, "qos": qos, "retain": message.retain,
    });
    server.post(&["publish"], &body)
}

fn ban(server: &Server, ctl: &Ctl, bans: &Bans) -> Result<String, String> {
    match bans.target() {
        Some((kind, who)) if bans.end => {
            server.delete(&["banned", kind, who], &[])?;
        }
        Some((kind, who)) => {
            let mut ban = json!({ kind: who, "reason": bans.reason });
            if let Some(seconds) = bans.seconds {
                ban["seconds"] = seconds.into();
            }
            server.post(&["banned"], &ban)?;
        }
        None => {}
    }
    let all = server.get("banned", &bans.portion.query())?;
    Ok(if ctl.json { format!("{all:#}") } else { show::bans(&all) })
}
